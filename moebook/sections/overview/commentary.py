"""Section 0 in words: how the source's claims fare, and Fig 1, of which section 9 speaks."""

from html import escape

from moebook.results.cards import counted, effect_of
from moebook.results.findings import Verdict
from moebook.results.page import BOX, Html, chip
from moebook.sections.model_comparison.commentary import parameter_breakdown

__all__ = ["page", "parameter_breakdown"]

# a claim of each question of the study, whose findings a reader would quote
HEADLINES = (
    "ffn-halves",
    "active-gap",
    "fp8-wins",
    "prune-half-helps",
    "spec-length",
    "tp-scales",
    "fused-batch",
    "balance-aux-loss",
    "h100-knee",
    "vl2-order",
)


def page(verdicts: list[Verdict]) -> Html:
    """The page a reader can quote: how the claims fare, and ten findings, each with its number,
    95 % interval, cells, condition and verdict."""
    found = {one.id: one for one in verdicts}
    shown = [found[name] for name in HEADLINES if name in found]
    rows = "".join(map(_row, shown))
    table = f'<table style="font-size:90%;margin-top:8px">{rows}</table>'
    head = (
        f"Of {len(verdicts)} claims: {counted(verdicts)}." if verdicts else "No claim was judged."
    )
    text = "\n".join([head, *(f"  {v.id}: {v.label}, {effect_of(v) or v.reason}" for v in shown)])
    return Html(f'<div style="{BOX}"><div style="font-size:115%">{head}</div>{table}</div>', text)


def _row(v: Verdict) -> str:
    number = f"<b>{effect_of(v)}</b>; {v.met} of {v.n} cells hold" if v.effect is not None else ""
    where = escape(str(v.condition) if v.effect is not None else v.reason)
    cells = (chip(v.verdict, v.label), f"{escape(v.statement)}<br>{number}", where)
    left = "text-align:left;vertical-align:top"
    return f"<tr>{''.join(f'<td style={chr(34)}{left}{chr(34)}>{one}</td>' for one in cells)}</tr>"
