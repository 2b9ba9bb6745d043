"""Where a latency curve over length bends, its knee, and why: from shapes and measured peaks, and
from measured points.

Three lengths follow from shapes, a device's rates and its memory, for B sequences:

    compute    prompt length from which prefill computes longer than it reads:
               FLOPs / rate > bytes / bandwidth
    bandwidth  context from which a decode step reads more KV cache than weights:
               B x context x KV bytes > weight bytes
    capacity   longest context whose cache fits beside the weights:
               (memory - weights) / (B x KV bytes a token)

Below the first, TTFT hardly grows with the prompt; above it, in proportion. Below the second, a
step costs the same at any context; above it, in proportion to the context. Beyond the third nothing
runs.

A measured curve has a local exponent between neighbouring lengths, d log E2E / d log length: 1
where latency doubles with length. Its knee is where the exponent rises most from one pair of
lengths to the next, by LEAST_RISE or more."""

from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from moebook.models import sharding
from moebook.models.formats import rate
from moebook.models.sharding import Split
from moebook.predict.case import Case
from moebook.predict.roofline import Ceilings

REASONS = {  # column -> what happens at that length
    "bend_compute": "prefill computes longer than it reads",
    "bend_bandwidth": "a step reads more KV cache than weights",
    "bend_capacity": "the KV cache fills the memory",
    "bend_measured": "the measured exponent rises most",
}
COMPUTED = tuple(REASONS)[:3]
LONGEST = 1 << 24  # tokens; where a condition does not hold by then, there is no knee
LEAST_RISE = 0.05  # of the exponent: a doubling of length then costs 3.5 % more than the one before


@dataclass(frozen=True)
class Knee:
    """A measured knee: around `length` (tokens), the exponent goes from `below` to `above`."""

    length: float
    below: float
    above: float


def compute_bound_from(case: Case, ceilings: Ceilings) -> int | None:
    """The shortest prompt, in tokens of each of its B sequences, whose prefill is bound by FLOPs;
    None: no prompt's is."""
    peak = ceilings.matmul_flops_per_s * rate(case.arch, case.settings.quantization)

    def computes(tokens: int) -> bool:
        cost = replace(case, workload=replace(case.workload, input_tokens=tokens)).prefill()
        return cost.total_flops / peak > cost.total_bytes / ceilings.copy_bytes_per_s

    return _first(computes)


def kv_over_weights_from(case: Case) -> int | None:
    """The shortest context at which a decode step reads as many bytes of KV cache as of all
    else."""

    def reads_cache(context: int) -> bool:
        cost = case.decode(context)
        return 2 * cost.bytes["kv_cache"] >= cost.total_bytes

    return _first(reads_cache)


def fits_until(case: Case, memory_bytes: float) -> int | None:
    """The longest context of B sequences that fits beside the weights on each tensor-parallel
    device, of `memory_bytes`; None where the weights alone do not fit."""
    arch, settings = case.arch, case.settings
    split, kept = Split(tensor=settings.num_devices), settings.formats_of(arch)["kv_dtype"]
    left = memory_bytes - sharding.weight_bytes(arch, split, settings.dtype, settings.quantization)
    per_token = case.workload.batch * sharding.kv_bytes_per_token(arch, split, kept)
    return None if left < 0 else int(left // per_token)


def _first(holds: Callable[[int], bool]) -> int | None:
    """The least count from 1 on at which a condition holds that, once it holds, keeps holding."""
    found = bisect_left(range(LONGEST + 1), True, lo=1, key=holds)
    return found if found <= LONGEST else None


def local_exponents(lengths, seconds) -> pd.DataFrame:
    """Between neighbours: `length` (their geometric mean) and `exponent`. ValueError for under two,
    or repeated, lengths."""
    x, y = np.asarray(lengths, float), np.asarray(seconds, float)
    order = np.argsort(x)
    x, y = x[order], y[order]
    if len(x) < 2 or (np.diff(x) == 0).any():
        raise ValueError(f"exponents need two or more different lengths; given {list(x)}")
    exponents = np.diff(np.log(y)) / np.diff(np.log(x))
    return pd.DataFrame({"length": np.sqrt(x[1:] * x[:-1]), "exponent": exponents})


def measured_knee(lengths, seconds) -> Knee | None:
    """Where the exponent rises most; None with fewer than three lengths, or where it rises nowhere
    by LEAST_RISE."""
    x = sorted(lengths)
    if len(x) < 3:
        return None
    exponents = local_exponents(lengths, seconds)["exponent"].to_numpy()
    rises = np.diff(exponents)
    at = int(rises.argmax())
    if rises[at] < LEAST_RISE:
        return None
    return Knee(float(x[at + 1]), float(exponents[at]), float(exponents[at + 1]))


def of_curves(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per curve (`line` and batch) of three or more lengths, as many tokens in as out: knees
    computed from shapes, the measured one, and the range of lengths (tokens)."""
    found = []
    for (line, batch), own in rows.groupby(["line", "batch"], sort=False):
        own = own[own["input_tokens"] == own["output_tokens"]].drop_duplicates("input_tokens")
        own = own.sort_values("input_tokens")
        if len(own) < 3:
            continue
        knee = measured_knee(own["input_tokens"], own["e2e_s"].astype(float))
        row = {
            "line": f"{line}, batch {batch}",
            **own[[c for c in COMPUTED if c in own]].iloc[0],
            "bend_measured": knee and knee.length,
            "exponent_below": knee and knee.below,
            "exponent_above": knee and knee.above,
            "shortest": own["input_tokens"].iloc[0],
            "longest": own["input_tokens"].iloc[-1],
        }
        found.append(row)
    numbers = dict.fromkeys((*REASONS, "exponent_below", "exponent_above"), "float64")
    return pd.DataFrame(found).astype(numbers) if found else pd.DataFrame()
