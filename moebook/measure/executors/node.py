"""What a task does on a node of a cluster: points that share an engine go through a worker, and
come home one by one.

A node shares no folder with the machine that asked: logs and counted expert choices lie in its
temporary folder, and the counts travel with their record.

The worker imports vLLM for as long as engines take to start, so it outlives its task, in the
process that ran it, for the next task there on the same devices. Its engine does not: another
process may be given the GPU."""

import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from moebook import devices, engine
from moebook.devices import lock
from moebook.measure import scratch
from moebook.measure.executors import cards_for, largest_share
from moebook.measure.schedule import Sweep, references
from moebook.measure.worker_handle import START_LIMIT_S, WorkerDied, WorkerHandle, WorkerTimeout
from moebook.models.tiny import train_family
from moebook.study.plan import Point

# Of what the user set where the sweep was started.
FORWARDED = ("MOEBOOK_", engine.VARIABLES, "HF_HUB_OFFLINE")
# Secrets, and what is true of one machine only; nor any *_KEY.
KEPT_BACK = ("MOEBOOK_ENDPOINT_", lock.VARIABLE, engine.OF_ONE_HOST)
# Set for this node, so they stand.
_own = frozenset(name for name in os.environ if name.startswith(engine.VARIABLES))
_kept: dict[str, WorkerHandle] = {}  # by the devices that its process sees


class WrongNode(RuntimeError):
    """A node whose device or engine is not the one that the results come from."""


@dataclass(frozen=True)
class Task:
    """What a node is told. kind: the plan's device; source: device and engine that results come
    from; start: makes a worker that logs to a file and uses a device; folder: where the records go
    to, which the device's lock tells others."""

    kind: str
    source: tuple[str, str]
    limit_s: float
    stop_at: float | None = None
    start: Callable[[Path, devices.Device], WorkerHandle] = WorkerHandle
    folder: str = ""
    environment: dict[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Message:
    """One point's record; counts: its file of expert choices; said: lines told since the message
    before."""

    key: str
    record: dict
    counts: bytes | None
    said: tuple[str, ...]


def environment() -> dict[str, str | None]:
    """What a task takes over from here. OMP_NUM_THREADS is among it because Ray sets it to a task's
    CPUs."""
    here = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(FORWARDED)
        and not name.startswith(KEPT_BACK)
        and not name.endswith("_KEY")
    }
    return {**here, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS")}


def provenance(taken_over: dict[str, str | None], kind: str) -> dict:
    """What every record of this node says of it: of the device for plans of this kind, or of
    another where it has none."""
    _take_over(taken_over)
    return engine.provenance(devices.detect(kind) or devices.detect())


def measure(points: list[Point], task: Task) -> Iterator[Message]:
    """A message for each point, as soon as it has a record."""
    device = _device(task)
    if task.stop_at is not None and time.time() > task.stop_at:
        return
    said: list[str] = []
    worker = _worker(task, device)
    with (
        _claimed(device, points, task),
        _scratch() as folder,
        _killed_after_error(worker),
    ):
        train_family.trained(references(points), said.append, device.environment())
        sweep = Sweep(worker, device, task.limit_s, lambda key: folder / f"{key}.npz", said.append)
        for point, record in sweep.records(points, task.stop_at):
            provenance = {**record["provenance"], "node": socket.gethostname()}
            yield Message(
                point.key,
                {**record, "provenance": provenance},
                _taken(sweep.counts_file(point.key)),
                tuple(said),
            )
            said.clear()
        _release(sweep)


def ceilings(dtype: str, task: Task) -> tuple[dict | None, list[str]]:
    """The node's ceilings, or None, and what there is to say of it."""
    device = _device(task)
    said: list[str] = []
    worker = _worker(task, device)
    with lock.held(device, task.folder), _killed_after_error(worker):
        return Sweep(worker, device, task.limit_s, Path, said.append).ceilings(dtype), said


@contextmanager
def _claimed(device: devices.Device, points: list[Point], task: Task) -> Iterator[None]:
    """The device is this task's, unless its points only read what training recorded: those share a
    node with others."""
    if all(p.method == "training" for p in points):
        yield
        return
    used = cards_for(points, device)
    with lock.held(device, task.folder, used):
        lock.check_free(device, largest_share(points), used)
        yield


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder that the next worker on this node removes where this process is killed."""
    folder = scratch.make()
    try:
        yield folder
    finally:
        scratch.remove(folder)


@contextmanager
def _killed_after_error(worker: WorkerHandle) -> Iterator[None]:
    try:
        yield
    except BaseException:
        worker.kill()
        raise


def _device(task: Task) -> devices.Device:
    """This node's, looked at as the task's environment has it. WrongNode where results would not
    come from the task's source, ValueError where no engine for it is installed."""
    _take_over(task.environment)
    device = devices.detect(task.kind) or devices.detect()
    here = device.name, engine.version(device.kind)
    if here != task.source:
        raise WrongNode(
            f"node {socket.gethostname()} has {' with '.join(here)}, the results come from "
            f"{' with '.join(task.source)}"
        )
    if problem := engine.problem(device.kind):
        raise ValueError(f"node {socket.gethostname()}: {problem}")
    return device


def _take_over(variables: dict[str, str | None]) -> None:
    for name, value in variables.items():
        if name not in _own:
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    devices.forget()


def _worker(task: Task, device: devices.Device) -> WorkerHandle:
    """The worker of this process on the device, among those that it sees now."""
    seen = f"{device.kind} {os.environ.get('CUDA_VISIBLE_DEVICES', '')}"
    for other in set(_kept) - {seen}:
        _kept.pop(other).kill()
    if seen not in _kept:
        log = f"worker-{socket.gethostname()}-{os.getpid()}.log"
        _kept[seen] = task.start(
            Path(tempfile.gettempdir()) / f"moebook-{os.getuid()}" / log, device
        )
    return _kept[seen]


def _release(sweep: Sweep) -> None:
    """No device memory stays taken: the worker is asked to end its engine, and ended itself where
    it may hold more, after a failure or single layers."""
    if sweep.running is None:
        sweep.worker.kill()
        return
    try:
        sweep.worker.ask({"op": "stop"}, START_LIMIT_S)
    except (WorkerDied, WorkerTimeout):
        pass  # and so it has ended


def _taken(file: Path) -> bytes | None:
    """The file's content, which leaves this machine with it."""
    if not file.exists():
        return None
    data = file.read_bytes()
    file.unlink()
    return data
