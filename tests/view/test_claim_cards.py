"""A claim's card says what a reader asks of it, in words."""

from dataclasses import replace

import pytest
import shipped

from moebook import sections
from moebook.results import cards, loading, page
from moebook.results.findings import CellResult, PartResult, Verdict
from moebook.sections.overview import commentary as overview
from moebook.workbook import Run

CELLS = (
    CellResult("batch 1", -12.0, -13.0, -11.0, "failed"),
    CellResult("batch 64", 17.0, 16.0, 18.0, "met"),
)
PART = PartResult(
    "gain",
    "mixed",
    -12.0,
    -13.0,
    -11.0,
    "%",
    2,
    "",
    met=1,
    at="batch 1",
    cells=CELLS,
    rule="every cell within 15 to 20 %",
)
MIXED = Verdict(
    "a", 6, "06", "A < B.", "mixed", -12.0, -13.0, -11.0, "%", 2, {"change_pct": -50}, "own",
    parts=(PART,), met=1, at="batch 1",
)  # fmt: skip


def test_a_mixed_card_says_which_half_held_and_what_would_change_it():
    html = cards.html_card(MIXED)
    assert "gain: holds at batch 64 (+17)" in html
    assert "gain: does not hold at batch 1 (−12)" in html
    assert "1 of 2 cells hold" in html and "as first written" in html
    assert "gain: supported if every cell within 15 to 20 %" in html
    assert "A &lt; B." in html and "change_pct" not in html


def test_an_untested_card_gives_the_reason_in_place_of_a_number():
    html = cards.html_card(Verdict("b", 6, "06", "B.", "untested", reason="needs 4 GPUs"))
    assert "– untested" in html and "needs 4 GPUs" in html and "Measured" not in html


def test_parts_untested_for_one_reason_say_it_once():
    parts = [PartResult(n, "untested", None, None, None, "%", 0, "needs weights") for n in "xy"]
    reason = "x: needs weights; y: needs weights"
    v = Verdict("b", 6, "06", "B.", "untested", reason=reason, parts=tuple(parts))
    assert cards.in_short(v) == ["needs weights"]


@pytest.mark.parametrize("word", page.VERDICTS)
def test_every_verdict_has_a_colour_and_a_mark_of_its_own(word):
    colour, mark = page.VERDICTS[word]
    others = [look for name, look in page.VERDICTS.items() if name != word]
    assert all(colour != c and mark != m for c, m in others)
    assert f"{mark} {word}" in page.chip(word)


def test_every_shipped_claim_has_a_card_without_keys_of_the_table():
    found, _ = shipped.verdicts("h200")
    shown = cards.html_cards(found)
    assert all(f"<b>{v.id}</b>" in shown.html for v in found)
    assert not [
        v.id
        for v in found
        for key in v.source_range
        if f"{key} {v.source_range[key]}" in shown.html
    ]
    assert shown.text.startswith(f"{len(found)} claims: ")


def test_a_page_opens_on_the_finding_and_folds_the_rest(monkeypatch):
    section = sections.find("06_fused_moe")
    run = Run(section, shipped.results("h200", section.stem).params)
    monkeypatch.setattr(loading, "load", shipped.read)
    run.read()
    top, folded = run.page().html.split("<details", 1)
    assert "reference results that ship with moebook" in top
    assert "eager loop" in top and "NVIDIA H200" in top and "fused-batch" in top
    assert "Plan: " in folded and f"All results: {len(run.results.summary)} rows" in folded


def test_findings_of_the_overview_are_decided_ones_of_every_section_first():
    made = [
        replace(MIXED, id=f"{section}-{verdict}", section=section, verdict=verdict)
        for section in range(1, 8)
        for verdict in ("mixed", "untested", "contradicted", "undecided")
    ]
    found = overview.findings(made)
    assert [v.id for v in found if v.verdict == "mixed"] == ["1-mixed", "2-mixed", "3-mixed"]
    assert [v.section for v in found if v.verdict == "contradicted"] == [*range(1, 8)]
    assert [v.section for v in found] == sorted(v.section for v in found)
    head = overview.page(made).text.splitlines()[0]
    assert "7 undecided, 7 untested. Here 10 of the 14 decided" in head
    assert overview.findings([replace(MIXED, verdict="untested")]) == []


def test_a_terminal_too_says_a_shared_reason_once():
    parts = [PartResult(n, "untested", None, None, None, "%", 0, "needs weights") for n in "xy"]
    reason = "x: needs weights; y: needs weights"
    v = Verdict("b", 6, "06", "B.", "untested", reason=reason, parts=tuple(parts))
    for told in (cards.verdict_lines([v]), cards.card(v), [cards.html_cards([v]).text]):
        assert "\n".join(told).count("needs weights") == 1
