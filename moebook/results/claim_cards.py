"""A claim as a card on a page: the verdict with its colour and word, what was measured, which part
of it holds and which does not; folded, all else that is known of it."""

from collections.abc import Iterable
from html import escape

from moebook.results.cards import beside, counted, effect_of, robustness
from moebook.results.findings import PartResult, Verdict
from moebook.results.page import LINE, VERDICTS, Html, chip, fold, table

MOST_NAMED = 2  # cells that a line names
STATES = {"met": "holds", "failed": "does not hold", "partly": "near", "undecided": "open"}
WORDS = {
    "supported": "Holds",
    "contradicted": "Does not hold",
    "mixed": "Mixed",
    "undecided": "Open",
    "untested": "Untested",
}


def cards(verdicts: Iterable[Verdict]) -> Html:
    """All of them under a line that counts them."""
    verdicts = list(verdicts)
    head = f"{len(verdicts)} claims: {counted(verdicts) or 'none'}"
    text = "\n".join(
        [head, *(f"  {v.id}: {v.label}, {effect_of(v) or v.reason}" for v in verdicts)]
    )
    return Html(f"<div>{escape(head)}</div>" + "".join(map(card, verdicts)), text)


def by_section(verdicts: Iterable[Verdict]) -> Html:
    """The same, the cards of each section folded under its line."""
    sections: dict[int, list[Verdict]] = {}
    for v in verdicts:
        sections.setdefault(v.section, []).append(v)
    folds, texts = [], []
    for number, own in sections.items():
        of = cards(own)
        title = f"**Section {number}:** {of.text.partition(chr(10))[0]}"
        folds.append(fold(title, "".join(map(card, own)), "none"))
        texts.append(f"Section {number}: {of.text}")
    return Html("".join(folds), "\n".join(texts))


def card(v: Verdict) -> str:
    """One claim as HTML."""
    colour, _ = VERDICTS[v.verdict]
    look = f"border:{LINE};border-left:5px solid {colour};border-radius:6px;padding:3px 12px"
    rows = "".join(
        f'<tr><td style="text-align:left;white-space:nowrap;vertical-align:top">{name}</td>'
        f'<td style="text-align:left">{text}</td></tr>'
        for name, text in details(v).items()
        if text
    )
    return (
        f'<details style="{look};margin:3px 0"><summary style="cursor:pointer">'
        f"{chip(v.verdict, v.label)} <b>{escape(v.id)}</b> {escape(v.statement)}<br>"
        f'<span style="font-size:90%">{escape("; ".join(in_short(v)))}</span></summary>'
        f'<table style="font-size:90%">{rows}</table></details>'
    )


def in_short(v: Verdict) -> list[str]:
    """What was measured, and where one half holds and the other does not, which is which."""
    if v.effect is None:  # parts of one reason say it once
        told = {part.text for part in v.parts if part.text}
        return [told.pop() if len(told) == 1 else v.reason]
    robust = f"; robust in {v.robust} checks" if v.robust else ""
    where = f" at {v.at}" if v.at else ""
    head = f"Measured {effect_of(v)}{where}; {v.met} of {v.n} cells hold{robust}"
    halves = [] if v.verdict in ("supported", "contradicted") else _halves(v)
    return [head, *halves]


def _halves(v: Verdict) -> list[str]:
    """Of a verdict that is not one: what holds, what does not and what is open, each with its
    cells."""
    parts = [part for part in v.parts if part.decides]
    found = [
        f"{WORDS[part.verdict].lower()}: {part.name}" + f" ({part.count})" * (part.n > 1)
        for part in parts
    ] * (len(parts) > 1)
    for part in parts:
        if part.verdict == "mixed" or len(parts) == 1:
            found += [f"{part.name}: {line}" for line in _cells_by_state(part)]
    return found


def _cells_by_state(part: PartResult) -> list[str]:
    found = []
    for state, word in STATES.items():
        own = [f"{c.label} ({c.value:+.3g})" for c in part.cells if c.state == state]
        more = f" and {len(own) - MOST_NAMED} more" * (len(own) > MOST_NAMED)
        found += [f"{word} at {', '.join(own[:MOST_NAMED])}{more}"] * bool(own)
    return found


def details(v: Verdict) -> dict[str, str]:
    """Name -> HTML of all that a card folds away; empty where there is nothing to say."""
    c = v.condition
    listed = "<br>".join
    return {
        "condition": escape(str(c)) if v.effect is not None else "",
        "routing regime": escape("; ".join([c.routing, *beside(v)]).strip("; ")),
        "engine setting": escape(f"{c.engine}, graphs {c.graphs}") if c.graphs else "",
        "not as the source": escape("; ".join(v.differs)),
        "records": escape(v.records),
        "cells": "".join(map(_part, v.parts)),
        "robust": escape(robustness(v.checks)),
        "would change it": listed(escape(line) for line in would_change(v)),
        "rule": listed(escape(str(one)) for one in v.history) or "as first written",
    }


def _part(part: PartResult) -> str:
    if part.effect is None:
        return f"<div>{chip('untested')} {escape(part.name)}: {escape(part.text)}</div>"
    told = "" if part.decides else " (reported, does not decide)"
    head = f"<div>{chip(part.verdict)} {escape(part.name)}{told}: {escape(part.count)}"
    head += f"; wanted: {escape(part.rule)}</div>" if part.rule else "</div>"
    if len(part.cells) < 2:
        return head
    import pandas as pd

    rows = [
        {
            "cell": cell.label,
            f"effect ({part.unit})": f"{cell.value:.4g}",
            "95 % interval": f"{cell.lo:.4g} to {cell.hi:.4g}",
            "": STATES[cell.state],
        }
        for cell in part.cells
    ]
    return head + table(pd.DataFrame(rows))


def would_change(v: Verdict) -> list[str]:
    """What would give another verdict: what each part that does not hold lacks, checks that come
    out else, and conditions that are not the source's."""
    if v.effect is None:
        return [f"a measurement: {v.reason}"]
    found = []
    for part in v.parts:
        if part.decides and part.effect is None:
            found.append(f"{part.name}: a measurement ({part.text})")
        elif part.decides and part.verdict != "supported":
            found.append(f"{part.name}: supported if {part.rule} with its whole interval")
    if v.verdict == "supported":
        found.append("a cell whose whole interval leaves the rule's range")
    found += [f"{c.name}: {', '.join(c.verdicts)}" for c in v.checks if not c.same]
    return found + ["the source's own conditions: not run here"] * bool(v.differs)
