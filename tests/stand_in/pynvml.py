"""A stand-in for nvidia-ml-py: the cards are a JSON list in MOEBOOK_TEST_CARDS (conftest.machine):
name, uuid, memory_bytes, used_bytes, pids, mig (instances, likewise), clocks, temperature,
power_mw, throttled (a bit mask). What a card is not given it does not tell, as NVML does: by an
NVMLError."""

import json
import os
from types import SimpleNamespace

NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0
GIB = 2**30


class NVMLError(Exception):
    pass


class NVMLError_NotSupported(NVMLError):
    pass


def _cards() -> list[dict] | None:
    return json.loads(os.environ.get("MOEBOOK_TEST_CARDS", "null"))


def nvmlInit():
    if _cards() is None:
        raise NVMLError("Driver Not Loaded")


def nvmlDeviceGetCount():
    return len(_cards())


def nvmlDeviceGetHandleByIndex(index):
    return (index,)


def nvmlDeviceGetMigDeviceHandleByIndex(handle, index):
    if index >= len(_told(handle, "mig")):
        raise NVMLError("Not Found")
    return (*handle, index)


def _told(handle, key):
    card = _cards()[handle[0]]
    card = card["mig"][handle[1]] if len(handle) > 1 else card
    if card.get(key) is None:
        raise NVMLError_NotSupported(key)
    return card[key]


def nvmlDeviceGetName(handle):
    return _told(handle, "name")


def nvmlDeviceGetUUID(handle):
    return _told(handle, "uuid")


def nvmlDeviceGetMemoryInfo(handle):
    total, used = _told(handle, "memory_bytes"), _told(handle, "used_bytes")
    return SimpleNamespace(total=total, used=used, free=total - used)


def nvmlDeviceGetMigMode(handle):
    return [int(_told(handle, "mig") is not None), 1]


def nvmlDeviceGetMaxMigDeviceCount(handle):
    return 7


def nvmlDeviceGetComputeRunningProcesses(handle):
    return [SimpleNamespace(pid=pid) for pid in _told(handle, "pids")]


def nvmlSystemGetDriverVersion():
    return "580.0"


def nvmlDeviceGetClockInfo(handle, clock):
    return _told(handle, "clocks")[clock - 1]


def nvmlDeviceGetCurrentClocksThrottleReasons(handle):
    return _told(handle, "throttled")


def nvmlDeviceGetTemperature(handle, sensor):
    return _told(handle, "temperature")


def nvmlDeviceGetEnforcedPowerLimit(handle):
    return _told(handle, "power_mw")
