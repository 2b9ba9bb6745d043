"""Where points are measured: on this machine (`local`), or on the nodes of a Ray cluster (`ray`).

An executor is a context manager. `source(kind)` says which device and engine results will come
from, or raises ValueError where there is none of the plan's kind; `claim` takes the device for
points that are measured into a folder, or says why it cannot; `ceilings` measures that device's;
`run` yields each point with its record as soon as there is one. It writes nothing: the caller's
store stays the single truth."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from moebook import devices, engine
from moebook.devices import lock
from moebook.measure.schedule import Sweep, references
from moebook.measure.worker_handle import WorkerHandle
from moebook.models.tiny import train_family
from moebook.problems import Refused
from moebook.study.plan import Point

NAMES = ("local", "ray")


@dataclass(frozen=True)
class Job:
    """limit_s: seconds one point may take. stop_at: begin no further point after this time (seconds
    since 1970)."""

    limit_s: float
    counts_file: Callable[[str], Path]
    say: Callable[[str], None] = print
    stop_at: float | None = None


class Measured(NamedTuple):
    """counts: the file of a point's expert choices, where it was written on another machine."""

    point: Point
    record: dict
    counts: bytes | None = None


def choose(name: str, address: str | None, log: Path):
    """The executor of that name. log: where a worker on this machine writes; address: of the Ray
    cluster."""
    if name not in NAMES:
        raise ValueError(f"no executor {name!r}; executors: {', '.join(NAMES)}")
    if name == "local":
        if address is not None:
            raise ValueError(
                f"an address ({address}) is a Ray cluster's: add --executor ray, or leave "
                "--address out"
            )
        return Local(log)
    from moebook.measure.executors.ray_cluster import RayCluster

    return RayCluster(address)


def gpus(point: Point) -> int:
    """GPUs that a point is measured on: what training recorded is only read, and a single layer
    runs on one."""
    if point.method == "training":
        return 0
    return 1 if point.is_layer else point.engine.num_devices


def cards_for(points: Iterable[Point], device: devices.Device) -> int:
    """Cards of the device that these points are measured on. ValueError where it has fewer."""
    need = max([1, *map(gpus, points)])
    if device.on_gpu and need > device.count:
        raise Refused(
            f"these points need {need} of {device.name}, and {device.count} can be seen "
            "here: plan for as many, or show more of them in CUDA_VISIBLE_DEVICES"
        )
    return need


def largest_share(points: Iterable[Point]) -> float:
    """The largest share of a card's memory that an engine of these points takes; single layers take
    what they need."""
    return max((p.engine.gpu_memory_utilization for p in points if p.needs_engine), default=0.0)


class Local:
    """worker: one that runs already, which stays; otherwise one is started that logs to `log`, and
    ended with this. The device is this run's from the first claim until the end."""

    def __init__(self, log: Path, worker: WorkerHandle | None = None):
        self.log, self.owned, self.worker = log, worker is None, worker
        self.lock = devices.DeviceLock()
        self.device: devices.Device | None = None

    def __enter__(self) -> "Local":
        return self

    def __exit__(self, *exc) -> None:
        try:
            if self.owned and self.worker is not None:
                self.worker.__exit__(*exc)
        finally:
            self.lock.release()

    def source(self, kind: str) -> tuple[str, str]:
        self.device = devices.require(kind)
        return self.device.name, engine.version(kind)

    def claim(self, points: list[Point], folder: Path) -> None:
        """Before the first point: an engine for the device is installed, the device is here, free,
        and from now on ours."""
        if problem := engine.problem(self.device.kind):
            raise Refused(problem)
        used = cards_for(points, self.device)
        self.lock.take(self.device, folder, used)
        if self.worker is None:  # its first engine is yet to come
            lock.check_free(self.device, largest_share(points), used)
            self.worker = WorkerHandle(self.log, self.device)

    def ceilings(self, dtype: str, job: Job) -> dict | None:
        return self._sweep(job).ceilings(dtype)

    def run(self, points: list[Point], job: Job) -> Iterator[Measured]:
        """Counts of expert choices are written where the job wants them, so none come with the
        records."""
        train_family.trained(references(points), job.say, self.device.environment())
        for point, record in self._sweep(job).records(points, job.stop_at):
            yield Measured(point, record)

    def kill(self) -> None:
        if self.worker is not None:
            self.worker.kill()

    def _sweep(self, job: Job) -> Sweep:
        return Sweep(self.worker, self.device, job.limit_s, job.counts_file, job.say)
