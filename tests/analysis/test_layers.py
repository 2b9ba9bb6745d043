"""One MoE layer against the ceilings: work and bytes by hand, rates, and the turn from reading to
computing."""

import numpy as np
import pandas as pd
import pytest

from moebook.predict.layers import COLUMNS, add_layers, turning_points, work
from moebook.predict.roofline import Ceilings

CEILINGS = Ceilings("synthetic", 4e12, 8e14, "bfloat16")
H, FFN, E, K = 2048, 1024, 64, 8


def layer(tokens=16, hit=40, seconds=1e-4, graph=None, **given) -> dict:
    """A row of a summary; `graph`: time under a captured graph."""
    out = {
        "model": "m",
        "series": "fused",
        "method": "layer",
        "status": "ok",
        "batch": tokens,
        "hidden_size": H,
        "expert_ffn_dim": FFN,
        "num_experts": E,
        "top_k": K,
        "dtype": "bfloat16",
        "quantization": None,
        "experts_hit": hit,
    }
    for name, value in (("layer_s", seconds), ("layer_graph_s", graph)):
        out |= {
            name: value,
            f"{name}_lo": value and 0.9 * value,
            f"{name}_hi": value and 1.2 * value,
        }
    return {**out, "default_layer_s": None, "default_layer_graph_s": None, **given}


def added(*rows: dict, ceilings=CEILINGS) -> pd.DataFrame:
    return add_layers(pd.DataFrame(rows), ceilings)


def test_work_by_hand():
    """16 tokens of 8 experts: three projections of 2048 x 1024; 40 experts read once; activations
    in and out."""
    flops, moved = work(layer())
    assert flops == 2 * 3 * 16 * 8 * 2048 * 1024
    assert moved == 2 * (40 * 3 * 2048 * 1024 + 16 * 2048 + 16 * 8 * (2 * 1024 + 2048))


@pytest.mark.parametrize(
    ("given", "width", "activations"),
    [
        ({"quantization": "fp8"}, 1, 2),
        ({"quantization": "int8_experts"}, 1, 2),
        ({"dtype": "float32"}, 4, 4),
        ({"quantization": "int4"}, (4 + 20 / 128) / 8, 2),
        ({"quantization": float("nan")}, 2, 2),
    ],
)
def test_a_format_narrows_the_weights_and_leaves_activations(given, width, activations):
    _, moved = work(layer(**given))
    assert moved == pytest.approx(width * 40 * 3 * H * FFN + activations * 16 * (9 * H + 16 * FFN))


def test_rates_and_floor_are_those_of_the_ceilings():
    out = added(layer(seconds=2e-4)).iloc[0]
    flops, moved = work(layer())
    assert (
        out["layer_flops"] == flops
        and out["layer_bytes"] == moved
        and out["intensity"] == flops / moved
    )
    assert out["achieved_flops_per_s"] == pytest.approx(flops / 2e-4)
    assert out["achieved_bytes_per_s"] == pytest.approx(moved / 2e-4)
    assert out["floor_layer_s"] == pytest.approx(moved / 4e12)


def test_many_tokens_are_bound_by_the_matrix_rate_which_fp8_doubles_and_weight_only_does_not():
    rows = [layer(65536, 64, 1.0, quantization=q) for q in (None, "fp8", "fp8_weight_only")]
    plain, fp8, weights = added(*rows)["floor_layer_s"]
    assert plain == weights == pytest.approx(work(rows[0])[0] / 8e14) and fp8 == pytest.approx(
        plain / 2
    )


def test_the_time_is_that_under_a_graph_where_there_is_one():
    called, captured = added(layer(seconds=3e-4), layer(seconds=3e-4, graph=1e-4)).to_dict(
        "records"
    )
    assert (called["layer_time_s"], called["layer_timing"]) == (3e-4, "calls")
    assert (captured["layer_time_s"], captured["layer_timing"]) == (1e-4, "graph")
    assert (captured["layer_time_s_lo"], captured["layer_time_s_hi"]) == pytest.approx(
        (0.9e-4, 1.2e-4)
    )
    assert captured["achieved_flops_per_s"] == pytest.approx(3 * called["achieved_flops_per_s"])


def test_the_default_configuration_is_timed_in_the_same_way():
    both = {"default_layer_s": 5e-4, "default_layer_graph_s": 2e-4}
    found = added(layer(seconds=3e-4, **both), layer(seconds=3e-4, graph=1e-4, **both), layer())[
        "default_time_s"
    ]
    assert found.tolist()[:2] == [5e-4, 2e-4] and np.isnan(found.iloc[2])


def test_other_rows_and_failed_ones_stay_null_and_nothing_else_changes():
    table = pd.DataFrame(
        [layer(), layer(status="timeout"), layer(method="sampled")], index=[7, 3, 9]
    )
    out = add_layers(table, CEILINGS)
    assert list(out.index) == [7, 3, 9] and out[list(COLUMNS)].iloc[1:].isna().all(axis=None)
    pd.testing.assert_frame_equal(out[table.columns], table)
    assert {out[c].dtype for c in COLUMNS if c != "layer_timing"} == {np.dtype("float64")}


def test_without_ceilings_there_is_a_time_and_no_floor():
    out = added(layer(), ceilings=None).iloc[0]
    assert out["layer_time_s"] == 1e-4 and out["layer_flops"] > 0 and np.isnan(out["floor_layer_s"])


def series(times: dict[int, float], name="fused", hit=None) -> list[dict]:
    return [layer(n, (hit or {}).get(n, E), s, series=name) for n, s in times.items()]


def turn(*rows: dict) -> dict:
    return turning_points(added(*rows)).set_index("series").to_dict("index")


def test_the_turn_is_where_the_flat_time_meets_the_line_of_the_largest_call():
    found = turn(*series({4096: 1e-3, 1: 2e-5, 16: 1e-4, 64: 1.1e-4}, hit={1: 8, 16: 58}))["fused"]
    assert found["plateau_s"] == 1e-4 and found["per_token_s"] == pytest.approx(1e-3 / 4096)
    assert found["turn_tokens"] == pytest.approx(409.6)


def test_points_that_hit_too_few_experts_are_no_plateau():
    found = turn(*series({16: 5e-5, 64: 1e-4, 4096: 1e-3}, hit={16: 57}))["fused"]
    assert found["plateau_s"] == 1e-4, "57 of 64 experts are under nine tenths"


def test_a_series_that_stays_flat_or_has_one_full_point_has_no_turn():
    found = turn(
        *series({64: 1e-4, 4096: 2e-4}, "flat"), *series({1: 1e-5, 64: 1e-4}, "short", {1: 8})
    )
    assert np.isnan(found["flat"]["turn_tokens"]) and found["flat"]["plateau_s"] == 1e-4
    assert np.isnan(found["short"]["turn_tokens"]) and np.isnan(found["short"]["plateau_s"])


def test_the_best_share_of_the_roof_is_the_least_time_over_floor():
    rows = series({64: 1e-4, 4096: 1e-3})
    floors = added(*rows)["floor_layer_s"]
    assert turn(*rows)["fused"]["least_over_floor"] == pytest.approx(
        min(1e-4 / floors[0], 1e-3 / floors[1])
    )


def test_failed_rows_and_runs_of_engines_do_not_enter_and_an_empty_table_has_the_columns():
    rows = [
        *series({64: 1e-4, 1024: 1e-3}),
        layer(4096, E, 9.0, status="timeout"),
        layer(4096, E, 9.0, method="full"),
    ]
    assert turn(*rows)["fused"]["per_token_s"] == pytest.approx(1e-3 / 1024)
    none = turning_points(added(layer(status="oom")))
    assert none.empty and list(none.columns)[:2] == ["model", "series"]
