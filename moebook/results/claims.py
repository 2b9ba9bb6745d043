"""What the source claims, and the rules that decide: plain objects, written in each section's
claims.py. `results.verdicts` measures and judges them.

A claim is supported when all its deciding parts are, contradicted when its headline (the first
part) is and no part is supported, mixed otherwise."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from moebook.results.cells import METRIC

INF = float("inf")


@dataclass(frozen=True)
class Rule:
    """supported: value in `point` and interval in `interval`. contradicted: interval outside
    `possible`. Else mixed."""

    point: tuple[float, float]
    interval: tuple[float, float]
    possible: tuple[float, float]

    def decide(self, value: float, lo: float, hi: float) -> str:
        """supported, contradicted or mixed, for an effect and its 95 % interval."""
        inside = self.interval[0] <= lo and hi <= self.interval[1]
        if self.point[0] <= value <= self.point[1] and inside:
            return "supported"
        return "contradicted" if hi < self.possible[0] or lo > self.possible[1] else "mixed"


def within(
    lo: float,
    hi: float,
    *,
    slack: float | None = None,
    contradicted_below: float | None = None,
    contradicted_above: float | None = None,
) -> Rule:
    """Supported when the value lies in [lo, hi] and its interval in that range widened by `slack`
    (default: half the width) on each side; contradicted when the interval misses the widened range
    altogether, or lies beyond the bound given. ValueError for lo over hi."""
    if lo > hi:
        raise ValueError(f"within({lo}, {hi}): the smaller number first")
    slack = (hi - lo) / 2 if slack is None else slack
    wide = (float(lo - slack), float(hi + slack))
    below = wide[0] if contradicted_below is None else contradicted_below
    above = wide[1] if contradicted_above is None else contradicted_above
    return Rule((float(lo), float(hi)), wide, (below, above))


def at_least(bound: float, *, contradicted_below: float | None = None) -> Rule:
    """Supported when the interval lies at or over the bound; contradicted when it lies under it, or
    under `contradicted_below`."""
    below = bound if contradicted_below is None else contradicted_below
    return Rule((bound, INF), (bound, INF), (below, INF))


def at_most(bound: float, *, contradicted_above: float | None = None) -> Rule:
    """Supported when the interval lies at or under the bound; contradicted when it lies over it, or
    over `contradicted_above`."""
    above = bound if contradicted_above is None else contradicted_above
    return Rule((-INF, bound), (-INF, bound), (-INF, above))


@dataclass(frozen=True)
class Part:
    """One measured effect of a claim and its rule. effect: Cells -> Effect, with its arguments
    bound (`partial(end_change, axis="batch", low=1, high=64)`); TypeError where they do not fit.
    decides: False for a part that is reported and does not count."""

    name: str
    effect: Callable
    rule: Rule
    decides: bool = True
    why: str = ""

    def __post_init__(self):
        if isinstance(self.effect, partial):
            inspect.signature(self.effect.func).bind(
                None, *self.effect.args, **self.effect.keywords
            )


@dataclass(frozen=True)
class Claim:
    """One claim of the source; measured by `parts` on the cells of `sweep` (several: separated by
    |), or `untested` with the reason.

    source_range: numbers that the source prints. source: its conditions, column -> values.
    decided_by: in words. metric: column that the cells hold. history: dated changes of the rule,
    which is frozen before data. notebook: of the section that holds it."""

    id: str
    statement: str
    decided_by: str
    source_range: dict
    sweep: str | None = None
    source: dict | None = None
    parts: tuple[Part, ...] = ()
    untested: str | None = None
    metric: str = METRIC
    history: tuple[str, ...] = ()
    notebook: str = ""

    def __post_init__(self):
        if (self.untested is None) != bool(self.parts):
            raise ValueError(f"claim {self.id}: give either parts or why it is untested")

    @property
    def section(self) -> int:
        return int(self.notebook.partition("_")[0] or 0)
