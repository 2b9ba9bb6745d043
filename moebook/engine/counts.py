"""Counts of expert choices: how often each expert served, by sequence and layer, in a file.

    write(path, sequences, num_layers, num_experts)     # of each sequence (L, T, K) expert numbers
    counts = read(path)                                 # an .npz, there once all of it is written

A run that fails leaves no file called `path`, or the older one. Memory is that of the counts: 59 MB
for a thousand sequences of DeepSeek-V3 (58 layers, 256 experts).

Letters: N sequences, L MoE layers, T tokens, E experts, K experts per token.
"""

import os
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

DAMAGE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class RoutingCounts:
    """What a file of counts holds.

    counts: (N, L, E) uint32, how often an expert was chosen in a sequence. tokens: (N,) uint32, a
    sequence's tokens. top_k: K, 0 for a file of no tokens. Counts sum to tokens * K in each
    layer."""

    counts: np.ndarray
    tokens: np.ndarray
    top_k: int


def write(path: str | Path, sequences: Iterable, num_layers: int, num_experts: int) -> None:
    """Choices (L, T, K) of each sequence, whole numbers 0..E-1, counted into `path`. ValueError for
    others."""
    found, tokens, top_k = [], [], 0
    for ids in map(np.asarray, sequences):
        shaped = ids.ndim == 3 and ids.dtype.kind in "iu" and len(ids) == num_layers
        if not shaped or not 0 <= ids.min() <= ids.max() < num_experts:
            raise ValueError(
                f"expert choices of shape {ids.shape} and dtype {ids.dtype}; give whole numbers "
                f"(L, T, K), of {num_layers} layers and experts 0 to {num_experts - 1}"
            )
        found.append([np.bincount(layer.ravel(), minlength=num_experts) for layer in ids])
        tokens.append(ids.shape[1])
        top_k = ids.shape[2]
    counts = np.array(found, np.uint32).reshape(len(found), num_layers, num_experts)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        np.savez_compressed(file, counts=counts, tokens=np.array(tokens, np.uint32), top_k=top_k)
    os.replace(partial, path)


def read(path: str | Path) -> RoutingCounts:
    """The counts of a file of `write`. ValueError where it is missing, damaged or
    another kind of file."""
    if not Path(path).exists():
        raise ValueError(f"{path} does not exist; a capture writes its counts there when it ends")
    try:
        with np.load(path) as file:
            found = RoutingCounts(file["counts"], file["tokens"], int(file["top_k"]))
    except DAMAGE as error:
        raise ValueError(
            f"{path} holds no counts of expert choices ({error}); it is damaged or another kind of "
            "file, capture again"
        ) from error
    if wrong := _misshapen(found):
        raise ValueError(
            f"{path} holds no counts of expert choices ({wrong}); give a file of engine/counts.py"
        )
    return found


def _misshapen(found: RoutingCounts) -> str:
    counts, tokens = found.counts, found.tokens
    if counts.ndim != 3 or counts.dtype != np.uint32:
        return f"counts have shape {counts.shape} and dtype {counts.dtype}, not (N, L, E) uint32"
    if tokens.shape != counts.shape[:1] or tokens.dtype != np.uint32:
        return (
            f"tokens have shape {tokens.shape} and dtype {tokens.dtype}, not ({len(counts)},) "
            "uint32"
        )
    return ""
