"""Section 2: what the source claims, and what decides each: FP8 over 16 bits on Mixtral-8x7B."""

from functools import partial

from moebook.results.claims import Claim, Part, at_least, within
from moebook.results.gains import series_gain, series_gain_slope, series_gain_steps, series_pairs

SOURCE = {
    "model": ["Mixtral-8x7B"],
    "batch": [1, 16, 32, 64],
    "input_tokens": [128, 256, 512, 1024, 2048],
    "device": "H100",
}
PAIR = {"series": "fp8", "over": "bf16", "model": "Mixtral-8x7B", "like": "mixtral"}
FP8_PAIRS = partial(series_pairs, **PAIR)
LARGEST_BATCH = {"batch": {"values": [64], "side": "largest"}}
LONGEST = {"length": {"values": [2048], "side": "largest"}}

CLAIMS = (
    Claim(
        id="fp8-wins",
        statement="FP8 Mixtral-8x7B is faster than FP16 at every batch and length.",
        decided_by="throughput of FP8 over 16 bits on Mixtral-8x7B at each equal workload",
        source_range={"share_pct": 100},
        sweep="quant_batch|quant_length|formats",
        source=SOURCE,
        parts=(
            Part(
                "everywhere",
                partial(series_gain, **PAIR),
                at_least(0),
                contradicted_over=0.5,
                why="contradicted only where FP8 is the slower one mostly",
            ),
        ),
    ),
    Claim(
        id="fp8-gain",
        statement="FP8 gains 25-30 % at the largest batch and 20-25 % across lengths.",
        decided_by="throughput of FP8 over 16 bits on Mixtral-8x7B at the largest batch, at "
        "each length",
        source_range={"gain_pct_largest_batch": [25, 30], "gain_pct_lengths": [20, 25]},
        sweep="quant_batch|quant_length|formats",
        source=SOURCE,
        parts=(
            Part(
                "largest batch, 2048 tokens",
                partial(series_gain, **PAIR, where=LARGEST_BATCH | LONGEST),
                within(25, 30),
            ),
            Part(
                "across lengths",
                partial(series_gain, **PAIR, where=LARGEST_BATCH, by="length"),
                within(20, 25),
            ),
        ),
    ),
    Claim(
        id="fp8-gap-widens",
        statement="The gain of FP8 grows with batch.",
        decided_by="gain of FP8 over 16 bits on Mixtral-8x7B in percentage points per doubling of "
        "batch, and at each step",
        source_range={},
        sweep="quant_batch|formats",
        source=SOURCE,
        parts=(
            Part("slope", partial(series_gain_slope, pairs=FP8_PAIRS, along="batch"), at_least(0)),
            Part(
                "every step",
                partial(series_gain_steps, pairs=FP8_PAIRS, along="batch"),
                at_least(0),
                contradicted_over=0.5,
            ),
        ),
    ),
)
