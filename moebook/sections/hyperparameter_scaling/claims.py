"""Section 1: what the source claims, and what decides each."""

from functools import partial

from moebook.results.claims import Claim, Part, at_least, at_most, within
from moebook.results.effects import (
    end_change,
    end_gap,
    end_ratio,
    falling_steps,
    first_step_worst,
    gap_shift,
    gap_slope,
    power_exponent,
    worst_level,
)
from moebook.sections.hyperparameter_scaling.effects import model_gap, model_wins

SOURCE_1 = {
    "model": ["Mixtral-8x7B"],
    "batch": [16],
    "input_tokens": [2048],
    "output_tokens": [2048],
    "device": "4 x H100",
}
SOURCE_2 = {"device": "H100"}
SOURCE_3 = {
    "model": ["DeepSeek-V2-Lite", "Qwen1.5-MoE-A2.7B"],
    "batch": [1, 16, 32, 64, 128],
    "device": "H100",
}
WHERE = {"expert_ffn_dim": {"values": [1792, 3584], "side": "smallest"}}
WHERE_4 = {"expert_ffn_dim": {"values": [7168, 14336], "side": "largest"}}
WHERE_5 = {"batch": {"values": [64, 128], "side": "largest"}}
WHERE_6 = {"batch": {"values": [1, 16], "side": "smallest"}}

CLAIMS = (
    Claim(
        id="ffn-halves",
        statement=(
            "Raising the FFN dim from 1792 to 14336 halves throughput on average; the first "
            "doubling costs most, and 8 active experts suffer most."
        ),
        decided_by=(
            "throughput at the largest over the smallest FFN dim, for every experts x active cell "
            "with both ends"
        ),
        source_range={"ffn_dim": [1792, 14336], "change_pct": -50, "worst_active_experts": 8},
        sweep="grid",
        source=SOURCE_1,
        parts=(
            Part(
                "halves",
                partial(end_change, axis="expert_ffn_dim", low=1792, high=14336, by="top_k"),
                within(-64.6, -29.3, slack=0),
                why="a half is the nearest power of two to ratios between 1/sqrt(8) and 1/sqrt(2)",
            ),
            Part(
                "first doubling costs most",
                partial(first_step_worst, axis="expert_ffn_dim", low=1792, high=14336),
                at_least(0),
            ),
            Part(
                "8 active suffers most",
                partial(
                    worst_level,
                    axis="expert_ffn_dim",
                    low=1792,
                    high=14336,
                    across="top_k",
                    level=8,
                ),
                at_most(0),
            ),
        ),
    ),
    Claim(
        id="ffn-converges",
        statement="At FFN dim 14336 the throughputs of different active-expert counts converge.",
        decided_by=(
            "gap of 1 over 8 active experts in percent at FFN 14336, less the gap at FFN 1792, for "
            "every expert count"
        ),
        source_range={"ffn_dim": 14336},
        sweep="grid",
        source=SOURCE_1,
        parts=(
            Part(
                "the gap narrows in percent",
                partial(
                    gap_shift,
                    axis="top_k",
                    low=1,
                    high=8,
                    across="expert_ffn_dim",
                    across_low=1792,
                    across_high=14336,
                ),
                at_most(0),
                why="lines that converge come closer relative to their height",
            ),
            Part(
                "the gap narrows in tokens/s",
                partial(
                    gap_shift,
                    axis="top_k",
                    low=1,
                    high=8,
                    across="expert_ffn_dim",
                    across_low=1792,
                    across_high=14336,
                    absolute=True,
                ),
                at_most(0),
                decides=False,
                why=(
                    "on a linear axis lines that all fall look as if they converged, whatever "
                    "their ratio does"
                ),
            ),
        ),
    ),
    Claim(
        id="experts-small-ffn",
        statement=(
            "At FFN dims 1792 and 3584, going from 8 to 64 experts keeps or raises throughput, by "
            "5-15 %."
        ),
        decided_by="throughput at 64 over 8 experts at the small FFN dims, for every active count",
        source_range={"ffn_dim": [1792, 3584], "experts": [8, 64], "change_pct": [5, 15]},
        sweep="grid",
        source=SOURCE_1,
        parts=(
            Part(
                "keeps or raises",
                partial(end_change, axis="num_experts", low=8, high=64, where=WHERE, by="top_k"),
                within(0, 15, slack=5),
                why="'keeps' is 0; 5 points of slack, the width of what the source calls a gain",
            ),
        ),
    ),
    Claim(
        id="experts-large-ffn",
        statement=(
            "At large FFN dims more experts do not help; with 4 or 8 active the curve is flat "
            "beyond 32 experts."
        ),
        decided_by=(
            "throughput at the most over the fewest experts measured at FFN 7168 and 14336; and "
            "from 32 to 64 experts"
        ),
        source_range={
            "ffn_dim": [7168, 14336],
            "experts": [8, 64],
            "flat_from_experts": 32,
            "active_experts": [4, 8],
        },
        sweep="grid",
        source=SOURCE_1,
        parts=(
            Part(
                "more experts do not help",
                partial(
                    end_change,
                    axis="num_experts",
                    low=8,
                    high=64,
                    ends="widest",
                    where=WHERE_4,
                    by="top_k",
                ),
                at_most(2, contradicted_above=2),
                why=(
                    "2 %: less gain than that is none; cells with 64 large experts exceed any "
                    "node, so each series' own ends count"
                ),
            ),
            Part(
                "flat beyond 32 experts",
                partial(
                    end_change,
                    axis="num_experts",
                    low=32,
                    high=64,
                    where={
                        "expert_ffn_dim": {"values": [7168, 14336], "side": "largest"},
                        "top_k": {"values": [4, 8], "side": "largest"},
                    },
                    own_range=False,
                ),
                within(-5, 5),
            ),
        ),
    ),
    Claim(
        id="active-monotone",
        statement="Throughput falls with every increase of active experts.",
        decided_by=(
            "share of single steps in active experts, all else equal, at which throughput falls"
        ),
        source_range={"active_experts": [1, 2, 4, 8]},
        sweep="grid",
        source=SOURCE_1,
        parts=(
            Part(
                "every step falls",
                partial(falling_steps, axis="top_k", levels=[1, 2, 4, 8]),
                within(95, 100, slack=5, contradicted_below=50),
                why=(
                    "5 % of the steps may be lost to noise; contradicted only where most steps "
                    "rise, as some falls fulfil part of it"
                ),
            ),
        ),
    ),
    Claim(
        id="active-gap",
        statement="Over the whole grid, 1 active expert is 50-80 % faster than 8.",
        decided_by="throughput with 1 over 8 active experts, mean over FFN dims and expert counts",
        source_range={"active_experts": [1, 8], "gap_pct": [50, 80]},
        sweep="grid",
        source=SOURCE_1,
        parts=(
            Part(
                "gap",
                partial(end_gap, axis="top_k", low=1, high=8, by="expert_ffn_dim"),
                within(50, 80),
            ),
        ),
    ),
    Claim(
        id="active-gap-small",
        statement="At small FFN dims, 1 active expert is 20-30 % faster than 8.",
        decided_by="throughput with 1 over 8 active experts at FFN 1792 and 3584",
        source_range={"active_experts": [1, 8], "ffn_dim": [1792, 3584], "gap_pct": [20, 30]},
        sweep="grid",
        source=SOURCE_1,
        parts=(
            Part(
                "gap",
                partial(end_gap, axis="top_k", low=1, high=8, where=WHERE, by="expert_ffn_dim"),
                within(20, 30),
            ),
        ),
    ),
    Claim(
        id="active-gap-large",
        statement="At large FFN dims, 1 active expert is 60-80 % faster than 8.",
        decided_by="throughput with 1 over 8 active experts at FFN 7168 and 14336",
        source_range={"active_experts": [1, 8], "ffn_dim": [7168, 14336], "gap_pct": [60, 80]},
        sweep="grid",
        source=SOURCE_1,
        parts=(
            Part(
                "gap",
                partial(end_gap, axis="top_k", low=1, high=8, where=WHERE_4, by="expert_ffn_dim"),
                within(60, 80),
            ),
        ),
    ),
    Claim(
        id="topk-dsv2",
        statement=(
            "On DeepSeek-V2-Lite, top-k 1 to 32 costs 15-20 % of throughput at batch 64 and 128, "
            "and 5-8 % at batch 1 and 16."
        ),
        decided_by="throughput at top-k 32 over top-k 1 at equal batch",
        source_range={
            "top_k": [1, 32],
            "change_pct_batch_64_128": [-20, -15],
            "change_pct_batch_1_16": [-8, -5],
        },
        sweep="batch_topk",
        source=SOURCE_2,
        parts=(
            Part(
                "large batch",
                partial(
                    end_change,
                    axis="top_k",
                    low=1,
                    high=32,
                    model="DeepSeek-V2-Lite",
                    like="deepseek-v2",
                    where=WHERE_5,
                    by="batch",
                ),
                within(-20, -15),
            ),
            Part(
                "small batch",
                partial(
                    end_change,
                    axis="top_k",
                    low=1,
                    high=32,
                    model="DeepSeek-V2-Lite",
                    like="deepseek-v2",
                    where=WHERE_6,
                    by="batch",
                ),
                within(-8, -5),
            ),
        ),
    ),
    Claim(
        id="topk-qwen",
        statement=(
            "On Qwen1.5-MoE, top-k 1 to 32 costs 12-18 % of throughput at batch 64 and 128, and "
            "4-7 % at batch 1 and 16."
        ),
        decided_by="throughput at top-k 32 over top-k 1 at equal batch",
        source_range={
            "top_k": [1, 32],
            "change_pct_batch_64_128": [-18, -12],
            "change_pct_batch_1_16": [-7, -4],
        },
        sweep="batch_topk",
        source=SOURCE_2,
        parts=(
            Part(
                "large batch",
                partial(
                    end_change,
                    axis="top_k",
                    low=1,
                    high=32,
                    model="Qwen1.5-MoE-A2.7B",
                    like="qwen2-moe",
                    where=WHERE_5,
                    by="batch",
                ),
                within(-18, -12),
            ),
            Part(
                "small batch",
                partial(
                    end_change,
                    axis="top_k",
                    low=1,
                    high=32,
                    model="Qwen1.5-MoE-A2.7B",
                    like="qwen2-moe",
                    where=WHERE_6,
                    by="batch",
                ),
                within(-7, -4),
            ),
        ),
    ),
    Claim(
        id="batch-scaling",
        statement=(
            "From batch 1 to 128 throughput grows by two orders of magnitude, sub-linearly "
            "(elsewhere: linearly, over 8 times)."
        ),
        decided_by=(
            "exponent p of throughput ~ batch^p, and the ratio of batch 128 to batch 1, per model, "
            "top-k and length"
        ),
        source_range={"batch": [1, 128], "orders_of_magnitude": 2, "at_least_times": 8},
        sweep="batch_topk|batch_length",
        source=SOURCE_3,
        parts=(
            Part(
                "sub-linear",
                partial(power_exponent, axis="batch", by="model"),
                within(0, 1, slack=0),
            ),
            Part(
                "two orders of magnitude",
                partial(end_ratio, axis="batch", low=1, high=128, by="model"),
                within(31.6, 316, slack=0),
                why="100 is the nearest power of ten to ratios between 10^1.5 and 10^2.5",
            ),
            Part("over 8 times", partial(end_ratio, axis="batch", low=1, high=128), at_least(8)),
            Part(
                "linear",
                partial(power_exponent, axis="batch"),
                within(0.95, 1.05, slack=0),
                decides=False,
                why="the source's other statement, which excludes the first: reported, not counted",
            ),
        ),
    ),
    Claim(
        id="length-penalty",
        statement=(
            "At large batch, length 128 is up to 30 % faster than length 2048, and the gap widens "
            "with batch."
        ),
        decided_by=(
            "largest gap of length 128 over 2048 at batch 64 and 128, and its growth per doubling "
            "of batch"
        ),
        source_range={"length": [128, 2048], "gap_pct_up_to": 30},
        sweep="batch_length",
        source=SOURCE_3,
        parts=(
            Part(
                "up to 30 %",
                partial(
                    end_gap,
                    axis="length",
                    low=128,
                    high=2048,
                    where=WHERE_5,
                    by="batch",
                    reduce="max",
                ),
                within(15, 30),
                why="'up to 30' is a largest value near 30: at least half of it, and not more",
            ),
            Part(
                "widens with batch",
                partial(gap_slope, axis="length", low=128, high=2048, along="batch"),
                at_least(0),
            ),
        ),
    ),
    Claim(
        id="qwen-over-dsv2",
        statement="Qwen1.5-MoE is 20-30 % faster than DeepSeek-V2-Lite everywhere.",
        decided_by=(
            "throughput of Qwen1.5-MoE over DeepSeek-V2-Lite at equal batch, lengths and top-k, "
            "and each with its published top-k"
        ),
        source_range={"gap_pct": [20, 30]},
        sweep="batch_topk|batch_length",
        source=SOURCE_3,
        parts=(
            Part(
                "gap",
                partial(
                    model_gap,
                    model="Qwen1.5-MoE-A2.7B",
                    like="qwen2-moe",
                    other="DeepSeek-V2-Lite",
                    other_like="deepseek-v2",
                ),
                within(20, 30),
            ),
            Part(
                "everywhere",
                partial(
                    model_wins,
                    model="Qwen1.5-MoE-A2.7B",
                    like="qwen2-moe",
                    other="DeepSeek-V2-Lite",
                    other_like="deepseek-v2",
                ),
                within(95, 100, slack=5, contradicted_below=50),
                why=(
                    "5 % of the workloads may be lost to noise; contradicted only where "
                    "Qwen1.5-MoE is the slower one mostly"
                ),
            ),
        ),
    ),
)
