"""Counts of expert choices, written as sequences are read: how often each expert served.

    with CountsWriter(path, num_layers, num_experts) as writer:
        for ids in sequences:                       # (L, T, K) expert numbers
            writer.add(ids)
    counts = read(path)                             # an .npz, there once the block ends whole

A run that fails leaves no file called `path`, or the older one. Memory is that of the counts: 59 MB
for a thousand sequences of DeepSeek-V3 (58 layers, 256 experts).

Letters: N sequences, L MoE layers, T tokens, E experts, K experts per token.
"""

import os
import zipfile
import zlib
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


class CountsWriter:
    """Adds up expert choices sequence by sequence; a context manager that leaves one .npz, or
    nothing if it fails.

    Choices are whole numbers 0..E-1 in lists, numpy arrays or torch tensors. ValueError names what
    is wrong with others."""

    def __init__(self, path: str | Path, num_layers: int, num_experts: int):
        if num_layers < 1 or num_experts < 1:
            raise ValueError(
                f"counts of {num_layers} layers and {num_experts} experts; both must be at least 1"
            )
        self.path, self.num_layers, self.num_experts = Path(path), num_layers, num_experts
        self.top_k = 0
        self._ended: list[tuple[int, np.ndarray]] = []  # tokens and counts (L, E) of a sequence
        self._begin()

    def __enter__(self) -> "CountsWriter":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            self._write()

    def _begin(self) -> None:
        self._counts = np.zeros((self.num_layers, self.num_experts), np.uint32)
        self._tokens = np.zeros(self.num_layers, np.int64)

    def add(self, layer_ids) -> None:
        """The choices of one whole sequence, (L, T, K)."""
        if len(layer_ids) != self.num_layers:
            raise ValueError(f"choices of {len(layer_ids)} layers; this file has {self.num_layers}")
        for layer, ids in enumerate(layer_ids):
            self.add_layer(layer, ids)
        self.end_sequence()

    def add_layer(self, layer: int, ids) -> None:
        """Choices (T, K) of one layer, which join those of the open sequence."""
        if not 0 <= layer < self.num_layers:
            raise ValueError(f"layer {layer} of a file with layers 0 to {self.num_layers - 1}")
        ids = self._checked(ids)
        counts = np.bincount(ids.ravel().astype(np.int64), minlength=self.num_experts)
        self._counts[layer] += counts.astype(np.uint32)
        self._tokens[layer] += len(ids)

    def end_sequence(self) -> None:
        """ValueError where the layers of the open sequence saw different numbers of tokens."""
        if len(set(self._tokens)) > 1:
            raise ValueError(
                f"the layers of a sequence have {self._tokens.tolist()} tokens; each must have the "
                "same"
            )
        self._ended.append((int(self._tokens[0]), self._counts))
        self._begin()

    def _checked(self, ids) -> np.ndarray:
        """ids as an array (T, K), the same K for the whole file."""
        ids = np.asarray(ids.detach().cpu().numpy() if hasattr(ids, "detach") else ids)
        if ids.ndim != 2 or ids.dtype.kind not in "iu" or not ids.shape[1]:
            raise ValueError(
                f"expert choices of shape {ids.shape} and dtype {ids.dtype}; give whole numbers "
                "(T, K)"
            )
        if ids.shape[1] != (self.top_k or ids.shape[1]):
            raise ValueError(
                f"{ids.shape[1]} experts per token after {self.top_k}; one file holds one number "
                "of them"
            )
        low, high = (int(ids.min()), int(ids.max())) if ids.size else (0, 0)
        if low < 0 or high >= self.num_experts:
            raise ValueError(
                f"expert choices from {low} to {high}; this file has experts 0 to "
                f"{self.num_experts - 1}"
            )
        self.top_k = ids.shape[1]
        return ids

    def _write(self) -> None:
        if self._tokens.any():
            raise ValueError(
                "the last sequence is not ended: call end_sequence() after its add_layer calls"
            )
        shape = (len(self._ended), self.num_layers, self.num_experts)
        counts = np.array([counts for _, counts in self._ended], np.uint32).reshape(shape)
        tokens = np.array([tokens for tokens, _ in self._ended], np.uint32)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_name(self.path.name + ".partial")
        with partial.open("wb") as file:
            np.savez_compressed(file, counts=counts, tokens=tokens, top_k=np.int64(self.top_k))
        os.replace(partial, self.path)


def read(path: str | Path) -> RoutingCounts:
    """The counts of a file that CountsWriter wrote. ValueError where it is missing, damaged or
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
            f"{path} holds no counts of expert choices ({wrong}); give a file that CountsWriter "
            "wrote"
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
