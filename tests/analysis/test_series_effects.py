"""Effects between named series: planted throughputs give their gains, shares and slopes back."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
from analysis_tables import MIXTRAL, QWEN, row

from moebook.results.cells import Cells, Untested
from moebook.results.gains import (
    series_gain,
    series_gain_slope,
    series_gain_steps,
    series_pairs,
    versus,
)

QUANTIZED = {"bf16": None, "fp8": "fp8", "int4 weights": "int4"}
BATCHES = (1, 2, 4, 8)
FP8 = partial(series_pairs, series="fp8", over="bf16")
RUNG = {
    "fused": ("light", None),
    "fused, no graphs": ("eager", None),
    "expert loop": ("eager", "loop"),
}


def formats(
    gain, series=("bf16", "fp8"), batches=BATCHES, lengths=(128,), models=(MIXTRAL,), gone=None
) -> pd.DataFrame:
    """Throughput of bf16 is 1000 B; that of another series `gain(series, B, S, model)` % more.
    gone: series -> reason."""
    rows = []
    for m in models:
        for name in series:
            for b in batches:
                for s in lengths:
                    more = 0 if name == "bf16" else gain(name, b, s, m)
                    lost = {"status": "infeasible"} if name in (gone or {}) else {}
                    rows.append(
                        row(
                            "quant",
                            m,
                            1000.0 * b * (1 + more / 100),
                            batch=b,
                            tokens=s,
                            series=name,
                            **lost,
                        )
                    )
                    rows[-1] |= {
                        "quantization": QUANTIZED[name],
                        "key": f"{rows[-1]['key']}/{name}",
                    }
                    if lost:
                        rows[-1]["reason"] = gone[name]
    return pd.DataFrame(rows)


def ladder(speeds: dict, batches=BATCHES) -> pd.DataFrame:
    rows = []
    for name, speed in speeds.items():
        graphs, backend = RUNG[name]
        rows += [
            row(
                "ladder",
                MIXTRAL,
                100.0 * b * speed,
                batch=b,
                tokens=512,
                series=name,
                graphs=graphs,
                asked_moe_backend=backend,
            )
            for b in batches
        ]
        for r in rows[-len(batches) :]:
            r["key"] += f"/{name}"
    return pd.DataFrame(rows)


def cells(table: pd.DataFrame) -> Cells:
    return Cells.of(table, "quant|ladder|pruning")


def test_a_gain_is_told_of_each_workload():
    found = series_gain(cells(formats(lambda n, b, s, m: 10 * b)), "fp8", "bf16")
    assert found.values == pytest.approx([10 * b for b in BATCHES]) and found.unit == "%"
    assert [item.label for item in found.items] == [f"batch {b}" for b in BATCHES]
    assert len(found.used) == 8 and found.differs == ()
    assert found.text == "fp8 over bf16, from +10.0 to +80.0 %"


def test_pairs_are_equal_in_model_batch_and_length():
    table = formats(
        lambda n, b, s, m: b + s / 128 + (50 if m == QWEN else 0),
        lengths=(128, 256),
        models=(MIXTRAL, QWEN),
    )
    found = versus(cells(table.sample(frac=1, random_state=3)), "fp8", "bf16")
    mine, base = (found.cells.ok.iloc[i] for i in (found.low, found.high))
    assert (
        len(found.low) == 16 and set(mine["series"]) == {"fp8"} and set(base["series"]) == {"bf16"}
    )
    for column in ("model", "top_k", "batch", "input_tokens", "output_tokens"):
        assert (mine[column].to_numpy() == base[column].to_numpy()).all()
    wanted = [
        b + s / 128 + (50 if m == QWEN else 0)
        for m, b, s in mine[["model", "batch", "input_tokens"]].to_numpy()
    ]
    np.testing.assert_allclose(100 * (found.ratio() - 1), wanted)


def test_least_and_largest_of_the_pairs():
    table = cells(formats(lambda n, b, s, m: {1: -7, 2: 3, 4: 5, 8: 11}[b]))
    found = series_gain(table, "fp8", "bf16")
    assert found.only("min").values == pytest.approx([-7]) and found.only("min").selected == 4
    assert found.only("max").items[0].label == "batch 8"


def test_a_gain_is_split_by_an_axis_in_the_text():
    table = cells(formats(lambda n, b, s, m: 10 if s == 128 else 30, lengths=(128, 256)))
    assert series_gain(table, "fp8", "bf16", by="length").text.endswith(
        "; by input = output tokens: 128: +10.0 %, 256: +30.0 %"
    )


def test_several_series_are_pooled():
    table = cells(
        formats(
            lambda n, b, s, m: {"fp8": 20, "int4 weights": -10}[n], ("bf16", "fp8", "int4 weights")
        )
    )
    assert sorted(series_gain(table, ["fp8", "int4 weights"], "bf16").values) == pytest.approx(
        [-10] * 4 + [20] * 4
    )
    assert series_gain(table, "fp8", "int4 weights").values == pytest.approx(
        [100 * (1.2 / 0.9 - 1)] * 4
    )


def test_narrowed_to_a_model_and_a_batch():
    table = cells(formats(lambda n, b, s, m: b + (50 if m == QWEN else 0), models=(MIXTRAL, QWEN)))
    one = series_gain(
        table,
        "fp8",
        "bf16",
        where={"batch": {"values": [8], "side": "largest"}},
        model="Qwen",
        like="qwen",
    )
    assert one.values == pytest.approx([58]) and one.differs == ()
    other = series_gain(
        table,
        "fp8",
        "bf16",
        where={"batch": {"values": [64], "side": "largest"}},
        model="Mixtral-8x7B",
    )
    assert other.values == pytest.approx([4, 8]) and other.differs == ("batch 4, 8 (source 64)",)


def test_a_slope_is_in_points_per_doubling():
    growing = cells(
        formats(lambda n, b, s, m: 5 + 4 * np.log2(b) + (30 if s == 256 else 0), lengths=(128, 256))
    )
    found = series_gain_slope(growing, FP8, "batch")
    assert found.values == pytest.approx([4, 4]) and found.unit == "points per doubling of batch"
    over_length = series_gain_slope(growing, FP8, "length")
    assert over_length.values == pytest.approx([30] * 4)


def test_a_gain_that_rises_and_falls_grows_at_some_of_its_steps():
    table = formats(
        lambda n, b, s, m: {1: 30, 2: 60, 4: 55, 8: 50}[b] + (1000 / b if s == 256 else 0),
        lengths=(128, 256),
    )
    found = series_gain_steps(cells(table.sample(frac=1, random_state=1)), FP8, "batch")
    assert (found.values > 0).sum() == 1 and len(found.items) == 6 and found.unit == "points"
    assert found.text.endswith("grows at 1 of 6 steps of batch")
    assert series_gain_slope(cells(table.query("input_tokens == 128")), FP8, "batch").values > 0


@pytest.mark.parametrize("function", [series_gain_slope, series_gain_steps])
def test_growth_needs_two_values_with_all_else_equal(function):
    with pytest.raises(Untested, match="two values of batch"):
        function(cells(formats(lambda n, b, s, m: 1, batches=(4,))), FP8, "batch")


def test_a_stand_in_is_taken_where_the_series_is_missing_and_named():
    instead = {"fused, no graphs": ["fused"]}
    whole = cells(ladder({"fused": 4, "fused, no graphs": 3, "expert loop": 1}))
    own = series_gain(whole, "fused, no graphs", "expert loop", instead=instead)
    assert own.values == pytest.approx([200] * 4) and own.differs == ()
    part = cells(ladder({"fused": 4, "expert loop": 1}))
    other = series_gain(part, "fused, no graphs", "expert loop", instead=instead)
    assert other.values == pytest.approx([300] * 4)
    assert other.differs == ("series fused in place of fused, no graphs",)
    with pytest.raises(
        Untested,
        match="no measured points of fused, no graphs; series measured: expert loop, fused",
    ):
        series_gain(part, "fused, no graphs", "expert loop")


def test_pruned_shapes_pair_with_the_whole_model_at_equal_top_k():
    rows = []
    for name, experts, gain in (("baseline", 8, 0), ("inter 50 %", 4, 20)):
        rows += [
            row(
                "pruning",
                MIXTRAL,
                1000 / k * (1 + gain * k / 100),
                batch=16,
                tokens=64,
                experts=experts,
                active=k,
                series=name,
            )
            for k in (1, 2, 4)
        ]
    found = series_gain(cells(pd.DataFrame(rows)), "inter 50 %", "baseline", by="top_k")
    assert found.values == pytest.approx([20, 40, 80])
    assert "by active experts: 1: +20.0 %, 2: +40.0 %, 4: +80.0 %" in found.text


def test_what_was_not_measured_is_untested_with_the_engines_reason():
    table = cells(formats(lambda n, b, s, m: 1, gone={"fp8": "FP8 is not supported on this CPU"}))
    for function in (series_gain, series_pairs):
        with pytest.raises(
            Untested, match=r"no measured points of fp8 \(FP8 is not supported on this CPU\)"
        ):
            function(table, "fp8", "bf16")
        with pytest.raises(
            Untested, match="no measured points of int4 weights; series measured: bf16"
        ):
            function(table, "int4 weights", "bf16")


def test_series_without_a_common_workload_are_untested():
    table = pd.concat(
        [
            formats(lambda n, b, s, m: 1, ("bf16",), (1, 2)),
            formats(lambda n, b, s, m: 1, ("fp8",), (4, 8)),
        ]
    )
    with pytest.raises(Untested, match="no workload at which both fp8 and bf16 were measured"):
        series_gain(cells(table), "fp8", "bf16")


def width(item) -> float:
    return float(np.diff(item.ends())[0])


def test_a_wider_interval_of_cells_is_one_of_gains():
    calm = formats(lambda n, b, s, m: 20)
    speed = calm["throughput_tok_s"]
    noisy = calm.assign(throughput_tok_s_lo=0.8 * speed, throughput_tok_s_hi=1.2 * speed)
    a, b = (series_gain(cells(t), "fp8", "bf16") for t in (calm, noisy))
    assert a.values == pytest.approx(b.values) and width(b.items[0]) > 10 * width(a.items[0])


def test_an_effect_over_part_of_the_planned_workloads_says_so():
    table = formats(lambda n, b, s, m: 10)
    assert series_gain(cells(table), "fp8", "bf16").whole
    lost = (table["series"] == "fp8") & (table["batch"] == 8)
    table.loc[lost, ["status", "reason"]] = ["not_run", "not measured yet"]
    found = series_gain(cells(table), "fp8", "bf16")
    assert not found.whole and "at 3 of 4 planned workloads" in found.text
