"""Cells of a claim (conditions.py), paired along one axis, each pair with its own interval.

Figures, commentary and verdicts take the same `Comparison`."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd

from moebook.results import starts
from moebook.results.cells import Cells, Untested, series_keys, status_counts
from moebook.results.conditions import NAMES, other, plain, span
from moebook.results.intervals import EXACT, Estimates, estimate, log_ratio

WORDS = ("model", "series", "text")  # of NAMES: told first, without their name
SHAPE = ("expert_ffn_dim", "num_experts", "top_k")
LENGTH = ("input_tokens", "output_tokens")


def percent(log: float) -> float:
    """The logarithm of a ratio as a change in %."""
    return 100 * float(np.expm1(log))


def times(log: float) -> float:
    """The logarithm of a ratio as the ratio."""
    return float(np.exp(log))


@dataclass(frozen=True)
class Item:
    """One cell of a claim: a statistic, its standard error and degrees of freedom; told: the
    statistic as it is told."""

    label: str
    middle: float
    se: float = 0.0
    df: float = EXACT
    told: Callable[[float], float] = float

    @cached_property
    def value(self) -> float:
        return self.told(self.middle)

    def ends(self, level: float = starts.LEVEL) -> tuple[float, float]:
        """The interval of this level, in %, times or what it is told in."""
        return self._ends if level == starts.LEVEL else self._ends_at(level)

    @cached_property  # a cell is judged again and again as its rule is moved
    def _ends(self) -> tuple[float, float]:
        return self._ends_at(starts.LEVEL)

    def _ends_at(self, level: float) -> tuple[float, float]:
        half = float(self.se * starts.quantile(self.df, level))
        return tuple(sorted((self.told(self.middle - half), self.told(self.middle + half))))


@dataclass(frozen=True)
class Effect:
    """What decides a part of a claim: its cells, judged one by one, or their mean where the source
    states one. `used` are the rows that entered, `basis` those that it rests on where they are
    fewer. selected: the cells that `items` were chosen from."""

    items: tuple[Item, ...]
    unit: str
    used: pd.DataFrame
    differs: tuple[str, ...] = ()
    text: str = ""
    whole: bool = True  # False: planned cells that the effect speaks of are not measured
    basis: pd.DataFrame | None = None
    mean: Item | None = None
    selected: int | None = None

    @property
    def values(self) -> np.ndarray:
        """(n,) of the cells."""
        return np.array([item.value for item in self.items])

    def only(self, which: str) -> "Effect":
        """The least (`min`) or the largest (`max`) of the cells, which is then a selected one."""
        at = {"min": np.argmin, "max": np.argmax}[which](self.values)
        return replace(self, items=(self.items[at],), selected=len(self.items))


@dataclass(frozen=True)
class Comparison:
    """Pairs of cells: `low[p]` with `high[p]`."""

    cells: Cells
    low: np.ndarray
    high: np.ndarray
    differs: tuple[str, ...]
    text: str
    whole: bool = True

    def log_ratios(self) -> Estimates:
        """(P,) logarithms of low over high, with their errors."""
        return estimate(self.cells.values, np.column_stack([self.low, self.high]), log_ratio)

    def ratio(self) -> np.ndarray:
        """(P,) low over high."""
        return np.exp(self.log_ratios().value)

    @property
    def used(self) -> pd.DataFrame:
        rows = np.unique(np.concatenate([self.low, self.high]))
        return self.cells.once(("used", rows.tobytes()), lambda: self.cells.ok.iloc[rows])

    def effect(
        self, unit: str = "%", told: Callable = percent, over: bool = True, text: str = ""
    ) -> Effect:
        """A cell per pair: low over high, or, with `over` False, high over low."""
        found, sign = self.log_ratios(), 1 if over else -1
        found = replace(found, value=sign * found.value)
        rows = ("labels", self.low.tobytes())
        labels = self.cells.once(rows, lambda: labels_of(self.cells.ok.iloc[self.low]))
        items = items_of(found, labels, told)
        return Effect(items, unit, self.used, _once(self.differs), text or self.text, self.whole)

    def mean(self, over: bool = True) -> Item:
        """Mean change over the pairs, %, with the error of measurement alone."""
        rows = np.unique(np.concatenate([self.low, self.high]))
        low, high = (np.searchsorted(rows, side) for side in (self.low, self.high))
        first, second = (low, high) if over else (high, low)

        def of(v: np.ndarray) -> np.ndarray:
            return 100 * (v[..., first] / v[..., second] - 1).mean(axis=-1)

        found = estimate(self.cells.values, rows[None, :], of)
        return items_of(found, [f"mean of {len(self.low)}"])[0]


def items_of(found: Estimates, labels: Iterable[str], told: Callable = float) -> tuple[Item, ...]:
    """A cell per statistic."""
    each = zip(labels, found.value, found.se, found.df, strict=True)
    return tuple(Item(label, float(v), float(se), float(df), told) for label, v, se, df in each)


def labels_of(rows: pd.DataFrame, columns: Iterable[str] = NAMES) -> list[str]:
    """What tells each row from the others, of some columns: `expert FFN dim 1792, experts 8`."""
    have = [c for c in (*WORDS, *columns) if c in rows and c != "length"]
    tell = [c for c in dict.fromkeys(have) if rows[c].nunique(dropna=False) > 1]
    named = [c for c in ("model", "series") if c in tell]
    if named:  # of a model, or a series of it, its shape is known
        each = rows.groupby(named, dropna=False)
        tell = [c for c in tell if c not in SHAPE or each[c].nunique(dropna=False).max() > 1]
    lengths = [c for c in LENGTH if c in tell]
    told = [*(c for c in tell if c not in LENGTH), *lengths[:1]]
    return [
        _label(row, told) for row in rows[list(dict.fromkeys((*tell, *LENGTH)))].to_dict("records")
    ]


def _label(row: dict, columns: list[str]) -> str:
    """One row by some columns; a length by both its numbers."""
    words = []
    for column in columns:
        if column in LENGTH:
            words.append(" + ".join(f"{row[c]:g}" for c in LENGTH))
        elif column in WORDS:
            words.append(str(row[column]))
        elif not pd.isna(row[column]):
            words.append(f"{NAMES[column]} {row[column]:g}")
    return ", ".join(words)


def _once(differs: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(differs))


def pair(
    cells: Cells, axis: str, low, high, *, ends: str = "exact", own_range: bool = True
) -> Comparison:
    """Cells equal in everything but `axis`, at its two ends.

    ends: `exact`, or `widest`: the smallest and largest value each series was measured at, for
    claims whose far end does not fit the device."""
    planned = set(cells.planned[axis].dropna())
    differs: tuple[str, ...] = ()
    if not {low, high} <= planned:
        own = sorted(cells.ok[axis].dropna().unique())
        if not own_range or len(own) < 2:
            raise Untested(
                f"{NAMES[axis]} {low:g} and {high:g} are needed; the plan has "
                f"{plain(sorted(planned))}"
            )
        differs = other(axis, span(own[0], own[-1]), span(low, high))
        low, high = own[0], own[-1]
    lows, highs, reached = [], [], set()  # row numbers; (x low, x high)
    for rows in series(cells, (axis,), axis):
        x = cells.ok[axis].to_numpy()[rows]
        rows, x = rows[(x >= low) & (x <= high)], x[(x >= low) & (x <= high)]
        if len(rows) > 1 and (ends == "widest" or (x[0] == low and x[-1] == high)):
            lows.append(rows[0])
            highs.append(rows[-1])
            reached.add((x[0], x[-1]))
    if not lows:
        at = cells.planned[cells.planned[axis].isin([low, high])]
        raise Untested(
            f"no pair of measured cells with {NAMES[axis]} {low:g} and {high:g} "
            f"({status_counts(at)})"
        )
    text = (
        ""
        if ends == "exact"
        else "ranges measured: " + ", ".join(f"{a:g} to {b:g}" for a, b in sorted(reached))
    )
    return Comparison(cells, np.array(lows), np.array(highs), differs, text)


def series(cells: Cells, without: tuple[str, ...], axis: str) -> list[np.ndarray]:
    """Row numbers of each series of cells that differ only in `without`, ordered along `axis`."""
    return cells.once(("series", without, axis), lambda: _series(cells, without, axis))


def _series(cells: Cells, without: tuple[str, ...], axis: str) -> list[np.ndarray]:
    there = np.flatnonzero(cells.ok[axis].notna())
    frame = cells.ok.iloc[there]
    kind = np.unique(series_keys(frame, without).to_numpy(str), return_inverse=True)[1]
    order = np.lexsort((frame[axis].to_numpy(float), kind))
    return np.split(there[order], np.flatnonzero(np.diff(kind[order])) + 1) if len(order) else []


def breakdown(
    values: np.ndarray, rows: pd.DataFrame, by: str | None, unit: str, form: str = "+.1f"
) -> str:
    """`by active experts: 1: -40 %, 8: -60 %` from observed values, one per row."""
    if by is None:
        return ""
    means = pd.Series(values).groupby(rows[by].to_numpy()).mean()
    return f"by {NAMES[by]}: " + ", ".join(
        f"{k if by == 'model' else f'{k:g}'}: {v:{form}} {unit}".rstrip() for k, v in means.items()
    )


def slopes_of(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Least-squares slope of every row of y (..., P) on x (P)."""
    centred = x - x.mean()
    return y @ centred / (centred @ centred)
