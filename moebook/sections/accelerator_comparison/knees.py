"""Where a latency curve over length bends, and why: from the shapes and ceilings, and from measured
points.

Three lengths follow from shapes, a device's rates and its memory, for B sequences:

    compute   prompt length from which prefill computes longer than it reads:   FLOPs / rate > bytes
              / bandwidth bandwidth context from which a decode step reads more KV cache than
              weights: B x context x KV bytes > weight bytes
    capacity  longest context whose cache fits beside the weights:               (memory - weights)
              / (B x KV bytes a token)

Below the first, TTFT hardly grows with the prompt; above it, in proportion. Below the second, a
step costs the same at any context; above it, in proportion to the context. Beyond the third nothing
runs.

A measured curve has a local exponent between neighbouring lengths, d log E2E / d log length: 1
where latency doubles with length. It bends where the exponent rises most from one pair of lengths
to the next, by LEAST_RISE or more."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from moebook.models import sizes
from moebook.predict.roofline import Case, Ceilings, peak_flops

REASONS = {
    "compute": "prefill computes longer than it reads",
    "bandwidth": "a step reads more KV cache than weights",
    "capacity": "the KV cache fills the memory",
    "measured": "the measured exponent rises most",
}
LONGEST = 1 << 24  # tokens; where a condition does not hold by then, it does not bend there
LEAST_RISE = 0.05  # of the exponent: a doubling of length then costs 3.5 % more than the one before


@dataclass(frozen=True)
class Bend:
    """The measured bend: around `length`, the exponent goes from `below` to `above`."""

    length: float
    below: float
    above: float


def compute_bound_from(case: Case, ceilings: Ceilings) -> int | None:
    """The shortest prompt, in tokens of each of its B sequences, whose prefill is bound by FLOPs;
    None: no prompt's is."""
    rate = peak_flops(case, ceilings)

    def computes(tokens: int) -> bool:
        cost = replace(case, input_tokens=tokens).prefill()
        return cost.total_flops / rate > cost.total_bytes / ceilings.copy_bytes_per_s

    return _first(computes)


def kv_over_weights_from(case: Case) -> int | None:
    """The shortest context at which a decode step reads as many bytes of KV cache as of all
    else."""

    def reads_cache(context: int) -> bool:
        cost = case.decode(context)
        return 2 * cost.bytes["kv_cache"] >= cost.total_bytes

    return _first(reads_cache)


def fits_until(case: Case, memory_bytes: float) -> int | None:
    """The longest context of B sequences that fits beside the weights; None where the weights alone
    do not fit."""
    weights = sizes.weight_bytes(case.arch, case.dtype, case.quantization)
    left = memory_bytes - weights
    return (
        None
        if left < 0
        else int(left // (case.batch * sizes.kv_bytes_per_token(case.arch, case.kv_dtype)))
    )


def _first(holds) -> int | None:
    """The least count from 1 on at which a condition holds that, once it holds, keeps holding."""
    if not holds(LONGEST):
        return None
    low, high = 0, LONGEST
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def local_exponents(lengths, seconds) -> pd.DataFrame:
    """Between neighbours: `length` (their geometric mean) and `exponent`. ValueError for under two,
    or repeated, lengths."""
    x, y = np.asarray(lengths, float), np.asarray(seconds, float)
    order = np.argsort(x)
    x, y = x[order], y[order]
    if len(x) < 2 or (np.diff(x) == 0).any():
        raise ValueError(f"exponents need two or more different lengths; given {list(x)}")
    return pd.DataFrame(
        {"length": np.sqrt(x[1:] * x[:-1]), "exponent": np.diff(np.log(y)) / np.diff(np.log(x))}
    )


def measured_bend(lengths, seconds) -> Bend | None:
    """Where the exponent rises most; None with fewer than three lengths, or where it rises nowhere
    by LEAST_RISE."""
    x = sorted(lengths)
    if len(x) < 3:
        return None
    exponents = local_exponents(lengths, seconds)["exponent"].to_numpy()
    rises = np.diff(exponents)
    at = int(rises.argmax())
    return (
        Bend(float(x[at + 1]), float(exponents[at]), float(exponents[at + 1]))
        if rises[at] >= LEAST_RISE
        else None
    )
