"""Hugging Face folders of safetensors, read and written tensor by tensor, and what each expert tensor is.

Memory holds one tensor and one output shard, whatever the model's size. Letters: H hidden, I expert FFN dim, E experts.
Expert matrices come one by one (`mlp.experts.3.up_proj.weight` (I, H), Mixtral's `block_sparse_moe.experts.3.w3.weight`)
or fused as transformers 5 holds them (`mlp.experts.gate_up_proj` (E, 2I, H), `mlp.experts.down_proj` (E, H, I)).
"""

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import groupby
from math import prod
from pathlib import Path

from safetensors import SafetensorError, safe_open

from moebook.models.catalog import Architecture

FAMILIES = ("mixtral", "phimoe", "olmoe", "qwen2_moe", "qwen3_moe", "deepseek_v2", "deepseek_v3")
MAX_SHARD_BYTES = 2 * 1024**3
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
_BYTES = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
_PLAIN = ("F64", "F32", "F16", "BF16")
_WEIGHTS = ("*.safetensors", "*.index.json", "*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.h5", "*.msgpack", "*.onnx")

_PARTS = {"gate_proj": "gate", "up_proj": "up", "down_proj": "down", "w1": "gate", "w3": "up", "w2": "down"}
_LAYER = re.compile(r"\blayers\.(\d+)\.")
_MOE = r"\blayers\.(\d+)\.(?:mlp|block_sparse_moe)\."
_SINGLE_EXPERT = re.compile(_MOE + r"experts\.(\d+)\.(gate_proj|up_proj|down_proj|w1|w2|w3)\.weight$")
_FUSED = re.compile(_MOE + r"experts\.(gate_up|down)_proj$")
_ROUTER = re.compile(_MOE + r"(?:gate|router)\.(?:weight|bias|e_score_correction_bias)$")
_SHARED = re.compile(_MOE + r"shared_experts\.(gate_proj|up_proj|down_proj)\.weight$")


class CheckpointError(ValueError):
    """A checkpoint, or the scores for it, cannot be used; the message names the file and says what to do."""


@dataclass(frozen=True)
class Role:
    """What a tensor is to a MoE layer. part: router, gate, up, down or (fused only) gate_up; expert None: all of them."""

    layer: int
    part: str
    expert: int | None = None
    shared: bool = False


@dataclass(frozen=True)
class Stored:
    file: str
    shape: tuple[int, ...]
    dtype: str                           # as safetensors spells it: F32, BF16

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
        """Tensor names, the tensors of one decoder layer at a time; those of no layer come together first."""
        for _, names in groupby(sorted(self.tensors, key=_layer_of), key=_layer_of):
            yield list(names)

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, "object"]]:
        """Name and torch tensor (CPU), one by one. Raises CheckpointError."""
        for file, inside in groupby(sorted(names, key=lambda n: self.tensors[n].file), lambda n: self.tensors[n].file):
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
    config = read_json(folder / "config.json", "a Hugging Face model folder has one; give such a folder")
    if (folder / INDEX).is_file():
        return _open_sharded(folder, config)
    if (folder / SINGLE).is_file():
        tensors, metadata = _header(folder / SINGLE)
        return Checkpoint(folder, config, tensors, False, metadata)
    other = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".safetensors"))
    raise CheckpointError(f"{folder} has neither {SINGLE} nor {INDEX} (weights there: {', '.join(other) or 'none'}); load "
                          "it with transformers and write it again with save_pretrained(folder)")


def read_json(path: Path, hint: str) -> dict:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; {hint}")
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); download it again") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a mapping; download it again")
    return content


@cache
def role_of(name: str) -> Role | None:
    """None for a tensor that has nothing to do with routed experts. Raises CheckpointError for an unknown expert tensor."""
    if found := _SINGLE_EXPERT.search(name):
        return Role(int(found[1]), _PARTS[found[3]], int(found[2]))
    if found := _FUSED.search(name):
        return Role(int(found[1]), found[2])
    if found := _ROUTER.search(name):
        return Role(int(found[1]), "router")
    if found := _SHARED.search(name):
        return Role(int(found[1]), _PARTS[found[2]], shared=True)
    if ".experts." in name:
        raise CheckpointError(f"tensor {name} is in no layout known here (a quantized or family-specific one?); save the "
                              "model with transformers 5 in float32 or bfloat16 first")
    return None


def moe_layers(checkpoint: Checkpoint, arch: Architecture) -> list[int]:
    """Layers that hold experts, after a check that each has its router and every matrix in the config's shape.

    Raises CheckpointError for a tensor that is missing, misshapen or quantized.
    """
    found: dict[int, dict[tuple, str]] = {}
    routers = set()
    for name, stored in checkpoint.tensors.items():
        role = role_of(name)
        if role is None or role.shared:
            continue
        if role.part == "router":
            _check_shape(checkpoint, name, (arch.num_experts, *stored.shape[1:]))
            routers.add(role.layer)
            continue
        if stored.dtype not in _PLAIN:
            raise CheckpointError(f"{checkpoint.folder / stored.file}: {name} is stored as {stored.dtype}; only "
                                  f"{', '.join(_PLAIN)} experts can be pruned, so convert the checkpoint first")
        _check_shape(checkpoint, name, _expert_shape(role, arch))
        found.setdefault(role.layer, {})[role.part, role.expert] = name
    for layer, parts in found.items():
        _check_complete(checkpoint, layer, parts, arch, layer in routers)
    if len(found) < max(1, arch.num_moe_layers):
        raise CheckpointError(f"{checkpoint.folder}: {len(found)} layers hold experts, but its config.json speaks of "
                              f"{arch.num_moe_layers}; download the missing weights")
    return sorted(found)


def copy_others(source: Path, target: Path) -> list[str]:
    """Copies tokenizer, code and the like, all but config.json and weights; returns the names of weights left out."""
    left_out = []
    for path in sorted(source.iterdir()):
        if path.name.startswith(".") or path.name in ("config.json", SINGLE, INDEX):
            continue
        if any(path.match(pattern) for pattern in _WEIGHTS):
            left_out += [] if path.suffix in (".safetensors", ".json") else [path.name]
        elif path.is_dir():
            shutil.copytree(path, target / path.name, ignore=shutil.ignore_patterns(".*", *_WEIGHTS))
        else:
            shutil.copyfile(path, target / path.name)
    return left_out


class ShardWriter:
    """Collects tensors and writes a shard whenever they reach max_bytes. `close` names the shards and writes the index.

    One file without index where all fits and `sharded` is False.
    """

    def __init__(self, folder: Path, *, sharded: bool, max_bytes: int = MAX_SHARD_BYTES, metadata: dict | None = None):
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
        index = {"metadata": {"total_parameters": self.total_parameters, "total_size": self.total_bytes},
                 "weight_map": dict(sorted(weight_map.items()))}
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
            raise CheckpointError(f"{folder / file} is missing, though {INDEX} names it; download it")
        inside, metadata = _header(folder / file)
        tensors |= {name: stored for name, stored in inside.items() if weight_map.get(name) == file}
    if absent := sorted(set(weight_map) - set(tensors)):
        raise CheckpointError(f"{folder / weight_map[absent[0]]} lacks {absent[0]} ({len(absent)} such tensors), though "
                              f"{INDEX} says it is there; download both again")
    return Checkpoint(folder, config, tensors, True, metadata)


def _header(path: Path) -> tuple[dict[str, Stored], dict[str, str]]:
    with _opened(path) as shard:
        slices = {name: shard.get_slice(name) for name in shard.keys()}  # noqa: SIM118
        stored = {n: Stored(path.name, tuple(s.get_shape()), s.get_dtype()) for n, s in slices.items()}
        return stored, shard.metadata() or {}


def _opened(path: Path):
    try:
        return safe_open(path, framework="pt", device="cpu")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is damaged or cut short ({error}); download it again") from error


def _layer_of(name: str) -> int:
    found = _LAYER.search(name)
    return int(found[1]) if found else -1


def _expert_shape(role: Role, arch: Architecture) -> tuple[int, ...]:
    h, i, e = arch.hidden_size, arch.expert_ffn_dim, arch.num_experts
    if role.expert is None:
        return (e, 2 * i, h) if role.part == "gate_up" else (e, h, i)
    return (h, i) if role.part == "down" else (i, h)


def _check_shape(checkpoint: Checkpoint, name: str, expected: tuple[int, ...]) -> None:
    stored = checkpoint.tensors[name]
    if stored.shape != expected:
        raise CheckpointError(f"{checkpoint.folder / stored.file}: {name} has shape {stored.shape}, but config.json asks "
                              f"for {expected}; use the config.json and the weights of the same model")


def _check_complete(checkpoint: Checkpoint, layer: int, parts: dict[tuple, str], arch: Architecture, router: bool) -> None:
    fused = {("gate_up", None), ("down", None)}
    single = {(part, e) for e in range(arch.num_experts) for part in ("gate", "up", "down")}
    expected = fused if ("gate_up", None) in parts or ("down", None) in parts else single
    missing = sorted(expected - set(parts), key=str) or ([] if router else [("router", None)])
    if missing or set(parts) - expected:
        part, expert = missing[0] if missing else sorted(set(parts) - expected, key=str)[0]
        what = f"the {part} matrix" + ("" if expert is None else f" of expert {expert}")
        problem = f"lacks {what} ({len(missing)} missing in all)" if missing else f"has {what}, one too many"
        raise CheckpointError(f"{checkpoint.folder}: layer {layer} {problem}; config.json asks for {arch.num_experts} "
                              "experts, so download the weights again")
