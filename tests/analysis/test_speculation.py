"""Formulas of speculative decoding against a second way to get them, and tables that give their
planted costs back."""

import numpy as np
import pandas as pd
import pytest
import speculation_tables as t

from moebook.models.costs import distinct_experts
from moebook.predict.work import expected_tokens
from moebook.sections.speculative_decoding import drafts
from moebook.sections.speculative_decoding.plan import PLAIN


@pytest.mark.parametrize(("a", "k"), [(0.0, 3), (0.3, 1), (0.7, 4), (0.95, 8), (1.0, 5), (0.5, 0)])
def test_expected_tokens_are_those_of_a_simulated_acceptance(a, k):
    rng = np.random.default_rng(0)
    accepted = rng.random((40_000, k)) < a
    assert expected_tokens(a, k) == pytest.approx(
        1 + np.cumprod(accepted, axis=1).sum(1).mean(), rel=0.02
    )
    if a < 1:
        assert expected_tokens(a, k) == pytest.approx((1 - a ** (k + 1)) / (1 - a))
    else:
        assert expected_tokens(a, k) == k + 1


@pytest.mark.parametrize(("a", "k"), [(-0.1, 2), (1.1, 2), (float("nan"), 2), (0.5, -1)])
def test_impossible_acceptances_are_refused(a, k):
    with pytest.raises(ValueError, match="acceptance lies between 0 and 1"):
        expected_tokens(a, k)
    with pytest.raises(ValueError, match="acceptance lies between 0 and 1"):
        expected_tokens(np.array([0.5, a]), np.array([1, k]))


def test_expected_tokens_of_arrays_are_those_of_each_pair():
    a, k = np.array([0.0, 0.3, 0.7, 1.0]), np.array([3, 0, 4, 5])
    each = [expected_tokens(*pair) for pair in zip(a, k, strict=True)]
    np.testing.assert_allclose(expected_tokens(a, k), each)
    assert expected_tokens(np.array([]), np.array([])).shape == (0,)


def test_rates_given_the_positions_before():
    assert drafts.conditional_rates([0.8, 0.4, 0.1]) == pytest.approx([0.8, 0.5, 0.25])
    after = drafts.conditional_rates([0.5, 0.0, 0.0])
    assert list(after[:2]) == [0.5, 0.0] and np.isnan(after[2])
    for bad in ([0.5, 0.6], [1.2], [-0.1]):
        with pytest.raises(ValueError, match="none exceeds the one before"):
            drafts.conditional_rates(bad)


@pytest.mark.parametrize(("a", "k"), [(0.0, 2), (0.3, 1), (0.7, 3), (1.0, 4)])
def test_the_acceptance_for_tokens_gives_them_back(a, k):
    assert drafts.acceptance_for(expected_tokens(a, k), k) == pytest.approx(a)


def test_tokens_that_no_acceptance_gives():
    found = drafts.acceptance_for(np.array([0.9, 3.2, np.nan]), 2)
    assert found[0] == 0 and np.isnan(found[1:]).all()


def test_a_draft_breaks_even_where_it_yields_what_a_step_costs():
    found = drafts.measured_ratio(t.cost(), "spec_tokens")
    yielded = expected_tokens(found["break_even"], found["draft_tokens"])
    np.testing.assert_allclose(yielded / found["cost_ratio"].astype(float), 1)
    dear = drafts.measured_ratio(t.cost({"a": 9.0}), "spec_tokens")
    assert dear["break_even"].isna().all() and len(dear)


def test_planted_costs_come_back_at_every_place():
    found = drafts.cost_ratio(t.cost().sample(frac=1, random_state=1), t.COST)
    wanted = [
        t.step_ratio(t.DRAFTS[d], int(k), b)
        for d, k, b in zip(found["draft"], found["draft_tokens"], found["batch"], strict=True)
    ]
    np.testing.assert_allclose(found["cost_ratio"].astype(float), wanted)
    half = np.log(t.SPREAD[1] / t.SPREAD[0]) / 2  # of one side, on the logarithm
    lowest = np.array(wanted) * np.exp(-np.sqrt(2) * half)
    np.testing.assert_allclose(found["cost_ratio_lo"].astype(float), lowest)
    assert (found["acceptance"] == 0.7).all() and len(found) == 4 * (3 + 7)


def test_own_acceptance_is_fitted_where_none_was_set():
    found = drafts.cost_ratio(t.cpu(), t.COST)
    assert found.loc[found["draft"] == "tiny-draft-large", "acceptance"].unique() == pytest.approx(
        0.35
    )


def test_a_draft_that_does_not_fit_keeps_its_reason_and_no_baseline_is_an_error():
    table = t.cost(gone=("Qwen3-8B",))
    lost = drafts.cost_ratio(table, t.COST).query("draft == 'Qwen3-8B'")
    assert set(lost["status"]) == {"oom"} and set(lost["reason"]) == {"synthetic: does not fit"}
    assert "Qwen3-8B" not in set(drafts.measured_ratio(table, t.COST)["draft"])
    with pytest.raises(ValueError, match="need that series"):
        drafts.cost_ratio(table[table["series"] != PLAIN], t.COST)
    assert drafts.measured_ratio(table[table["series"] != PLAIN], t.COST).empty
    no_plain = table.assign(status=table["status"].mask(table["series"] == PLAIN, "failed"))
    assert drafts.measured_ratio(no_plain, t.COST).empty


def test_composition_is_the_formula_at_every_acceptance():
    found = drafts.compose(drafts.measured_ratio(t.cost(), "spec_tokens"), [0.0, 0.5, 1.0])
    assert len(found) == 4 * 4 * 3
    row = found[
        (found["draft"] == "Qwen3-1.7B")
        & (found["draft_tokens"] == 2)
        & (found["acceptance"] == 0.5)
    ].iloc[0]
    assert row["speedup"] == pytest.approx(1.75 / t.step_ratio(0.19, 2, 16))
    assert row["speedup_lo"] < row["speedup"] < row["speedup_hi"]
    assert drafts.compose(drafts.measured_ratio(t.trained(), "spec_tokens"), [0.5]).empty


def test_the_check_finds_the_planted_error():
    table = t.cost()
    assert drafts.check(table)["error_pct"].tolist() == [pytest.approx(0)]
    table.loc[table["sweeps"] == "spec_check", "tpot_s"] *= 1.25
    row = drafts.check(table).iloc[0]
    assert (
        row["error_pct"] == pytest.approx(-20)
        and row["set_acceptance"] == 0.5
        and row["set_acceptance_from"] == 0.7
    )
    assert drafts.check(t.cost(checked=None)).empty and drafts.check(t.cpu()).empty


def test_equal_greedy_outputs_are_counted_per_sequence():
    found = drafts.same_output(t.trained(differ=2)).set_index("series")
    assert found["of"].unique() == [3 * 3 * 8] and found["same"].unique() == [3 * 3 * 6]
    assert found.loc["n-gram", "share"] == pytest.approx(0.75)
    assert drafts.same_output(t.trained(temperatures=(1.0,))).empty
    assert drafts.same_output(t.trained().drop(columns="output_digests")).empty
    other = t.trained(differ=2)
    other["training"] = np.where(
        other["series"] == PLAIN, "a", np.where(other["series"] == "n-gram", "b", "a")
    )
    assert "n-gram" not in set(
        drafts.same_output(other)["series"]
    )  # another training's tokens say nothing of this one's
    table = t.trained()
    assert drafts.same_output(table[(table["series"] != PLAIN) | (table["text"] == "code")])[
        "of"
    ].unique() == [3 * 8]


def test_experts_are_held_against_formula_and_plain_decoding():
    found = drafts.experts(t.trained())
    row = found[(found["series"] == "n-gram") & (found["text"] == "prose")].iloc[0]
    assert row["formula"] == pytest.approx(16 * (1 - (14 / 16) ** 40)) and row[
        "over_formula"
    ] == pytest.approx(0.9)
    assert row["over_plain"] == pytest.approx(
        0.9 * distinct_experts(16, 2, 40) / (0.95 * distinct_experts(16, 2, 8))
    )
    assert (found.loc[found["series"] == PLAIN, "over_plain"] == 1).all()
    assert drafts.experts(t.trained(counted=False)).empty
    unknown = t.trained().assign(step_tokens=np.nan)
    np.testing.assert_allclose(drafts.experts(unknown)["step_tokens"], found["step_tokens"])


def test_the_acceptance_that_makes_another_draft_as_fast():
    found = drafts.matching(t.cost(), 0.7).set_index("series")
    assert list(found.index) == [f"draft {d}" for d in t.DRAFTS] and set(found["draft_tokens"]) == {
        4
    }
    first = expected_tokens(0.7, 4) / t.step_ratio(t.DRAFTS["Qwen3-0.6B"], 4, 16)
    other = found.loc["draft Qwen3-1.7B"]
    assert expected_tokens(other["needed"], 4) / other["cost_ratio"] == pytest.approx(first)
    assert other["more"] == pytest.approx(other["needed"] - 0.7) and other["more"] > 0
    assert np.isnan(drafts.matching(t.cost({"a": 0.1, "b": 5.0}), 0.9)["needed"].iloc[1])
    assert drafts.matching(t.trained(), 0.7).empty


def test_the_fixed_number_of_draft_tokens_is_that_of_the_length_sweep():
    assert drafts.fixed_tokens(t.cost()) == 4 and drafts.fixed_tokens(t.cpu()) == 3
    assert (
        drafts.fixed_tokens(t.cost().query("sweeps == 'spec_tokens'")) == 8
        and drafts.fixed_tokens(t.trained()) is None
    )


def test_nothing_is_changed():
    table = pd.concat([t.cost(), t.trained()], ignore_index=True)
    before = table.copy()
    drafts.cost_ratio(table, t.COST)
    for function in (
        drafts.check,
        drafts.same_output,
        drafts.experts,
        drafts.trained,
        drafts.reached,
    ):
        function(table)
    pd.testing.assert_frame_equal(table, before)
