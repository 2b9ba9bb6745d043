"""Effects and claims of section 4: planted costs give their gains, falls and shares of steps
back."""

import numpy as np
import pandas as pd
import pytest
import speculation_tables as t
from analysis_tables import MIXTRAL, row

from moebook import sections
from moebook.predict.work import expected_tokens
from moebook.results import verdicts
from moebook.results.cells import Cells, Untested
from moebook.sections.speculative_decoding.effects import (
    draft_change,
    draft_gain,
    draft_lead,
    draft_steps,
)

SMALL, MEDIUM, LARGE = (f"draft Qwen3-{size}" for size in ("0.6B", "1.7B", "8B"))
TINY = {
    MEDIUM: ["draft tiny-draft-large"],
    LARGE: ["draft tiny-draft-large"],
    SMALL: ["draft tiny-draft-small"],
}
BOOK = sections.find("04").claims
ARGUMENTS = {
    draft_lead: {"draft": MEDIUM},
    draft_gain: {"draft": MEDIUM, "over": LARGE},
    draft_change: {"axis": "length", "low": 128, "high": 2048, "drafts": [MEDIUM]},
    draft_steps: {},
}


def cells(table: pd.DataFrame, sweep="spec_length") -> Cells:
    return Cells.of(table, sweep)


def own_acceptance(**given) -> pd.DataFrame:
    """Each draft at the acceptance that its weights give, the same for all."""
    return t.cost(acceptance=None, own=dict.fromkeys(t.DRAFTS, 0.7), **given)


def with_throughput(table: pd.DataFrame, speed) -> pd.DataFrame:
    """The table with throughput `speed(row)`."""
    values = np.array([np.nan if r.status != "ok" else speed(r) for r in table.itertuples()], float)
    return table.assign(
        throughput_tok_s=values,
        throughput_tok_s_lo=values * 0.999,
        throughput_tok_s_hi=values * 1.001,
    )


def judge(table: pd.DataFrame, claim_id: str):
    return verdicts.evaluate(table, [c for c in BOOK if c.id == claim_id], checks=False)[0]


SPEEDS = {
    "Qwen3-0.6B": 0.72,
    "Qwen3-1.7B": 1.0,
    "Qwen3-4B": 0.85 / 1.15 / 0.75,
    "Qwen3-8B": 1 / 1.2,
}  # at 128 tokens


def as_the_source_says(row) -> float:
    fall = 0.25 if row.draft in ("Qwen3-4B", "Qwen3-8B") else 0.15
    kept = 1 - fall * np.log2(row.input_tokens / 128) / 4
    return 1000 * SPEEDS.get(row.draft, 0.5) * kept * 0.9 ** np.log2(max(row.draft_tokens, 1))


def test_the_lead_is_over_the_fastest_other_draft():
    table = with_throughput(
        own_acceptance(), lambda r: {SMALL: 80.0, MEDIUM: 100.0, LARGE: 50.0}.get(r.series, 60.0)
    )
    assert draft_lead(cells(table), MEDIUM).values == pytest.approx([25] * 4)
    found = draft_lead(cells(table), SMALL)
    assert (
        found.values == pytest.approx([-20] * 4)
        and found.text == f"fastest: {MEDIUM} at 4 of 4"
        and found.whole
    )
    assert "draft_tokens" in found.used and (found.used["draft_tokens"] > 0).all()


def test_a_gain_between_drafts_at_one_end_of_the_lengths():
    found = draft_gain(
        cells(own_acceptance()),
        SMALL,
        LARGE,
        {"length": {"values": [2048], "side": "largest"}},
        by="length",
    )

    def speed(name):
        step = (
            t.plain_step_s(16, 2048) * t.step_ratio(t.DRAFTS[name], 4, 16) / expected_tokens(0.7, 4)
        )
        return 1 / (1e-6 * 16 * 2048 + 2047 * step)

    wanted = 100 * (speed("Qwen3-0.6B") / speed("Qwen3-8B") - 1)
    assert found.values == pytest.approx([wanted])
    assert "acceptance that of dummy weights" in found.differs[0]


def test_one_acceptance_set_for_all_drafts_decides_nothing_and_tells_what_each_needs():
    with pytest.raises(Untested, match="acceptance per draft was not measured: it was set to 0.7"):
        draft_gain(cells(t.cost()), MEDIUM, LARGE)
    verdict = judge(t.cost(), "spec-medium-draft")
    assert verdict.verdict == "untested"
    assert f"{LARGE}: a step costs" in verdict.reason and "needs 0." in verdict.reason


def test_one_stand_in_cannot_be_compared_with_itself():
    small = draft_gain(cells(t.cpu()), SMALL, MEDIUM, instead=TINY)
    assert (
        small.values > 0
    ).all() and "series draft tiny-draft-small in place of draft Qwen3-0.6B" in small.differs
    with pytest.raises(Untested, match="tiny-draft-large stands for both"):
        draft_gain(cells(t.cpu()), MEDIUM, LARGE, instead=TINY)


def test_change_over_length_is_told_by_draft():
    table = with_throughput(
        t.cost(), lambda r: 100 - (10 if r.series == SMALL else 30) * (r.input_tokens == 2048)
    )
    assert draft_change(cells(table), "length", 128, 2048, [SMALL]).values == pytest.approx([-10])
    found = draft_change(cells(table), "length", 128, 2048)
    assert sorted(found.values) == pytest.approx([-30, -30, -30, -10])
    assert (
        f"{SMALL} -10.0 %" in found.text
        and f"{LARGE} -30.0 %" in found.text
        and "no speculation" not in found.text
    )


def test_steps_count_drafts_only_and_name_them():
    table = with_throughput(
        t.cost(), lambda r: 100 - r.draft_tokens if r.series != SMALL else 100 + r.draft_tokens
    )
    found = draft_steps(cells(table, "spec_tokens"))
    assert (
        (found.values < 0).sum() == 9
        and len(found.items) == 12
        and f"{SMALL} 0 of 3, {MEDIUM} 3 of 3" in found.text
    )
    with pytest.raises(Untested, match="at two values of draft tokens"):
        draft_steps(cells(t.cost(ks=(4,)), "spec_tokens"))


def test_drafts_that_do_not_fit_are_told_and_the_effect_is_in_part():
    table = own_acceptance(gone=("Qwen3-8B",))
    for found in (
        draft_lead(cells(table), MEDIUM),
        draft_change(cells(table), "length", 128, 2048),
        draft_steps(cells(table, "spec_tokens")),
    ):
        assert (
            not found.whole
            and f"not measured everywhere: {LARGE}: synthetic: does not fit" in found.text
        )
    assert draft_change(cells(table), "length", 128, 2048, [SMALL]).whole
    with pytest.raises(
        Untested, match=r"no measured points of draft Qwen3-8B \(synthetic: does not fit\)"
    ):
        draft_gain(cells(table), MEDIUM, LARGE)


@pytest.mark.parametrize("function", ARGUMENTS, ids=lambda function: function.__name__)
def test_tables_without_drafts_are_untested(function):
    plain = t.cost().query("draft_tokens == 0")
    with pytest.raises(Untested, match="no point with a draft was measured"):
        function(cells(plain), **ARGUMENTS[function])
    old = pd.DataFrame([row("spec_length", MIXTRAL, 1.0, batch=1, tokens=8)])
    with pytest.raises(Untested, match="speaks of draft tokens"):
        function(cells(old), **ARGUMENTS[function])


def test_the_source_of_acceptance_is_a_difference_unless_the_weights_were_trained():
    (dummy,) = draft_steps(
        cells(t.cost(acceptance=None, own=dict.fromkeys(t.DRAFTS, 0.1)), "spec_tokens")
    ).differs
    assert "dummy weights" in dummy
    assert draft_steps(cells(t.cpu(), "spec_tokens")).differs == ()


def test_points_under_their_floor_are_a_condition_and_not_a_reason_to_drop_the_model():
    table = t.cost()
    table["floor_tpot_s"] = table["tpot_s"] * np.where(table["draft_tokens"] == 8, 1.2, 0.8)
    verdict = judge(table, "spec-more-tokens")
    assert verdict.verdict != "untested"
    assert "4 of 16 points with a draft faster than their floor" in verdict.conditions
    assert "floor" not in judge(table.assign(device_kind="cpu"), "spec-more-tokens").conditions
    table.loc[table["draft_tokens"] == 0, "floor_tpot_s"] *= 2
    assert judge(table, "spec-more-tokens").verdict == "untested"


def test_claims_hold_where_the_source_is_right_and_say_how_acceptance_came_about():
    table = with_throughput(own_acceptance(), as_the_source_says)
    for claim in BOOK:
        verdict = judge(table, claim.id)
        assert verdict.verdict == "supported", verdict.reason
        assert "acceptance that of dummy weights" in verdict.conditions and verdict.scale == "own"


def test_claims_are_contradicted_where_the_smallest_draft_wins():
    fastest = with_throughput(own_acceptance(), lambda r: 100.0 - 20 * (r.series != SMALL))
    verdict = judge(fastest, "spec-medium-draft")
    assert verdict.verdict == "contradicted" and verdict.effect < 0
    assert "fastest: draft Qwen3-0.6B at 4 of 4" in verdict.reason
    rising = with_throughput(t.cost(), lambda r: 100 + r.draft_tokens)
    assert judge(rising, "spec-more-tokens").verdict == "contradicted"


def test_a_missing_draft_makes_a_verdict_in_part():
    verdict = judge(own_acceptance(gone=("Qwen3-8B",)), "spec-medium-draft")
    assert (
        verdict.label == "contradicted in part on other conditions"
        and "synthetic: does not fit" in verdict.reason
    )


def test_tiny_drafts_are_judged_on_their_scale():
    verdict = judge(t.cpu(), "spec-medium-draft")
    assert (
        verdict.label.endswith("on other conditions")
        and "in place of draft Qwen3-1.7B" in verdict.conditions
    )
    assert "model tiny-aux-0.01 (source Qwen3-30B-A3B)" in verdict.conditions


def test_nothing_measured_is_untested():
    table = t.cost().assign(status="oom", reason="none fits", throughput_tok_s=None)
    assert {judge(table, c.id).verdict for c in BOOK} == {"untested"}
