"""Factors from measured points: robust least squares on the logarithm of predicted over measured
time, with every factor held near its start as far as the points do not speak.

All devices of one kind of card are fitted together: they share what is the kernels' own, and each
differs by a few percent (APART) where its points say so. TTFT counts SHARE_TTFT of TPOT, for
nothing else of it is told by so noisy a number. A model with many points does not outvote others:
its points weigh by the fourth root of their number.

Also what engines keep free of the memory they may use (memory.py's reserve): an engine's record has
the tokens of cache that it said it holds; weights and a token's bytes are known, so the rest is its
reserve."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import least_squares, nnls

from moebook.models import sharding
from moebook.predict.case import PLAIN
from moebook.predict.memory import reserve_terms
from moebook.predict.step import FACTORS, OF_FORMAT, Batch, Rates, of_rows

SCALE = 0.03  # an error that counts in full; larger ones count linearly
SHARE_TTFT = 0.7
APART, HOST_APART = 0.05, 0.2  # logarithms by which two devices' factors may differ at that cost
# Factors that are at most 1: no rate is over what is published, and no compiled layer slower.
CAPPED = ("b_", "f_", "prefill_b", "prefill_f", "compiled")
EVALUATIONS = 60
TOLERANCE = 1e-5  # of the sum of squares, at which the fit has settled
STEP = 1e-5  # of a logarithm, for slopes
LEAST_POINTS = 30


@dataclass(frozen=True)
class Fitted:
    """Factors by device, and those of each number format by device."""

    factors: dict[str, dict[str, float]]
    formats: dict[str, dict[str, dict[str, float]]]

    def of_rows(self, batch: Batch, devices: np.ndarray) -> dict:
        """Factors of cases measured on `devices`, each its device's and its format's own. A format
        that was not fitted is taken at its start, which is 16-bit's efficiency."""
        kinds = sorted(self.factors)
        at = np.searchsorted(kinds, devices)
        shared = {n: np.array([self.factors[k][n] for k in kinds])[at] for n in FACTORS}
        known = sorted({name for k in kinds for name in self.formats[k]})
        own = {f: [self.formats[k].get(f) for k in kinds] for f in known}
        rows = {
            f: {n: np.array([each[n] for each in by])[at] for n in OF_FORMAT}
            for f, by in own.items()
        }
        return of_rows(shared, rows, batch.formats)


class Fit:
    """The points of one fit; `run` may leave some of them out."""

    def __init__(self, points: pd.DataFrame, rates: dict[str, Rates]):
        if len(points) < LEAST_POINTS:
            raise ValueError(f"{len(points)} measured points; a fit takes {LEAST_POINTS} or more")
        self.devices = points["device_kind"].to_numpy(str)
        self.batch = Batch(list(points["case"]), [rates[d] for d in self.devices])
        self.kinds = sorted(rates)
        self.measured = [points[c].to_numpy(float) for c in ("ttft_s", "tpot_s")]
        self.formats = sorted(set(self.batch.formats) - {PLAIN})
        given = [*FACTORS.items()]
        self.names = [name for name, _ in given]
        given += [((kind, n), v) for kind in self.formats for n, v in OF_FORMAT.items()]
        self.keys = [key for key, _ in given]
        names = [key if isinstance(key, str) else f"{key[1]} of format" for key in self.keys]
        self.alike = {n: [i for i, other in enumerate(names) if other == n] for n in names}
        told = [key if isinstance(key, str) else "" for key in self.keys]
        self.capped = np.array([key.startswith(CAPPED) for key in told])
        self.start = np.log([start for _, (start, _) in given])
        self.free = np.array([width for _, (_, width) in given])
        host = np.array(["host" in str(k) and not isinstance(k, tuple) for k in self.keys])
        self.apart = np.where(host, HOST_APART, APART)
        self.calibrates = points["calibrates"].to_numpy(bool)
        self.groups = points["model"] + self.batch.formats + self.devices

    def run(self, keep: np.ndarray, near: np.ndarray | None = None) -> np.ndarray:
        """Logarithms of all factors and of the devices' differences, from the points of `keep` that
        calibrate."""
        size, others = len(self.keys), len(self.kinds)
        keep = keep & self.calibrates
        weight = self._weights(keep)
        weight = np.concatenate([SHARE_TTFT * weight, weight]) / SCALE
        top = np.full(size * (1 + others), 30.0)
        top[:size][self.capped] = 0.0
        held = np.diag(1 / np.concatenate([self.free, np.tile(self.apart, others)]))
        start = np.concatenate([self.start, np.zeros(size * others)])

        def errors(x: np.ndarray) -> np.ndarray:
            told = self.seconds(x)
            error = [np.log(t / m)[keep] for t, m in zip(told, self.measured, strict=True)]
            return np.concatenate(error)

        def residuals(x: np.ndarray) -> np.ndarray:
            e = errors(x) * weight
            return np.concatenate([np.sign(e) * _softened(e), held @ (x - start)])

        def slopes(x: np.ndarray) -> np.ndarray:
            e = errors(x) * weight
            soft = np.abs(e) / np.maximum(_softened(e), 1e-12) / np.sqrt(1 + e * e)
            soft = np.where(np.abs(e) < 1e-6, 1.0, soft)
            return np.vstack([self._moved(x, keep, errors) * (weight * soft)[:, None], held])

        x = np.minimum(start if near is None else near, top - 1e-6)
        low = np.full(len(x), -30.0)
        return least_squares(
            residuals, x, slopes, bounds=(low, top), max_nfev=EVALUATIONS, ftol=TOLERANCE
        ).x

    def _moved(self, x: np.ndarray, keep: np.ndarray, errors: Callable) -> np.ndarray:
        """(2 N, factors) by how much the errors of the kept points move with each. A device's
        difference moves its own rows as the shared factor does, and a format's its own, so that one
        step tells of all devices and formats."""
        size, base = len(self.keys), errors(x)
        formats, devices = (np.tile(a[keep], 2) for a in (self.batch.formats, self.devices))
        found = np.zeros((len(base), len(x)))
        for own in self.alike.values():
            there = x.copy()
            there[own] += STEP
            moved = (errors(there) - base) / STEP
            for i in own:
                key = self.keys[i]
                found[:, i] = moved if isinstance(key, str) else moved * (formats == key[0])
        for d, kind in enumerate(self.kinds):
            rows = (devices == kind)[:, None]
            found[:, size * (d + 1) : size * (d + 2)] = found[:, :size] * rows
        return found

    def seconds(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N,) TTFT, (N,) TPOT of all points with the factors x."""
        return self.batch.seconds(self._factors(x))

    def host_paced(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N,) whether the host paces it: a prefill, a decode step."""
        return self.batch.host_paced(self._factors(x))

    def _factors(self, x: np.ndarray) -> dict:
        return self.fitted(x).of_rows(self.batch, self.devices)

    def fitted(self, x: np.ndarray) -> Fitted:
        size = len(self.keys)
        factors, formats = {}, {}
        for i, device in enumerate(self.kinds):
            own = x[:size] + x[size * (i + 1) : size * (i + 2)]
            own = np.exp(np.where(self.capped, np.minimum(own, 0.0), own))
            by = dict(zip(self.keys, map(float, own), strict=True))
            factors[device] = {name: by[name] for name in self.names}
            formats[device] = {f: {n: by[f, n] for n in OF_FORMAT} for f in self.formats}
        return Fitted(factors, formats)

    def _weights(self, keep: np.ndarray) -> np.ndarray:
        count = self.groups[keep].map(self.groups[keep].value_counts()).to_numpy(float)
        weight = count**-0.25
        return weight / np.median(weight)


def _softened(e: np.ndarray) -> np.ndarray:
    """Sizes of errors: squares of small ones, and of large ones their size, sum up."""
    return np.sqrt(2 * (np.sqrt(1 + e * e) - 1))


def fit_reserve(points: pd.DataFrame) -> dict[str, float]:
    """Factors of memory.RESERVE from the tokens of cache that measured engines said they hold."""
    terms, kept = [], []
    for _, row in starts(points).iterrows():
        terms.append(reserve_terms(row["case"].arch, row["case"].settings))
        kept.append(row["kept_bytes"])
    table = pd.DataFrame(terms)
    kept = np.array(kept)
    factors, _ = nnls(table.to_numpy() / kept[:, None], np.ones(len(kept)))
    return dict(zip(table.columns, map(float, factors), strict=True))


def starts(points: pd.DataFrame) -> pd.DataFrame:
    """One row per way an engine was started, with `kept_bytes`: what it left free of the memory it
    may use, besides weights and cache. Models whose cache is shared by layers of several kinds are
    left out: what one token takes there is not one number."""
    rows, seen = [], set()
    own_start = (
        points["calibrates"]
        & points["kv_capacity_tokens"].notna()
        & ~points["top_k_switched"].fillna(False).astype(bool)
    )
    for _, row in points[own_start].iterrows():
        arch, e = row["case"].arch, row["case"].settings
        key = (
            row["device_kind"],
            arch.name,
            e.quantization,
            e.kv_cache_dtype,
            row["format"],
            e.split,
            e.graphs,
        )
        if key in seen or len(arch.attention_groups) > 1:
            continue
        seen.add(key)
        kept = e.formats_of(arch)["kv_dtype"]
        usable = float(row["device_memory_bytes"]) * float(row["gpu_memory_utilization"])
        weights = sharding.weight_bytes(arch, e.split, e.dtype, e.quantization)
        cache = row["kv_capacity_tokens"] * sharding.kv_bytes_per_token(arch, e.split, kept)
        rows.append({**row, "kept_bytes": float(usable - weights - cache)})
    return pd.DataFrame(rows)
