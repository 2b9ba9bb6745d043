"""Perplexities joined: criteria from names, increases over one series, gains of other models beside
them."""

import numpy as np
import pandas as pd
import pytest

from moebook.results.gains import increases
from moebook.sections.pruning.pruned import perplexities, with_ratio, with_speed

TARGET = "tiny:gpu/aux-0.01"


def row(series: str, weights: str, perplexity: float | None, **more) -> dict:
    ok = perplexity is not None
    ends = {
        f"perplexity{end}": perplexity * f if ok else None
        for end, f in (("", 1), ("_lo", 0.5), ("_hi", 2))
    }
    return {
        "sweeps": "quality",
        "model": "tiny",
        "series": series,
        "weights": weights,
        "method": "perplexity",
        "status": "ok" if ok else "failed",
        "reason": None if ok else "died",
        **ends,
        **more,
    }


def table(*rows: dict, whole: float | None = 8.0) -> pd.DataFrame:
    return pd.DataFrame([row("baseline", TARGET, whole), *rows])


CUT = (
    row("inter 50 %", f"{TARGET}/inter-50-norm", 10.0),
    row("inter 50 %", f"{TARGET}/inter-50-frequency", 9.0),
    row("intra 12.5 %", f"{TARGET}/intra-12.5-routed_activation", None),
)


@pytest.mark.parametrize(
    ("weights", "criterion"),
    [
        (TARGET, None),
        ("dummy", None),
        (None, None),
        (float("nan"), None),
        ("/models/inter-50-norm", None),
        (f"{TARGET}/inter-50-norm", "norm"),
        ("tiny:cpu/no-balance/intra-12.5-routed_activation", "routed_activation"),
        (f"{TARGET}/intra-50-random", "random"),
        (f"{TARGET}/outer-50-norm", None),
    ],
)
def test_the_criterion_is_read_from_the_name_of_the_weights(weights, criterion):
    found = perplexities(table(row("inter 50 %", weights, 9.0)))["criterion"]
    assert found.iloc[1] == criterion if criterion else found.isna().all()


def test_a_series_holds_the_kind_and_ratio_of_pruning_or_neither():
    names = ["inter 12.5 %", "baseline", "intra 50 %", "fp8 + fp8 KV", None]
    found = with_ratio(pd.DataFrame({"series": names}))
    assert found.loc[[0, 2], ["kind", "ratio_pct"]].values.tolist() == [
        ["inter", 12.5],
        ["intra", 50.0],
    ]
    assert found.loc[[1, 3, 4], ["kind", "ratio_pct"]].isna().all(axis=None)


def test_rows_that_share_model_and_series_are_told_apart_and_compared_with_the_whole():
    found = perplexities(table(*CUT))
    assert found[["kind", "ratio_pct", "criterion"]].iloc[1:].values.tolist() == [
        ["inter", 50.0, "norm"],
        ["inter", 50.0, "frequency"],
        ["intra", 12.5, "routed_activation"],
    ]
    assert found["increase_pct"].iloc[:3].tolist() == pytest.approx([0.0, 25.0, 12.5])
    assert found.iloc[0][["kind", "ratio_pct", "criterion"]].isna().all()
    assert np.isnan(found["increase_pct"].iloc[3]) and found["reason"].iloc[3] == "died"


def test_parts_of_the_text_are_compared_with_the_same_part():
    harder = {"perplexity_lo": 4.4, "perplexity_hi": 24.0}  # of 4 and 16
    found = perplexities(table(row("inter 50 %", f"{TARGET}/inter-50-norm", 10.0) | harder)).iloc[1]
    assert (found["increase_pct_lo"], found["increase_pct_hi"]) == pytest.approx((10.0, 50.0))
    same = perplexities(table(CUT[0])).iloc[
        1
    ]  # a wide range of parts alone is no range of the ratio
    assert same["increase_pct_lo"] == same["increase_pct_hi"] == pytest.approx(25.0)


def test_without_the_whole_model_nothing_is_compared():
    found = perplexities(table(*CUT, whole=None))
    assert (
        found["increase_pct"].isna().all()
        and set(found["status"]) == {"failed"}
        and set(found["reason"]) == {"died"}
    )
    with pytest.raises(
        ValueError,
        match="'bf16' needs that series once in sweep 'quality', which has it 0 times; .* inter",
    ):
        increases(table(*CUT), over="bf16")
    with pytest.raises(ValueError, match="has it 2 times"):
        perplexities(table(*CUT, row("baseline", TARGET, 8.0)))
    assert perplexities(table(*CUT).assign(sweeps="pruning")).empty


def test_formats_are_compared_with_the_first():
    rows = pd.DataFrame(
        [row("bf16", TARGET, 8.0), row("fp8", TARGET, 8.08), row("int4 weights", TARGET, None)]
    )
    found = increases(rows, over="bf16")
    assert found["increase_pct"].iloc[:2].tolist() == pytest.approx([0.0, 1.0])
    assert found["status"].tolist() == ["ok", "ok", "failed"]


def test_gains_stand_beside_once_per_model_and_null_where_there_is_none():
    gains = pd.DataFrame(
        [
            {
                "model": m,
                "series": s,
                "method": "full",
                "status": "ok",
                "reason": None,
                "gain_pct": g,
            }
            for m, s, g in (
                ("A", "inter 50 %", 10.0),
                ("A", "inter 50 %", 20.0),
                ("B", "inter 50 %", -4.0),
                ("B", "intra 12.5 %", 3.0),
            )
        ]
    )
    found = with_speed(perplexities(table(*CUT)), gains).set_index(["speed_model", "criterion"])
    assert len(found) == 6 and set(found["model"]) == {"tiny"}
    assert found.loc[
        ("A", "norm"), ["gain_pct", "gain_pct_lo", "gain_pct_hi", "n_places"]
    ].tolist() == [15.0, 10.0, 20.0, 2]
    assert (
        found.loc[("B", "frequency"), "gain_pct"] == -4.0
        and found.loc[("B", "frequency"), "increase_pct"] == 12.5
    )
    assert np.isnan(found.loc[("A", "routed_activation"), "gain_pct"])
    assert found.loc[("B", "routed_activation"), "gain_pct"] == 3.0
