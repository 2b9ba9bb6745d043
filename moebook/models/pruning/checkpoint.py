"""Hugging Face folders of safetensors, read and written tensor by tensor: memory holds one tensor
and one output shard, whatever the model's size. What each tensor is to a MoE layer stands in
layout.py."""

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from math import prod
from pathlib import Path

from safetensors import SafetensorError, safe_open

MAX_SHARD_BYTES = 2 * 1024**3
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_BYTES = {
    "F64": 8,
    "I64": 8,
    "U64": 8,
    "F32": 4,
    "I32": 4,
    "U32": 4,
    "F16": 2,
    "BF16": 2,
    "I16": 2,
    "U16": 2,
}
_WEIGHTS = (
    "*.safetensors",
    "*.index.json",
    "*.bin",
    "*.pt",
    "*.pth",
    "*.ckpt",
    "*.gguf",
    "*.h5",
    "*.msgpack",
    "*.onnx",
)

_LAYER = re.compile(r"\blayers\.(\d+)\.")


class CheckpointError(ValueError):
    """A checkpoint, or the scores for it, cannot be used; the message names the file and says what
    to do."""


@dataclass(frozen=True)
class Stored:
    file: str
    shape: tuple[int, ...]
    dtype: str  # as safetensors spells it: F32, BF16

    @property
    def bytes(self) -> int:
        return prod(self.shape) * _BYTES.get(self.dtype, 1)


@dataclass(frozen=True)
class Checkpoint:
    folder: Path
    config: dict
    tensors: dict[str, Stored]
    sharded: bool
    metadata: dict[str, str] = field(default_factory=dict)

    def layers(self) -> Iterator[list[str]]:
        """Tensor names, the tensors of one decoder layer at a time; those of no layer come together
        first."""
        for _, names in groupby(sorted(self.tensors, key=_layer_of), key=_layer_of):
            yield list(names)

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, "object"]]:
        """Name and torch tensor (CPU), one by one. Raises CheckpointError."""
        for file, inside in groupby(
            sorted(names, key=lambda n: self.tensors[n].file), lambda n: self.tensors[n].file
        ):
            with _opened(self.folder / file) as shard:
                for name in inside:
                    yield name, shard.get_tensor(name)

    @property
    def total_bytes(self) -> int:
        return sum(t.bytes for t in self.tensors.values())

    @property
    def total_parameters(self) -> int:
        return sum(prod(t.shape) for t in self.tensors.values())


def open_checkpoint(folder: Path) -> Checkpoint:
    """The folder's config and the headers of all its shards. Raises CheckpointError."""
    folder = Path(folder)
    config = read_json(
        folder / "config.json", "a Hugging Face model folder has one; give such a folder"
    )
    if (folder / INDEX).is_file():
        return _open_sharded(folder, config)
    if (folder / SINGLE).is_file():
        tensors, metadata = _header(folder / SINGLE)
        return Checkpoint(folder, config, tensors, False, metadata)
    other = sorted(
        p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".safetensors")
    )
    raise CheckpointError(
        f"{folder} has neither {SINGLE} nor {INDEX} (weights there: {', '.join(other) or 'none'}); "
        f"load "
        "it with transformers and write it again with save_pretrained(folder)"
    )


def read_json(path: Path, hint: str) -> dict:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; {hint}")
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); download it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(
            f"{path} holds a {type(content).__name__}, not a mapping; download it again"
        )
    return content


def copy_others(source: Path, target: Path) -> list[str]:
    """Copies tokenizer, code and the like, all but config.json and weights; returns the names of
    weights left out."""
    left_out = []
    for path in sorted(source.iterdir()):
        if path.name.startswith(".") or path.name in ("config.json", SINGLE, INDEX):
            continue
        if any(path.match(pattern) for pattern in _WEIGHTS):
            left_out += [] if path.suffix in (".safetensors", ".json") else [path.name]
        elif path.is_dir():
            shutil.copytree(
                path, target / path.name, ignore=shutil.ignore_patterns(".*", *_WEIGHTS)
            )
        else:
            shutil.copyfile(path, target / path.name)
    return left_out


class ShardWriter:
    """Collects tensors and writes a shard whenever they reach max_bytes. `close` names the shards
    and writes the index.

    One file without index where all fits and `sharded` is False.
    """

    def __init__(
        self,
        folder: Path,
        *,
        sharded: bool,
        max_bytes: int = MAX_SHARD_BYTES,
        metadata: dict | None = None,
    ):
        self.folder, self.sharded, self.max_bytes = folder, sharded, max_bytes
        self.metadata = metadata or {"format": "pt"}
        self.shards: list[list[str]] = []
        self.total_bytes = self.total_parameters = self._held_bytes = 0
        self._held: dict = {}

    def add(self, name: str, tensor) -> None:
        size = tensor.numel() * tensor.element_size()
        if self._held and self._held_bytes + size > self.max_bytes:
            self._flush()
        self._held[name] = tensor.contiguous()
        self._held_bytes += size
        self.total_bytes += size
        self.total_parameters += tensor.numel()

    def close(self) -> None:
        self._flush()
        if len(self.shards) == 1 and not self.sharded:
            self._part(0).rename(self.folder / SINGLE)
            return
        weight_map = {}
        for i, names in enumerate(self.shards):
            file = f"model-{i + 1:05d}-of-{len(self.shards):05d}.safetensors"
            self._part(i).rename(self.folder / file)
            weight_map.update(dict.fromkeys(names, file))
        index = {
            "metadata": {"total_parameters": self.total_parameters, "total_size": self.total_bytes},
            "weight_map": dict(sorted(weight_map.items())),
        }
        (self.folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")

    def _flush(self) -> None:
        from safetensors.torch import save_file

        save_file(self._held, self._part(len(self.shards)), metadata=self.metadata)
        self.shards.append(list(self._held))
        self._held, self._held_bytes = {}, 0

    def _part(self, number: int) -> Path:
        return self.folder / f"part-{number}.safetensors"


def _open_sharded(folder: Path, config: dict) -> Checkpoint:
    index = read_json(folder / INDEX, "")
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{folder / INDEX} has no weight_map; download it again")
    tensors, metadata = {}, {}
    for file in sorted(set(weight_map.values())):
        if not (folder / file).is_file():
            raise CheckpointError(
                f"{folder / file} is missing, though {INDEX} names it; download it"
            )
        inside, metadata = _header(folder / file)
        tensors |= {name: stored for name, stored in inside.items() if weight_map.get(name) == file}
    if absent := sorted(set(weight_map) - set(tensors)):
        raise CheckpointError(
            f"{folder / weight_map[absent[0]]} lacks {absent[0]} ({len(absent)} such tensors), "
            f"though "
            f"{INDEX} says it is there; download both again"
        )
    return Checkpoint(folder, config, tensors, True, metadata)


def _header(path: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    with _opened(path) as shard:
        slices = {name: shard.get_slice(name) for name in shard.keys()}  # noqa: SIM118
        stored = {
            n: Stored(path.name, tuple(s.get_shape()), s.get_dtype()) for n, s in slices.items()
        }
        return stored, shard.metadata() or {}


def _opened(path: Path):
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is damaged or cut short ({error}); download it again"
        ) from error


def _layer_of(name: str) -> int:
    found = _LAYER.search(name)
    return int(found[1]) if found else -1
