"""What `moebook doctor` looks at: Python, the engine, its dependencies, the device, memory and disk."""

import importlib.util
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from moebook import devices

NEEDED = ("papermill", "ipykernel", "matplotlib", "seaborn", "pandas", "pyarrow", "pydantic", "ipywidgets",
          "transformers", "torch", "vllm")
BREAKS_TORCH_CPU = ("torchvision", "torchaudio", "torchcodec")


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    detail: str


def checks() -> list[Check]:
    device = devices.detect()
    missing = [m for m in NEEDED if importlib.util.find_spec(m) is None]
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    version = devices.engine_version()
    found = [
        Check("python", sys.version_info >= (3, 11), f"{platform.python_version()} (needed: 3.11 or newer)"),
        Check("packages", not missing, f"missing {', '.join(missing)}: `make venv`" if missing else "all there"),
        Check("engine", version != "none", version if version != "none" else "no vLLM: `make venv` or environment.yml"),
        Check("device", True, f"{device.kind}: {device.name}, {device.memory_bytes / 1e9:.0f} GB"),
        Check("disk", free > 5, f"{free:.0f} GB free here (needed: 5)"),
        Check("repository root", Path("params").is_dir() and Path("notebooks").is_dir(),
              "params/ and notebooks/ are looked for in the current folder"),
    ]
    ray = importlib.util.find_spec("ray") is not None
    found.append(Check("ray", True, "there, for `moebook measure --executor ray`" if ray else "not installed; only `moebook "
                       "measure --executor ray` needs it: pip install -e '.[cluster]'"))
    if device.kind == "cpu":
        wrong = [m for m in BREAKS_TORCH_CPU if importlib.util.find_spec(m) is not None]
        found.append(Check("torch companions", not wrong, f"{', '.join(wrong)} break transformers beside a CPU torch: "
                           f"uninstall them" if wrong else "none of those that break a CPU torch"))
    return found
