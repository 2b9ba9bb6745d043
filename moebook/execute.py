"""Notebooks executed by papermill in a process of its own, with an outer time limit and an honest
verdict.

A kernel killed by the system leaves a notebook whose cells all say `completed`; so a run is whole
only when papermill exits 0 *and* the notebook's last cell has written its completion record."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

from moebook import devices, engine, paths
from moebook.measure import files, records, run
from moebook.measure.executors import Local
from moebook.measure.files import Unwritable
from moebook.measure.schedule import references
from moebook.measure.store import Store
from moebook.models.tiny import train_family
from moebook.problems import aligned
from moebook.section import Section
from moebook.sections import parameters_of
from moebook.study.params import NotebookParams
from moebook.study.plan import Plan

PAPERMILL = "import moebook.engine; from papermill.__main__ import papermill; papermill()"
MOST_AT_ONCE = 4  # notebooks: a kernel takes about half a gigabyte
POLL_S = 0.5  # between looks at whether to stop


@dataclass(frozen=True)
class Outcome:
    """How one notebook's run ended. counts: points by status; figures: folder they lie in."""

    stem: str
    status: str
    counts: dict
    minutes: float
    figures: Path
    detail: str = ""

    @property
    def whole(self) -> bool:
        return self.status == "ok"

    def line(self) -> str:
        points = ", ".join(f"{n} {status}" for status, n in self.counts.items()) or "no points"
        return (
            f"{self.stem}: {self.status} ({points}; {self.minutes:.1f} min; figures in "
            f"{self.figures})" + (f"\n  {self.detail}" if self.detail else "")
        )


def execute(
    section: Section,
    file: Path,
    limit_minutes: float = 120.0,
    stop: Event | None = None,
    *,
    output_root: str | None = None,
    allow_failed: bool = False,
) -> Outcome:
    """Check the parameters, run the notebook, read its completion record. ParameterError before
    anything starts. `stop`, once set, ends the notebook. allow_failed: points without a number do
    not make the run incomplete."""
    params, plan = _prepared(section, file, output_root)
    store = Store(params.output_root, plan)
    folder = store.folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Unwritable(
            f"cannot write {folder}: {error.strerror}; choose another folder with --output-root"
        ) from None
    store.withdraw()
    for left in (folder, folder / "figures"):
        files.clean(left)
    started = time.monotonic()
    given = _given(section, file, params, output_root)
    code, detail = _papermill(
        section, given, folder / "notebook.ipynb", 60 * limit_minutes, stop or Event()
    )
    minutes = (time.monotonic() - started) / 60
    if code == 0:
        fold_parameters(folder / "notebook.ipynb")
    done = completion(folder / "DONE.json")
    ended = Outcome(section.stem, "ok", (done or {}).get("points", {}), minutes, folder / "figures")
    if code != 0 or (done is None and not params.dry_run):
        detail = (
            detail
            or "papermill exited 0, but the notebook's last cell did not write: see its last output"
        )
        return replace(ended, status="failed", counts={}, detail=detail)
    if (left := (done or {}).get("unfinished", {})) and not allow_failed:
        told = ", ".join(f"{n} {status}" for status, n in left.items())
        return replace(
            ended,
            status="incomplete",
            detail=f"points of the plan without a number: {told}; their reasons stand in the "
            "notebook's table. --allow-failed accepts them, `moebook measure FILE --retry "
            f"{','.join(left)}` tries again",
        )
    return ended


def fold_parameters(executed: Path) -> None:
    """Hide the source of its parameters cells, which JupyterLab and VS Code then show folded: the
    notebook itself shows each value with where it came from."""
    import nbformat

    notebook = nbformat.read(executed, 4)
    for cell in notebook.cells:
        if {"parameters", "injected-parameters"} & set(cell.metadata.get("tags", [])):
            cell.metadata["jupyter"] = {"source_hidden": True}
    files.write_atomic(executed, nbformat.writes(notebook).encode())


def _prepared(section: Section, file: Path, output_root: str | None) -> tuple[NotebookParams, Plan]:
    params, plan = parameters_of(section, file)
    if output_root is not None:
        params = params.model_copy(update={"output_root": output_root})
    return params, plan


def _given(
    section: Section, file: Path, params: NotebookParams, output_root: str | None
) -> list[str]:
    """What papermill is told: the profile's name alone, where the file is the profile's own."""
    own = paths.params_file(params.profile, section.stem)
    is_own = own.exists() and own.samefile(file)
    given = ["-r", "profile", params.profile] if is_own else ["-f", str(file.resolve())]
    return given + ["-r", "output_root", output_root] * (output_root is not None)


def _papermill(
    section: Section, given: list[str], output: Path, limit_s: float, stop: Event
) -> tuple[int, str]:
    files = [paths.shown(section.notebook), paths.shown(output)]
    options = ["--no-progress-bar", "--log-output", "-k", "python3"]
    command = [sys.executable, "-c", PAPERMILL, *files, *given, *options]
    environment = {**os.environ, "PYTHONPATH": paths.library(), "MOEBOOK_HEADLESS": "1"}
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=paths.root(),
        env=environment,
        start_new_session=True,
    )
    try:
        text = _output(process, limit_s, stop)
    except BaseException:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        raise
    if text is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        why = "interrupted" if stop.is_set() else f"stopped after {limit_s / 60:.1f} min"
        return 124, f"{why}; points already measured are kept"
    return process.returncode, "" if process.returncode == 0 else _last_error(text)


def _output(process: subprocess.Popen, limit_s: float, stop: Event) -> str | None:
    """All that it printed, once it has ended; None where it has not within the limit or until
    `stop` is set."""
    deadline = time.monotonic() + limit_s
    while not stop.is_set() and time.monotonic() < deadline:
        try:
            return process.communicate(timeout=POLL_S)[0]
        except subprocess.TimeoutExpired:
            continue
    return None


def _last_error(text: str) -> str:
    """The end of papermill's output: the cell's own error comes last."""
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n  ".join(lines[-12:])


def _say(line: str) -> None:
    print(line, flush=True)


def run_study(
    work: list[tuple[Section, Path]], output_root: str | None = None, allow_failed: bool = False
) -> list[Outcome]:
    """All parameter files checked, small models trained that are missing, all plans measured in one
    worker, then the notebooks executed, as many at once as there are cores."""
    prepared = [(section, *_prepared(section, file, output_root)) for section, file in work]
    measured = [
        (section, params, plan)
        for section, params, plan in prepared
        if plan.measured and devices.detect(plan.device) is not None
    ]
    for kind in dict.fromkeys(plan.device for _, _, plan in measured):
        if problem := engine.problem(kind):
            raise ValueError(problem)
    _train([(params, plan) for _, params, plan in measured])
    for kind in dict.fromkeys(plan.device for _, _, plan in measured):
        _measure([own for own in measured if own[2].device == kind], _log(prepared))
    _say("== executing the notebooks")
    outcomes = execute_all(work, output_root=output_root, allow_failed=allow_failed)
    print(table(outcomes))
    return outcomes


def _train(plans: list[tuple[NotebookParams, Plan]]) -> None:
    """The members that points without a result need, of all plans at once: they are trained side by
    side."""
    left = [point for params, plan in plans for point in run.pending(plan, params.output_root)]
    if left:
        train_family.trained(
            references(left), _say, devices.require(plans[0][1].device).environment()
        )


def _measure(plans: list[tuple[Section, NotebookParams, Plan]], log: Path) -> None:
    """All plans of one device in one worker, which holds the device throughout. DeviceBusy where
    others take its memory: the notebooks would find it so, too."""
    with Local(log) as executor:
        for section, params, plan in plans:
            _say(f"== {section.stem}: measuring")
            counts = run.measure(
                plan, params.output_root, executor=executor, limit_s=60 * params.point_limit_minutes
            )
            if counts["not_run"]:
                raise devices.DeviceBusy(
                    f"{executor.device.name} is busy: the study ends here, {counts['not_run']} "
                    f"points of {section.stem} are not measured; the same command goes on once it "
                    "is free"
                )


def execute_all(
    work: list[tuple[Section, Path]],
    at_once: int | None = None,
    say: Callable[[str], None] = _say,
    **how,
) -> list[Outcome]:
    """Outcomes in the order of `work`; each is told as soon as those before it are. Interrupted, no
    notebook goes on. how: output_root and allow_failed, as `execute` takes them."""
    stop, outcomes = Event(), []
    with ThreadPoolExecutor(at_once or min(MOST_AT_ONCE, devices.cores())) as pool:
        running = [pool.submit(execute, section, file, stop=stop, **how) for section, file in work]
        try:
            for future in running:
                outcomes.append(future.result())
                say(outcomes[-1].line())
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return outcomes


def _log(prepared: list[tuple[Section, NotebookParams, Plan]]) -> Path:
    _, params, plan = prepared[0]
    return paths.output_root(params.output_root) / plan.profile / "worker.log"


def table(outcomes: list[Outcome]) -> str:
    """Notebook, status, points ok/failed/skipped, minutes, figures: as aligned text."""
    rows = [("notebook", "status", "ok", "failed", "skipped", "minutes", "figures")]
    for o in outcomes:
        ok, failed, skipped = (
            sum(o.counts.get(status, 0) for status in statuses)
            for statuses in (("ok",), ("failed", "timeout"), ("oom", "infeasible", "not_run"))
        )
        rows.append((o.stem, o.status, ok, failed, skipped, f"{o.minutes:.1f}", o.figures))
    return aligned(rows)


def completion(path: Path) -> dict | None:
    """A completion record; None where there is none, or what is there is none."""
    try:
        return records.parse(records.DONE, files.read(path))
    except (files.NoFile, FileNotFoundError, records.Newer, records.NotValid):
        return None
