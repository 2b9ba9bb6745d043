"""What a task does on a node of a cluster: points that share an engine go through a worker, and
come home one by one.

A node shares no folder with the machine that asked: logs and counted expert choices lie in its
temporary folder, and the counts travel with their record. At the end: Ray itself, which nothing
here imports before a cluster is asked for, and which of its nodes results can come from.

The worker imports vLLM for as long as engines take to start, so it outlives its task, in the
process that ran it, for the next task there on the same devices. Its engine does not: another
process may be given the GPU."""

import os
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
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
PROBE_S = 120.0  # for each node's answer: a process of Ray's starts, and imports moebook
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


# Older Ray hides all GPUs from a task that asks for none. Only there, because such a task gets a
# process of its own.
SEES_GPUS = {"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}}


def import_ray():
    """Ray, told to report nothing to its makers."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ValueError(
            "--executor ray needs Ray, which is not installed: pip install -e '.[cluster]'"
        ) from None
    return ray


def check_address(address: str | None) -> None:
    if address and address.startswith("ray://"):
        raise ValueError(
            f"the address {address} is of a Ray client's server, through which no records can come "
            "one by one: give HOST:PORT of the head, on a machine that is in the cluster (`ray "
            "start --address=HOST:PORT`)"
        )


def connect(ray, address: str | None) -> None:
    """Join the cluster at that address (see RayCluster), or start one."""
    try:
        check_reachable(address)  # Ray itself tries for minutes
        ray.init(
            address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
        )
    except Exception as error:  # Ray raises no narrower one where a node does not start in time
        raise ValueError(
            f"no Ray cluster at {address or 'RAY_ADDRESS, and none started here'}: {error}; start "
            "one with `ray start --head` and give its --address"
        ) from None


def check_joined(ray, address: str | None) -> None:
    """ValueError where this process is in another cluster than the one at an address."""
    joined = ray.get_runtime_context().gcs_address
    if address not in (None, "auto") and _resolved(address) != _resolved(joined):
        raise ValueError(
            f"--address: given {address!r}; this process is in the Ray cluster at {joined} already:"
            " leave it out, or leave that cluster with ray.shutdown()"
        )


def _resolved(address: str) -> tuple[str, str]:
    """Host, as a number where it has one, and port."""
    host, _, port = address.rpartition(":")
    with suppress(OSError):
        host = socket.gethostbyname(host.strip("[]"))
    return host, port


def check_reachable(address: str | None) -> None:
    """OSError where nothing listens at HOST:PORT, or [HOST]:PORT."""
    host, _, port = (address or "").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


def probe(ray, kind: str) -> dict[str, dict]:
    """Provenance of each living node that has anything to measure on, for plans of this kind, by
    Ray's id of it."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    remote, asked, found = ray.remote(num_cpus=0)(provenance), {}, {}
    for one in ray.nodes():
        if not one["Alive"] or not {"CPU", "GPU"} & set(one["Resources"]):
            continue
        options = {"runtime_env": SEES_GPUS} if "GPU" in one["Resources"] else {}
        there = NodeAffinitySchedulingStrategy(one["NodeID"], soft=False)
        task = remote.options(scheduling_strategy=there, **options)
        asked[one["NodeID"]] = task.remote(environment(), kind)
    for name, reply in asked.items():
        try:
            found[name] = ray.get(reply, timeout=PROBE_S)
        except ray.exceptions.RayTaskError as error:
            raise ValueError(
                f"a node of this Ray cluster cannot run moebook ({first_line(error.cause)}): "
                "install the same moebook on every node"
            ) from None
        except ray.exceptions.RayError:
            continue  # gone since, or does not answer
    return found


def source_of(facts: dict) -> tuple[str, str]:
    """Device and engine of a node's provenance."""
    return facts["device"], facts["engine_version"]


def first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines() or ["no message"]
    return f"{type(error).__name__}: {lines[0]}"
