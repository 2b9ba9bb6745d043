"""Whether others use so much of a card's memory that the engine could not take its share: told
before it starts."""

import time

from moebook.devices import nvml
from moebook.devices.device import Device
from moebook.problems import Told

PATIENCE_S = 5.0  # memory of a process that has just ended is free a moment later
POLL_S = 0.5
GIB = 2**30


class DeviceBusy(Told, RuntimeError):
    """The device is partly used by others; nothing is recorded of the point that found it so."""


def check(device: Device, utilization: float, used: int = 1) -> None:
    """DeviceBusy where one of the device's first `used` cards has less memory free than
    `utilization` of it, the share that the engine takes. To be asked before the first engine of a
    run: a later one would find its own."""
    give_up_at = time.monotonic() + PATIENCE_S
    for uuid in device.uuids[:used]:
        while (memory := nvml.memory_use(uuid)).total - memory.used < utilization * memory.total:
            if time.monotonic() >= give_up_at:
                raise DeviceBusy(_told(device, uuid, memory, utilization))
            time.sleep(POLL_S)


def _told(device: Device, uuid: str, memory: nvml.MemoryUse, utilization: float) -> str:
    used, total, wanted = (b / GIB for b in (memory.used, memory.total, utilization * memory.total))
    whose = f"by process {', '.join(map(str, memory.pids))}" if memory.pids else "by others"
    return (
        f"busy: device {device.name} ({uuid}) has {used:.1f} of {total:.1f} GiB in use "
        f"{whose}, the engine takes {wanted:.1f} GiB ({utilization:.0%}); nothing was recorded. "
        "Wait until it is free, or choose another card with CUDA_VISIBLE_DEVICES"
    )
