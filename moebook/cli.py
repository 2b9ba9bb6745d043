"""The `moebook` command. Every command exits 0 only when what it was asked for is whole."""

import json
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from moebook import options, paths, sections
from moebook.measure.store import Store
from moebook.problems import choices
from moebook.study import params as parameters

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Inference performance of Mixture-of-Experts models: plan, measure, draw, judge.",
)

ParamsFile = Annotated[
    Path, typer.Argument(help="a parameter file of any name, e.g. params/cpu/02_quantization.yaml")
]
Notebook = Annotated[
    str,
    typer.Option(
        help="the notebook a parameter file is for, where neither its name nor its key "
        "`notebook` says so: 02_quantization or 02"
    ),
]
Profile = Annotated[str, typer.Option(help="folder of params/ to use, e.g. cpu, gpu, h200, 2xh200")]
OutputRoot = Annotated[
    str | None,
    typer.Option(callback=options.folder, help="outputs folder, in place of the parameter file's"),
]
AllowFailed = Annotated[
    bool,
    typer.Option(
        "--allow-failed",
        help="exit 0 also where points failed, ran out of time or memory, or were not run",
    ),
]


def _load(path: Path, output_root: str | None = None, notebook: str = ""):
    path = Path(paths.given(str(path)))
    section = sections.of_file(path, notebook)
    return section, _into(parameters.load(section.params, path), output_root)


def _into(params, output_root: str | None):
    """The parameters with the outputs folder of --output-root, which lies where the command was
    called."""
    return (
        params
        if output_root is None
        else params.model_copy(update={"output_root": _root(output_root)})
    )


def _file(profile: str, stem: str) -> Path:
    if not re.fullmatch(parameters.PROFILE, profile):
        raise ValueError(
            f"--profile: given {profile!r}; the name of a folder of params/: "
            f"{', '.join(paths.profiles())}"
        )
    return paths.params_file(profile, stem)


def _in_profile(profile: str, section: str | None = None) -> list[str]:
    """Stems of the notebooks that a profile has parameters for; of the one section where it is
    named."""
    if section is not None:
        stem = sections.find(section).stem
        if not _file(profile, stem).exists():
            raise ValueError(
                f"--profile: given {profile!r}, which has no {stem}; "
                f"{choices(profile, paths.profiles(stem))}"
            )
        return [stem]
    stems = [s for s in sections.STEMS if _file(profile, s).exists()]
    if not stems:
        raise ValueError(f"--profile: given {profile!r}; {choices(profile, paths.profiles())}")
    return stems


@app.command()
def plan(
    file: ParamsFile,
    notebook: Notebook = "",
    output_root: OutputRoot = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Points, memory, estimated minutes, and what will not fit and why. Starts nothing."""
    from moebook import devices, workbook
    from moebook.study import estimates

    section, params = _load(file, output_root, notebook)
    made = section.plan(params)
    if as_json:
        frame = estimates.to_frame(made, devices.published_here(params.device))
        typer.echo(frame.to_json(orient="records", indent=1))
        return
    from moebook.results.report import plan_lines

    frame = workbook.plan_table(made)
    typer.echo("\n".join(plan_lines(frame)))
    typer.echo(workbook.present(params, made))


@app.command()
def measure(
    file: ParamsFile,
    notebook: Notebook = "",
    output_root: OutputRoot = None,
    sweep: Annotated[
        str,
        typer.Option(help="only these sweeps, in this order: grid,batch_topk; a+b share engines"),
    ] = "",
    retry: Annotated[str, typer.Option(help="statuses to measure again: oom,failed,timeout")] = "",
    stop_after_minutes: Annotated[
        float | None,
        typer.Option(callback=options.minutes, help="begin no further point after this long"),
    ] = None,
    executor: Annotated[
        str, typer.Option(help="local: a worker here; ray: the nodes of a Ray cluster")
    ] = "local",
    address: Annotated[
        str | None, typer.Option(help="of the Ray cluster; by default the one this machine is in")
    ] = None,
    shard: Annotated[
        str, typer.Option(help="only this part, for one job of an array: 3/8 is the third of eight")
    ] = "",
    allow_failed: AllowFailed = False,
) -> None:
    """Measure every point of a parameter file that has no result yet; notebooks then only draw."""
    from moebook.measure import executors, run
    from moebook.study.shard import Shard

    section, params = _load(file, output_root, notebook)
    plan = section.plan(params)
    parts = [plan.only(names.split("+")) for names in sweep.split(",")] if sweep else [plan]
    part = Shard.parse(shard) if shard else None
    log = Store(params.output_root, plan).folder / (
        f"worker.{part.name}.log" if part else "worker.log"
    )
    started, counts, left = time.monotonic(), Counter(), Counter()
    with executors.choose(executor, address, log) as chosen:
        for own in part.of(parts) if part else parts:
            rest = (
                None
                if stop_after_minutes is None
                else 60 * stop_after_minutes - (time.monotonic() - started)
            )
            counts += run.measure(
                own,
                params.output_root,
                limit_s=60 * params.point_limit_minutes,
                stop_after_s=rest,
                retry=[s for s in retry.split(",") if s],
                executor=chosen,
                shard=part,
                whole=plan,
            )
            left += Counter(run.unfinished(own, params.output_root, chosen.source(plan.device)))
    typer.echo(json.dumps(counts))
    if left:
        typer.echo(
            f"of this plan are without a number: {_told(left)}"
            + f"; measure them again with --retry {','.join(s for s in left if s != 'not_run')}"
            * bool(set(left) - {"not_run"})
        )
    raise typer.Exit(1 if left and not allow_failed else 0)


def _told(counts: dict[str, int]) -> str:
    return ", ".join(f"{n} {status}" for status, n in counts.items())


@app.command(name="run")
def run_notebook(
    section: Annotated[
        str, typer.Argument(help="a notebook (02, 02_quantization) or a parameter file")
    ],
    profile: Profile = "cpu",
    notebook: Notebook = "",
    output_root: OutputRoot = None,
    limit_minutes: Annotated[
        float, typer.Option(callback=options.minutes, help="end the notebook after this long")
    ] = 120.0,
    allow_failed: AllowFailed = False,
) -> None:
    """Execute one notebook headlessly, with a profile's parameters or those of a file."""
    from moebook.execute import execute

    if section.endswith((".yaml", ".yml")):
        file = Path(paths.given(section))
        found = sections.of_file(file, notebook)
    else:
        found = sections.find(section)
        _in_profile(profile, found.stem)
        file = _file(profile, found.stem)
    outcome = execute(
        found, file, limit_minutes, output_root=_root(output_root), allow_failed=allow_failed
    )
    typer.echo(outcome.line())
    raise typer.Exit(0 if outcome.whole else 1)


def _root(output_root: str | None) -> str | None:
    """--output-root as it is handed on, whole."""
    return None if output_root is None else paths.from_here(output_root)


@app.command()
def study(
    profile: Profile = "cpu", output_root: OutputRoot = None, allow_failed: AllowFailed = False
) -> None:
    """Measure the plans of all of a profile's notebooks in one worker, execute the notebooks, print
    a table."""
    from moebook.execute import run_study

    work = [(sections.find(s), _file(profile, s)) for s in _in_profile(profile)]
    outcomes = run_study(work, output_root=_root(output_root), allow_failed=allow_failed)
    raise typer.Exit(0 if all(o.whole for o in outcomes) else 1)


@app.command()
def figures(
    profile: Profile = "cpu",
    section: Annotated[str | None, typer.Option(help="only this notebook")] = None,
    formats: str = "pdf,svg,png",
    width: str = "page",
    output_root: OutputRoot = None,
    output: Annotated[
        Path | None,
        typer.Option(
            callback=options.folder,
            help="folder to write the figures to; by default the outputs folder of each notebook",
        ),
    ] = None,
) -> None:
    """Draw all figures of a profile from its results, one's own or else the reference's, and say
    where they are."""
    from moebook import workbook
    from moebook.plot import style

    wanted = [name.strip() for name in formats.split(",")]
    if unknown := set(wanted) - set(style.FORMATS):
        raise ValueError(f"--formats: given {sorted(unknown)}; allowed: {', '.join(style.FORMATS)}")
    style.width_in(width)
    without, drawn = [], 0
    for stem in _in_profile(profile, section):
        found, params = _load(_file(profile, stem), output_root)
        try:
            res = (
                workbook.load(params, found.plan(params))
                if stem != sections.STEMS[0]
                else workbook.empty_results(params, stem)
            )
        except workbook.NoResults as error:
            without.append(f"{stem}: {error}")
            typer.echo(without[-1])
            continue
        drawn += bool(res.plan.points)
        typer.echo(f"{stem}: {res.origin}")
        folder = res.folder / "figures" if output is None else output / stem
        for name in found.figures:
            try:
                with workbook.figure(res, name, width) as (fig, rows):
                    files = style.save(
                        fig, rows, folder, _sized(name, width), formats=wanted, width=width
                    )
            except ValueError as error:
                typer.echo(f"  {name}: not drawn: {error}")
                continue
            typer.echo(f"  {name}: " + " ".join(paths.shown(f) for f in files))
    if without and not drawn:
        raise ValueError(f"nothing to draw in profile {profile!r}; {without[-1]}")


def _sized(name: str, width: str) -> str:
    """Figures at column width have names of their own, so that neither width overwrites the
    other."""
    return name if width == "page" else f"{name}-{width}"


@app.command()
def compare(
    profile: Profile = "cpu",
    section: Annotated[str | None, typer.Option(help="only this notebook")] = None,
    output_root: OutputRoot = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Own results beside the reference's, point by point: ratio and both ranges. Exits 1 where
    there is none of one."""
    import pandas as pd

    from moebook.results import agreement as comparing

    found = []
    for stem in _in_profile(profile, section):
        own, params = _load(_file(profile, stem), output_root)
        made = own.plan(params)
        if made.points:
            found.append(comparing.compare(params, made))
    tables = [c.table for c in found if not c.table.empty]
    if as_json:
        table = (
            pd.concat(tables, ignore_index=True)
            if tables
            else pd.DataFrame(columns=list(comparing.COLUMNS))
        )
        typer.echo(table.to_json(orient="records", indent=1))
    else:
        for one in found:
            typer.echo("\n".join([one.text, *comparing.lines(one.table)]))
    raise typer.Exit(0 if tables else 1)


@app.command(name="results")
def results_of(
    profile: Annotated[str, typer.Option(help="only this profile; all by default")] = "",
    output_root: OutputRoot = None,
    listed: Annotated[
        bool, typer.Option("--list", help="devices and engines that points come from")
    ] = False,
    discard: Annotated[
        str, typer.Option(help="a device or an engine, as listed: set its points aside")
    ] = "",
) -> None:
    """What was measured, by device and engine; --discard moves one source's points to `discarded/`
    beside them."""
    from moebook.results import inventory

    if discard and not profile:
        raise ValueError(
            f"--discard {discard!r}: say which profile's with --profile; those here: "
            f"{', '.join(inventory.profiles(output_root)) or 'none'}"
        )
    if discard:
        moved = inventory.discard(output_root, profile, discard)
        typer.echo(
            "\n".join(
                f"{len(files)} points of {discard} set aside in {paths.shown(folder)}"
                for folder, files in moved.items()
            )
        )
        return
    typer.echo("\n".join(inventory.lines(output_root, profile)) or "nothing is measured yet")


@app.command()
def claims(
    profile: Profile = "cpu",
    output_root: OutputRoot = None,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """A verdict on each of the paper's claims, from a profile's results."""
    from moebook.results.report import verdict_lines
    from moebook.sections.overview.tables import all_verdicts

    _in_profile(profile)
    verdicts, origins = all_verdicts(profile, _root(output_root))
    if as_json:
        from moebook.results import verdicts as judge

        typer.echo(judge.to_json(verdicts))
        return
    typer.echo("\n".join([*origins, *verdict_lines(verdicts)]))


@app.command()
def prune(
    source: Annotated[
        Path, typer.Argument(help="folder of a Hugging Face checkpoint (safetensors)")
    ],
    target: Annotated[Path, typer.Argument(help="folder to write; must not exist")],
    kind: Annotated[
        str, typer.Option(help="inter: whole experts; intra: the FFN dim of every expert")
    ] = "inter",
    ratio_pct: Annotated[
        float,
        typer.Option("--ratio", callback=options.percent, help="percent to prune: 25 is a quarter"),
    ] = 50.0,
    criterion: Annotated[
        str, typer.Option(help="random, norm, frequency, routed_activation")
    ] = "norm",
    text: Annotated[
        Path | None, typer.Option(help="calibration text of the last two criteria")
    ] = None,
    overwrite: bool = False,
    seed: int = 0,
) -> None:
    """Prune a checkpoint: a folder that vLLM and transformers load unchanged."""
    from moebook.models.pruning import checkpoint, saliency
    from moebook.models.pruning import prune as pruning

    pruning.check_target(source, target, overwrite)
    checkpoint.open_checkpoint(source)
    scores = None
    if criterion in saliency.CALIBRATED:
        if text is None or not text.is_file():
            raise ValueError(
                f"criterion {criterion!r} scores experts on text; given --text {text}: name a text "
                f"file"
            )
        scores = saliency.collect_from_text(source, text)
    report = pruning.prune_checkpoint(
        source,
        target,
        kind=kind,
        ratio=ratio_pct / 100,
        criterion=criterion,
        scores=scores,
        seed=seed,
        overwrite=overwrite,
    )
    typer.echo(
        "\n".join(
            [
                f"{target}: {report.experts_before} to {report.experts_after} experts a layer, FFN "
                f"dim "
                f"{report.ffn_dim_before} to {report.ffn_dim_after}, "
                f"{report.bytes_before / 1e9:.3g} to "
                f"{report.bytes_after / 1e9:.3g} GB; what was kept stands in {pruning.REPORT}",
                *report.notes,
            ]
        )
    )


@app.command()
def train(
    family: Annotated[
        str, typer.Argument(help="tiny: the family of small models that moebook trains itself")
    ],
    preset: Annotated[
        str, typer.Option(help="cpu (minutes on two cores) or gpu (minutes on one H100)")
    ] = "cpu",
    members: Annotated[
        str, typer.Option(help="only these, e.g. aux-0.01,draft-small; all by default")
    ] = "",
    text: Annotated[
        list[Path] | None, typer.Option(help="UTF-8 text to train on, in place of Python's library")
    ] = None,
) -> None:
    """Train the small models of the tiny family that are not trained yet; vLLM and transformers
    load them unchanged."""
    from moebook.models.tiny import family as tiny
    from moebook.models.tiny import own_text, references

    if family != "tiny":
        raise ValueError(f"{family!r} is no family that moebook trains; allowed: tiny")
    wanted, texts = (
        [m for m in members.split(",") if m],
        tuple(map(str, text or ())) or own_text.files(),
    )
    for member in wanted or tiny.preset(preset).members:
        references.check_member(preset, member)
    folder = tiny.family_folder(preset, texts)
    from moebook.models.tiny import train_family

    records = train_family.train_family(preset, wanted, texts, lambda line: print(line, flush=True))
    typer.echo(tiny.table(records, folder))
    if text:
        typer.echo(f"to use them: export {own_text.VARIABLE}={os.pathsep.join(texts)}")


@app.command()
def quality(
    checkpoint: Annotated[Path, typer.Argument(help="folder of a Hugging Face checkpoint")],
    tasks: Annotated[str, typer.Option(help="lm-eval tasks; the study's by default")] = "",
    quantization: Annotated[str | None, typer.Option(help="engine quantization, e.g. fp8")] = None,
    limit: Annotated[int | None, typer.Option(help="examples a task")] = None,
) -> None:
    """Accuracy of a checkpoint on lm-eval tasks (needs the extra `quality`)."""
    from moebook.measure import lm_eval as scoring
    from moebook.models.formats import engine_arguments, needs_packed

    if needs_packed(quantization):
        raise ValueError(
            f"quantization {quantization!r} cannot be made of 16-bit weights as the engine loads: "
            f"give a "
            "checkpoint packed in that format, and no --quantization"
        )
    found = scoring.evaluate(
        checkpoint,
        tuple(filter(None, tasks.split(","))) or scoring.TASKS,
        limit=limit,
        engine_arguments=engine_arguments(quantization),
    )
    typer.echo(json.dumps(found, indent=1))


@app.command()
def doctor() -> None:
    """Whether this machine can measure, and what is missing."""
    from moebook.doctor import checks

    found = checks()
    for check in found:
        typer.echo(f"{'ok  ' if check.ok else 'MISS'} {check.name}: {check.detail}")
    raise typer.Exit(0 if all(c.ok for c in found) else 1)


def main() -> None:
    """Entry point: errors a user can mend are one message on standard error, without a
    traceback."""
    from moebook.measure.worker_handle import NoWorker
    from moebook.models.tiny.family import TrainingFailed
    from moebook.problems import Told

    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except (Told, ValueError, NoWorker, TrainingFailed) as error:
        sys.exit(f"moebook: {error}")


if __name__ == "__main__":
    main()
