"""Verdicts to read. For a terminal, lines: all of them, or the whole card of one claim. For a page,
HTML: a card with the verdict's colour and word, what was measured, which part of it holds and which
does not; folded, all else that is known of it."""

from collections import Counter
from collections.abc import Iterable
from html import escape

import pandas as pd

from moebook.results.findings import Check, PartResult, Regime, Verdict
from moebook.results.page import LINE, VERDICTS, Html, chip, fold, inline, table

MOST_CELLS = 12  # of a part that a card names
MOST_NAMED = 1  # of the cells of one state, in a line
STATES = {"met": "holds", "failed": "does not hold", "partly": "near", "undecided": "open"}
IN_WORDS = {
    "supported": "Holds",
    "contradicted": "Does not hold",
    "mixed": "Mixed",
    "undecided": "Open",
    "untested": "Untested",
}


def effect_of(found: Verdict | PartResult | Regime) -> str:
    """`-74.8 % [-75, -74.7]`; empty where nothing was measured."""
    if found.effect is None:
        return ""
    ends = f"[{found.effect_lo:.3g}, {found.effect_hi:.3g}]"
    return f"{found.effect:.3g} {found.unit} {ends}"


def why_untested(v: Verdict) -> str:
    """Its reason; parts of one reason say it once."""
    told = {part.text for part in v.parts if part.text}
    return told.pop() if len(told) == 1 else v.reason


def cells_of(verdict: Verdict) -> str:
    """`5 of 8 cells hold; effect of active experts 1`."""
    if verdict.effect is None:
        return ""
    told = (part.count for part in verdict.parts if part.decides and part.effect is not None)
    count = next(told, f"{verdict.met} of {verdict.n} cells hold")
    return count + (f"; the effect is that of {verdict.at}" if verdict.at else "")


def verdict_lines(verdicts: Iterable[Verdict]) -> list[str]:
    """By section, the effect beside what the source states, and the reason where there is none; a
    last line counts them."""
    verdicts, out, section = list(verdicts), [], None
    for v in verdicts:
        if v.section != section:
            section = v.section
            out.append(f"Section {section}")
        out.append(f"  {v.id}: {v.label}: {v.statement}")
        if v.effect is None:
            out.append(f"      {why_untested(v)}")
            continue
        robust = f"; robust in {v.robust} checks" if v.robust else ""
        out.append(f"      measured {effect_of(v)}: {cells_of(v)}{robust}")
        out += [f"      {line}" for line in beside(v)]
    return [*out, f"{len(verdicts)} claims: {counted(verdicts) or 'none'}"]


def counted(verdicts: Iterable[Verdict]) -> str:
    """`7 supported, 3 mixed`"""
    counts = Counter(verdict.verdict for verdict in verdicts)
    return ", ".join(f"{counts[word]} {word}" for word in VERDICTS if counts[word])


def beside(v: Verdict) -> list[str]:
    """Its verdicts under other routings and on other devices, a line each."""
    found = [("routing", one) for one in v.regimes] + [("on", one) for one in v.elsewhere]
    return [f"{how} {one.name}: {one.verdict}, {effect_of(one)}" for how, one in found]


def robustness(checks: Iterable[Check]) -> str:
    """`4 of 5 checks; else with start deviation doubled: undecided`"""
    checks = list(checks)
    if not checks:
        return ""
    told = [f"{check.name}: {', '.join(check.verdicts)}" for check in checks if not check.same]
    text = f"{len(checks) - len(told)} of {len(checks)} checks"
    return text + (f"; else with {'; '.join(told)}" if told else "")


def card(v: Verdict) -> list[str]:
    """All that is known of one claim, as lines."""
    out = [f"{v.id}: {v.label}", f"  {v.statement}"]
    if v.effect is None:
        return [*out, f"  {why_untested(v)}", *_rules(v)]
    out += [f"  measured: {effect_of(v)}; {cells_of(v)}", f"  condition: {v.condition}"]
    out += [f"  not as the source: {'; '.join(v.differs)}"] * bool(v.differs)
    out += [f"  {v.records}"] * bool(v.records)
    out += [f"  {line}" for line in beside(v)]
    out += [f"  robust: {robustness(v.checks)}"] * bool(v.checks)
    for part in v.parts:
        out.append(f"  part {part}")
        cells = part.cells if len(part.cells) > 1 else ()
        out += [
            f"    {cell.state:>9}  {cell.value:.4g} [{cell.lo:.4g}, {cell.hi:.4g}]  {cell.label}"
            for cell in cells[:MOST_CELLS]
        ]
        out += [f"    {len(cells) - MOST_CELLS} more"] * (len(cells) > MOST_CELLS)
    return [*out, *_rules(v)]


def _rules(v: Verdict) -> list[str]:
    return [f"  rule {change}" for change in v.history] or ["  rule: as first written"]


def html_cards(verdicts: Iterable[Verdict]) -> Html:
    """All of them under a line that counts them."""
    verdicts = list(verdicts)
    head = f"{len(verdicts)} claims: {counted(verdicts) or 'none'}"
    text = "\n".join(
        [head, *(f"  {v.id}: {v.label}, {effect_of(v) or why_untested(v)}" for v in verdicts)]
    )
    return Html(f"<div>{escape(head)}</div>" + "".join(map(html_card, verdicts)), text)


def by_section(verdicts: Iterable[Verdict]) -> Html:
    """The same, the cards of each section folded under its line."""
    sections: dict[int, list[Verdict]] = {}
    for v in verdicts:
        sections.setdefault(v.section, []).append(v)
    folds, texts = [], []
    for number, own in sections.items():
        of = html_cards(own)
        title = f"**Section {number}:** {of.text.partition(chr(10))[0]}"
        folds.append(fold(title, "".join(map(html_card, own)), "none"))
        texts.append(f"Section {number}: {of.text}")
    return Html("".join(folds), "\n".join(texts))


def html_card(v: Verdict) -> str:
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
        f'<span style="font-size:90%">{inline("; ".join(in_short(v)))}</span></summary>'
        f'<table style="font-size:90%">{rows}</table></details>'
    )


def in_short(v: Verdict) -> list[str]:
    """What was measured, and where one half holds and the other does not, which is which."""
    if v.effect is None:
        return [why_untested(v)]
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
        f"{IN_WORDS[part.verdict].lower()}: {part.name}" + f" ({part.count})" * (part.n > 1)
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
        return [f"a measurement: {why_untested(v)}"]
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
