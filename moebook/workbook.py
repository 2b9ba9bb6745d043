"""What a notebook calls, in the order of its cells: validate, plan, results, draw, verdicts,
finish.

Each returns something to show. Measuring happens only where the profile's device is; elsewhere the
reference results of that profile are shown, and the notebook says so. Only `get_results`, by
measuring, and `finish` write."""

import importlib
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

import pandas as pd

from moebook import devices, paths, sections
from moebook.explore import widgets
from moebook.measure import run
from moebook.measure.progress import Progress
from moebook.measure.store import Store, Unwritable, write_atomic
from moebook.results import table
from moebook.results import verdicts as claims
from moebook.results.loading import TABLE, NoResults, Results, load, prediction, unmeasured
from moebook.sections.accelerator_comparison import other_devices
from moebook.study import estimates
from moebook.study.params import NotebookParams, from_notebook
from moebook.study.plan import Plan

__all__ = [
    "NoResults",
    "Results",
    "draw",
    "empty_results",
    "explore",
    "finish",
    "get_results",
    "is_headless",
    "load",
    "figure",
    "plan",
    "plan_table",
    "prediction",
    "say",
    "say_prediction",
    "show_plan",
    "show_table",
    "unfinished",
    "validate",
    "verdicts",
]


def is_headless() -> bool:
    """True under papermill, nbconvert and `moebook run`: nobody can move a slider (view.widgets
    says how it is told)."""
    return not widgets.is_live()


def validate(names: dict, stem: str) -> NotebookParams:
    """The notebook's parameters from its globals, printed with where each came from, or
    ParameterError with all that is wrong."""
    section = sections.find(stem)
    params = from_notebook(section.params, names, "this notebook", is_headless())
    if params.profile not in paths.profiles(section.stem):
        print(
            f"There is no params/{params.profile}/{section.stem}.yaml: what is not given is of the "
            f"profile named below."
        )
    for key, value in params.model_dump().items():
        print(f"{key:>26}  {params.origins.get(key, 'default'):<42}  {_plain(value)}")
    return params


def _plain(value) -> str:
    """A value as it stands in a parameter file."""
    return json.dumps(list(value) if isinstance(value, tuple) else value, default=str)


def plan(params: NotebookParams, stem: str) -> Plan:
    return sections.find(stem).plan(params)


def plan_table(plan: Plan) -> pd.DataFrame:
    """The plan as a table, a line per point, and a printed line of totals."""
    device = devices.published_here(plan.device)
    frame = estimates.to_frame(plan, device)
    if not plan.points:
        print("0 points: this notebook measures nothing itself")
        return frame
    seconds = estimates.plan_s(plan, device)
    counts = ", ".join(f"{n} {status}" for status, n in frame["status"].value_counts().items())
    derived = sum(p.is_derived for p in plan.points)
    print(
        f"{len(frame)} points ({counts}; {derived} of them derived), "
        f"{plan.num_engines} configurations on {plan.num_builds} engines, about {seconds / 60:.1f} "
        f"min on {plan.device}"
    )
    if plan.device == devices.ANY and devices.detect(devices.ANY) is None:
        print(
            f"planned for a card of {devices.ANY_BYTES / 2**30:.0f} GiB: no NVIDIA card of 16 GB "
            f"or more is here"
        )
    return frame


def present(params: NotebookParams, plan: Plan) -> str:
    """`34 to measure` on the plan's device, or where the results are that would be shown."""
    if not plan.points:
        return "nothing to measure"
    if devices.detect(plan.device) is not None:
        left, folder = run.pending(plan, params.output_root), Store(params.output_root, plan).folder
        return (
            f"{len(plan.measured) - len(left)} points present, {len(left)} to measure, in "
            f"{paths.shown(folder)}"
        )
    return f"this machine is no {plan.device}: nothing can be measured here"


def show_plan(plan: Plan, limit: int = 12):
    """The plan's totals, printed, and its first rows, those that will not run and one of each kind
    first."""
    from moebook.results import report

    frame = plan_table(plan)
    order = 2 * (frame["status"] == "ready") + frame.duplicated(["model", "series", "status"])
    frame = frame.iloc[order.to_numpy().argsort(kind="stable")].head(limit)
    columns = {**report.SHAPE}
    del columns["output_tokens"]
    if not frame["series"].any():
        del columns["series"]
    shown = frame[list(columns)].rename(columns=columns)
    shown["weights (GB)"] = (frame["weights_bytes"] / 1e9).map("{:.2f}".format)
    shown["estimate (s)"] = frame["estimate_s"].map(lambda s: "–" if pd.isna(s) else f"{s:.1f}")
    shown["reason"] = frame["reason"].fillna("")
    return shown.style.hide(axis="index")


def get_results(
    params: NotebookParams,
    plan: Plan,
    *,
    measure: bool = True,
    worker: run.WorkerHandle | None = None,
) -> Results:
    """Measure what is missing (on the profile's device), then the whole table; elsewhere the
    reference results. A dry run measures and reads nothing: all its points are `not_run`."""
    if params.dry_run:
        return unmeasured(
            params, plan, "dry run: the plan stands above, nothing was measured or read"
        )
    if devices.detect(plan.device) is None:
        print(
            f"Nothing is measured: profile {plan.profile!r} is for device {plan.device!r}, this "
            f"machine has "
            f"{devices.here()}."
        )
    elif measure:
        run.measure(
            plan,
            params.output_root,
            worker=worker,
            limit_s=60 * params.point_limit_minutes,
            progress=Progress(live=not is_headless()),
        )
    return load(params, plan)


def draw(res: Results, stem: str, width: str = "page"):
    """Draw one of the section's figures and return the picture to show; `finish` writes it in four
    formats.

    Where the results hold no row for it, the reason is returned as text instead."""
    from IPython.display import Image, Markdown

    from moebook.plot import style

    try:
        with figure(res, stem, width) as (fig, rows):
            res.drawn[stem] = style.files(fig, rows, stem, width=width)
            return Image(style.render(fig, dpi=style.SCREEN_DPI))
    except ValueError as error:
        return Markdown(f"*{stem} is not drawn: {error}*")


@contextmanager
def figure(res: Results, stem: str, width: str = "page") -> Iterator[tuple]:
    """(Figure, rows) of one of the section's figures; ValueError where its rows are missing."""
    import matplotlib.pyplot as plt

    from moebook.plot import layout

    fig, rows = sections.find(res.plan.notebook).figures[stem](res.shown, width=width)
    layout.footer(fig, res.footer)
    try:
        yield fig, rows
    finally:
        plt.close(fig)


def show_table(res: Results, limit: int = 24):
    """Where the results come from, how many there are, and the table, failures first."""
    from moebook.results import report

    print(
        f"Results: {res.origin}. Points: "
        f"{', '.join(f'{n} {s}' for s, n in res.counts().items())}.\n"
        f"Read from {paths.shown(res.source_folder)}."
    )
    return report.results_table(res.summary, limit, source=res.footer)


def say(res: Results, reading: str, *args: str):
    """One of the section's readings as Markdown; every number in it is computed from the table."""
    from IPython.display import Markdown

    readings = importlib.import_module(f"moebook.sections.{res.plan.notebook[3:]}.commentary")
    return Markdown(getattr(readings, reading)(res.shown, *args))


def say_prediction(res: Results):
    """The calibrated model's score on points left out, or why there is none."""
    from IPython.display import Markdown

    return Markdown(prediction(res))


def verdicts(res: Results):
    """The claims of this notebook's section: verdict, effect with its interval, what it was
    measured on."""
    from moebook.results import report

    if res.footer:
        print(f"From {res.footer}.")
    return report.verdict_table(
        [v for v in claims.evaluate(res.summary) if v.notebook == res.plan.notebook]
    )


def explore(res: Results):
    """A widget over the table in a live kernel; headless, one printed sentence."""
    return widgets.explorer(res.shown, sections.find(res.plan.notebook).views)


def empty_results(params: NotebookParams, stem: str) -> Results:
    """Results of a notebook that measures nothing itself."""
    return unmeasured(params, plan(params, stem), "nothing is measured here")


def finish(res: Results) -> str:
    """Write what was made: figures, of one's own results the table, provenance, and the completion
    record. The record, not the kernel's word, says that a run is whole. Where the folder cannot be
    written, this is said and nothing is lost but the files."""
    try:
        _write(res)
    except Unwritable as error:
        return f"nothing was written: {error}"
    return (
        f"{res.counts()} points; {len(res.drawn)} figures written to "
        f"{paths.shown(res.folder / 'figures')}"
    )


def _write(res: Results) -> None:
    files = [
        (res.folder / "figures" / name, data)
        for drawn in res.drawn.values()
        for name, data in drawn.items()
    ]
    left = unfinished(res)
    here = devices.detect(res.plan.device) or devices.detect()
    provenance = {
        "origin": res.origin,
        "here": devices.provenance(here),
        "python": sys.version.split()[0],
        "parameters": res.params.model_dump(mode="json"),
    }
    done = {
        "notebook": res.plan.notebook,
        "profile": res.plan.profile,
        "points": res.counts(),
        "unfinished": left,
        "reference": res.is_reference,
        "figures": sorted(res.drawn),
        "finished_at": datetime.now(UTC).isoformat(),
    }
    if not res.is_reference and res.metadata.get("notebook"):
        table.write(res.table, res.folder / TABLE, res.metadata)
        if hasattr(res.params, "beside"):
            other_devices.keep(res)
    for name, data in (("provenance.json", provenance), ("DONE.json", done)):
        files.append((res.folder / name, json.dumps(data, indent=1).encode()))
    for path, data in files:
        write_atomic(path, data)


def unfinished(res: Results) -> dict[str, int]:
    """Points of one's own plan that were to be run and have no number, by status; what the plan
    rules out, or the engine lacks, is not among them."""
    if res.is_reference or res.params.dry_run:
        return {}
    ready = {p.key for p in res.plan.points if p.status == "ready"}
    rows = res.summary[
        res.summary["key"].isin(ready) & ~res.summary["status"].isin(("ok", "infeasible"))
    ]
    return rows["status"].value_counts().to_dict()
