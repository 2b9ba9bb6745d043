"""What the source claims, and the rules that decide: plain objects, written in each section's
claims.py. `results.verdicts` measures and judges them.

A part of a claim is judged cell by cell: a rule says of each cell's interval whether it meets the
rule, fails it, lies near it (`partly`), or straddles an end (`undecided`). A claim is supported
when all its deciding parts are, contradicted when its headline (the first part) is and no part is
supported, mixed when some cells or parts hold and others do not, undecided otherwise."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial

import yaml

from moebook.results import starts
from moebook.results.cells import METRIC
from moebook.results.comparison import Item

INF = float("inf")
FINEST_PCT = 0.8  # by which independent re-runs of public benchmarks differ at least
OF_FIVES = 2.5  # half of the step in which numbers that end in 0 or 5 are printed


@dataclass(frozen=True)
class Rule:
    """met: the whole interval lies in it. possible: contradicted by an interval outside. level: of
    the interval that meets. rounding: by how much a robust verdict may see the ends moved."""

    met: tuple[float, float]
    possible: tuple[float, float]
    rounding: float
    level: float = starts.LEVEL

    def state(self, item: Item, level: float | None = None) -> str:
        """met, failed, partly (between the two) or undecided. level: another one to meet it at."""
        lo, hi = item.ends(self.level if level is None else level)
        if self.met[0] <= lo and hi <= self.met[1]:
            return "met"
        lo, hi = item.ends()
        if hi < self.possible[0] or lo > self.possible[1]:
            return "failed"
        near = self.possible[0] <= lo and hi <= self.possible[1]
        return "partly" if near and (hi < self.met[0] or lo > self.met[1]) else "undecided"

    def margin(self, value: float) -> float:
        """How far within `met` a value lies; under 0 outside."""
        return min(value - self.met[0], self.met[1] - value)

    def moved(self, times: int) -> "Rule":
        """With all ends moved outwards by `times` roundings, inwards where it is negative."""
        by = times * self.rounding
        met, possible = ((lo - by, hi + by) for lo, hi in (self.met, self.possible))
        return replace(self, met=met, possible=possible)

    def __str__(self) -> str:
        """`20 to 30 (contradicted outside 15 to 35)`"""
        told = _span(self.met)
        return (
            told
            if self.met == self.possible
            else f"{told} (contradicted outside {_span(self.possible)})"
        )


def _span(ends: tuple[float, float]) -> str:
    lo, hi = ends
    if hi == INF:
        return f"at least {lo:g}"
    return f"at most {hi:g}" if lo == -INF else f"{lo:g} to {hi:g}"


def _rounding(bounds: Iterable[float], given: float | None) -> float:
    finite = [b for b in bounds if abs(b) != INF]
    if given is not None:
        return given
    return OF_FIVES if any(finite) and all(b % 5 == 0 for b in finite) else FINEST_PCT


def within(
    lo: float,
    hi: float,
    *,
    slack: float | None = None,
    contradicted_below: float | None = None,
    contradicted_above: float | None = None,
    rounding: float | None = None,
) -> Rule:
    """Met when the interval lies in [lo, hi]; contradicted when it misses that range widened by
    `slack` (default: half the width) on each side, or lies beyond the bound given. ValueError for
    lo over hi."""
    if lo > hi:
        raise ValueError(f"within({lo}, {hi}): the smaller number first")
    slack = (hi - lo) / 2 if slack is None else slack
    below = lo - slack if contradicted_below is None else contradicted_below
    above = hi + slack if contradicted_above is None else contradicted_above
    return Rule((lo, hi), (below, above), _rounding((lo, hi), rounding))


def at_least(
    bound: float, *, contradicted_below: float | None = None, rounding: float | None = None
) -> Rule:
    """Met when the interval lies at or over the bound; contradicted when it lies under it, or
    under `contradicted_below`."""
    below = bound if contradicted_below is None else contradicted_below
    return Rule((bound, INF), (below, INF), _rounding((bound, below), rounding))


def at_most(
    bound: float, *, contradicted_above: float | None = None, rounding: float | None = None
) -> Rule:
    """Met when the interval lies at or under the bound; contradicted when it lies over it, or
    over `contradicted_above`."""
    above = bound if contradicted_above is None else contradicted_above
    return Rule((-INF, bound), (-INF, above), _rounding((bound, above), rounding))


def no_effect(bound: float, *, contradicted_beyond: float) -> Rule:
    """Met when two one-sided tests, each at 5 %, exclude an effect of `bound` or more on either
    side; contradicted when the interval lies beyond the other bound."""
    ends, beyond = (-bound, bound), (-contradicted_beyond, contradicted_beyond)
    return Rule(ends, beyond, _rounding(ends, None), level=1 - 2 * (1 - starts.LEVEL))


@dataclass(frozen=True)
class Part:
    """One measured effect of a claim and its rule. effect: Cells -> Effect, with its arguments
    bound (`partial(end_change, axis="batch", low=1, high=64)`); TypeError where they do not fit.
    decides: False for a part that is reported and does not count. share: of the cells that meet
    the rule for a supported part. contradicted_over: share of cells that fail it, over which it is
    contradicted; None: all. some: one cell that meets the rule is enough, with an interval that
    allows for its being chosen among all."""

    name: str
    effect: Callable
    rule: Rule
    decides: bool = True
    why: str = ""
    share: float = 1.0
    contradicted_over: float | None = None
    some: bool = False

    def __post_init__(self):
        if isinstance(self.effect, partial):
            inspect.signature(self.effect.func).bind(
                None, *self.effect.args, **self.effect.keywords
            )

    def states(self, items: tuple[Item, ...], moved: int = 0, of: int | None = None) -> list[str]:
        """Of each cell. For `some` at the level that allows for the choice among them, or among
        `of`."""
        rule = self.rule.moved(moved)
        level = 1 - (1 - starts.LEVEL) / (of or len(items)) if self.some else None
        return [rule.state(item, level) for item in items]

    def wanted(self, unit: str | None, of_mean: bool) -> str:
        """What supports the part, in words."""
        which = "the mean" if of_mean else "one cell" if self.some else "every cell"
        if self.share < 1 and not of_mean and not self.some:
            which = f"{100 * self.share:.0f} % of the cells"
        return f"{which} {_span(self.rule.met)} {unit or ''}".strip()

    def verdict(self, states: list[str]) -> str:
        """supported, contradicted, mixed or undecided, from the states of the cells."""
        n, met, failed = len(states), states.count("met"), states.count("failed")
        unsure = states.count("undecided")
        if self.some:
            if met:
                return "supported"
            return "contradicted" if failed == n else "undecided" if unsure else "mixed"

        def fails(count: int) -> bool:
            return count == n or (
                self.contradicted_over is not None and count > self.contradicted_over * n
            )

        if met >= self.share * n:
            return "supported"
        if fails(failed):
            return "contradicted"
        open_ = met + unsure >= self.share * n or fails(failed + unsure)
        return "undecided" if open_ else "mixed"


@dataclass(frozen=True)
class RuleChange:
    """until: the day (ISO) that the rule was replaced. rule: in words. after_data: whether it was
    changed with results at hand. verdicts: profile -> verdict and effect that it gave last."""

    until: str
    rule: str
    why: str
    after_data: bool
    verdicts: dict[str, str] = field(default_factory=dict)

    @property
    def short(self) -> str:
        """When the rule was replaced and what verdict it gave where; the card has the rest."""
        after = ", after data" if self.after_data else ""
        told = ", ".join(f"{on}: {v.partition(',')[0]}" for on, v in self.verdicts.items())
        return f"changed {self.until}{after}; before {told or 'none'}"

    def __str__(self) -> str:
        after = ", after data" if self.after_data else ""
        told = "; ".join(f"{profile}: {verdict}" for profile, verdict in self.verdicts.items())
        return (
            f"until {self.until}{after}: {self.rule}. Changed: {self.why}. "
            f"Verdicts: {told or 'none'}"
        )


def read_history(text: str) -> dict[str, tuple[RuleChange, ...]]:
    """The changes of each claim of a history.yaml."""
    return {
        name: tuple(RuleChange(**{**one, "until": str(one["until"])}) for one in changes)
        for name, changes in (yaml.safe_load(text) or {}).items()
    }


@dataclass(frozen=True)
class Claim:
    """One claim of the source; measured by `parts` on the cells of `sweep` (several: separated by
    |), or `untested` with the reason.

    source_range: numbers that the source prints. source: its conditions, column -> values.
    decided_by: in words. metric: column that the cells hold. notebook: of the section that holds
    it. history: of its rule."""

    id: str
    statement: str
    decided_by: str
    source_range: dict
    sweep: str | None = None
    source: dict | None = None
    parts: tuple[Part, ...] = ()
    untested: str | None = None
    metric: str = METRIC
    notebook: str = ""
    history: tuple[RuleChange, ...] = ()

    def __post_init__(self):
        if (self.untested is None) != bool(self.parts):
            raise ValueError(f"claim {self.id}: give either parts or why it is untested")

    @property
    def section(self) -> int:
        return int(self.notebook.partition("_")[0] or 0)

    @property
    def name(self) -> str:
        """Of the section's folder."""
        return self.notebook.partition("_")[2]


def combine(verdicts: list[str]) -> str:
    """The verdict on a claim from those on its deciding parts, the headline first."""
    if set(verdicts) == {"supported"}:
        return "supported"
    if verdicts[0] == "contradicted" and "supported" not in verdicts:
        return "contradicted"
    if "mixed" in verdicts or {"supported", "contradicted"} <= set(verdicts):
        return "mixed"
    return "undecided"
