"""From a plan to one result file per point: resume, worker life cycle, time limits, progress.

A point whose file exists is skipped, whatever its status; `retry` names statuses to measure again. A worker or an
engine that dies is replaced and the sweep goes on; what it died of becomes the row of the point it died in.
"""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path

from moebook import devices
from moebook.estimates import estimate_s
from moebook.models import catalog, tiny
from moebook.plan import TEXT_METHODS, Plan, Point, describe
from moebook.progress import Progress
from moebook.store import STATUSES, Store
from moebook.worker_handle import START_LIMIT_S, WorkerDied, WorkerHandle, WorkerTimeout


def measure(plan: Plan, output_root: str | Path, *, worker: WorkerHandle | None = None, limit_s: float = 600.0,
            retry: Iterable[str] = (), progress: Progress | None = None,
            stop_after_s: float | None = None) -> Counter:
    """Measure every point of the plan that has no file yet; returns counts by status and of the `skipped`.

    limit_s: seconds one point may take, engine start apart. stop_after_s: begin no further point after that long.
    Raises FolderInUse or Unwritable before any engine starts, ValueError where the plan is for another device or
    `retry` names no status.
    """
    retry = set(retry)
    if unknown := retry - set(STATUSES):
        raise ValueError(f"no status {', '.join(sorted(unknown))} to retry; statuses: {', '.join(STATUSES)}")
    device = devices.detect()
    if device.kind != plan.device:
        raise ValueError(f"this plan is for device {plan.device!r}, this machine has {device.kind!r} ({device.name}): "
                         f"use a profile of this machine, or read the committed results")
    store = Store(output_root, plan)
    with store.locked():
        todo, skipped = _pending(plan, store, retry)
        progress = progress or Progress()
        progress.begin(total=len(todo), skipped=skipped, seconds=_estimate(todo, plan))
        if not todo:
            return Counter(skipped=skipped)
        tiny.ensure(_references(todo), progress.say)
        owned = worker is None
        handle = worker or WorkerHandle(store.folder / "worker.log")
        try:
            counts = _Sweep(plan, store, handle, limit_s, progress, stop_after_s).run(todo)
        except KeyboardInterrupt:
            handle.kill()
            progress.interrupted(store.folder)
            raise
        finally:
            progress.close()
            if owned:
                handle.__exit__(None, None, None)
    return Counter({**counts, "skipped": skipped})


def _references(points: list[Point]) -> list[str]:
    """The members of the tiny family that points are measured on."""
    models = [m for p in points for m in (p.engine.weights, p.engine.speculation and p.engine.speculation.draft)]
    return [m for m in dict.fromkeys(models) if m and tiny.is_tiny(m)]


def _estimate(points: list[Point], plan: Plan) -> dict[str, float]:
    published = devices.published(plan.device)
    return {p.key: estimate_s(p, published) for p in points}


def _pending(plan: Plan, store: Store, retry: set[str]) -> tuple[list[Point], int]:
    device, version = devices.detect().name, devices.engine_version()
    todo, skipped = [], 0
    for point in plan.measured:
        path = store.path(point, device, version)
        record = store.read(path)
        if record is not None and record["status"] in retry:
            path.unlink()
            record = None
        if record is None:
            todo.append(point)
        else:
            skipped += 1
    return todo, skipped


class _Sweep:
    def __init__(self, plan: Plan, store: Store, worker: WorkerHandle, limit_s: float, progress: Progress,
                 stop_after_s: float | None):
        self.plan, self.store, self.worker, self.limit_s, self.progress = plan, store, worker, limit_s, progress
        self.stop_at = None if stop_after_s is None else time.monotonic() + stop_after_s
        self.counts: dict[str, int] = {}
        self.running: Point | None = None
        self.facts: dict = {}
        self.refused: dict[tuple, dict] = {}

    def run(self, todo: list[Point]) -> dict[str, int]:
        self._measure_ceilings(Counter(p.engine.dtype for p in self.plan.measured).most_common(1)[0][0])
        for _, points in groupby(todo, key=lambda p: p.build_key):
            self.running = None
            for point in points:
                if self.stop_at is not None and time.monotonic() > self.stop_at:
                    self.counts["not_run"] = len(todo) - sum(self.counts.values())
                    return self.counts
                started = datetime.now(UTC)
                failure = self._ready(point)
                self._write(point, failure or self._point(point), started)
        return self.counts

    def _ready(self, point: Point) -> dict | None:
        """An engine for the point: the running one, that one with another top-k, or a new one; else why not. A layer
        point needs none."""
        if not point.needs_engine:
            self.running, self.facts = None, {}
            return self.refused.get(point.build_key)
        if self.running is not None and self.running.engine_key == point.engine_key:
            return None
        if self.running is not None:
            reply = self._guarded({"op": "switch", "top_k": point.architecture.top_k}, START_LIMIT_S)
            if reply["ok"]:
                self.running, self.facts = point, reply["facts"]
                return None
            self.progress.say(f"a running engine could not switch top-k, starting another: {reply['reason']}")
        if point.engine_key in self.refused:
            return self.refused[point.engine_key]
        request = {"op": "start", "settings": asdict(point.engine), "config": point.architecture.hf_config(),
                   "draft_config": _draft_config(point)}
        reply = self._guarded(request, START_LIMIT_S)
        self.running, self.facts = (point, reply["facts"]) if reply["ok"] else (None, {})
        return None if reply["ok"] else self._refusal(reply, point.engine_key)

    def _refusal(self, reply: dict, key: tuple) -> dict:
        """Why a point has no number; what this machine cannot do is not tried again for points with the same `key`."""
        failure = {k: reply[k] for k in ("status", "reason")}
        if failure["status"] == "infeasible":
            self.refused[key] = failure
        return failure

    def _measure_ceilings(self, dtype: str) -> None:
        name = devices.detect().name
        if self.store.ceilings(name) is None:
            reply = self._guarded({"op": "ceilings", "dtype": dtype}, START_LIMIT_S)
            if reply["ok"]:
                self.store.write_ceilings({"device": name, **reply["ceilings"]})
            else:
                self.progress.say(f"the device's ceilings could not be measured, floors stay empty: {reply['reason']}")

    def _point(self, point: Point) -> dict:
        """The point's record. After a failure the engine is not trusted with the next point."""
        reply = self._guarded(_request(point, self.store.counts_file(point.key)), self.limit_s)
        if reply["ok"]:
            return {"status": "ok", "reason": None, **{k: v for k, v in reply.items() if k != "ok"}}
        if "would preempt" not in reply["reason"]:
            self.running = None
        return self._refusal(reply, point.build_key) if point.is_layer else {k: reply[k] for k in ("status", "reason")}

    def _guarded(self, request: dict, limit_s: float) -> dict:
        try:
            return self.worker.ask(request, limit_s)
        except WorkerTimeout as error:
            return {"ok": False, "status": "timeout", "reason": str(error)}
        except WorkerDied as error:
            return {"ok": False, "status": "failed", "reason": str(error)}

    def _write(self, point: Point, record: dict, started: datetime) -> None:
        provenance = {**devices.provenance(), **devices.gpu_state(), "started_at": started.isoformat()}
        full = {**describe(point), "repeats": [], **record, "engine": self.facts, "provenance": provenance,
                "worker": self.worker.count}
        self.store.write(self.store.path(point, provenance["device"], provenance["engine_version"]), full)
        self.counts[record["status"]] = self.counts.get(record["status"], 0) + 1
        self.progress.advance(point, full)


def _draft_config(point: Point) -> dict | None:
    spec = point.engine.speculation
    return catalog.load(spec.draft).hf_config() if spec and spec.draft else None


def _request(point: Point, counts_file: Path) -> dict:
    """What the worker is asked for one point; counts_file: where expert choices are counted, by methods that do."""
    work, arch, engine = point.workload, point.architecture, point.engine
    if point.is_layer:
        shape = {name: getattr(arch, name) for name in ("hidden_size", "expert_ffn_dim", "num_experts", "top_k")}
        return {"op": "layer", "shape": shape, "dtype": engine.dtype, "quantization": engine.quantization,
                "backend": engine.moe_backend or "auto", "seed": work.seed, "tokens": work.batch, "skew": engine.skew,
                "repeats": point.repeats}
    if point.method == "training":
        return {"op": "training", "reference": engine.weights}
    if point.method in TEXT_METHODS:
        return {"op": "read", "method": point.method, "workload": asdict(work), "text": point.text,
                "weights": engine.weights, "repeats": point.repeats, "counts_file": str(counts_file)}
    return {"op": "measure", "workload": asdict(work), "method": point.method, "repeats": point.repeats}
