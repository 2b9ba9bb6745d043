"""Section 9: what the source claims, and what decides each."""

from functools import partial

from moebook.results.claims import INF, Claim, Part, at_least, at_most, within
from moebook.sections.model_comparison.effects import (
    ffn_share,
    model_change,
    model_lead,
    model_order,
    over_fastest,
)

SOURCE = {"batch": [64], "input_tokens": [2048], "output_tokens": [2048], "device": "H100"}
OLMOE = "OLMoE-1B-7B-0125"
FIG_1 = ["Mixtral-8x7B-v0.1", "OLMoE-1B-7B-0125", "Qwen1.5-MoE-A2.7B"]
ACCURATE = ["Qwen3-30B-A3B", "Mixtral-8x7B-v0.1"]
VL2 = [f"deepseek-vl2-{size}-textonly" for size in ("tiny", "small", "base")]
BASE_OVER_TINY = partial(model_change, model=VL2[2], over=VL2[0])

CLAIMS = (
    Claim(
        id="olmoe-fastest",
        statement="OLMoE has the highest throughput of the compared models, over 40 % above the "
        "next.",
        decided_by="throughput of OLMoE over the fastest other model at batch 64, length 2048, all "
        "in one number format",
        source_range={"gap_pct_at_least": 40},
        sweep="llms",
        source=SOURCE,
        parts=(
            Part("the highest", partial(model_lead, model=OLMOE), at_least(0)),
            Part("40 % above the next", partial(model_lead, model=OLMOE), at_least(40)),
        ),
    ),
    Claim(
        id="olmoe-ttft",
        statement="OLMoE's TTFT is about 70 % ahead of DeepSeek-V2-Lite's.",
        decided_by="TTFT of DeepSeek-V2-Lite over OLMoE at batch 64, length 2048, both in one "
        "number format",
        source_range={"gap_pct": 70},
        sweep="llms",
        source=SOURCE,
        metric="ttft_s",
        parts=(
            Part(
                "longer on DeepSeek-V2-Lite",
                partial(model_change, model="DeepSeek-V2-Lite", over=OLMOE, column="ttft_s"),
                within(60, 80, contradicted_below=0, contradicted_above=INF),
                why="about 70 %: to within 10 points; ahead by another amount holds in part",
            ),
        ),
    ),
    Claim(
        id="phi-slowest",
        statement="Phi-3.5-MoE is the slowest of the compared models.",
        decided_by="throughput of Phi-3.5-MoE over the slowest other model, all in one number "
        "format",
        source_range={},
        sweep="llms",
        source=SOURCE,
        parts=(
            Part(
                "over the slowest other",
                partial(model_lead, model="Phi-3.5-MoE-instruct", over="slowest"),
                at_most(0),
            ),
        ),
    ),
    Claim(
        id="accurate-is-slow",
        statement="Qwen3-30B-A3B and Mixtral cost 60-100 % more latency and 30-50 % less "
        "throughput than the most efficient model.",
        decided_by="E2E and throughput of both over the fastest model, all in one number format",
        source_range={"latency_pct": [60, 100], "throughput_pct": [-50, -30]},
        sweep="llms",
        source=SOURCE,
        parts=(
            Part("latency", partial(over_fastest, models=ACCURATE, of="latency"), within(60, 100)),
            Part("throughput", partial(over_fastest, models=ACCURATE), within(-50, -30)),
        ),
    ),
    Claim(
        id="vl2-order",
        statement="DeepSeek-VL2 Tiny is faster than Small, Small than Base: TTFT about 30 %, ITL "
        "240 %, E2E 260 % apart.",
        decided_by="E2E of each language part over the next smaller one's, and TTFT, TPOT and E2E "
        "of Base's over Tiny's",
        source_range={"ttft_pct": 30, "itl_pct": 240, "e2e_pct": 260},
        sweep="vlms",
        source={"model": ["deepseek-vl2"], "batch": [64], "device": "H100"},
        metric="e2e_s",
        parts=(
            Part("order", partial(model_order, models=VL2, column="e2e_s"), at_least(0)),
            Part(
                "TTFT apart",
                partial(BASE_OVER_TINY, column="ttft_s"),
                within(20, 40),
                decides=False,
                why="about 30 %: to within 10 points; without the vision tower, which the source's "
                "TTFT includes, so it does not decide",
            ),
            Part(
                "TPOT apart",
                partial(BASE_OVER_TINY, column="tpot_s"),
                within(200, 280),
                why="240 % to within a sixth; batch is equal, so the source's ITL and TPOT differ "
                "by the same factor",
            ),
            Part(
                "E2E apart",
                partial(BASE_OVER_TINY, column="e2e_s"),
                within(220, 300),
                why="260 % to within a sixth",
            ),
        ),
    ),
    Claim(
        id="ffn-dominates",
        statement="FFN layers hold most of the total and of the active parameters.",
        decided_by="share of routed, shared and dense FFN parameters in total and active, from the "
        "published configs of the models of Fig 1",
        source_range={},
        sweep="llms",
        source={},
        parts=(
            Part("of all parameters", partial(ffn_share, models=FIG_1, of="total"), at_least(50)),
            Part(
                "of active parameters",
                partial(ffn_share, models=FIG_1, of="active"),
                at_least(50),
                why="in every model; embedding, head and vision tower count as active in full",
            ),
        ),
    ),
)
