"""Counts of expert choices, written as sequences are read: how often each expert served, and which
served together.

    with CountsWriter(path, num_layers, num_experts) as writer:      # an .npz at `path` once the
                                                                     block ends whole
        for ids in sequences:                                        # (L, T, K) expert numbers
            writer.add(ids)
    counts = read(path)

Memory is that of one sequence's counts (L, E), of the co-activation (L, E, E), and of a fixed
number of tokens: it grows neither with tokens nor with sequences. Each sequence is one fixed-size
record of a raw file beside `path`; a run that fails removes that file, a run that is killed leaves
it, and neither leaves a file called `path`.

Letters: N sequences, L MoE layers, T tokens, E experts, K experts per token.
"""

import os
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

CHUNK = 2048  # tokens whose (T, E) table of choices is in memory at once


@dataclass(frozen=True)
class RoutingCounts:
    """What a file of counts holds.

    counts: (N, L, E) uint32, how often an expert was chosen in a sequence. tokens: (N,) uint32, a
    sequence's tokens. co_activation: (L, E, E) uint64, how many tokens two experts served together,
    on the diagonal the expert's count; None where it was not asked for. top_k: K, 0 for a file of
    no tokens. Where no entry was padding, counts sum to tokens * K in each layer."""

    counts: np.ndarray
    co_activation: np.ndarray | None
    tokens: np.ndarray
    top_k: int


class CountsWriter:
    """Adds up expert choices sequence by sequence; a context manager that leaves one .npz, or
    nothing if it fails.

    Choices are whole numbers 0..E-1 in lists, numpy arrays or torch tensors. ValueError names what
    is wrong with others."""

    def __init__(
        self, path: str | Path, num_layers: int, num_experts: int, co_activation: bool = True
    ):
        if num_layers < 1 or num_experts < 1:
            raise ValueError(
                f"counts of {num_layers} layers and {num_experts} experts; both must be at least 1"
            )
        self.path, self.num_layers, self.num_experts = Path(path), num_layers, num_experts
        self.top_k = 0
        self.co_activation = (
            np.zeros((num_layers, num_experts, num_experts), np.uint64) if co_activation else None
        )
        self._counts = np.zeros((num_layers, num_experts), np.uint32)  # of the open sequence
        self._tokens = np.zeros(num_layers, np.int64)
        self._record = np.dtype([("tokens", "<u4"), ("counts", "<u4", (num_layers, num_experts))])
        self._raw, self._partial = (
            self.path.with_name(self.path.name + end) for end in (".raw", ".partial")
        )
        self._file = None

    def __enter__(self) -> "CountsWriter":
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._raw.open("wb")
        return self

    def __exit__(self, kind, error, trace) -> None:
        self._file.close()
        try:
            if kind is None:
                if self._tokens.any():
                    raise ValueError(
                        "the last sequence is not ended: call end_sequence() after its add_layer "
                        "calls"
                    )
                self._write()
        finally:
            self._raw.unlink(missing_ok=True)
            self._partial.unlink(missing_ok=True)

    def add(self, layer_ids, padding: int | None = None) -> None:
        """The choices of one whole sequence, (L, T, K); entries equal to `padding` are skipped."""
        if len(layer_ids) != self.num_layers:
            raise ValueError(f"choices of {len(layer_ids)} layers; this file has {self.num_layers}")
        for layer, ids in enumerate(layer_ids):
            self.add_layer(layer, ids, padding)
        self.end_sequence()

    def add_layer(self, layer: int, ids, padding: int | None = None) -> None:
        """Choices (T, K) of one layer, which join those of the open sequence. A token all of
        padding is no token."""
        if not 0 <= layer < self.num_layers:
            raise ValueError(f"layer {layer} of a file with layers 0 to {self.num_layers - 1}")
        ids = self._checked(ids, padding)
        for start in range(0, len(ids), CHUNK):
            self._add_tokens(layer, ids[start : start + CHUNK], padding)

    def end_sequence(self) -> None:
        """Appends the open sequence's counts to the file. ValueError where its layers saw different
        numbers of tokens."""
        if len(set(self._tokens)) > 1:
            raise ValueError(
                f"the layers of a sequence have {self._tokens.tolist()} tokens; each must have the "
                f"same"
            )
        record = np.zeros((), self._record)
        record["tokens"], record["counts"] = self._tokens[0], self._counts
        self._file.write(record.tobytes())
        self._counts[:], self._tokens[:] = 0, 0

    def _checked(self, ids, padding: int | None) -> np.ndarray:
        """ids as an array (T, K), the same K for the whole file."""
        ids = np.asarray(ids.detach().cpu().numpy() if hasattr(ids, "detach") else ids)
        if ids.ndim != 2 or ids.dtype.kind not in "iu" or not ids.shape[1]:
            raise ValueError(
                f"expert choices of shape {ids.shape} and dtype {ids.dtype}; give whole numbers "
                f"(T, K)"
            )
        if ids.shape[1] != (self.top_k or ids.shape[1]):
            raise ValueError(
                f"{ids.shape[1]} experts per token after {self.top_k}; one file holds one number "
                f"of them"
            )
        chosen = ids if padding is None else ids[ids != padding]
        low, high = (int(chosen.min()), int(chosen.max())) if chosen.size else (0, 0)
        if low < 0 or high >= self.num_experts:
            raise ValueError(
                f"expert choices from {low} to {high}; this file has experts 0 to "
                f"{self.num_experts - 1}"
                + ("" if padding is None else f", and {padding} for padding")
            )
        self.top_k = ids.shape[1]
        return ids

    def _add_tokens(self, layer: int, ids: np.ndarray, padding: int | None) -> None:
        kept = np.ones(ids.shape, bool) if padding is None else ids != padding
        token = np.broadcast_to(np.arange(len(ids))[:, None], ids.shape)[kept]
        table = np.zeros((len(ids), self.num_experts), np.float32)  # (T, E)
        np.add.at(table, (token, ids[kept].astype(np.int64)), 1)
        counts = table.sum(0, dtype=np.float64)
        self._counts[layer] += counts.astype(np.uint32)
        self._tokens[layer] += kept.any(1).sum()
        if self.co_activation is not None:
            served = (table > 0).astype(np.float32)
            pairs = served.T @ served  # (E, E), exact: T < 2^24
            np.fill_diagonal(pairs, counts)
            self.co_activation[layer] += pairs.astype(np.uint64)

    def _write(self) -> None:
        records = (
            np.memmap(self._raw, self._record, "r")
            if self._raw.stat().st_size
            else np.zeros(0, self._record)
        )
        arrays = {
            "counts": records["counts"],
            "tokens": records["tokens"],
            "top_k": np.int64(self.top_k),
        }
        if self.co_activation is not None:
            arrays["co_activation"] = self.co_activation
        with self._partial.open("wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(self._partial, self.path)


def read(path: str | Path) -> RoutingCounts:
    """The counts of a file that CountsWriter wrote. ValueError where it is missing, damaged or
    another kind of file."""
    if not Path(path).exists():
        raise ValueError(f"{path} does not exist; a capture writes its counts there when it ends")
    try:
        with np.load(path) as file:
            found = {name: file[name] for name in file.files}
        counts = RoutingCounts(
            found["counts"], found.get("co_activation"), found["tokens"], int(found["top_k"])
        )
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        EOFError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ValueError(
            f"{path} holds no counts of expert choices ({error}); it is damaged or another kind of "
            f"file, "
            "capture again"
        ) from error
    if wrong := _misshapen(counts):
        raise ValueError(
            f"{path} holds no counts of expert choices ({wrong}); give a file that CountsWriter "
            f"wrote"
        )
    return counts


def _misshapen(found: RoutingCounts) -> str:
    if found.counts.ndim != 3 or found.counts.dtype != np.uint32:
        return (
            f"counts have shape {found.counts.shape} and dtype {found.counts.dtype}, not (N, L, E) "
            f"uint32"
        )
    n, layers, experts = found.counts.shape
    if found.tokens.shape != (n,) or found.tokens.dtype != np.uint32:
        return (
            f"tokens have shape {found.tokens.shape} and dtype {found.tokens.dtype}, not ({n},) "
            f"uint32"
        )
    pairs = found.co_activation
    if pairs is not None and (
        pairs.shape != (layers, experts, experts) or pairs.dtype != np.uint64
    ):
        return (
            f"co_activation has shape {pairs.shape} and dtype {pairs.dtype}, not "
            f"{(layers, experts, experts)} uint64"
        )
    return ""
