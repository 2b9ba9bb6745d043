"""Verdicts as lines for a terminal: all of them, or the whole card of one claim."""

from collections import Counter
from collections.abc import Iterable

from moebook.results.findings import Check, PartResult, Regime, Verdict

WORDS = ("supported", "contradicted", "mixed", "undecided", "untested")
MOST_CELLS = 12  # of a part that a card names


def effect_of(found: Verdict | PartResult | Regime) -> str:
    """`-74.8 % [-75, -74.7]`; empty where nothing was measured."""
    if found.effect is None:
        return ""
    ends = f"[{found.effect_lo:.3g}, {found.effect_hi:.3g}]"
    return f"{found.effect:.3g} {found.unit} {ends}"


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
            out.append(f"      {v.reason}")
            continue
        robust = f"; robust in {v.robust} checks" if v.robust else ""
        out.append(f"      measured {effect_of(v)}: {cells_of(v)}{robust}")
        out += [f"      {line}" for line in beside(v)]
    return [*out, f"{len(verdicts)} claims: {counted(verdicts) or 'none'}"]


def counted(verdicts: Iterable[Verdict]) -> str:
    """`7 supported, 3 mixed`"""
    counts = Counter(verdict.verdict for verdict in verdicts)
    return ", ".join(f"{counts[word]} {word}" for word in WORDS if counts[word])


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
        return [*out, f"  {v.reason}", *_rules(v)]
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
