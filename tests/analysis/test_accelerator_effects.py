"""Claims of section 8 on planted latencies: a knee is found where it is, and an endpoint is needed
where it is."""

import accelerator_tables as t
import pytest

from moebook.results import verdicts
from moebook.results.cells import Cells, Untested
from moebook.sections.accelerator_comparison import claims as effects

LABEL = "CS-3, FP8"


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    def made(name, **given):
        return t.results("h100", tmp_path_factory.mktemp(name), **given).summary

    return {
        "bare": made("bare"),
        "knee": made("knee", knee=1024),
        "served": made("served", knee=1024, endpoint=LABEL),
        "other": made("other", endpoint="some server"),
    }


def cells(summary) -> Cells:
    return Cells.of(summary, "scout|endpoint", "e2e_s")


def verdict(summary, claim: str):
    return next(
        v for v in verdicts.evaluate(summary, t.SECTION.claims, checks=False) if v.id == claim
    )


def test_a_planted_knee_is_what_a_token_costs_beyond_it(tables):
    bare, knee = (effects.marginal_rise(cells(tables[k]), 1024) for k in ("bare", "knee"))
    rows = tables["knee"].query("batch == 1 and series == 'int4 weights' and status == 'ok'")
    rows = rows[rows["input_tokens"] == rows["output_tokens"]].drop_duplicates("input_tokens")
    seconds = rows.set_index("input_tokens")["e2e_s"]
    below = (seconds[1024] - seconds[min(seconds.index)]) / (1024 - min(seconds.index))
    above = (seconds[4096] - seconds[1024]) / (4096 - 1024)
    assert knee.items[0].value == pytest.approx(above / below)
    assert (knee.values > bare.values + 0.3).all()
    assert len(knee.items) == 2 and "int4 weights at batch 16" in knee.text


def test_another_scale_is_bent_at_its_middle(tables):
    rows = tables["knee"][tables["knee"]["input_tokens"] < 1024]
    found = effects.marginal_rise(cells(rows), 1024)
    assert "bend looked for at 256 tokens (source 1024)" in found.differs


def test_an_endpoint_against_an_engine_is_the_ratio_of_their_latencies(tables):
    served = tables["served"]
    at = served[
        (served["batch"] == 1)
        & (served["input_tokens"] == 4096)
        & (served["series"].isin(["int4 weights", LABEL]))
    ]
    mine, theirs = (at.loc[at["series"] == s, "e2e_s"].iloc[0] for s in ("int4 weights", LABEL))
    found = effects.endpoint_lead(cells(served), "CS-3")
    assert (
        len(found.items) == 6 and f"4096: {mine / theirs:.3g} x" in found.text and not found.differs
    )
    assert effects.endpoint_lead_growth(cells(served), "CS-3").values.min() > 1


def test_only_equal_models_are_compared(tables):
    rows = tables["served"].copy()
    rows.loc[rows["method"] == "endpoint", "model"] = "another"
    with pytest.raises(Untested, match="no model, batch and length"):
        effects.endpoint_lead(cells(rows), "CS-3")


def test_an_endpoint_that_is_no_cs3_is_told(tables):
    assert effects.endpoint_lead(cells(tables["other"]), "CS-3").differs == (
        "endpoint some server (source CS-3)",
    )


def test_without_an_endpoint_its_claim_is_untested_and_says_how_to_have_one(tables):
    found = verdict(tables["knee"], "cs3-latency")
    assert (
        found.verdict == "untested"
        and "set `endpoint`" in found.reason
        and "roofline" in found.reason
    )
    knee = verdict(tables["knee"], "h100-knee")
    assert knee.label == "supported in part" and knee.effect > 1.5


def test_with_one_both_claims_are_decided(tables):
    assert verdict(tables["served"], "cs3-latency").label == "supported"
    assert verdict(tables["served"], "h100-knee").label == "supported"


def test_a_straight_curve_has_no_knee(tables):
    rows = tables["bare"].copy()
    for end, factor in (("", 1.0), ("_lo", 0.99), ("_hi", 1.01)):
        rows[f"e2e_s{end}"] = factor * 1e-3 * rows["input_tokens"]
    part = verdict(rows, "h100-knee").parts[0]
    assert part.verdict == "contradicted" and part.effect == pytest.approx(1)
