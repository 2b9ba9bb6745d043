"""A plan over the nodes of a Ray cluster: a task for each build, records home one by one.

A task asks for the GPUs of its engine, all on one node;
on a CPU it takes a whole node, for two engines would share its cores. Points of an endpoint are
left to the local executor: they need its key, which is sent nowhere.

Each record comes home as soon as its point is done, and only the machine that asked writes. A task
whose process or node is lost is started again without the points that are home, `RETRIES` times in
a row; then the point it was at is recorded as failed with what was lost, and the rest goes on.
Ray's own retries stay off: they would repeat a task from its first point."""

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from moebook import devices
from moebook.measure.executors import Job, Measured, gpus, node, ray_nodes
from moebook.measure.executors.ray_nodes import first_line, source_of
from moebook.measure.schedule import NO_PEAKS
from moebook.measure.worker_handle import WorkerHandle
from moebook.study.plan import Point, describe

RETRIES = 2
POLL_S = 5.0


@dataclass
class Build:
    """The points of one task that are not home, by key; losses: how often it was lost since the
    last that came home."""

    points: dict[str, Point]
    need: int
    losses: int = 0
    stuck_since: float | None = None


def builds(points: Iterable[Point]) -> list[Build]:
    """What one task measures, in the plan's order: the points that share an engine, which takes
    seconds to start (estimates.ENGINE_START_S), as long as most points; those that need none, by
    method."""
    groups: dict[object, dict[str, Point]] = {}
    for point in points:
        group = point.build_key if point.needs_engine else point.method
        groups.setdefault(group, {})[point.key] = point
    return [Build(group, max(map(gpus, group.values()))) for group in groups.values()]


class RayCluster:
    """address: as `ray.init` takes it; None is RAY_ADDRESS, else the cluster that runs on this
    machine, else one of this machine alone. patience_s: how long points wait for a node that could
    hold them."""

    def __init__(
        self,
        address: str | None = None,
        start: Callable[[Path, devices.Device], WorkerHandle] = WorkerHandle,
        patience_s: float = 60.0,
    ):
        self.ray, self.address = ray_nodes.import_ray(), address
        self.start, self.patience_s = start, patience_s
        self.kind, self.folder = "", ""
        self.running: dict[object, Build] = {}
        self.unfit: dict[str, dict] = {}
        self.any_home = False
        ray_nodes.check_address(address or os.environ.get("RAY_ADDRESS"))

    def __enter__(self) -> "RayCluster":
        self.owned = not self.ray.is_initialized()
        if self.owned:
            ray_nodes.connect(self.ray, self.address)
        else:
            ray_nodes.check_joined(self.ray, self.address)
        return self

    def __exit__(self, *exc) -> None:
        self.kill()
        if self.owned:
            self.ray.shutdown()

    def source(self, kind: str) -> tuple[str, str]:
        """Device and engine of the plan's kind that most nodes have. Nodes that have another stay
        unused."""
        found, self.kind = ray_nodes.probe(self.ray, kind), kind
        fit = [
            facts
            for facts in found.values()
            if devices.suits(kind, facts["device_kind"], facts["device_memory_bytes"])
        ]
        if not fit:
            have = sorted({f"{f['device_kind']} ({f['device']})" for f in found.values()})
            raise ValueError(
                f"this plan is for device {kind!r}; devices of this Ray cluster: "
                f"{', '.join(have) or 'none'}"
            )
        sources = Counter(map(source_of, fit))
        source = max(sources, key=lambda s: (s[1] != "none", sources[s]))
        self.unfit = {name: facts for name, facts in found.items() if source_of(facts) != source}
        self.facts = next(facts for facts in fit if source_of(facts) == source)
        return source

    def claim(self, points: list[Point], folder: Path) -> None:
        """Devices are taken on their nodes, by each task for itself."""
        self.folder = str(folder)

    def ceilings(self, dtype: str, job: Job) -> dict | None:
        task = self._remote(node.ceilings, 1, max_retries=RETRIES).remote(dtype, self._task(job))
        try:
            self._await(task, Build({}, 1))
            found, said = self.ray.get(task)
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self.ray.exceptions.RayError as error:
            found, said = None, [NO_PEAKS.format(first_line(error))]
        for line in said:
            job.say(line)
        return found

    def _await(self, task, build: Build) -> None:
        """Until the task has ended; otherwise it is cancelled. A task that has ended must not be:
        Ray ends this process where the cancelling meets the last word of the task."""
        ended = []
        try:
            while not ended:
                ended, _ = self.ray.wait([task], timeout=POLL_S)
                if not ended and self._stuck(build):
                    raise self.ray.exceptions.RayError("no node is left that could measure them")
        finally:
            if not ended:
                self.ray.cancel(task, force=True)

    def run(self, points: list[Point], job: Job) -> Iterator[Measured]:
        for facts in self.unfit.values():
            job.say(f"a node is not used: it has {' with '.join(source_of(facts))}")
        sent = [p for p in points if p.method != "endpoint"]
        if left := len(points) - len(sent):
            job.say(
                f"{left} points are of an endpoint and not run: they need its key, which is not "
                "sent to other machines; run the same command without --executor ray (or with "
                "--executor local)"
            )
        for build in builds(sent):
            self._submit(build, job)
        while self.running:
            ready, _ = self.ray.wait(list(self.running), num_returns=1, timeout=POLL_S)
            for stream in ready:
                yield from self._next(stream, job)
            if not ready:
                self._leave_stuck(job)

    def kill(self) -> None:
        for stream in self.running:
            self.ray.cancel(stream, force=True)
        self.running = {}

    def _next(self, stream, job: Job) -> Iterator[Measured]:
        """What a task that has something to tell tells: a record, its end, or what became of it."""
        build = self.running[stream]
        try:
            message = self.ray.get(next(stream))
        except StopIteration:
            del self.running[stream]
        except node.WrongNode as error:
            del self.running[stream]
            for point in build.points.values():
                yield self._failed(point, str(error.cause))
        except (devices.DeviceBusy, devices.DeviceInUse) as error:
            del self.running[stream]
            job.say(f"{error.cause}; {len(build.points)} points are left to another run")
        except self.ray.exceptions.RayTaskError as error:
            del self.running[stream]
            if not self.any_home:  # nothing works anywhere: a matter of what is installed
                self.kill()
                raise error.cause from None
            yield from self._lost(build, first_line(error.cause), job)
        except self.ray.exceptions.RayError as error:
            del self.running[stream]
            yield from self._lost(build, first_line(error), job)
        else:
            for line in message.said:
                job.say(line)
            build.losses, self.any_home = 0, True
            yield Measured(build.points.pop(message.key), message.record, message.counts)

    def _lost(self, build: Build, why: str, job: Job) -> Iterator[Measured]:
        build.losses += 1
        if build.losses > RETRIES and build.points:
            point = build.points.pop(next(iter(build.points)))
            yield self._failed(
                point, f"its process or node was lost {build.losses} times in a row, last: {why}"
            )
            build.losses = 0
        if build.points:
            job.say(f"a task was lost ({why}); {len(build.points)} points of it are tried again")
            self._submit(build, job)

    def _failed(self, point: Point, reason: str) -> Measured:
        provenance = {**self.facts, "started_at": datetime.now(UTC).isoformat(), "node": None}
        record = {
            **describe(point),
            "status": "failed",
            "reason": reason,
            "repeats": [],
            "engine": {},
            "provenance": provenance,
            "worker": 0,
        }
        return Measured(point, record)

    def _submit(self, build: Build, job: Job) -> None:
        remote = self._remote(
            node.measure,
            build.need,
            max_retries=0,
            num_returns="streaming",
            _generator_backpressure_num_objects=1,  # none begins before the last one is home
        )
        self.running[remote.remote(list(build.points.values()), self._task(job))] = build

    def _task(self, job: Job) -> node.Task:
        return node.Task(
            self.kind,
            source_of(self.facts),
            job.limit_s,
            job.stop_at,
            self.start,
            self.folder,
            node.environment(),
        )

    def _remote(self, function, need: int, **options):
        """The function as a task on nodes that fit. Its process is used again (max_calls), which
        Ray by default does not do with GPUs, so that the worker in it lives on."""
        if self._on_gpu:
            asked = {"num_gpus": need, "num_cpus": 0}
            if not need:
                asked["runtime_env"] = ray_nodes.SEES_GPUS
        else:
            asked = {"num_cpus": min(self._rooms(), default=1)}
        if self.unfit:
            asked["label_selector"] = {"ray.io/node-id": f"!in({','.join(self.unfit)})"}
        return self.ray.remote(max_calls=0, **asked, **options)(function)

    @property
    def _on_gpu(self) -> bool:
        return self.facts["device_kind"] != "cpu"

    def _rooms(self) -> list[float]:
        """GPUs, or CPUs, of each living node that fits."""
        kind = "GPU" if self._on_gpu else "CPU"
        alive = [n for n in self.ray.nodes() if n["Alive"] and n["NodeID"] not in self.unfit]
        return [n["Resources"][kind] for n in alive if n["Resources"].get(kind)]

    def _stuck(self, build: Build) -> bool:
        """Whether for longer than patience no living node could hold it."""
        room = max(self._rooms(), default=0)
        if room and (build.need <= room or not self._on_gpu):
            build.stuck_since = None
            return False
        build.stuck_since = build.stuck_since or time.monotonic()
        return time.monotonic() - build.stuck_since > self.patience_s

    def _leave_stuck(self, job: Job) -> None:
        """Points that no living node could hold wait for one, then are left to another run."""
        for stream, build in list(self.running.items()):
            if self._stuck(build):
                self.ray.cancel(stream, force=True)
                del self.running[stream]
                need = "a node"
                if self._on_gpu:
                    largest = max(self._rooms(), default=0)
                    need = f"{build.need} GPUs of one node, and the largest has {largest:g}"
                job.say(f"{len(build.points)} points wait for {need}: they are left to another run")
