"""Section 3: what the source claims, and what decides each."""

from functools import partial

from moebook.results.claims import Claim, Part, at_least, at_most, within
from moebook.results.series_effects import series_gain

SOURCE = {
    "model": ["OLMoE-1B-7B", "Qwen1.5-MoE-A2.7B"],
    "batch": [16],
    "input_tokens": [2048],
    "device": "4xH100",
}

CLAIMS = (
    Claim(
        id="prune-small-hurts",
        statement="Pruning 12.5 or 25 % can lower throughput.",
        decided_by="least gain over unpruned at 12.5 and 25 %, over models, kinds and top-k",
        source_range={"ratio_pct": [12.5, 25]},
        sweep="pruning",
        source=SOURCE,
        parts=(
            Part(
                "least gain",
                partial(
                    series_gain,
                    series=["inter 12.5 %", "inter 25 %", "intra 12.5 %", "intra 25 %"],
                    over="baseline",
                    reduce="min",
                ),
                at_most(-1),
                why=(
                    "a least value of many is under 0 by noise alone; 1 % is beyond the repeats' "
                    "usual spread"
                ),
            ),
        ),
    ),
    Claim(
        id="prune-half-helps",
        statement="Pruning 50 % raises throughput significantly.",
        decided_by="mean gain over unpruned at 50 %, over models, kinds and top-k",
        source_range={"ratio_pct": 50},
        sweep="pruning",
        source=SOURCE,
        parts=(
            Part(
                "both kinds",
                partial(
                    series_gain, series=["inter 50 %", "intra 50 %"], over="baseline", by="top_k"
                ),
                at_least(10, contradicted_below=5),
                why=(
                    "the source prints no number; significant is read as 10 %, and under 5 % as "
                    "none"
                ),
            ),
            Part(
                "inter-expert",
                partial(series_gain, series="inter 50 %", over="baseline", by="model"),
                at_least(10, contradicted_below=5),
                decides=False,
            ),
            Part(
                "intra-expert",
                partial(series_gain, series="intra 50 %", over="baseline", by="model"),
                at_least(10, contradicted_below=5),
                decides=False,
            ),
        ),
    ),
    Claim(
        id="prune-intra-topk",
        statement="On OLMoE, 50 % intra-expert pruning holds or raises throughput at large top-k.",
        decided_by=(
            "throughput at 50 % intra-expert pruning over unpruned at OLMoE's pretrained top-k"
        ),
        source_range={"ratio_pct": 50},
        sweep="pruning",
        source=SOURCE,
        parts=(
            Part(
                "at top-k 8",
                partial(
                    series_gain,
                    series="intra 50 %",
                    over="baseline",
                    model="OLMoE-1B-7B",
                    like="qwen2-moe",
                    where={"top_k": {"values": [8], "side": "largest"}},
                ),
                at_least(0),
            ),
        ),
    ),
    Claim(
        id="prune-no-gain",
        statement="Pruning does not significantly speed up vLLM (LExI, contradicting the above).",
        decided_by="mean throughput of pruned over unpruned, over all ratios, kinds and top-k",
        source_range={},
        sweep="pruning",
        source=SOURCE,
        parts=(
            Part(
                "mean gain",
                partial(
                    series_gain,
                    series=[
                        "inter 12.5 %",
                        "inter 25 %",
                        "inter 50 %",
                        "intra 12.5 %",
                        "intra 25 %",
                        "intra 50 %",
                    ],
                    over="baseline",
                    by="model",
                ),
                within(-5, 5, slack=5),
                why=(
                    "no number is printed; under 5 % is read as no significant gain, over 10 % as "
                    "one"
                ),
            ),
        ),
    ),
)
