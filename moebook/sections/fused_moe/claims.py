"""Section 6: what the source claims, and what decides each."""

from functools import partial

from moebook.results.claims import Claim, Part, at_least, within
from moebook.results.gains import series_gain, series_gain_slope, series_gain_steps, series_pairs

OVER_LOOP = {
    "series": "fused, no graphs",
    "over": "expert loop",
    "instead": {"fused, no graphs": ["fused"]},
}
LOOP_PAIRS = partial(series_pairs, **OVER_LOOP)


def _parts(axis: str, lo: float, hi: float, why: str) -> tuple[Part, ...]:
    """Gain between `lo` and `hi` %, growing along the axis."""
    return (
        Part("over the expert loop", partial(series_gain, **OVER_LOOP, by=axis), within(lo, hi)),
        Part(
            f"growth with {axis}",
            partial(series_gain_slope, pairs=LOOP_PAIRS, along=axis),
            at_least(0),
        ),
        Part(
            "at every step",
            partial(series_gain_steps, pairs=LOOP_PAIRS, along=axis),
            at_least(0),
            contradicted_over=0.5,
        ),
        Part(
            "over grouped GEMMs",
            partial(series_gain, series="fused", over="grouped GEMM", by=axis),
            within(lo, hi),
            decides=False,
            why=why,
        ),
    )


CLAIMS = (
    Claim(
        id="fused-batch",
        statement="Fused MoE kernels gain 15-20 % over the batch sweep, more at larger batch.",
        decided_by=(
            "throughput fused over an eager loop over experts per batch, both without decode "
            "graphs where that is measured, and its growth per doubling of batch; the source does "
            "not define non-fused"
        ),
        source_range={"gain_pct": [15, 20]},
        sweep="ladder_batch",
        source={
            "model": ["Mixtral-8x7B"],
            "batch": [1, 16, 32, 64],
            "device": "4xH100",
            "devices": [4],
        },
        parts=_parts(
            "batch",
            15,
            20,
            "the other reading of non-fused: separate permute, activation and unpermute",
        ),
    ),
    Claim(
        id="fused-length",
        statement=(
            "Fused MoE kernels gain 12-18 % over lengths; non-fused drops faster at long ones."
        ),
        decided_by=(
            "throughput fused over an eager loop over experts per length, both without decode "
            "graphs where that is measured, and its growth per doubling of length"
        ),
        source_range={"gain_pct": [12, 18]},
        sweep="ladder_length",
        source={
            "model": ["Mixtral-8x7B"],
            "input_tokens": [128, 256, 512, 1024, 2048],
            "device": "4xH100",
            "devices": [4],
        },
        parts=_parts("length", 12, 18, "the other reading of non-fused"),
    ),
)
