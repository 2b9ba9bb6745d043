"""One worker on this machine, one point after another."""

from collections.abc import Iterator
from pathlib import Path

from moebook import devices
from moebook.executors import Job, Measured
from moebook.models import tiny
from moebook.plan import Point
from moebook.sweep import Sweep, references
from moebook.worker_handle import WorkerHandle


class Local:
    """worker: one that runs already, which stays; otherwise one is started that logs to `log`, and ended with this."""

    def __init__(self, log: Path, worker: WorkerHandle | None = None):
        self.owned = worker is None
        self.worker = worker or WorkerHandle(log)

    def __enter__(self) -> "Local":
        return self

    def __exit__(self, *exc) -> None:
        if self.owned:
            self.worker.__exit__(*exc)

    def source(self, kind: str) -> tuple[str, str]:
        device = devices.detect()
        if device.kind != kind:
            raise ValueError(f"this plan is for device {kind!r}, this machine has {device.kind!r} ({device.name}): "
                             f"use a profile of this machine, or read the committed results")
        return device.name, devices.engine_version()

    def ceilings(self, dtype: str, job: Job) -> dict | None:
        return self._sweep(job).ceilings(dtype)

    def run(self, points: list[Point], job: Job) -> Iterator[Measured]:
        """Counts of expert choices are written where the job wants them, so none come with the records."""
        tiny.ensure(references(points), job.say)
        for point, record in self._sweep(job).records(points, job.stop_at):
            yield Measured(point, record)

    def kill(self) -> None:
        self.worker.kill()

    def _sweep(self, job: Job) -> Sweep:
        return Sweep(self.worker, job.limit_s, job.counts_file, job.say)
