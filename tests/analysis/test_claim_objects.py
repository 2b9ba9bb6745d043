"""Claims as objects: their rules, their arguments, and that every section's are whole."""

from functools import partial

import pytest

from moebook import sections
from moebook.results.claims import Claim, Part, at_least, at_most, within
from moebook.results.effects import end_gap
from moebook.sections.overview.tables import CONFLICTS

GAP = partial(end_gap, axis="top_k", low=1, high=8)


@pytest.mark.parametrize(
    "rule, value, lo, hi, wanted",
    [
        (within(20, 30), 25, 22, 28, "supported"),
        (within(20, 30), 29, 26, 34, "supported"),
        (within(20, 30), 29, 26, 36, "mixed"),
        (within(20, 30), 33, 31, 34, "mixed"),
        (within(20, 30), 40, 36, 44, "contradicted"),
        (within(20, 30, slack=0), 33, 31, 34, "contradicted"),
        (within(95, 100, slack=5, contradicted_below=50), 60, 55, 65, "mixed"),
        (within(95, 100, slack=5, contradicted_below=50), 30, 25, 35, "contradicted"),
        (at_least(0), 1, 0.5, 2, "supported"),
        (at_least(0), 1, -0.5, 2, "mixed"),
        (at_least(0), -1, -2, -0.5, "contradicted"),
        (at_most(0, contradicted_above=2), 1, 0.5, 1.5, "mixed"),
        (at_most(0, contradicted_above=2), 3, 2.5, 4, "contradicted"),
    ],
)
def test_rules(rule, value, lo, hi, wanted):
    assert rule.decide(value, lo, hi) == wanted


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
