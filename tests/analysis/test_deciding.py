"""Which rows decide, and which rows a verdict names."""

import json

import pandas as pd
import pytest
import shipped
from analysis_tables import MIXTRAL, grid, row

from moebook import sections
from moebook.results import cells, report
from moebook.results import verdicts as claims
from moebook.sections.parallelism.enrich import COMPOSED


def decisions(*rows: dict) -> list[tuple]:
    found = cells.with_decisions(pd.DataFrame(list(rows)))
    return [
        (d, None if pd.isna(n) else n) for d, n in zip(found["decides"], found["note"], strict=True)
    ]


def timed(tpot: float, floor: float, **more) -> dict:
    return row(
        "grid",
        MIXTRAL,
        100.0,
        batch=16,
        tokens=2048,
        device_kind="h200",
        tpot_s=tpot,
        floor_tpot_s=floor,
        **more,
    )


def test_a_row_with_a_number_decides_and_has_no_note():
    assert decisions(timed(2.0, 1.0)) == [(True, None)]


def test_a_row_without_a_number_says_its_status():
    assert decisions(row("grid", MIXTRAL, None, batch=1, tokens=1, status="oom")) == [
        (False, "oom: it has no number")
    ]


def test_a_model_under_its_bound_decides_nothing_at_all_its_points():
    under, other, apart = decisions(
        timed(0.88, 1.0), timed(2.0, 1.0, active=4), {**timed(2.0, 1.0), "model": "another"}
    )
    assert under == (
        False,
        "measured under its physical limit by 12 %: its routing was not near uniform; decides "
        "nothing",
    )
    assert other[0] is False and other[1].startswith(
        "its model was measured under its limit elsewhere"
    )
    assert apart == (True, None)


def test_a_cpu_can_beat_its_bound():
    assert decisions({**timed(0.5, 1.0), "device_kind": "cpu"}) == [(True, None)]


@pytest.mark.parametrize(
    ("sweeps", "decides"),
    [
        ("support", False),
        ("validation", False),
        ("support,validation", False),
        ("support,grid", True),
        ("grid", True),
    ],
)
def test_checks_and_supports_decide_nothing_unless_they_are_cells_too(sweeps, decides):
    ((found, note),) = decisions(row(sweeps, MIXTRAL, 100.0, batch=1, tokens=128))
    assert found == decides and (note is None) == decides


def test_composed_rows_stand_beside_and_decide_nothing():
    run = {**row("modes", MIXTRAL, 100.0, batch=1, tokens=128), "series": "TP"}
    composed = {**run, "method": COMPOSED, "sweeps": COMPOSED, "key": "c"}
    failed = {**row("modes", MIXTRAL, None, batch=1, tokens=128, status="oom"), "series": "TP"}
    rank = {**run, "series": "rank of TP 2", "sweeps": "shards"}
    assert decisions(run, composed) == [(True, None), (False, cells.BESIDE)]
    assert decisions(failed, composed)[1] == (False, cells.BESIDE)
    assert decisions(rank) == [(False, cells.ONE_RANK)]


def test_the_notebooks_table_shows_the_note_and_counts_them():
    uneven = [{**timed(0.8, 1.0, active=k), "model": "uneven"} for k in (1, 2, 4)]
    failed = row("grid", MIXTRAL, None, batch=1, tokens=1, status="oom")
    summary = cells.with_decisions(pd.DataFrame([timed(2.0, 1.0), *uneven, failed]))
    frame, line = report.results_frame(summary, 6)
    assert frame["decides"].tolist() == ["no", "no", "yes", "no", "no"]
    assert frame["note"].tolist()[1].startswith("measured under its physical limit by 20 %")
    assert frame["note"].tolist()[0] == "–" and frame["reason"].tolist()[0] == "oom"
    assert "3 of those ok decide nothing, and their note says why" in line
    assert "measured under its physical limit by 20 %" in report.results_table(summary, 6).html


@pytest.fixture(scope="module")
def tables() -> dict[str, pd.DataFrame]:
    """The shipped H200 results, as verdicts take them."""
    stems = ("01", "02", "03", "04", "05", "06", "08", "09")
    return {stem: shipped.results("h200", sections.find(stem).stem) for stem in stems}


@pytest.fixture(scope="module")
def summary(tables) -> pd.DataFrame:
    return pd.concat([res.summary for res in tables.values()], ignore_index=True)


@pytest.fixture(scope="module")
def verdicts(summary) -> list:
    return claims.evaluate(summary, sections.claims(), checks=False)


def test_the_rows_that_a_verdict_names_are_in_the_tables(tables, verdicts):
    have = {point for res in tables.values() for point in res.table["point_id"].dropna()}
    tested = [
        v for v in verdicts if v.verdict != "untested" and v.id != "ffn-dominates"
    ]  # counted from configs
    assert len(tested) > 20
    for verdict in tested:
        assert verdict.rows and set(verdict.rows) <= have, verdict.id
        parts = {row for part in verdict.parts if part.decides for row in part.rows}
        assert set(verdict.rows) == parts
    assert all(not v.rows for v in verdicts if v.verdict == "untested")


def test_rows_that_decide_nothing_are_in_no_verdict(summary, verdicts):
    rank = summary["series"].str.startswith("rank")  # composed rows rest on these
    silent = set(summary.loc[~summary["decides"] & ~rank, "point_id"].dropna())
    assert silent and not silent & {row for v in verdicts for row in v.rows}


@pytest.mark.parametrize(
    "claim",
    [
        "ffn-halves",
        "experts-large-ffn",
        "active-monotone",
        "active-gap",
        "fp8-wins",
        "prune-small-hurts",
        "spec-length",
        "fused-batch",
        "vl2-order",
    ],
)
def test_without_one_of_its_rows_a_verdict_is_another(summary, verdicts, claim):
    before = next(v for v in verdicts if v.id == claim)
    only = [c for c in sections.claims() if c.id == claim]
    for gone in (before.parts[0].rows[0], before.parts[0].rows[-1]):
        after = claims.evaluate(summary[summary["point_id"] != gone], only, checks=False)[0]
        assert (after.n, after.effect) != (before.n, before.effect), gone


def test_without_a_row_that_it_does_not_name_a_verdict_is_the_same(summary, verdicts):
    before = next(v for v in verdicts if v.id == "active-monotone")
    only = [c for c in sections.claims() if c.id == before.id]
    others = summary[
        ~summary["point_id"].isin(before.rows) & (summary["status"] == "ok") & summary["decides"]
    ]
    after = claims.evaluate(summary.drop(index=others.index), only, checks=False)[0]
    assert (after.n, after.effect, after.rows) == (before.n, before.effect, before.rows)


def test_a_claim_on_a_model_under_its_bound_is_untested(summary):
    own = summary["model"] == "DeepSeek-V2-Lite"
    under = summary["tpot_s"].where(~own, 0.88 * summary["floor_tpot_s"])
    judged = cells.with_decisions(summary.assign(tpot_s=under).drop(columns=["decides", "note"]))
    only = [c for c in sections.claims() if c.id == "topk-dsv2"]
    (found,) = claims.evaluate(judged, only, checks=False)
    assert found.verdict == "untested" and "near uniform" in found.reason


def test_one_device_decides_nothing_of_several(verdicts):
    """Section 5 of one device has composed rows alone."""
    found = {v.id: v for v in verdicts if v.section == 5}
    assert {v.verdict for v in found.values()} == {"untested"} and len(found) == 3
    assert "composed ones decide nothing" in found["tp-scales"].reason


def test_rows_are_in_the_json(verdicts):
    told = json.loads(claims.to_json(verdicts))
    assert [len(v["rows"]) for v in told] == [len(v.rows) for v in verdicts]
    assert all(isinstance(part["rows"], list) for v in told for part in v["parts"])


def test_a_table_without_ids_gives_verdicts_without_rows():
    verdict = next(
        v
        for v in claims.evaluate(
            grid(lambda i, e, k: 1000 / k**0.2).drop(columns="point_id"),
            sections.claims(),
            checks=False,
        )
        if v.id == "active-monotone"
    )
    assert verdict.verdict == "supported" and verdict.rows == ()
