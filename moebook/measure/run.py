"""From a plan to one result file per point: resume, executor, progress.

A point whose file exists is skipped, whatever its status; `retry` names statuses to measure again.
How points are measured is the executor's (executors/); this writes what comes from it, and
nothing else writes."""

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext
from itertools import groupby
from pathlib import Path

from moebook import devices, engine
from moebook.measure import scratch
from moebook.measure.executors import Job, Local, Measured
from moebook.measure.files import write_atomic
from moebook.measure.folder_lock import Held, locked
from moebook.measure.progress import Progress
from moebook.measure.records import STATUSES, NotValid, device_name
from moebook.measure.schedule import NO_PEAKS
from moebook.measure.store import Store
from moebook.measure.worker_handle import WorkerDied, WorkerHandle, WorkerTimeout
from moebook.study.estimates import Shard, estimate_s
from moebook.study.plan import Plan, Point

__all__ = ["WorkerDied", "WorkerHandle", "WorkerTimeout", "measure", "pending", "unfinished"]


def measure(
    plan: Plan,
    output_root: str | Path,
    *,
    worker: WorkerHandle | None = None,
    limit_s: float = 600.0,
    retry: Iterable[str] = (),
    progress: Progress | None = None,
    stop_after_s: float | None = None,
    executor=None,
    shard: Shard | None = None,
    whole: Plan | None = None,
    record: int = 1,
) -> Counter:
    """Measure every point of the plan that has no file yet; returns counts by status and of the
    `skipped`.

    limit_s: seconds one point may take, engine start apart. stop_after_s: begin no further point
    after that long. executor: where, by default a worker on this machine (`worker`, if it runs
    already). shard: the part of a job array that this plan is; it shares the folder with the other
    parts. whole: the plan that this one is a part of, from which every part takes the dtype of the
    device's ceilings. record: measure points that have fewer than this many records, in an engine
    started anew; even ones in the reverse order of builds, so that what stands side by side is
    measured A B B A. Raises before any engine starts: FolderInUse, Unwritable, DeviceInUse,
    DeviceBusy, and ValueError where the plan is for another device, no engine for it is installed
    or `retry` names no status."""
    retry = set(retry)
    if unknown := ", ".join(sorted(retry - set(STATUSES))):
        raise ValueError(f"no status {unknown} to retry; statuses: {', '.join(STATUSES)}")
    store = Store(output_root, plan)
    scratch.clean()
    owned = executor is None
    executor = executor or Local(store.folder / "worker.log", worker)
    source = executor.source(plan.device)
    with locked(store.folder, shard) as held:
        store.clean(alone=shard is None)
        store.refuse_other_device(source[0])
        todo, skipped = _pending(plan, store, retry, source, set_aside=True, record=record)
        progress = progress or Progress()
        published = devices.published_here(plan.device)
        seconds = {point.key: estimate_s(point, published) for point in todo}
        progress.begin(total=len(todo), skipped=skipped, seconds=seconds)
        known = not plan.measured or store.ceilings(source[0]) is not None
        if not todo and (known or record > 1):
            return Counter(skipped=skipped)
        store.withdraw()
        stop_at = None if stop_after_s is None else time.time() + stop_after_s
        with executor if owned else nullcontext():
            try:
                executor.claim(todo, store.folder)
                job = Job(limit_s, store.counts_file, progress.say, stop_at)
                _ceilings(executor, whole or plan, store, source[0], job)
                found = executor.run(todo, job)
                counts = _written(found, store, held, source, progress, record, retry)
            except KeyboardInterrupt:
                executor.kill()
                progress.interrupted(store.folder)
                raise
            finally:
                progress.close()
    if counts.total() < len(todo):
        counts["not_run"] = len(todo) - counts.total()
    counts["skipped"] = skipped
    return counts


def pending(plan: Plan, output_root: str | Path) -> list[Point]:
    """Points of a plan for this machine that have no result yet."""
    source = devices.require(plan.device).name, engine.version(plan.device)
    return _pending(plan, Store(output_root, plan), set(), source)[0]


def _ceilings(executor, plan: Plan, store: Store, device: str, job: Job) -> None:
    """The device's copy bandwidth and matrix rate, in the dtype of most of the plan's points,
    unless they are there."""
    if store.ceilings(device) is None:
        dtype = Counter(p.engine.dtype for p in plan.measured).most_common(1)[0][0]
        if (found := executor.ceilings(dtype, job)) is None:
            return
        try:
            store.write_ceilings(found)
        except NotValid as error:
            job.say(NO_PEAKS.format(f"{error}: {found}"))


def _written(
    found: Iterable[Measured],
    store: Store,
    held: Held,
    source: tuple[str, str],
    progress: Progress,
    number: int,
    retry: set[str],
) -> Counter:
    """Each record in its file as soon as it is there; counts by status. A device that turns out to
    be busy ends it."""
    counts: Counter = Counter()
    try:
        for point, record, expert_counts in found:
            held.check()
            if expert_counts is not None:
                write_atomic(store.counts_file(point.key), expert_counts)
            record = store.write(store.path(point, *source, number), record, retry)
            counts[record["status"]] += 1
            progress.advance(point, record)
    except devices.DeviceBusy as error:
        progress.say(
            f"{error}; stopped, and nothing is recorded of this point: the same command "
            "goes on once the device is free"
        )
    return counts


def _pending(
    plan: Plan,
    store: Store,
    retry: set[str],
    source: tuple[str, str],
    set_aside: bool = False,
    record: int = 1,
) -> tuple[list[Point], int]:
    """What to measure, and how many points are there. A record to retry stays until another
    replaces it; further records are of points that have a number and all records before."""
    source = device_name(source[0]), source[1]
    present = store.sources(set_aside).get(source, {})
    if record == 1:
        done = {key for key, found in present.items() if found["status"] not in retry}
        todo = [point for point in plan.measured if point.key not in done]
        return todo, len(plan.measured) - len(todo)
    further = store.further(source, set_aside)
    with_number = [p for p in plan.measured if present.get(p.key, {}).get("status") == "ok"]
    todo = [p for p in with_number if len(further.get(p.key, ())) == record - 2]
    return _reversed_builds(todo) if record % 2 == 0 else todo, len(plan.measured) - len(todo)


def _reversed_builds(points: list[Point]) -> list[Point]:
    """The last build first; the points of each stay in their order."""
    builds = [list(own) for _, own in groupby(points, key=lambda point: point.build_key)]
    return [point for build in reversed(builds) for point in build]


def unfinished(plan: Plan, output_root: str | Path, source: tuple[str, str]) -> dict[str, int]:
    """Points that an engine was to run and that have no number, by status: what keeps a sweep from
    being whole. What the plan rules out, or the engine lacks (`infeasible`), is not among them."""
    present = Store(output_root, plan).sources().get((device_name(source[0]), source[1]), {})
    statuses = [present[p.key]["status"] if p.key in present else "not_run" for p in plan.measured]
    return dict(Counter(s for s in statuses if s not in ("ok", "infeasible")))
