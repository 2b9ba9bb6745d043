"""Claims as objects: their rules, their arguments, and that every section's are whole."""

from functools import partial

import pytest

from moebook import sections
from moebook.results.claims import Claim, Part, at_least, at_most, combine, no_effect, within
from moebook.results.comparison import Item
from moebook.results.effects import end_gap
from moebook.sections.overview.commentary import CONFLICTS

GAP = partial(end_gap, axis="top_k", low=1, high=8)


def item(lo: float, hi: float) -> Item:
    """With this 95 % interval."""
    return Item("cell", (lo + hi) / 2, (hi - lo) / 2 / 1.959964)


@pytest.mark.parametrize(
    "rule, lo, hi, wanted",
    [
        (within(20, 30), 22, 28, "met"),
        (within(20, 30), 26, 34, "undecided"),
        (within(20, 30), 29, 36, "undecided"),
        (within(20, 30), 31, 34, "partly"),
        (within(20, 30), 36, 44, "failed"),
        (within(20, 30, slack=0), 31, 34, "failed"),
        (at_least(0), 0.5, 2, "met"),
        (at_least(0), -0.5, 2, "undecided"),
        (at_least(0), -2, -0.5, "failed"),
        (at_least(10, contradicted_below=5), 6, 9, "partly"),
        (at_most(0, contradicted_above=2), 0.5, 1.5, "partly"),
        (at_most(0, contradicted_above=2), 2.5, 4, "failed"),
        (no_effect(5, contradicted_beyond=10), -5.2, 0, "met"),  # its 90 % interval lies inside
        (no_effect(5, contradicted_beyond=10), -6.2, 0, "undecided"),
        (no_effect(5, contradicted_beyond=10), 10.1, 12, "failed"),
    ],
)
def test_rules(rule, lo, hi, wanted):
    assert rule.state(item(lo, hi)) == wanted


@pytest.mark.parametrize(
    "states, wanted",
    [
        ("mmmm", "supported"),
        ("ffff", "contradicted"),
        ("mmff", "mixed"),
        ("mmmp", "mixed"),
        ("pppp", "mixed"),
        ("mmmu", "undecided"),
        ("fffu", "undecided"),
        ("mfuu", "mixed"),
    ],
)
def test_cells_make_a_part(states, wanted):
    names = {"m": "met", "f": "failed", "p": "partly", "u": "undecided"}
    assert Part("p", GAP, at_least(0)).verdict([names[s] for s in states]) == wanted


def test_a_share_of_the_cells_can_be_enough():
    part = Part("p", GAP, at_least(0), share=0.95, contradicted_over=0.5)
    assert part.verdict(["met"] * 19 + ["failed"]) == "supported"
    assert part.verdict(["met"] * 18 + ["failed", "undecided"]) == "undecided"
    assert part.verdict(["met"] * 15 + ["failed"] * 5) == "mixed"
    assert part.verdict(["met"] * 5 + ["failed"] * 15) == "contradicted"


def test_one_cell_of_many_must_hold_at_a_level_that_allows_for_the_choice():
    part = Part("p", GAP, at_most(0), some=True)
    near = item(-2.0, -0.1)
    assert part.verdict(part.states((near,))) == "supported"
    others = tuple(item(1, 2) for _ in range(9))
    assert part.verdict(part.states((near, *others))) == "undecided"
    assert part.verdict(part.states((item(-3.0, -1), *others))) == "supported"
    assert part.verdict(part.states(others)) == "contradicted"


def test_a_moved_rule_has_its_ends_moved_by_their_rounding():
    assert within(20, 30).moved(1).met == (17.5, 32.5) and within(20, 30).moved(-1).met == (
        22.5,
        27.5,
    )
    assert at_least(0).moved(1).met[0] == pytest.approx(-0.8)


@pytest.mark.parametrize(
    "parts, wanted",
    [
        ("ss", "supported"),
        ("cc", "contradicted"),
        ("cu", "contradicted"),
        ("cs", "mixed"),
        ("sc", "mixed"),
        ("sm", "mixed"),
        ("su", "undecided"),
        ("uc", "undecided"),
    ],
)
def test_parts_make_a_claim(parts, wanted):
    names = {"s": "supported", "c": "contradicted", "m": "mixed", "u": "undecided"}
    assert combine([names[p] for p in parts]) == wanted


def test_a_range_is_given_smaller_number_first():
    with pytest.raises(ValueError, match="smaller number first"):
        within(3, 1)


@pytest.mark.parametrize("wrong", [{"axis": "top_k"}, {"axis": "top_k", "low": 1, "moon": 2}])
def test_arguments_that_an_effect_does_not_take_are_refused(wrong):
    with pytest.raises(TypeError):
        Part("p", partial(end_gap, **wrong), at_least(0))


def test_a_claim_has_parts_or_a_reason_and_not_both():
    part = Part("p", GAP, at_least(0))
    assert Claim("c", "s", "d", {}, parts=(part,)).untested is None
    for given in ({}, {"parts": (part,), "untested": "why"}):
        with pytest.raises(ValueError, match="either parts or why it is untested"):
            Claim("c", "s", "d", {}, **given)


def test_every_claim_stands_once_and_knows_its_section():
    claims = sections.claims()
    ids = [claim.id for claim in claims]
    assert len(ids) == len(set(ids)) == 40
    assert all(claim.notebook in sections.stems() for claim in claims)
    assert [claim.section for claim in claims] == sorted(claim.section for claim in claims)


def test_every_conflict_is_about_claims_that_stand_and_has_a_name_of_its_own():
    ids = [claim.id for claim in sections.claims()]
    assert {name for conflict in CONFLICTS for name in conflict.claims} <= set(ids)
    names = [*ids, *(conflict.id for conflict in CONFLICTS)]
    assert len(CONFLICTS) == 8 and len(names) == len(set(names))
