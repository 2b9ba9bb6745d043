"""Section 1: what the source claims, and what decides each."""

from functools import partial

from moebook.results.claims import (
    FINEST_PCT,
    Claim,
    Part,
    at_least,
    at_most,
    no_effect,
    within,
)
from moebook.results.effects import (
    end_change,
    end_gap,
    end_ratio,
    first_step_worst,
    gap_shift,
    gap_slope,
    power_exponent,
    steps,
    worst_level,
)
from moebook.sections.hyperparameter_scaling.effects import model_gap

FFN = {"axis": "expert_ffn_dim", "low": 1792, "high": 14336}
ACTIVE = {"axis": "top_k", "low": 1, "high": 8}
EXPERTS = {"axis": "num_experts", "low": 8, "high": 64}
SMALL_FFN = {"expert_ffn_dim": {"values": [1792, 3584], "side": "smallest"}}
LARGE_FFN = {"expert_ffn_dim": {"values": [7168, 14336], "side": "largest"}}
SMALL_BATCH = {"batch": {"values": [1, 16], "side": "smallest"}}
LARGE_BATCH = {"batch": {"values": [64, 128], "side": "largest"}}
MANY_ACTIVE = {"top_k": {"values": [4, 8], "side": "largest"}}
CONVERGING = partial(
    gap_shift, **ACTIVE, across="expert_ffn_dim", across_low=1792, across_high=14336
)
DEEPSEEK = {"model": "DeepSeek-V2-Lite", "like": "deepseek-v2"}
QWEN = {"model": "Qwen1.5-MoE-A2.7B", "like": "qwen2-moe"}
QWEN_OVER_DEEPSEEK = {**QWEN, "other": DEEPSEEK["model"], "other_like": DEEPSEEK["like"]}
TOP_K_COST = partial(end_change, axis="top_k", low=1, high=32, by="batch")


def _of_grid(id: str, statement: str, decided_by: str, source_range: dict, *parts: Part) -> Claim:
    source = {
        "model": ["Mixtral-8x7B"],
        "batch": [16],
        "input_tokens": [2048],
        "output_tokens": [2048],
        "device": "4 x H100",
        "devices": [4],
    }
    return Claim(id, statement, decided_by, source_range, "grid|grid_same", source, parts)


def _active_gap(
    id: str, where: str, of_cells: str, gap: tuple[int, int], kept: dict | None = None
) -> Claim:
    """gap: from and to, %. kept: the FFN dims it is of."""
    dims = {"ffn_dim": kept["expert_ffn_dim"]["values"]} if kept else {}
    return _of_grid(
        id,
        f"{where}, 1 active expert is {gap[0]}-{gap[1]} % faster than 8.",
        f"throughput with 1 over 8 active experts{of_cells}",
        {"active_experts": [1, 8], **dims, "gap_pct": list(gap)},
        Part("gap", partial(end_gap, **ACTIVE, where=kept, by="expert_ffn_dim"), within(*gap)),
    )


def _of_top_k(
    id: str, name: str, model: dict, large: tuple[int, int], small: tuple[int, int]
) -> Claim:
    """large, small: change at the large and at the small batches, from and to, %."""
    costs = ["{}-{} %".format(*(-change for change in reversed(ends))) for ends in (large, small)]
    return Claim(
        id,
        f"On {name}, top-k 1 to 32 costs {costs[0]} of throughput at batch 64 and 128, and "
        f"{costs[1]} at batch 1 and 16.",
        "throughput at top-k 32 over top-k 1 at equal batch, 2048 + 2048 tokens",
        {
            "top_k": [1, 32],
            "change_pct_batch_64_128": list(large),
            "change_pct_batch_1_16": list(small),
        },
        "batch_topk",
        {"device": "H100", "input_tokens": [2048], "output_tokens": [2048]},
        (
            Part("large batch", partial(TOP_K_COST, **model, where=LARGE_BATCH), within(*large)),
            Part("small batch", partial(TOP_K_COST, **model, where=SMALL_BATCH), within(*small)),
        ),
    )


def _of_batches(
    id: str, statement: str, decided_by: str, source_range: dict, sweep: str, *parts: Part
) -> Claim:
    source = {
        "model": [DEEPSEEK["model"], QWEN["model"]],
        "batch": [1, 16, 32, 64, 128],
        "device": "H100",
    }
    return Claim(id, statement, decided_by, source_range, sweep, source, parts)


CLAIMS = (
    _of_grid(
        "ffn-halves",
        "Raising the FFN dim from 1792 to 14336 halves throughput on average; the first doubling "
        "costs most, and 8 active experts suffer most.",
        "throughput at the largest over the smallest FFN dim, for every experts x active cell with "
        "both ends",
        {"ffn_dim": [1792, 14336], "change_pct": -50, "worst_active_experts": 8},
        Part(
            "halves",
            partial(end_change, **FFN, by="top_k", mean=True),
            within(-64.6, -29.3, slack=0, rounding=FINEST_PCT),
            why="the source states a mean; a half is the nearest power of two to ratios between "
            "1/sqrt(8) and 1/sqrt(2)",
        ),
        Part("first doubling costs most", partial(first_step_worst, **FFN), at_least(0)),
        Part(
            "8 active suffers most",
            partial(worst_level, **FFN, across="top_k", level=8),
            at_most(0),
        ),
    ),
    _of_grid(
        "ffn-converges",
        "At FFN dim 14336 the throughputs of different active-expert counts converge.",
        "gap of 1 over 8 active experts in percent at FFN 14336, less the gap at FFN 1792, for "
        "every expert count",
        {"ffn_dim": 14336},
        Part(
            "the gap narrows in percent",
            CONVERGING,
            at_most(0),
            why="lines that converge come closer relative to their height",
        ),
        Part(
            "the gap narrows in tokens/s",
            partial(CONVERGING, absolute=True),
            at_most(0),
            decides=False,
            why="on a linear axis lines that all fall look as if they converged, whatever their "
            "ratio does",
        ),
    ),
    _of_grid(
        "experts-small-ffn",
        "At FFN dims 1792 and 3584, going from 8 to 64 experts keeps or raises throughput, by "
        "5-15 %.",
        "throughput at 64 over 8 experts at the small FFN dims, for every active count",
        {"ffn_dim": [1792, 3584], "experts": [8, 64], "change_pct": [5, 15]},
        Part(
            "keeps or raises",
            partial(end_change, **EXPERTS, where=SMALL_FFN, by="top_k"),
            within(-5, 20, slack=0),
            why="'keeps' is a loss under 5 points, the width of what the source calls a gain",
        ),
    ),
    _of_grid(
        "experts-large-ffn",
        "At large FFN dims more experts do not help; with 4 or 8 active the curve is flat beyond "
        "32 experts.",
        "throughput at the most over the fewest experts measured at FFN 7168 and 14336; and from "
        "32 to 64 experts",
        {
            "ffn_dim": [7168, 14336],
            "experts": [8, 64],
            "flat_from_experts": 32,
            "active_experts": [4, 8],
        },
        Part(
            "more experts do not help",
            partial(end_change, **EXPERTS, ends="widest", where=LARGE_FFN, by="top_k"),
            at_most(2, contradicted_above=2),
            why="2 %: less gain than that is none; cells with 64 large experts exceed any node, so "
            "each series' own ends count",
        ),
        Part(
            "flat beyond 32 experts",
            partial(
                end_change,
                **{**EXPERTS, "low": 32},
                where={**LARGE_FFN, **MANY_ACTIVE},
                own_range=False,
            ),
            no_effect(5, contradicted_beyond=7.5),
            why="two one-sided tests",
        ),
    ),
    _of_grid(
        "active-monotone",
        "Throughput falls with every increase of active experts.",
        "change of throughput at each single step in active experts, all else equal",
        {"active_experts": [1, 2, 4, 8]},
        Part(
            "every step falls",
            partial(steps, axis="top_k", levels=[1, 2, 4, 8]),
            at_most(0),
            share=0.95,
            contradicted_over=0.5,
            why="5 % of the steps may be lost to noise; contradicted only where most steps rise, "
            "as some falls fulfil part of it",
        ),
    ),
    _active_gap(
        "active-gap", "Over the whole grid", ", at each FFN dim and expert count", (50, 80)
    ),
    _active_gap(
        "active-gap-small", "At small FFN dims", " at FFN 1792 and 3584", (20, 30), SMALL_FFN
    ),
    _active_gap(
        "active-gap-large", "At large FFN dims", " at FFN 7168 and 14336", (60, 80), LARGE_FFN
    ),
    _of_top_k("topk-dsv2", "DeepSeek-V2-Lite", DEEPSEEK, (-20, -15), (-8, -5)),
    _of_top_k("topk-qwen", "Qwen1.5-MoE", QWEN, (-18, -12), (-7, -4)),
    _of_batches(
        "batch-scaling",
        "From batch 1 to 128 throughput grows by two orders of magnitude, sub-linearly (elsewhere: "
        "linearly, over 8 times).",
        "exponent p of throughput ~ batch^p, and the ratio of batch 128 to batch 1, per model, "
        "top-k and length",
        {"batch": [1, 128], "orders_of_magnitude": 2, "at_least_times": 8},
        "batch_topk|batch_length",
        Part(
            "sub-linear",
            partial(power_exponent, axis="batch", by="model"),
            within(0, 1, slack=0, rounding=0.02),
        ),
        Part(
            "two orders of magnitude",
            partial(end_ratio, axis="batch", low=1, high=128, by="model"),
            within(31.6, 316, slack=0, rounding=1.0),
            why="100 is the nearest power of ten to ratios between 10^1.5 and 10^2.5",
        ),
        Part(
            "over 8 times",
            partial(end_ratio, axis="batch", low=1, high=128),
            at_least(8, rounding=0.5),
        ),
        Part(
            "linear",
            partial(power_exponent, axis="batch"),
            within(0.95, 1.05, slack=0, rounding=0.02),
            decides=False,
            why="the source's other statement, which excludes the first: reported, not counted",
        ),
    ),
    _of_batches(
        "length-penalty",
        "At large batch, length 128 is up to 30 % faster than length 2048, and the gap widens with "
        "batch.",
        "largest gap of length 128 over 2048 at batch 64 and 128, and its growth per doubling of "
        "batch",
        {"length": [128, 2048], "gap_pct_up_to": 30},
        "batch_length",
        Part(
            "up to 30 %",
            partial(
                end_gap,
                axis="length",
                low=128,
                high=2048,
                where=LARGE_BATCH,
                by="batch",
                largest=True,
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
    _of_batches(
        "qwen-over-dsv2",
        "Qwen1.5-MoE is 20-30 % faster than DeepSeek-V2-Lite everywhere.",
        "throughput of Qwen1.5-MoE over DeepSeek-V2-Lite at equal batch, lengths and top-k, and "
        "each with its published top-k",
        {"gap_pct": [20, 30]},
        "batch_topk|batch_length",
        Part("gap", partial(model_gap, **QWEN_OVER_DEEPSEEK), within(20, 30)),
        Part(
            "everywhere",
            partial(model_gap, **QWEN_OVER_DEEPSEEK),
            at_least(0),
            share=0.95,
            contradicted_over=0.5,
            why="5 % of the workloads may be lost to noise; contradicted only where Qwen1.5-MoE is "
            "the slower one mostly",
        ),
    ),
)
