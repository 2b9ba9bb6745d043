"""Devices: which one a plan is measured on here, what is published about its kind, and that one run
has it to itself.

    nvml.py       the NVIDIA cards of this machine, through NVML, and those that CUDA shows
    host.py       its CPU
    facts.py      devices.yaml: kinds, their exact names, published figures
    device.py     the device of a kind, as this machine has it, and what a record says of it
    lock.py       one measurement at a time, and memory that others use

Nothing here imports torch.
"""

from moebook.devices.device import (
    Device,
    allowed,
    compute_capability,
    detect,
    git_commit,
    gpu_state,
    here,
    memory_bytes,
    provenance,
    published_here,
    require,
)
from moebook.devices.facts import ANY, ANY_BYTES, Published, kind_of, kinds, published, suits
from moebook.devices.host import core_ids, cores, flags
from moebook.devices.lock import DeviceBusy, DeviceInUse, DeviceLock
from moebook.devices.nvml import forget
