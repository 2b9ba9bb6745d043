"""The study's claims, and a verdict on each from a summary of results.

`evaluate(summary, claims)` gives a `Verdict` per claim:

    supported     the intervals of its cells lie where the source says
    contradicted  they lie elsewhere
    mixed         some cells or parts hold, others do not
    undecided     an interval straddles a threshold
    untested      the data cannot say; `reason` tells why

A verdict is of one condition. Where that is not the source's (other devices, lengths, shapes)
`scale` is "own", `label` says "on other conditions", and `conditions` names them.

Each is checked: whether it stands when what it rests on is a little other
(docs/methods.md).

    a cell left out                     each cell of each deciding part in turn
    a block left out, a host left out   their records, of cells that have others
    deviation doubled                   of all engine starts
    threshold moved                     every end by its rounding, outwards and inwards
    other routing, other devices        where these were measured

A check that the data do not allow is not counted."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, replace

import pandas as pd

from moebook.predict.columns import of_those_under
from moebook.results import starts
from moebook.results.cells import METRIC, NEEDED, check_columns, of_sweep, why_not
from moebook.results.claims import Claim, combine
from moebook.results.comparison import Effect
from moebook.results.findings import NEAR_UNIFORM, Check, Verdict, regimes
from moebook.results.intervals import SAME, Change
from moebook.results.judge import Judge, untested


def evaluate(
    summary: pd.DataFrame | None, claims: Iterable[Claim], *, checks: bool = True
) -> list[Verdict]:
    """A verdict per claim from a summary of one device; None or no rows: all untested. checks:
    whether each is checked for robustness. ValueError for several devices or missing columns."""
    if summary is None or summary.empty:
        return [untested(claim, claim.untested or "there are no results") for claim in claims]
    if "device" in summary and len(devices := summary["device"].dropna().unique()) > 1:
        raise ValueError(
            f"the table holds several devices ({', '.join(devices)}); give the rows of one"
        )
    check_columns(summary, NEEDED, METRIC)
    under = summary.loc[of_those_under(summary), ["sweeps", "model"]]
    judge, verdicts = Judge(_plain_types(summary[why_not(summary).isna()])), []
    for claim in claims:
        verdict = judge.by_regime(claim)
        if checks and verdict.verdict != "untested":
            verdict = checked(verdict, claim, judge)
        left_out = [] if claim.untested else sorted(of_sweep(under, claim.sweep)["model"].unique())
        if left_out:
            why = "measured under its physical limit, so its routing was not near uniform"
            reason = f"{verdict.reason}; without {', '.join(left_out)}: {why}"
            verdict = replace(verdict, reason=reason)
        verdicts.append(verdict)
    return verdicts


def _plain_types(summary: pd.DataFrame) -> pd.DataFrame:
    """The same in the types of numpy, which pandas takes rows of much faster than of its own."""
    plain = {"Int64": "float64", "boolean": object, "string": object}
    kinds = {c: plain[t.name] for c, t in summary.dtypes.items() if t.name in plain}
    kinds |= {c: object for c, t in summary.dtypes.items() if isinstance(t, pd.StringDtype)}
    return summary.astype(kinds).copy()


def to_json(verdicts: list[Verdict]) -> str:
    """A JSON list of the verdicts with their parts."""
    told = [{**asdict(v), "label": v.label, "robust": v.robust} for v in verdicts]
    return json.dumps(told, indent=1, allow_nan=False)


MOVED = (1, -1)


def checked(verdict: Verdict, claim: Claim, judge: Judge) -> Verdict:
    """The verdict with its checks, but for those of other devices (sections/profile.py)."""
    regime = (regimes(judge.summary, claim.sweep) or [NEAR_UNIFORM])[0]

    def under(*changes: Change) -> tuple[str, ...]:
        return tuple(judge.word(claim, change, regime) for change in changes)

    blocks, hosts = _without_blocks(judge, claim, regime)
    found = {
        "a cell left out": _without_cells(judge, claim, regime),
        "a block left out": under(*blocks),
        "a host left out": under(*hosts),
        "start deviation doubled": under(Change(deviation=2.0)),
        "threshold moved by its rounding": under(*(Change(moved=m) for m in MOVED)),
        "other routing": tuple(regime.verdict.split(" ")[0] for regime in verdict.regimes),
    }
    checks = [check_of(name, verdict, others) for name, others in found.items() if others]
    return replace(verdict, checks=tuple(checks))


def check_of(name: str, verdict: Verdict, others: tuple[str, ...]) -> Check:
    """Whether all of the others are the verdict."""
    else_ = tuple(dict.fromkeys(other for other in others if other != verdict.verdict))
    return Check(name, not else_, else_)


def _without_blocks(
    judge: Judge, claim: Claim, regime: str
) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """Those of cells with records beside them left out, a block or a host at a time; the only block
    of a host is the host."""
    ok = judge.cells(claim, SAME, regime).ok
    if claim.metric not in starts.time_of():
        return (), ()
    each = starts.blocks_of(ok, claim.metric)
    several = each[each.count(axis=1) > 1].dropna(axis=1, how="all")
    blocks = {block: block.rpartition("#")[0] for block in several}
    counts = Counter(blocks.values())
    alone = {host: Change(block=block) for block, host in blocks.items() if counts[host] == 1}
    hosts = tuple(alone.get(host, Change(host=host)) for host in sorted(counts))
    return tuple(Change(block=block) for block in blocks), hosts


def _without_cells(judge: Judge, claim: Claim, regime: str) -> tuple[str, ...]:
    """Verdicts without one cell of one deciding part each, where it has others. A mean that the
    source states stands for all of its cells."""
    decided = [
        (part, found)
        for part, found in judge.effects(claim, SAME, regime)
        if part.decides and isinstance(found, Effect)
    ]
    whole = [
        part.verdict(part.states((found.mean,) if found.mean else found.items))
        for part, found in decided
    ]
    told = []
    for i, (part, found) in enumerate(decided):
        if found.mean is None and len(found.items) > 1:
            states = part.states(found.items, of=len(found.items) - 1)
            for gone in dict.fromkeys(states):  # cells of one state leave the same others
                left = [*states]
                left.remove(gone)
                told.append(combine([*whole[:i], part.verdict(left), *whole[i + 1 :]]))
    return tuple(told)
