"""One measurement at a time on a device: a lock per card, or for the CPU, that all of moebook on
this machine shares; and whether others use so much of a card's memory that the engine could not
take its share, told before it starts.

The lock is `flock` on a file named by the card's UUID, or `cpu`, in a folder of the machine:
`moebook-locks` among the temporary files, or what MOEBOOK_LOCKS names. It ends with its holder,
however that ends; what the file says of a holder is only told while the file is locked. On Linux a
name that no file stands for (unix(7), abstract sockets) is held beside it, so that a file which was
removed opens the device to nobody.
"""

import fcntl
import hashlib
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from moebook.devices import nvml
from moebook.devices.device import Device
from moebook.problems import Told

VARIABLE = "MOEBOOK_LOCKS"
PATIENCE_S = 5.0  # memory of a process that has just ended is free a moment later
POLL_S = 0.5
GIB = 2**30


class DeviceInUse(Told, RuntimeError):
    """Another measurement runs on the device; the message names it."""


class DeviceBusy(Told, RuntimeError):
    """The device is partly used by others; nothing is recorded of the point that found it so."""


class DeviceLock:
    """The cards of a device that one run measures on. Taken again it takes further cards, and says
    what is measured now."""

    def __init__(self) -> None:
        self.handles: dict[str, int] = {}
        self.names: dict[str, socket.socket] = {}

    def take(self, device: Device, what: str | Path, used: int = 1) -> None:
        """The device's first `used` cards, or the CPU. what: the folder measured into. DeviceInUse,
        and then none of them that was not held before."""
        before = set(self.handles)
        try:
            for name in device.uuids[:used] or ("cpu",):
                if name not in self.handles:
                    self.handles[name] = _locked(name, device)
                    self.names[name] = _named(name, device)
                _write(self.handles[name], what)
        except DeviceInUse:
            self.release(set(self.handles) - before)
            raise

    def release(self, names: set[str] | None = None) -> None:
        for name in set(self.handles) if names is None else names:
            handle = self.handles.pop(name)
            os.ftruncate(handle, 0)
            os.close(handle)
            if name in self.names:
                self.names.pop(name).close()


@contextmanager
def held(device: Device, what: str | Path, used: int = 1) -> Iterator[None]:
    """The device's first `used` cards, or the CPU, within the block."""
    lock = DeviceLock()
    lock.take(device, what, used)
    try:
        yield
    finally:
        lock.release()


def folder() -> Path:
    return Path(os.environ.get(VARIABLE) or Path(tempfile.gettempdir()) / "moebook-locks")


def _path(name: str) -> Path:
    return folder() / name.replace("/", "_")


def _named(name: str, device: Device) -> socket.socket:
    """DeviceInUse where another process has the name of this lock."""
    path, found = _path(name), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    if sys.platform == "linux":
        try:
            found.bind(f"\0moebook {hashlib.sha256(os.fsencode(path)).hexdigest()}")
        except OSError:
            found.close()
            raise DeviceInUse(_in_use(path, device, name)) from None
    return found


def _locked(name: str, device: Device) -> int:
    path = _path(name)
    try:
        handle = _open(path)
    except OSError as error:
        raise ValueError(
            f"cannot write the device's lock {path}: {error.strerror}; name a folder "
            f"for locks with {VARIABLE}"
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        raise DeviceInUse(_in_use(path, device, name)) from None
    return handle


def _open(path: Path) -> int:
    """Open to all users of the machine. Existing files without O_CREAT: in a folder such as /tmp
    Linux refuses it on those of another user."""
    if not path.parent.is_dir():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o1777)
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW)
    except FileNotFoundError:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        os.fchmod(handle, 0o666)
        return handle


def _write(handle: int, what: str | Path) -> None:
    since = datetime.now().isoformat(timespec="seconds")
    holder = {"pid": os.getpid(), "folder": str(what), "since": since}
    os.ftruncate(handle, 0)
    os.pwrite(handle, json.dumps(holder).encode(), 0)


def _in_use(path: Path, device: Device, name: str) -> str:
    label = f"{device.name} ({name})" if device.on_gpu else device.name
    other = " or choose another card with CUDA_VISIBLE_DEVICES" if device.on_gpu else ""
    return f"device {label} is in use by {_holder(path)}; wait for it{other}"


def _holder(path: Path) -> str:
    try:
        found = json.loads(path.read_text())
        since = datetime.fromisoformat(found["since"])
        clock = "%H:%M" if since.date() == datetime.now().date() else "%Y-%m-%d %H:%M"
        return f"process {found['pid']}, measuring {found['folder']} since {since:{clock}}"
    except (OSError, ValueError, KeyError, TypeError):  # it has just begun or just ended
        return "another measurement"


def check_free(device: Device, utilization: float, used: int = 1) -> None:
    """DeviceBusy where one of the device's first `used` cards has less memory free than
    `utilization` of it, the share that the engine takes. To be asked before the first engine of a
    run: a later one would find its own."""
    give_up_at = time.monotonic() + PATIENCE_S
    for uuid in device.uuids[:used]:
        while (memory := nvml.memory_use(uuid)).total - memory.used < utilization * memory.total:
            if time.monotonic() >= give_up_at:
                raise DeviceBusy(_busy(device, uuid, memory, utilization))
            time.sleep(POLL_S)


def _busy(device: Device, uuid: str, memory: nvml.MemoryUse, utilization: float) -> str:
    used, total, wanted = (b / GIB for b in (memory.used, memory.total, utilization * memory.total))
    whose = f"by process {', '.join(map(str, memory.pids))}" if memory.pids else "by others"
    return (
        f"busy: device {device.name} ({uuid}) has {used:.1f} of {total:.1f} GiB in use "
        f"{whose}, the engine takes {wanted:.1f} GiB ({utilization:.0%}); nothing was recorded. "
        "Wait until it is free, or choose another card with CUDA_VISIBLE_DEVICES"
    )
