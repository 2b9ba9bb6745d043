"""Section 0 in words: how the source's claims fare, and Fig 1, of which section 9 speaks."""

from collections import Counter
from html import escape

from moebook.results.cards import counted, effect_of
from moebook.results.findings import Verdict
from moebook.results.page import BOX, Html, chip
from moebook.sections.model_comparison.commentary import parameter_breakdown

__all__ = ["page", "parameter_breakdown"]

MOST = 10  # findings on the page
DECIDED = ("supported", "contradicted", "mixed")  # the surest first


def page(verdicts: list[Verdict]) -> Html:
    """The page a reader can quote: how the claims fare, and up to ten findings, each with its
    number, 95 % interval, cells, condition and verdict."""
    shown = findings(verdicts)
    rows = "".join(map(_row, shown))
    table = f'<table style="font-size:90%;margin-top:8px">{rows}</table>'
    head = (
        f"Of {len(verdicts)} claims: {counted(verdicts)}." if verdicts else "No claim was judged."
    )
    decided = sum(v.verdict in DECIDED for v in verdicts)
    if decided < len(verdicts):
        head += f" Here {len(shown)} of the {decided} decided; the cards of others say why not."
    text = "\n".join([head, *(f"  {v.id}: {v.label}, {effect_of(v) or v.reason}" for v in shown)])
    return Html(f'<div style="{BOX}"><div style="font-size:115%">{head}</div>{table}</div>', text)


def findings(verdicts: list[Verdict]) -> list[Verdict]:
    """Up to MOST decided claims, in the study's order: the surest of each section, then each
    section's next. Surer is what holds or not over what is mixed, wholly tested over in part, under
    more of its checks, on more cells."""
    decided = sorted((v for v in verdicts if v.verdict in DECIDED), key=_doubt)
    seen: Counter = Counter()
    rounds = {}
    for v in decided:
        rounds[v.id] = seen[v.section]
        seen[v.section] += 1
    chosen = {v.id for v in sorted(decided, key=lambda v: rounds[v.id])[:MOST]}
    return [v for v in verdicts if v.id in chosen]


def _doubt(v: Verdict) -> tuple:
    robust = sum(check.same for check in v.checks) / max(1, len(v.checks))
    return v.verdict == "mixed", "in part" in v.label, -robust, -v.n


def _row(v: Verdict) -> str:
    number = f"<b>{effect_of(v)}</b>; {v.met} of {v.n} cells hold" if v.effect is not None else ""
    where = escape(str(v.condition) if v.effect is not None else v.reason)
    cells = (chip(v.verdict, v.label), f"{escape(v.statement)}<br>{number}", where)
    left = "text-align:left;vertical-align:top"
    return f"<tr>{''.join(f'<td style={chr(34)}{left}{chr(34)}>{one}</td>' for one in cells)}</tr>"
