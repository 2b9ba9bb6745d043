"""One worker on this machine, one point after another."""

from collections.abc import Iterator
from pathlib import Path

from moebook import devices, engine
from moebook.devices import lock
from moebook.measure.executors import Job, Measured, cards_for, largest_share
from moebook.measure.schedule import Sweep, references
from moebook.measure.worker_handle import WorkerHandle
from moebook.models.tiny import train_family
from moebook.problems import Refused
from moebook.study.plan import Point


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
