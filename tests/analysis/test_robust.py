"""Checks of robustness, and rules with their history."""

from pathlib import Path

import pytest
import yaml
from analysis_tables import grid

from moebook import sections
from moebook.results import verdicts
from moebook.results.cards import card, robustness
from moebook.results.claims import read_history


def gap(large: float):
    return grid(lambda i, e, k: 1000 / (1 + large / 100) ** (k == 8), active=(1, 8))


def judge(table, claim="active-gap"):
    return verdicts.evaluate(table, [c for c in sections.claims() if c.id == claim])[0]


def test_a_verdict_far_from_its_thresholds_is_robust():
    verdict = judge(gap(65))
    assert verdict.robust == "3 of 3" and verdict.verdict == "supported"
    assert [check.name for check in verdict.checks] == [
        "a cell left out",
        "start deviation doubled",
        "threshold moved by its rounding",
    ]


def test_one_near_a_threshold_is_not():
    verdict = judge(gap(79))
    assert verdict.verdict == "supported" and verdict.robust == "2 of 3"
    moved = {check.name: check for check in verdict.checks}["threshold moved by its rounding"]
    assert not moved.same and moved.verdicts == ("mixed",)
    assert "else with threshold moved by its rounding: mixed" in robustness(verdict.checks)


def test_one_that_a_single_cell_makes_is_not():
    table = gap(65)
    one = (table["expert_ffn_dim"] == 1792) & (table["num_experts"] == 8) & (table["top_k"] == 8)
    for end in ("", "_lo", "_hi"):
        table.loc[one, f"throughput_tok_s{end}"] *= 2
    verdict = judge(table)
    assert verdict.verdict == "mixed" and not verdict.checks[0].same
    assert verdict.checks[0].name == "a cell left out"


def test_a_card_tells_cells_condition_checks_and_rules():
    text = "\n".join(card(judge(gap(65))))
    for told in (
        "active-gap: supported",
        "16 of 16 cells hold",
        "routing near-uniform",
        "robust: 3 of 3 checks",
        "met  65 [",
        "rule until 2026-11-29, after data",
    ):
        assert told in text


def test_every_claim_with_a_rule_has_its_history_and_no_other_has():
    claims = {claim.id: claim for claim in sections.claims()}
    for section in sections.of_profile("h200"):
        if not section.claims:
            continue
        file = Path("moebook/sections") / section.name / "history.yaml"
        past = read_history(file.read_text(encoding="utf-8"))
        assert set(past) <= {claim.id for claim in section.claims}
        raw = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert all(change["rule"] and change["why"] for own in raw.values() for change in own)
    changed = [claim for claim in claims.values() if claim.parts]
    assert all(claim.history for claim in changed)
    assert all(change.until <= "2026-11-29" for claim in changed for change in claim.history)


def test_a_history_with_an_unknown_entry_is_refused():
    with pytest.raises(TypeError):
        read_history("a:\n- {until: 2026-01-01, rule: r, why: w, after_data: true, mood: odd}")
