"""Prose: its numbers are the planted ones, and where something was not measured it says so and
why."""

import inspect
import random
import re

import numpy as np
import pandas as pd
import pytest
import quality_tables as q
import section_tables as t

from moebook.results.commentary import (
    NOTHING,
    change,
    ends_of,
    in_order,
    measured,
    missing,
    planned,
    with_gain,
)
from moebook.sections.fused_moe import commentary as fused_moe
from moebook.sections.pruning import commentary as pruning
from moebook.sections.quantization import commentary

MODEL, OTHER = t.MODELS[:2]
OWN = {
    "quantization": q.formats(),
    "pruning": q.pruning(),
    "fused_moe": pd.concat([t.layers(), t.ladder()], ignore_index=True).assign(
        moe_config_tuned=True, graphs="pieces"
    ),
}
READINGS = [
    pytest.param(f, table, id=f"{section}-{name}")
    for section, module, table in (
        ("quantization", commentary, OWN["quantization"]),
        ("pruning", pruning, OWN["pruning"]),
        ("fused_moe", fused_moe, OWN["fused_moe"]),
    )
    for name, f in vars(module).items()
    if inspect.isfunction(f)
    and f.__module__ == module.__name__
    and not name.startswith(("_", "numbers"))
]


def run(
    sweep: str, model: str, series: str, batch: int, tokens: int, speed: float | None, **more
) -> dict:
    return t.point(sweep, model, series, batch, tokens, speed, **more)


def pair(
    gain, batches=(1, 64), other="fp8", models=(MODEL,), tokens=2048, sweep="quant_batch"
) -> pd.DataFrame:
    """bf16 and another format that is `gain(model, batch)` % faster; None: infeasible."""
    rows = []
    for m in models:
        rows += [run(sweep, m, "bf16", b, tokens, 1.0) for b in batches]
        for b in batches:
            more = gain(m, b)
            rows.append(run(sweep, m, other, b, tokens, None if more is None else 1 + more / 100))
    return pd.DataFrame(rows)


def layer(
    series: str, tokens: int, us: float | None, sweep="layer", model=MODEL, hit=64, **more
) -> dict:
    """A layer of `us` microseconds under a floor of half of that."""
    row = t.layer(sweep, model, series, tokens, 1, 1, "graph", status="ok" if us else "infeasible")
    if not us:
        return row | {"reason": "no such kernel here"}
    return row | {
        "layer_time_s": us / 1e6,
        "floor_layer_s": us / 2e6,
        "experts_hit": hit,
        "num_experts": 64,
        "relative_error": 0.004,
        "moe_config_tuned": True,
        **more,
    }


def unmeasured(table: pd.DataFrame, gone: np.ndarray) -> pd.DataFrame:
    """The table of a sweep that was ended early: rows of the mask are not run."""
    gone = gone & (table["status"] == "ok").to_numpy()
    facts = (
        "throughput",
        "ttft",
        "tpot",
        "e2e",
        "layer_",
        "weights_bytes",
        "kv_capacity",
        "perplexity",
        "relative_error",
        "achieved",
        "default_",
        "moe_config",
    )
    lost = {
        c: table[c].astype(object if table[c].dtype == bool else table[c].dtype).where(~gone)
        for c in table
        if c.startswith(facts)
    }
    return table.assign(
        **lost,
        status=table["status"].mask(gone, "not_run"),
        reason=table["reason"].astype(object).mask(gone, "not measured yet"),
    )


@pytest.mark.parametrize(("reading", "table"), READINGS)
def test_a_table_of_which_only_a_part_was_measured_is_read_without_holes(reading, table):
    for seed in range(10):
        rng = random.Random(seed)
        if seed % 2:
            gone = np.arange(len(table)) >= rng.randrange(len(table))
        else:
            share = rng.random()
            gone = np.array([rng.random() < share for _ in range(len(table))])
        text = reading(unmeasured(table, gone))
        assert not re.search(r"\bnan\b|NaT|None|<NA>", text), text
        assert not re.search(r"^\W*\.|: ?\.|: ?;|; ?\.|\(\)", text), text


@pytest.mark.parametrize(("reading", "table"), READINGS)
def test_nothing_measured_is_said_with_the_reason(reading, table):
    text = reading(unmeasured(table, np.ones(len(table), bool)))
    assert re.search(r"[Nn]othing|not measured|No perplexity", text), text


@pytest.mark.parametrize(("reading", "table"), READINGS)
def test_reading_changes_nothing(reading, table):
    before = table.copy()
    assert reading(table) == reading(table)
    pd.testing.assert_frame_equal(table, before)


def test_the_pair_names_its_gains_by_batch_and_counts_what_is_slower():
    gains = {
        (MODEL, 1): 12,
        (MODEL, 16): 30,
        (MODEL, 64): 26,
        (OTHER, 1): -9,
        (OTHER, 16): 1,
        (OTHER, 64): 41,
    }
    table = pair(lambda m, b: gains[m, b], (64, 1, 16), models=(MODEL, OTHER))
    text = commentary.over_batch(table)
    assert text.startswith("Gain of fp8 over bf16, by batch:\n\n| model | 1 | 16 | 64 |\n")
    assert f"| {MODEL} | +12 % | +30 % | +26 % |\n| {OTHER} | -9 % | +1 % | +41 % |" in text
    assert "Slower at 1 of 6 workloads measured" in text
    part = commentary.over_batch(table.query("model != @OTHER or batch != 16"))
    assert f"| {OTHER} | -9 % | – | +41 % |" in part


def test_a_pair_at_a_single_batch_is_one_number():
    text = commentary.over_batch(pair(lambda m, b: 25, (16,)))
    assert f"| model | 16 |\n| --- | --- |\n| {MODEL} | +25 % |\n\n" in text


def test_the_pair_over_lengths():
    rows = pd.concat(
        [
            pair(lambda m, b, n=n: n / 128, (64,), tokens=n, sweep="quant_length")
            for n in (128, 2048)
        ]
    )
    rows = pd.concat([rows, pair(lambda m, b: 0)])
    text = commentary.over_length(rows)
    assert "by length:\n\n| model | 128 | 2048 |" in text and f"| {MODEL} | +1 % | +16 % |" in text


def test_a_format_that_the_machine_lacks_is_named_with_its_reason():
    table = pair(lambda m, b: None).assign(
        reason=lambda x: x["reason"].where(x["status"] == "ok", "FP8 is not supported")
    )
    for text in (commentary.over_batch(table), commentary.gain(table)):
        assert text == f"{NOTHING} Not measured: fp8: infeasible (FP8 is not supported)."
    text = commentary.formats(table.assign(sweeps="formats"))
    assert "bf16" in text and text.endswith(
        " Not measured: fp8: infeasible (FP8 is not supported)."
    )


def test_formats_run_from_the_slowest_to_the_fastest():
    rows = [
        run("formats", MODEL, s, b, 512, v)
        for b in (1, 64)
        for s, v in (("bf16", 1), ("int4", 0.5), ("fp8", 1.25))
    ]
    table = pd.DataFrame(rows)
    at = table.set_index(["batch", "series"])["throughput_tok_s"]
    text = commentary.formats(table)
    for b in (1, 64):
        assert (
            f"At batch {b} throughput runs from int4 ({at[b, 'int4']:,.0f} tokens/s) to fp8 "
            f"({at[b, 'fp8']:,.0f}, +150 %)." in text
        )
    assert commentary.formats(table[table["batch"] == 64]).count("At batch") == 1


def test_prefill_and_decoding_are_told_apart():
    table = pair(lambda m, b: 0)
    own = table["series"] == "fp8"
    table.loc[own, "ttft_s"] /= np.array([1.5, 1.9])
    table.loc[own, "tpot_s"] /= np.array([1.1, 1.3])
    text = commentary.gain(table)
    assert "over 2 workloads" in text and "+50 % to +90 % (median +70 %) faster" in text
    assert "+10 % to +30 % (median +20 %) faster" in text


def test_memory_names_the_least_the_most_and_the_roomiest():
    rows = [
        run("formats", MODEL, s, 1, 512, 1.0, weights_bytes=w, kv_capacity_tokens=k)
        for s, w, k in (
            ("bf16", 93_400 * 10**6, 300_000),
            ("int4", 26_100 * 10**6, 900_001),
            ("fp8", 47 * 10**9, 7),
        )
    ]
    text = commentary.memory(
        pd.DataFrame(rows).astype({"weights_bytes": "Int64", "kv_capacity_tokens": "Int64"})
    )
    assert "from 26.1 GB (int4) to 93.4 GB (bf16)" in text
    assert (
        "int4 leaves most room: 900,001 tokens of KV cache, or 878 sequences of 1,024 tokens"
        in text
    )


def test_perplexities_or_what_they_lack():
    table = t.quality(t.quantization())
    text = commentary.quality(table)
    for name, value, more in (("bf16", "6.000", "–"), ("fp16", "6.020", "+0.33 %")):
        assert f"| {name} | {value} | {more} |" in text
    assert text.endswith("Not measured: int8 experts: infeasible (dummy weights have no quality).")
    gone = commentary.quality(t.quality(t.quantization(), measured=False))
    assert gone == "No perplexity: dummy weights have no quality."


def test_formats_lose_against_the_first_by_ratio_and_a_small_model_is_called_small():
    table = q.formats({"bf16": 0.0, "fp16": -0.02, "fp8": 0.61, "int4 weights": None})
    text = commentary.quality(table)
    assert text.startswith(
        "| format | perplexity | over bf16 | easiest to hardest part of the text |"
    )
    for row in (
        "| bf16 | 6.000 | – | – |",
        "| fp16 | 5.999 | -0.02 % | -0.02 to +0.08 |",
        "| fp8 | 6.037 | +0.61 % | +0.61 to +0.71 |",
    ):
        assert row in text
    assert "Not measured: int4 weights: failed (synthetic failure)." in text
    text = commentary.quality_and_speed(table)
    assert "Perplexity grows most with fp8, by +0.61 % over bf16." in text
    assert "one small model trained for minutes" in text
    assert "small model" not in commentary.quality_and_speed(t.quality(t.quantization()))
    lost = commentary.quality(q.formats({"bf16": None, "fp8": 0.61}))
    assert "| fp8 | 6.037 | – | – |" in lost
    lost = commentary.quality_and_speed(q.formats({"bf16": None, "fp8": 0.61}))
    assert lost == f"{NOTHING} No format can be compared with bf16."


def test_the_criterion_that_loses_least_stands_out_among_the_others():
    text = pruning.quality(q.pruning())
    assert (
        "The whole model has a perplexity of 6.00" in text
        and "One small model trained for minutes" in text
    )
    heads = "| series | random choice | weight norm | activation frequency | routed activation |"
    assert heads in text
    assert "| intra 50 % | +148.0 % | +38.0 % | +57.0 % | **+33.0 %** |" in text
    for duel in (
        "weight norm loses less than random choice in 4 of 4",
        "activation frequency loses less than weight norm in 2 of 4",
    ):
        assert duel in text


def test_criteria_without_a_number_are_told_with_their_reason():
    text = pruning.quality(
        q.pruning(increases={**q.INCREASES, ("intra", 25): (33.0, None, 12.0, -5.0)})
    )
    assert "Without a number: intra 25 % by weight norm: failed (synthetic failure)." in text
    assert (
        "activation frequency loses less than weight norm in 2 of 3" in text
        and "| intra 25 % | +33.0 % | – | +12.0 % | **-5.0 %** |" in text
    )
    assert pruning.quality(t.pruning()) == "Not part of this plan: sweep `quality`."
    whole = q.pruning()
    gone = (whole["series"] == "baseline") & (whole["sweeps"] == "quality")
    lost = pruning.quality(unmeasured(whole, gone.to_numpy()))
    assert (
        lost
        == "No perplexity of a pruned model. Without a number: 16 of 16 pruned models: not_run "
        "(not measured yet)."
    )


def test_the_finding_of_section_2_has_range_place_and_means():
    gains = {(MODEL, 1): -10, (MODEL, 64): 30, (OTHER, 1): 20, (OTHER, 64): 60}
    text = commentary.headline(pair(lambda m, b: gains[m, b], models=(MODEL, OTHER)))
    assert text.startswith("**Finding.** fp8 changes throughput over bf16 by -10 % to +60 %")
    assert f"({OTHER}, batch 64)" in text and f"{MODEL} +10 %, {OTHER} +40 %" in text


def pruned(gains: dict, top_k=(1, 4), **more) -> pd.DataFrame:
    rows = [run("pruning", MODEL, "baseline", 16, 2048, 1.0, top_k=k, **more) for k in top_k]
    rows += [
        run("pruning", MODEL, s, 16, 2048, None if g is None else 1 + g / 100, top_k=k, **more)
        for s, by_k in gains.items()
        for k, g in zip(top_k, by_k, strict=True)
    ]
    return pd.DataFrame(rows)


PRUNED = {
    "inter 25 %": (-4, 6),
    "intra 25 %": (2, 4),
    "inter 50 %": (10, 20),
    "intra 50 %": (30, 34),
}


def test_pruning_has_the_mean_and_range_of_each_series():
    text = pruning.gain_by_ratio(pruned(PRUNED))
    assert f"| series | {MODEL} |" in text and "| inter 25 % | +1.0 % (-4.0 to +6.0) |" in text
    assert "| intra 50 % | +32.0 % (+30.0 to +34.0) |" in text
    text = pruning.gain(pruned(PRUNED))
    assert "1 of 8 pruned points are slower" in text
    assert f"by intra 50 % on {MODEL} with 4 active: +34.0 %." in text


def test_the_finding_of_section_3_is_of_the_largest_ratio():
    text = pruning.headline(pruned(PRUNED))
    assert (
        "Pruning 50 % changes throughput by inter-expert +15.0 %, intra-expert +32.0 % on average"
        in text
    )
    assert text.endswith("smaller ratios between -4.0 and +6.0 %.")
    assert "smaller" not in pruning.headline(pruned({"inter 50 %": (10, 20)}))


def test_the_whole_model_over_active_experts_and_what_cannot_be():
    table = pruned({**PRUNED, "inter 87.5 %": (None, None)})
    base = table[table["series"] == "baseline"].set_index("top_k")["throughput_tok_s"]
    text = pruning.over_active(table)
    assert f"{base[1]:,.0f} tokens/s with 1 active, {base[4]:,.0f} with 4" in text
    assert "2 points have no number: synthetic infeasible." in text


def test_steps_over_their_roofline_bound_are_medians_or_the_lack_of_peaks():
    table = pruned({"inter 50 %": (0, 0)})
    table.loc[table["series"] == "inter 50 %", "floor_tpot_s"] = table["tpot_s"] / 3
    text = pruning.over_floor(table)
    assert "| baseline | 2.00 |\n| inter 50 % | 3.00 |" in text
    assert "peaks were not measured" in pruning.over_floor(t.floorless(table))


def test_layer_times_at_the_ends_and_their_errors():
    rows = [
        layer("expert loop", 1, 500),
        layer("expert loop", 4096, 9000, relative_error=0.0123),
        layer("expert loop", 1, 700, model=OTHER),
        layer("expert loop", 4096, 12345, model=OTHER),
        layer("fused Triton", 1, 40),
        layer("CUTLASS", 1, None),
    ]
    text = fused_moe.layer_time(pd.DataFrame(rows))
    assert "| expert loop | 500–700 µs for 1 | 9,000–12,345 µs for 4,096 | 1.2e-02 |" in text
    assert "| fused Triton | 40–40 µs for 1 |" in text
    assert "Not measured: CUTLASS: infeasible (no such kernel here)." in text


def test_how_many_times_the_others_take():
    rows = [
        layer(s, n, us)
        for n, loop in ((1, 20), (64, 30), (1024, 12))
        for s, us in (("expert loop", 10 * loop), ("fused Triton", 10))
    ]
    text = fused_moe.layer_slowdown(pd.DataFrame(rows))
    assert text.startswith("How many times as long as fused Triton")
    assert "| expert loop | 20.0 for 1 | 30.0 for 64 | 12.0 for 1,024 |" in text
    one = fused_moe.layer_slowdown(pd.DataFrame(rows[:2]))
    assert "| expert loop | 20.0 for 1 | 20.0 for 1 | 20.0 for 1 |" in one
    for alone in ("fused Triton", "expert loop"):
        assert fused_moe.layer_slowdown(pd.DataFrame(rows).query(f"series == {alone!r}")) == NOTHING


def test_the_roofline_has_the_share_of_the_roof_and_the_turn():
    rows = [layer("fused Triton", n, us) for n, us in ((64, 100), (4096, 1000))]
    rows += [
        layer("grouped GEMM", n, us, floor_layer_s=us / 4e6) for n, us in ((64, 100), (4096, 150))
    ]
    text = fused_moe.roofline(pd.DataFrame(rows))
    assert "| fused Triton | 50 to 50 % | 410 to 410 | 1 of 1 | graph |" in text
    assert "| grouped GEMM | 25 to 25 % | – to – | 0 of 1 | graph |" in text
    assert fused_moe.roofline(pd.DataFrame(rows).assign(floor_layer_s=np.nan)) == NOTHING


def test_quantized_layers_are_held_against_the_plain_kernel():
    plain = [layer("fused Triton", n, 100, model=m) for n in (1, 64) for m in (MODEL, OTHER)]
    rows = [layer("Marlin, fp8", n, us, "layer_quantized") for n, us in ((1, 40), (64, 125))]
    rows += [layer("CUTLASS, fp8", n, None, "layer_quantized") for n in (1, 64)]
    text = fused_moe.layer_quantized(pd.DataFrame(plain + rows))
    assert "as fast as fused Triton in bfloat16" in text
    assert "| Marlin, fp8 | 0.80 | 2.50 | 1.65 |" in text
    assert text.endswith("Not measured: CUTLASS, fp8: infeasible (no such kernel here).")


def test_tuning_names_the_shapes_without_a_configuration_and_what_it_saved():
    tuned = {"default_time_s": 1e-4, "configs_tried": 40}
    rows = [
        layer("expert loop", 1, 9, moe_config_tuned=None),
        layer("fused Triton", 1, 9),
        layer("fused Triton", 1, 9, model=OTHER, moe_config_tuned=False),
        layer("fused Triton, tuned here", 16, 75, "layer_tuned", **tuned),
    ]
    table = pd.DataFrame(rows).astype({"moe_config_tuned": "boolean", "configs_tried": "Int64"})
    text = fused_moe.tuning(table)
    assert f"Of 2 shapes the engine has no tuned configuration on this device for {OTHER}. " in text
    assert f"Tuning {MODEL} saves 25 % of the time at 16 tokens (40 tried)." in text
    assert fused_moe.tuning(table.query("sweeps == 'layer'")).endswith(
        "Not part of this plan: sweep `layer_tuned`."
    )


def engines(**speeds) -> pd.DataFrame:
    """Throughput at batch 1 and 64 by variant; those with graphs decode under `pieces`."""
    names = {"no_graphs": "fused, no graphs", "grouped": "grouped GEMM", "loop": "expert loop"}
    eager = ("no_graphs", "loop")
    return pd.DataFrame(
        [
            run("ladder_batch", MODEL, names.get(s, s), b, 512, v[i])
            | {"graphs": "eager" if s in eager else "pieces"}
            for s, v in speeds.items()
            for i, b in enumerate((1, 64))
        ]
    )


def test_engines_are_compared_with_their_like():
    table = engines(fused=(4, 4), no_graphs=(2, 3), grouped=(2, 1), loop=(1, 1))
    text = fused_moe.over_batch(table)
    for line in (
        "| fused over fused, no graphs | +100 % at 1 | +33 % at 64 | +67 % | pieces, eager |",
        "| fused over grouped GEMM | +100 % at 1 | +300 % at 64 | +200 % | pieces, pieces |",
        "| fused, no graphs over expert loop | +100 % at 1 | +200 % at 64 | +150 % | eager, ",
    ):
        assert line in text
    other = fused_moe.over_batch(engines(fused=(4, 4), loop=(1, 2)))
    assert (
        "| fused over expert loop | +300 % at 1 | +100 % at 64 | +200 % | pieces, eager |" in other
    )


def test_the_finding_of_section_6_says_what_the_others_lose():
    text = fused_moe.headline(engines(fused=(4, 4), no_graphs=(2, 4), grouped=(3, 2), loop=(1, 1)))
    assert "an eager loop over experts loses 50 to 75 %" in text and "graphs" not in text
    assert "grouped GEMMs 25 to 50 %" in text
    assert "fused under pieces graphs" in fused_moe.headline(engines(fused=(4, 4), loop=(1, 2)))
    gone = fused_moe.headline(engines(fused=(4, 4), grouped=(1, 1)))
    assert gone.startswith("The variants of whole engines are not measured.")


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(1.25, "+25 %"), (0.5, "-50 %"), (1.0, "+0 %"), (0.999, "+0 %"), (2.999, "+200 %")],
)
def test_a_ratio_as_a_change(ratio, text):
    assert change(ratio) == text


def test_ends_have_no_negative_zero():
    rows = pd.DataFrame({"series": ["a", "b"], "gain_pct": [-0.2, 5.0]})
    assert ends_of(rows, "gain_pct", "Gain:") == "Gain: +0 % (a) to +5 % (b). "


def test_what_is_missing_is_told_once_per_series_and_only_where_no_point_was_measured():
    rows = [
        run("a,b", MODEL, "x", 1, 8, 1.0),
        run("a", MODEL, "x", 4, 8, 1.0, status="oom"),
        run("a", MODEL, "y", 1, 8, None),
        run("a", MODEL, "y", 4, 8, None),
        run("a", MODEL, "v", 1, 8, None),
        run("a", MODEL, "w", 1, 8, None, status="not_run"),
        run("ab", MODEL, "z", 1, 8, None),
    ]
    table = pd.DataFrame(rows)
    assert missing(table, "a") == (
        " Not measured: y, v: infeasible (synthetic infeasible); w (synthetic not_run)."
    )
    assert (
        missing(table, "b") == ""
        and len(measured(table, "a")) == 1
        and len(planned(table, "a")) == 6
    )
    assert in_order(table) == ["x", "y", "v", "w", "z"]
    assert len(with_gain(table.assign(gain_pct=[1, 2, 3, np.nan, 5, 6, 7]))) == 1
