"""Formulas of speculative decoding against a second way to get them, and tables that give their
planted costs back."""

import numpy as np
import pandas as pd
import pytest
import speculation_tables as t

from moebook.models.costs import distinct_experts
from moebook.predict import speculation as s


@pytest.mark.parametrize(("a", "k"), [(0.0, 3), (0.3, 1), (0.7, 4), (0.95, 8), (1.0, 5), (0.5, 0)])
def test_expected_tokens_are_those_of_a_simulated_acceptance(a, k):
    rng = np.random.default_rng(0)
    accepted = rng.random((40_000, k)) < a
    assert s.expected_tokens(a, k) == pytest.approx(
        1 + np.cumprod(accepted, axis=1).sum(1).mean(), rel=0.02
    )
    if a < 1:
        assert s.expected_tokens(a, k) == pytest.approx((1 - a ** (k + 1)) / (1 - a))
    else:
        assert s.expected_tokens(a, k) == k + 1


@pytest.mark.parametrize(("a", "k"), [(-0.1, 2), (1.1, 2), (float("nan"), 2), (0.5, -1)])
def test_impossible_acceptances_are_refused(a, k):
    with pytest.raises(ValueError, match="acceptance lies between 0 and 1"):
        s.expected_tokens(a, k)


def test_rates_given_the_positions_before():
    assert s.conditional_rates([0.8, 0.4, 0.1]) == pytest.approx([0.8, 0.5, 0.25])
    after = s.conditional_rates([0.5, 0.0, 0.0])
    assert after[:2] == [0.5, 0.0] and np.isnan(after[2])
    for bad in ([0.5, 0.6], [1.2], [-0.1]):
        with pytest.raises(ValueError, match="none exceeds the one before"):
            s.conditional_rates(bad)


def test_the_fitted_acceptance_yields_as_many_tokens():
    assert s.fitted_acceptance([0.7**i for i in (1, 2, 3)]) == pytest.approx(0.7)
    shares = [0.8, 0.4, 0.3]
    assert s.expected_tokens(s.fitted_acceptance(shares), 3) == pytest.approx(1 + sum(shares))
    assert s.fitted_acceptance([0, 0]) == 0 and s.fitted_acceptance([1, 1]) == 1


def test_speed_up_is_one_at_break_even():
    even, why = s.break_even(2.3, 4)
    assert why is None and s.speedup(2.3, even, 4) == pytest.approx(1)
    assert s.break_even(0.9, 4) == (0.0, None) and s.break_even(3.0, 2) == (
        pytest.approx(1.0),
        None,
    )
    gone, why = s.break_even(3.2, 2)
    assert gone is None and why == "a step costs 3.20 plain ones and yields 3 tokens at most"
    with pytest.raises(ValueError, match="a step takes time"):
        s.speedup(0.0, 0.5, 2)


def test_planted_costs_come_back_at_every_place():
    found = s.cost_ratio(t.cost().sample(frac=1, random_state=1))
    wanted = [
        t.step_ratio(t.DRAFTS[d], int(k), b)
        for d, k, b in zip(found["draft"], found["draft_tokens"], found["batch"], strict=True)
    ]
    np.testing.assert_allclose(found["cost_ratio"].astype(float), wanted)
    np.testing.assert_allclose(
        found["cost_ratio_lo"].astype(float), np.array(wanted) * t.SPREAD[0] / t.SPREAD[1]
    )
    assert (found["acceptance"] == 0.7).all() and len(found) == 4 * (3 + 7)


def test_own_acceptance_is_fitted_where_none_was_set():
    found = s.cost_ratio(t.cpu())
    assert found.loc[found["draft"] == "tiny-draft-large", "acceptance"].unique() == pytest.approx(
        0.35
    )


def test_a_draft_that_does_not_fit_keeps_its_reason_and_no_baseline_is_an_error():
    table = t.cost(gone=("Qwen3-8B",))
    lost = s.cost_ratio(table).query("draft == 'Qwen3-8B'")
    assert set(lost["status"]) == {"oom"} and set(lost["reason"]) == {"synthetic: does not fit"}
    assert "Qwen3-8B" not in set(s.measured_ratio(table)["draft"])
    with pytest.raises(ValueError, match="need that series"):
        s.cost_ratio(table[table["series"] != s.PLAIN])
    assert s.measured_ratio(table[table["series"] != s.PLAIN]).empty
    no_plain = table.assign(status=table["status"].mask(table["series"] == s.PLAIN, "failed"))
    assert s.measured_ratio(no_plain).empty


def test_composition_is_the_formula_at_every_acceptance():
    found = s.compose(t.cost(), [0.0, 0.5, 1.0])
    assert len(found) == 4 * 4 * 3
    row = found[
        (found["draft"] == "Qwen3-1.7B")
        & (found["draft_tokens"] == 2)
        & (found["acceptance"] == 0.5)
    ].iloc[0]
    assert row["speedup"] == pytest.approx(1.75 / t.step_ratio(0.19, 2, 16))
    assert row["speedup_lo"] < row["speedup"] < row["speedup_hi"]
    assert s.compose(t.trained(), [0.5]).empty


def test_the_check_finds_the_planted_error():
    table = t.cost()
    assert s.check(table)["error_pct"].tolist() == [pytest.approx(0)]
    table.loc[table["sweeps"] == "spec_check", "tpot_s"] *= 1.25
    row = s.check(table).iloc[0]
    assert (
        row["error_pct"] == pytest.approx(-20)
        and row["set_acceptance"] == 0.5
        and row["set_acceptance_from"] == 0.7
    )
    assert s.check(t.cost(checked=None)).empty and s.check(t.cpu()).empty


def test_equal_greedy_outputs_are_counted_per_sequence():
    found = s.same_output(t.trained(differ=2)).set_index("series")
    assert found["of"].unique() == [3 * 3 * 8] and found["same"].unique() == [3 * 3 * 6]
    assert found.loc["n-gram", "share"] == pytest.approx(0.75)
    assert s.same_output(t.trained(temperatures=(1.0,))).empty
    assert s.same_output(t.trained().drop(columns="output_digests")).empty
    other = t.trained(differ=2)
    other["training"] = np.where(
        other["series"] == s.PLAIN, "a", np.where(other["series"] == "n-gram", "b", "a")
    )
    assert "n-gram" not in set(
        s.same_output(other)["series"]
    )  # another training's tokens say nothing of this one's
    table = t.trained()
    assert s.same_output(table[(table["series"] != s.PLAIN) | (table["text"] == "code")])[
        "of"
    ].unique() == [3 * 8]


def test_experts_are_held_against_formula_and_plain_decoding():
    found = s.experts(t.trained())
    row = found[(found["series"] == "n-gram") & (found["text"] == "prose")].iloc[0]
    assert row["formula"] == pytest.approx(16 * (1 - (14 / 16) ** 40)) and row[
        "over_formula"
    ] == pytest.approx(0.9)
    assert row["over_plain"] == pytest.approx(
        0.9 * distinct_experts(16, 2, 40) / (0.95 * distinct_experts(16, 2, 8))
    )
    assert (found.loc[found["series"] == s.PLAIN, "over_plain"] == 1).all()
    assert s.experts(t.trained(counted=False)).empty
    unknown = t.trained().assign(step_tokens=np.nan)
    np.testing.assert_allclose(s.experts(unknown)["step_tokens"], found["step_tokens"])


def test_the_acceptance_that_makes_another_draft_as_fast():
    found = s.matching(t.cost(), 0.7).set_index("series")
    assert list(found.index) == [f"draft {d}" for d in t.DRAFTS] and set(found["draft_tokens"]) == {
        4
    }
    first = s.speedup(t.step_ratio(t.DRAFTS["Qwen3-0.6B"], 4, 16), 0.7, 4)
    other = found.loc["draft Qwen3-1.7B"]
    assert s.speedup(other["cost_ratio"], other["needed"], 4) == pytest.approx(first)
    assert other["more"] == pytest.approx(other["needed"] - 0.7) and other["more"] > 0
    assert np.isnan(s.matching(t.cost({"a": 0.1, "b": 5.0}), 0.9)["needed"].iloc[1])
    assert s.matching(t.trained(), 0.7).empty


def test_the_fixed_number_of_draft_tokens_is_that_of_the_length_sweep():
    assert s.fixed_tokens(t.cost()) == 4 and s.fixed_tokens(t.cpu()) == 3
    assert (
        s.fixed_tokens(t.cost().query("sweeps == 'spec_tokens'")) == 8
        and s.fixed_tokens(t.trained()) is None
    )


def test_nothing_is_changed():
    table = pd.concat([t.cost(), t.trained()], ignore_index=True)
    before = table.copy()
    for function in (s.cost_ratio, s.compose, s.check, s.same_output, s.experts, s.acceptance_rows):
        function(table)
    pd.testing.assert_frame_equal(table, before)
