"""Whether a verdict stands when what it rests on is a little other: study.md's checks.

    a cell left out                     each cell of each deciding part in turn
    a block left out, a host left out   their records, of cells that have others
    deviation doubled                   of all engine starts
    threshold moved                     every end by its rounding, outwards and inwards
    other routing, other devices        where these were measured

A check that the data do not allow is not counted."""

from dataclasses import replace

from moebook.results import starts
from moebook.results.claims import Claim, combine
from moebook.results.comparison import Effect
from moebook.results.conditions import NEAR_UNIFORM, regimes
from moebook.results.findings import Check, Verdict
from moebook.results.intervals import SAME, Change
from moebook.results.judge import Judge

MOVED = (1, -1)


def checked(verdict: Verdict, claim: Claim, judge: Judge) -> Verdict:
    """The verdict with its checks, but for those of other devices (sections/profile.py)."""
    regime = (regimes(judge.summary, claim.sweep) or [NEAR_UNIFORM])[0]

    def under(*changes: Change) -> tuple[str, ...]:
        return tuple(judge.word(claim, change, regime) for change in changes)

    blocks, hosts = _blocks_and_hosts(judge, claim, regime)
    found = {
        "a cell left out": _without_cells(judge, claim, regime),
        "a block left out": under(*(Change(block=b) for b in blocks)),
        "a host left out": under(*(Change(host=h) for h in hosts)),
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


def _blocks_and_hosts(judge: Judge, claim: Claim, regime: str) -> tuple[list[str], list[str]]:
    """Those of cells with records beside them."""
    ok = judge.cells(claim, SAME, regime).ok
    if claim.metric not in starts.time_of():
        return [], []
    found = [own for own in starts.blocks_of(ok, claim.metric) if len(own) > 1]
    blocks = sorted({block for own in found for block in own})
    return blocks, sorted({block.rpartition("#")[0] for block in blocks})


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
