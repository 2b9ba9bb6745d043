import json
import math

import pandas as pd
import pytest
from analysis_tables import DSV2, QWEN, grid, lengths, per_repeat, row, topk

from moebook import sections
from moebook.results import verdicts as claims
from moebook.results.table import summarize

STEP = {1792: 0, 3584: 1, 7168: 2, 14336: 3}


def judge(table, claim_id):
    return claims.evaluate(table, [c for c in sections.claims() if c.id == claim_id], checks=False)[
        0
    ]


def chain(steps_by_active, default):
    """f(I, E, K): 1000 times the product of the steps up to I."""
    return lambda i, e, k: 1000.0 * math.prod(steps_by_active.get(k, default)[: STEP[i]])


def gap_of(small, large, at_large=lambda i: i >= 7168):
    """f with 1 active expert `small` or `large` % faster than 8, geometric in between."""

    def f(i, e, k):
        gap = (large if at_large(i) else small) / 100
        return 1000 / (1 + gap) ** (math.log2(k) / 3)

    return f


def changed(axis_values, factors, which):
    """f that multiplies by a factor per value of the axis: which(i, e, k) is the value."""
    return lambda i, e, k: 1000 * dict(zip(axis_values, factors, strict=True))[which(i, e, k)]


def topk_change(large, small, model):
    def f(m, b, k):
        change = (large if b >= 64 else small) / 100
        return b * 100 * (1 + change) ** (math.log2(k) / 5)

    return topk(f, models=(model,))


def length_gap(gap):
    """Throughput with length 128 gap(B) % over length 2048."""
    return lengths(lambda m, b, s: 1000 * b / (1 + gap(b) / 100) ** (math.log2(s / 128) / 4))


def versus(gap):
    """Qwen gap(B) % over DeepSeek."""
    return lengths(lambda m, b, s: 1000 * b * (1 + gap(b) / 100 if m == QWEN else 1))


EXP = (8, 16, 32, 64)
CASES = {
    "ffn-halves": (
        grid(chain({8: (0.70, 0.84, 0.86)}, (0.72, 0.85, 0.87))),
        grid(chain({8: (1.20, 1.06, 1.03)}, (1.10, 1.05, 1.02))),
        grid(chain({8: (0.86, 0.84, 0.70)}, (0.87, 0.85, 0.72))),
    ),
    "ffn-converges": (
        grid(gap_of(60, 20)),
        grid(gap_of(20, 60)),
        grid(lambda i, e, k: gap_of(20, 60)(i, e, k) if e < 32 else gap_of(60, 20)(i, e, k)),
    ),
    "experts-small-ffn": (
        grid(changed(EXP, (1, 1.02, 1.05, 1.08), lambda i, e, k: e)),
        grid(changed(EXP, (1, 0.9, 0.8, 0.7), lambda i, e, k: e)),
        grid(lambda i, e, k: 1000 * (e / 8) ** (0.04 if k < 4 else -0.1)),
    ),
    "experts-large-ffn": (
        grid(changed(EXP, (1, 0.95, 0.9, 0.9), lambda i, e, k: e)),
        grid(changed(EXP, (1, 1.2, 1.44, 1.73), lambda i, e, k: e)),
        grid(changed(EXP, (1, 0.95, 0.9, 0.6), lambda i, e, k: e)),
    ),
    "active-monotone": (
        grid(lambda i, e, k: 1000 / k**0.2),
        grid(lambda i, e, k: 1000 * k**0.2),
        grid(changed((1, 2, 4, 8), (1, 0.8, 0.6, 0.7), lambda i, e, k: k)),
    ),
    "active-gap": (grid(gap_of(65, 65)), grid(gap_of(5, 5)), grid(gap_of(40, 40))),
    "active-gap-small": (grid(gap_of(25, 70)), grid(gap_of(100, 70)), grid(gap_of(33, 70))),
    "active-gap-large": (grid(gap_of(25, 70)), grid(gap_of(25, 5)), grid(gap_of(25, 55))),
    "topk-dsv2": (
        topk_change(-17, -6, DSV2),
        topk_change(-60, -40, DSV2),
        topk_change(-17, -40, DSV2),
    ),
    "topk-qwen": (
        topk_change(-15, -5, QWEN),
        topk_change(-60, -40, QWEN),
        topk_change(-15, -40, QWEN),
    ),
    "batch-scaling": (
        lengths(lambda m, b, s: 100 * b**0.9),
        lengths(lambda m, b, s: 100 * b**-0.2),
        lengths(lambda m, b, s: 100 * b**0.5),
    ),
    "length-penalty": (
        length_gap(lambda b: 1 + 25 * math.log2(b) / 7),
        length_gap(lambda b: -5 * math.log2(b)),
        length_gap(lambda b: 30 - math.log2(b)),
    ),
    "qwen-over-dsv2": (
        versus(lambda b: 25),
        versus(lambda b: -30),
        versus(lambda b: 35 if b > 16 else -5),
    ),
}


def test_every_claim_of_section_1_has_known_answers():
    assert set(CASES) == {c.id for c in sections.claims() if c.section == 1}


@pytest.mark.parametrize("claim_id", CASES)
@pytest.mark.parametrize("wanted, which", [("supported", 0), ("contradicted", 1), ("mixed", 2)])
def test_known_answers(claim_id, wanted, which):
    verdict = judge(CASES[claim_id][which], claim_id)
    assert verdict.verdict == wanted, verdict.reason
    assert verdict.scale == "source", verdict.conditions
    assert verdict.effect_lo <= verdict.effect <= verdict.effect_hi and verdict.n > 0


@pytest.mark.parametrize("claim_id", CASES)
def test_untested_where_the_sweep_is_missing_or_out_of_memory(claim_id):
    other = pd.DataFrame([row("support", DSV2, 1.0, batch=1, tokens=8)])
    verdict = judge(other, claim_id)
    assert (
        verdict.verdict == "untested"
        and "no points of the sweep" in verdict.reason
        and verdict.effect is None
    )
    table = CASES[claim_id][0].assign(status="oom", throughput_tok_s=None)
    verdict = judge(table, claim_id)
    assert (
        verdict.verdict == "untested"
        and f"none of {len(table)} points was measured" in verdict.reason
    )
    assert f"{len(table)} oom" in verdict.reason


def test_effects_are_the_planted_numbers():
    assert judge(grid(gap_of(65, 65)), "active-gap").effect == pytest.approx(65)
    assert judge(lengths(lambda m, b, s: 7 * b**0.9), "batch-scaling").effect == pytest.approx(0.9)
    assert judge(topk_change(-17, -6, DSV2), "topk-dsv2").effect == pytest.approx(-17)
    assert judge(
        length_gap(lambda b: 1 + 25 * math.log2(b) / 7), "length-penalty"
    ).effect == pytest.approx(26)
    halves = judge(grid(chain({}, (0.5, 1, 1))), "ffn-halves")
    assert (halves.effect, halves.n, halves.unit) == (pytest.approx(-50), 16, "%")
    assert (
        halves.parts[1].effect == pytest.approx(50)
        and "1792 to 3584: 50.0 %" in halves.parts[1].text
    )


def test_a_claim_over_cells_is_judged_cell_by_cell_and_tells_the_worst():
    verdict = judge(grid(gap_of(25, 70)), "active-gap")
    assert (verdict.verdict, verdict.met, verdict.n) == ("mixed", 8, 16)
    assert verdict.effect == pytest.approx(25) and "expert FFN dim" in verdict.at
    states = [cell.state for cell in verdict.parts[0].cells]
    assert states.count("met") == 8 and states.count("failed") == 8


def test_a_mean_decides_only_where_the_source_states_one():
    halves = judge(grid(chain({}, (0.5, 1, 1))), "ffn-halves").parts[0]
    assert (halves.at, halves.effect, halves.n) == ("mean of 16", pytest.approx(-50), 16)


def test_steps_are_compared_per_doubling():
    table = grid(lambda i, e, k: 1000 * i**-0.5, ffn=(1792, 3584, 14336))
    assert judge(table, "ffn-halves").parts[1].effect == pytest.approx(0, abs=1e-9)


def test_the_worst_level_is_compared_with_the_next_worst():
    table = grid(chain({1: (0.5,), 2: (0.3,), 4: (0.6,), 8: (0.4,)}, ()), ffn=(1792, 14336))
    assert judge(table, "ffn-halves").parts[2].effect == pytest.approx(-60 + 70)


def test_a_contradicted_headline_with_a_supported_part_is_mixed():
    verdict = judge(grid(chain({}, (0.3, 0.9, 0.9))), "ffn-halves")
    assert [p.verdict for p in verdict.parts][:2] == [
        "contradicted",
        "supported",
    ] and verdict.verdict == "mixed"


def test_batch_scaling_reports_the_ratio_beside_the_exponent():
    parts = {p.name: p for p in judge(lengths(lambda m, b, s: 100 * b**0.9), "batch-scaling").parts}
    assert parts["two orders of magnitude"].effect == pytest.approx(128**0.9)
    assert parts["linear"].verdict == "contradicted" and not parts["linear"].decides


def test_the_summary_of_a_results_table_gives_the_same_effect():
    for claim_id in ("ffn-halves", "active-gap"):
        summary = grid(gap_of(65, 65), oom=lambda i, e, k: e * i > 300_000)
        a, b = (
            judge(summary, claim_id),
            judge(summarize(per_repeat(summary).assign(e2e_s=1.0)), claim_id),
        )
        assert b.effect == pytest.approx(a.effect) and (a.n, a.unit) == (b.n, b.unit)


def test_missing_ends_on_the_source_scale_are_untested_with_the_reason():
    verdict = judge(grid(gap_of(65, 65), oom=lambda i, e, k: e == 64), "experts-small-ffn")
    assert verdict.verdict == "untested"
    assert "8 and 64" in verdict.reason and "8 ok" in verdict.reason and "8 oom" in verdict.reason


def test_a_part_that_cannot_be_tested_is_said_in_the_label():
    table = grid(
        changed(EXP, (1, 0.9, 0.8, 0.7), lambda i, e, k: e), oom=lambda i, e, k: e * i > 7168 * 32
    )
    verdict = judge(table, "experts-large-ffn")
    assert (verdict.verdict, verdict.label) == ("supported", "supported in part")
    assert [p.verdict for p in verdict.parts] == ["supported", "untested"]
    assert "(the sweep: 52 ok, 12 oom)" in verdict.conditions
    assert "ranges measured: 8 to 16, 8 to 32" in verdict.reason


def test_a_profile_of_another_scale_is_read_over_its_own_range():
    table = grid(
        lambda i, e, k: 1000 * (128 / i) ** 0.5,
        model="tiny-mixtral",
        ffn=(128, 256, 512),
        experts=(4, 8),
        active=(1, 2, 4),
        batch=8,
        tokens=64,
    )
    verdict = judge(table, "ffn-halves")
    assert verdict.effect == pytest.approx(-50) and verdict.n == 6
    assert verdict.scale == "own" and verdict.label.endswith("on other conditions")
    for text in (
        "expert FFN dim 128 to 512 (source 1792 to 14336)",
        "model tiny-mixtral (source Mixtral-8x7B)",
        "batch 8 (source 16)",
        "were not tested",
    ):
        assert text in verdict.conditions
    small = judge(table, "active-gap-small")
    assert small.n == 2 and "expert FFN dim 128 (source 1792, 3584)" in small.conditions


def test_stand_in_models_are_named():
    def f(m, b, k):
        return 100 * b**0.8 / k**0.05

    table = topk(
        f,
        models=("tiny-deepseek-v2", "tiny-qwen2-moe"),
        batches=(1, 4, 8),
        active=(1, 4),
        tokens=32,
    )
    verdict = judge(table, "topk-dsv2")
    assert "model tiny-deepseek-v2 (source DeepSeek-V2-Lite)" in verdict.conditions
    assert "batch 8 (source 64, 128)" in verdict.conditions and verdict.n == 1
    assert verdict.conditions.count("batch 8 (source") == 1
    scaling = judge(table, "batch-scaling")
    assert scaling.label == "supported in part on other conditions"
    assert {p.name: p.verdict for p in scaling.parts}["over 8 times"] == "untested"


def test_a_single_model_leaves_the_comparison_untested():
    verdict = judge(topk(lambda m, b, k: 100.0, models=(QWEN,)), "qwen-over-dsv2")
    assert (
        verdict.verdict == "untested"
        and "no points of DeepSeek-V2-Lite; the table has Qwen1.5" in verdict.reason
    )


def test_comparison_pairs_equal_top_k_and_published_top_k():
    def f(m, b, k):
        return 100 * b * (1.25 if m == QWEN else 1) / (1 if k == 4 else k)

    table = pd.concat([topk(f), lengths(lambda m, b, s: 100 * b * (1.25 if m == QWEN else 1))])
    verdict = judge(table, "qwen-over-dsv2")
    assert (
        verdict.effect == pytest.approx(25)
        and verdict.n == 5 * 6 + 5 * 5
        and verdict.verdict == "supported"
    )


def test_the_interval_decides_not_the_point_estimate():
    calm = grid(gap_of(78, 78))
    middle = calm["throughput_tok_s"]
    noisy = calm.assign(throughput_tok_s_lo=middle * 0.98, throughput_tok_s_hi=middle * 1.02)
    assert judge(calm, "active-gap").verdict == "supported"
    assert judge(noisy, "active-gap").verdict == "undecided"


def test_noise_of_starts_widens_the_interval():
    calm = grid(gap_of(65, 65))
    noisy = calm.assign(
        throughput_tok_s_lo=calm["throughput_tok_s"] * 0.8,
        throughput_tok_s_hi=calm["throughput_tok_s"] * 1.2,
    )
    a, b = judge(calm, "active-gap"), judge(noisy, "active-gap")
    assert a.effect == pytest.approx(b.effect)
    assert b.effect_hi - b.effect_lo > 10 * (a.effect_hi - a.effect_lo)


def test_evaluation_has_no_seed():
    table = grid(lambda i, e, k: gap_of(65, 65)(i, e, k) * (1 + (i * e) % 7 / 20 * (k == 1)))
    shuffled = table.sample(frac=1, random_state=4)
    assert judge(table, "active-gap") == judge(table, "active-gap")
    assert judge(shuffled, "active-gap").effect == judge(table, "active-gap").effect


def test_another_routing_has_a_verdict_of_its_own():
    """Prompts that all take the same experts cost by active experts what uniform ones do not."""
    table = pd.concat(
        [
            grid(gap_of(10, 10)).assign(routing="uniform"),
            grid(gap_of(65, 65)).assign(routing="same"),
        ],
        ignore_index=True,
    )
    table["key"] += table["routing"]
    verdict = judge(table, "active-gap")
    assert verdict.verdict == "contradicted" and verdict.condition.routing == "uniform"
    (same,) = verdict.regimes
    assert (same.name, same.verdict, same.effect) == ("same", "supported", pytest.approx(65))


def test_methods_are_counted_and_the_plainest_wins():
    depth = grid(gap_of(65, 65), method=lambda i, e, k: "depth" if i == 14336 else "full")
    assert "cells by method: 8 depth, 24 full" in judge(depth, "active-gap").conditions
    number = dict.fromkeys(["throughput_tok_s", "throughput_tok_s_lo", "throughput_tok_s_hi"], 1.0)
    slow = depth.assign(method="depth", key=depth["key"] + "d", **number)
    assert judge(pd.concat([slow, grid(gap_of(65, 65))]), "active-gap").effect == pytest.approx(65)


def test_other_sections_are_untested_with_a_reason():
    verdicts = claims.evaluate(grid(gap_of(65, 65)), sections.claims(), checks=False)
    assert [v.id for v in verdicts] == [c.id for c in sections.claims()] and len(
        {v.section for v in verdicts}
    ) == 9
    rest = [v for v in verdicts if v.section > 1]
    assert all(v.verdict == "untested" and v.reason for v in rest)
    assert "no points of the sweep composed or modes" in next(
        v.reason for v in rest if v.id == "tp-scales"
    )


@pytest.mark.parametrize("table", [None, pd.DataFrame()])
def test_no_results_leave_everything_untested(table):
    assert {v.verdict for v in claims.evaluate(table, sections.claims())} == {"untested"}


def test_several_devices_and_missing_columns_are_refused():
    table = grid(gap_of(65, 65))
    with pytest.raises(ValueError, match="several devices .a, b."):
        claims.evaluate(
            pd.concat([table.assign(device="a"), table.assign(device="b")]), sections.claims()
        )
    with pytest.raises(ValueError, match="top_k.* are missing"):
        claims.evaluate(table.drop(columns="top_k"), sections.claims())


def test_json():
    verdicts = claims.evaluate(grid(gap_of(65, 65)), sections.claims(), checks=False)
    data = json.loads(claims.to_json(verdicts))
    gap = next(d for d in data if d["id"] == "active-gap")
    assert gap["parts"][0]["effect"] == pytest.approx(65) and gap["label"] == "supported"
    assert next(d for d in data if d["id"] == "fp8-wins")["effect"] is None
