"""Hugging Face folders of safetensors, read tensor by tensor and written shard by shard: memory
holds one tensor and one output shard, whatever the model's size. What each tensor is to a MoE layer
stands in roles.py."""

import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

if TYPE_CHECKING:
    from torch import Tensor

MAX_SHARD_BYTES = 2 * 1024**3
SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# PyTorch's names of the dtypes that safetensors spells so.
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}
_LAYER = re.compile(r"\.(\d+)\.")


class CheckpointError(ValueError):
    """A checkpoint, or the scores for it, cannot be used; the message names the file and says what
    to do."""


class ConfigError(CheckpointError):
    """A config that no model can be of, or that cannot be pruned; the message does not name its
    file, for none may be known."""


@dataclass(frozen=True)
class Checkpoint:
    """tensors: by name, on the meta device: shapes and dtypes without values. files: by name of a
    tensor, the file that holds it. metadata: of the files."""

    folder: Path
    config: dict
    tensors: "dict[str, Tensor]"
    files: dict[str, str]
    metadata: dict[str, str]

    def layers(self) -> Iterator[list[str]]:
        """Tensor names, the tensors of one decoder layer at a time; those of no layer come together
        first."""
        for _, names in groupby(sorted(self.tensors, key=_layer_of), key=_layer_of):
            yield list(names)

    def read(self, names: Iterable[str]) -> "Iterator[tuple[str, Tensor]]":
        """Name and tensor (CPU), one by one. Raises CheckpointError."""
        by_file = sorted(names, key=self.files.__getitem__)
        for file, inside in groupby(by_file, self.files.__getitem__):
            with _opened(self.folder / file) as shard:
                for name in inside:
                    yield name, shard.get_tensor(name)


def num_bytes(tensors: "Iterable[Tensor]") -> int:
    return sum(tensor.nbytes for tensor in tensors)


def num_parameters(tensors: "Iterable[Tensor]") -> int:
    return sum(tensor.numel() for tensor in tensors)


def open_checkpoint(folder: Path) -> Checkpoint:
    """The folder's config and the headers of all its shards. Raises CheckpointError."""
    folder = Path(folder)
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no folder; give a model's, with its config.json")
    hint = "a Hugging Face model folder has one; give such a folder"
    config = read_json(folder / "config.json", hint)
    if (folder / INDEX).is_file():
        return _open_sharded(folder, config)
    if (folder / SINGLE).is_file():
        tensors, metadata = _header(folder / SINGLE)
        return Checkpoint(folder, config, tensors, dict.fromkeys(tensors, SINGLE), metadata)
    weights = (".bin", ".pt", ".pth", ".safetensors")
    other = ", ".join(sorted(p.name for p in folder.iterdir() if p.suffix in weights)) or "none"
    raise CheckpointError(
        f"{folder} has neither {SINGLE} nor {INDEX} (weights there: {other}); load it with "
        "transformers and write it again with save_pretrained(folder)"
    )


def read_json(path: Path, hint: str) -> dict:
    if not path.is_file():
        raise CheckpointError(f"{path} is missing; {hint}")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}); download it again") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error})") from error
    if not isinstance(content, dict):
        kind = type(content).__name__
        raise CheckpointError(f"{path} holds a {kind}, not a mapping; download it again")
    return content


def write_tensors(
    folder: Path,
    planned: "dict[str, Tensor]",
    make: "Callable[[list[str]], Iterable[tuple[str, Tensor]]]",
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    metadata: dict[str, str] | None = None,
) -> None:
    """Writes a model's tensors, one shard in memory at a time, and the index where there are
    several. planned: their shapes, on the meta device. make: gives those of these names."""
    from huggingface_hub import split_torch_state_dict_into_shards
    from safetensors.torch import save_file

    split = split_torch_state_dict_into_shards(planned, max_shard_size=max_shard_bytes)
    for file, names in split.filename_to_tensors.items():
        shard = {name: tensor.contiguous() for name, tensor in make(names)}
        save_file(shard, folder / file, metadata=metadata or {"format": "pt"})
        del shard  # before the next is read
    if split.is_sharded:
        parameters = num_parameters(planned.values())
        index = {
            "metadata": {"total_parameters": parameters, **split.metadata},
            "weight_map": dict(sorted(split.tensor_to_filename.items())),
        }
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _open_sharded(folder: Path, config: dict) -> Checkpoint:
    files = read_json(folder / INDEX, "").get("weight_map")
    if not isinstance(files, dict) or not files:
        raise CheckpointError(f"{folder / INDEX} has no weight_map; download it again")
    if odd := [file for file in files.values() if not _is_name(file)]:
        raise CheckpointError(
            f"{folder / INDEX} maps a tensor to {odd[0]!r}, no name of a file beside it; download "
            "it again"
        )
    tensors, metadata = {}, {}
    for file in sorted(set(files.values())):
        if not (folder / file).is_file():
            raise CheckpointError(
                f"{folder / file} is missing, though {INDEX} names it; download it"
            )
        inside, metadata = _header(folder / file)
        tensors |= {name: tensor for name, tensor in inside.items() if files.get(name) == file}
    if absent := sorted(set(files) - set(tensors)):
        raise CheckpointError(
            f"{folder / files[absent[0]]} lacks {absent[0]} ({len(absent)} such tensors), though "
            f"{INDEX} says it is there; download both again"
        )
    return Checkpoint(folder, config, tensors, files, metadata)


def _is_name(file) -> bool:
    return isinstance(file, str) and file.endswith(".safetensors") and Path(file).name == file


def _header(path: Path) -> "tuple[dict[str, Tensor], dict[str, str]]":
    """Tensors on the meta device, of the header alone: no value of the file is touched."""
    import torch

    with _opened(path) as shard:
        tensors = {}
        for name in shard.keys():  # noqa: SIM118
            part = shard.get_slice(name)
            if part.get_dtype() not in _DTYPES:
                raise CheckpointError(f"{path}: {name} has the unknown dtype {part.get_dtype()}")
            dtype = getattr(torch, _DTYPES[part.get_dtype()])
            tensors[name] = torch.empty(part.get_shape(), dtype=dtype, device="meta")
        if not tensors:
            raise CheckpointError(f"{path} holds no tensor; download it again")
        return tensors, shard.metadata() or {}


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
