"""Section 6: what the source claims, and what decides each."""

from functools import partial

from moebook.results.claims import Claim, Part, at_least, within
from moebook.results.series_effects import series_gain, series_gain_slope, series_gain_steps

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
        source={"model": ["Mixtral-8x7B"], "batch": [1, 16, 32, 64], "device": "4xH100"},
        parts=(
            Part(
                "over the expert loop",
                partial(
                    series_gain,
                    series="fused, no graphs",
                    over="expert loop",
                    instead={"fused, no graphs": ["fused"]},
                    by="batch",
                ),
                within(15, 20),
            ),
            Part(
                "growth with batch",
                partial(
                    series_gain_slope,
                    series="fused, no graphs",
                    over="expert loop",
                    along="batch",
                    instead={"fused, no graphs": ["fused"]},
                ),
                at_least(0),
            ),
            Part(
                "at every step",
                partial(
                    series_gain_steps,
                    series="fused, no graphs",
                    over="expert loop",
                    along="batch",
                    instead={"fused, no graphs": ["fused"]},
                ),
                at_least(100, contradicted_below=50),
            ),
            Part(
                "over grouped GEMMs",
                partial(series_gain, series="fused", over="grouped GEMM", by="batch"),
                within(15, 20),
                decides=False,
                why="the other reading of non-fused: separate permute, activation and unpermute",
            ),
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
        },
        parts=(
            Part(
                "over the expert loop",
                partial(
                    series_gain,
                    series="fused, no graphs",
                    over="expert loop",
                    instead={"fused, no graphs": ["fused"]},
                    by="length",
                ),
                within(12, 18),
            ),
            Part(
                "growth with length",
                partial(
                    series_gain_slope,
                    series="fused, no graphs",
                    over="expert loop",
                    along="length",
                    instead={"fused, no graphs": ["fused"]},
                ),
                at_least(0),
            ),
            Part(
                "at every step",
                partial(
                    series_gain_steps,
                    series="fused, no graphs",
                    over="expert loop",
                    along="length",
                    instead={"fused, no graphs": ["fused"]},
                ),
                at_least(100, contradicted_below=50),
            ),
            Part(
                "over grouped GEMMs",
                partial(series_gain, series="fused", over="grouped GEMM", by="length"),
                within(12, 18),
                decides=False,
                why="the other reading of non-fused",
            ),
        ),
    ),
)
