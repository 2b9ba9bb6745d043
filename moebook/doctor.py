"""What `moebook doctor` looks at: Python, the engine, its dependencies, the devices, memory and
disk."""

import importlib.util
import os
import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

from moebook import devices, engine, paths
from moebook.devices import nvml
from moebook.devices.nvml import VARIABLE, Card

NEEDED = (
    "papermill",
    "ipykernel",
    "matplotlib",
    "seaborn",
    "pandas",
    "pyarrow",
    "pydantic",
    "ipywidgets",
    "transformers",
    "torch",
    "vllm",
)
BREAKS_TORCH_CPU = ("torchvision", "torchaudio", "torchcodec")
GIB = 2**30
THREADS = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Check:
    name: str
    ok: bool
    detail: str


def checks() -> list[Check]:
    missing = [m for m in NEEDED if importlib.util.find_spec(m) is None]
    free = shutil.disk_usage(Path.cwd()).free / 1e9
    python = f"{platform.python_version()} (needed: 3.11 or newer)"
    packages = f"missing {', '.join(missing)}: `make venv`" if missing else "all there"
    return [
        Check("python", sys.version_info >= (3, 11), python),
        Check("packages", not missing, packages),
        *_engines(),
        *_devices(),
        Check("disk", free > 5, f"{free:.0f} GB free here (needed: 5)"),
        _root(),
        _threads(),
        _ray(),
        *_torch_companions(),
    ]


def _engines() -> list[Check]:
    """The build of the engine for each device here. A machine that can measure on one is whole."""
    kinds = dict.fromkeys([*(devices.kind_of(card.name) for card in nvml.seen().cards), "cpu"])
    problems = {kind: engine.problem(kind) for kind in kinds}
    whole = not all(problems.values())
    return [
        Check("engine", whole, f"{kind}: {problem or engine.version(kind)}")
        for kind, problem in problems.items()
    ]


def _devices() -> list[Check]:
    """Visible cards, what hides others, the CPU; any of them is right."""
    cpu, seen, every = devices.detect("cpu"), nvml.seen(), nvml.here()
    told = [_card(card) for card in seen.cards]
    if hidden := len(every) - len(seen.cards):
        by = f"{VARIABLE}={os.environ[VARIABLE]!r}" if VARIABLE in os.environ else "MIG"
        why = f": {seen.note}" if seen.note else ""
        told.append(f"{by} hides {hidden} of {len(every)} cards{why}")
    told.append(
        f"cpu: {cpu.name}, {devices.cores()} cores, {cpu.memory_bytes / GIB:.1f} GiB; "
        f"profiles: {_profiles('cpu', 1)}"
    )
    return [Check("device", True, line) for line in told]


def _card(card: Card) -> str:
    kind = devices.kind_of(card.name)
    profiles = _profiles(kind, devices.detect(kind).count, card.memory_bytes)
    return (
        f"{kind}: {card.name}, {card.memory_bytes / GIB:.1f} GiB, {card.uuid}; profiles: {profiles}"
    )


def _root() -> Check:
    try:
        return Check("repository root", True, str(paths.root()))
    except paths.NoCheckout as error:
        return Check("repository root", False, str(error))


def _profiles(kind: str, count: int, memory_bytes: int = 0) -> str:
    """Profiles whose plans a device of this kind measures, so many of which are here."""
    if not _root().ok:
        return "none, outside a checkout"
    found = []
    for profile in paths.profiles():
        folder = paths.root() / "params" / profile
        files = [yaml.safe_load(file.read_text()) for file in folder.glob("*.yaml")]
        plans = [given for given in files if isinstance(given, dict)]
        need = max((p.get("num_devices", 1) for p in plans), default=1)
        suit = any(devices.suits(p.get("device", "cpu"), kind, memory_bytes) for p in plans)
        if suit and (kind == "cpu" or need <= count):
            found.append(profile)
    return ", ".join(found) or "none"


def _threads() -> Check:
    """How many threads a library is told to use, in the variable that all of them read."""
    given = os.environ.get(THREADS, "")
    right = not given or all(n.isascii() and n.isdigit() and int(n) for n in given.split(","))
    if right:
        return Check("threads", True, f"{THREADS}={given}" if given else "a core each")
    allowed = "a whole number from 1 on, or leave it out for a thread a core"
    return Check("threads", False, f"{THREADS}: given {given!r}; {allowed}")


def _ray() -> Check:
    there = importlib.util.find_spec("ray") is not None
    use = "`moebook measure --executor ray`"
    absent = f"not installed; only {use} needs it: pip install -e '.[cluster]'"
    return Check("ray", True, f"there, for {use}" if there else absent)


def _torch_companions() -> list[Check]:
    if engine.problem("cpu") is not None:
        return []
    wrong = [m for m in BREAKS_TORCH_CPU if importlib.util.find_spec(m) is not None]
    detail = "none of those that break a CPU torch"
    if wrong:
        detail = f"{', '.join(wrong)} break transformers beside a CPU torch: uninstall them"
    return [Check("torch companions", not wrong, detail)]
