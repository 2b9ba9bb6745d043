"""The measured effects that decide claims. Each compares cells that differ in one thing only.

An effect function takes the `Cells` of a sweep and named arguments, and gives an `Effect`: cells,
each with its interval. `Untested` says why the data cannot decide.

Arguments shared by many: `axis` the column that changes; `low`, `high` its ends in the source;
`where` {column: {values, side}} keeps the source's values, or at another scale the smallest or
largest half of its own; `model`, `like` the source's model, or the text that names a stand-in; `by`
a column for the breakdown in the text; `mean` whether the source states a mean, which then
decides."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from moebook.results.cells import Cells, Untested, series_keys
from moebook.results.comparison import (
    Comparison,
    Effect,
    Item,
    breakdown,
    items_of,
    labels_of,
    pair,
    series,
    slopes_of,
    times,
)
from moebook.results.conditions import NAMES, narrow, other, plain, span
from moebook.results.intervals import estimate


def joined(*texts: str) -> str:
    return "; ".join(t for t in texts if t)


def end_change(
    cells: Cells,
    axis: str,
    low,
    high,
    where: dict | None = None,
    model: str | None = None,
    like: str | None = None,
    by: str | None = None,
    ends: str = "exact",
    own_range: bool = True,
    mean: bool = False,
) -> Effect:
    """Change of throughput from low to high, %."""
    cells, differs = narrow(cells, where, model, like)
    pairs = pair(cells, axis, low, high, ends=ends, own_range=own_range)
    found = pairs.effect(over=False)
    text = joined(pairs.text, breakdown(found.values, cells.ok.iloc[pairs.low], by, "%"))
    found = replace(found, text=text, differs=differs + pairs.differs)
    return replace(found, mean=pairs.mean(over=False)) if mean else found


def end_gap(
    cells: Cells,
    axis: str,
    low,
    high,
    where: dict | None = None,
    by: str | None = None,
    largest: bool = False,
) -> Effect:
    """How much faster low is than high, %; or the largest of these alone."""
    cells, differs = narrow(cells, where)
    pairs = pair(cells, axis, low, high)
    found = pairs.effect()
    text = joined(
        f"from {found.values.min():+.1f} to {found.values.max():+.1f} %",
        breakdown(found.values, cells.ok.iloc[pairs.low], by, "%"),
    )
    found = replace(found, text=text, differs=differs + pairs.differs)
    return found.only("max") if largest else found


def end_ratio(cells: Cells, axis: str, low, high, by: str | None = None) -> Effect:
    """Throughput at high over throughput at low; needs the source's own ends."""
    pairs = pair(cells, axis, low, high, own_range=False)
    found = pairs.effect("x", times, over=False)
    text = breakdown(found.values, cells.ok.iloc[pairs.low], by, "x", ".1f")
    return replace(found, text=text)


def of_series(cells: Cells, rows: np.ndarray, of: Callable, label: str, told=float) -> Item:
    """One statistic of the cells `rows`, given to `of` in this order."""
    return items_of(estimate(cells.values, np.asarray(rows)[None, :], of), [label], told)[0]


def of_each(
    cells: Cells, groups: list[np.ndarray], of: Callable, x: np.ndarray | None = None
) -> tuple[Item, ...]:
    """One statistic of each group of cells, named by what tells its first from the others'. x: of
    all cells; those of a group are given to `of`, too."""
    labels = labels_of(cells.ok.iloc[[rows[0] for rows in groups]])
    return tuple(
        of_series(cells, rows, of if x is None else partial(of, x=x[rows]), label)
        for rows, label in zip(groups, labels, strict=True)
    )


def _used(cells: Cells, groups) -> pd.DataFrame:
    return cells.ok.iloc[np.unique(np.concatenate([np.asarray(rows) for rows in groups]))]


def first_step_worst(cells: Cells, axis: str, low, high) -> Effect:
    """Loss of the first step less the largest loss of the later ones, percentage points of loss per
    doubling, of each series."""
    planned = sorted(cells.planned[axis].dropna().unique())
    differs = ()
    if not {low, high} <= set(planned):
        differs = other(axis, span(planned[0], planned[-1]), span(low, high))
    x_of = cells.ok[axis].to_numpy(float)
    groups = [
        rows
        for rows in series(cells, (axis,), axis)
        if len(rows) >= 3 and list(x_of[rows[:2]]) == [float(v) for v in planned[:2]]
    ]
    if not groups:
        raise Untested(
            f"no series with its first step and a later one measured along {NAMES[axis]}"
        )

    def losses(v: np.ndarray, x: np.ndarray) -> np.ndarray:
        return 100 * (1 - (v[..., 1:] / v[..., :-1]) ** (1 / np.log2(x[1:] / x[:-1])))

    def worse(v: np.ndarray, x: np.ndarray) -> np.ndarray:
        loss = losses(v, x)
        return loss[..., 0] - loss[..., 1:].max(axis=-1)

    each = [losses(cells.values.value[rows], x_of[rows]) for rows in groups]
    steps = max(map(len, each))
    means = [np.mean([loss[s] for loss in each if len(loss) > s]) for s in range(steps)]
    text = "mean loss per doubling: " + ", ".join(
        f"{a:g} to {b:g}: {m:.1f} %" for a, b, m in zip(planned, planned[1:], means, strict=False)
    )
    items = of_each(cells, groups, worse, x_of)
    return Effect(items, "points", _used(cells, groups), differs, text)


def worst_level(cells: Cells, axis: str, low, high, across: str, level) -> Effect:
    """Change from low to high at `level` of `across`, less the worst change at any other level;
    percentage points."""
    pairs = pair(cells, axis, low, high)
    at = cells.ok[across].to_numpy()[pairs.low]
    differs = pairs.differs
    if level not in set(cells.planned[across]):
        differs += other(across, f"{max(at):g}", f"{level:g}")
        level = max(at)
    keys = series_keys(cells.ok.iloc[pairs.low], (axis, across)).to_numpy()
    groups = []
    for key in sorted(set(keys)):
        mine, others = (np.flatnonzero((keys == key) & m) for m in (at == level, at != level))
        if len(mine) and len(others):
            order = [mine[0], *others]
            groups.append(np.column_stack([pairs.low[order], pairs.high[order]]).ravel())
    if not groups:
        raise Untested(f"no series measured both with {NAMES[across]} {level:g} and another")

    def worse(v: np.ndarray) -> np.ndarray:
        change = 100 * (v[..., 1::2] / v[..., ::2] - 1)
        return change[..., 0] - change[..., 1:].min(axis=-1)

    items = of_each(cells, groups, worse)
    change = 100 * (1 / pairs.ratio() - 1)
    text = breakdown(change, cells.ok.iloc[pairs.low], across, "%")
    return Effect(items, "points", _used(cells, groups), differs, text)


def gap_shift(
    cells: Cells, axis: str, low, high, across: str, across_low, across_high, absolute: bool = False
) -> Effect:
    """Gap of low over high at across_high less the gap at across_low: percentage points, or
    tokens/s if `absolute`."""
    pairs = pair(cells, axis, low, high)
    at = cells.ok.iloc[pairs.low].reset_index(drop=True)
    differs = pairs.differs
    if not {across_low, across_high} <= set(cells.planned[across]):
        own = at[across].min(), at[across].max()
        differs += other(across, span(*own), span(across_low, across_high))
        across_low, across_high = own
    keys = series_keys(at, (axis, across)).to_numpy()
    first, second = (
        {k: i for i, k in enumerate(keys) if at[across][i] == v} for v in (across_low, across_high)
    )
    both = sorted(set(first) & set(second)) if across_low != across_high else []
    if not both:
        raise Untested(f"no series measured at {NAMES[across]} {across_low:g} and {across_high:g}")
    i, j = [first[k] for k in both], [second[k] for k in both]

    def gaps(v: np.ndarray) -> np.ndarray:
        a, b = v[..., ::2], v[..., 1::2]
        return a - b if absolute else 100 * (a / b - 1)

    def shift(v: np.ndarray) -> np.ndarray:
        gap = gaps(v)
        return gap[..., 1] - gap[..., 0]

    index = np.column_stack([pairs.low[i], pairs.high[i], pairs.low[j], pairs.high[j]])
    items = items_of(estimate(cells.values, index, shift), labels_of(at.iloc[i]))
    observed = gaps(cells.values.value[index])
    text = (
        f"mean gap {observed[:, 0].mean():.4g} at {across_low:g}, {observed[:, 1].mean():.4g} at "
        f"{across_high:g}"
    )
    return Effect(items, "tokens/s" if absolute else "points", _used(cells, index), differs, text)


def gap_slope(cells: Cells, axis: str, low, high, along: str) -> Effect:
    """How the gap of low over high grows with `along`: percentage points per doubling, least
    squares, of each series."""
    return gain_slope(pair(cells, axis, low, high), along, axis)


def gain_slope(pairs: Comparison, along: str, *axes: str) -> Effect:
    """How the gain of low over high grows with `along`: percentage points per doubling, least
    squares, of each set of pairs that are equal in all but it and `axes`."""
    sets, items = sets_along(pairs, along, *axes), []
    labels = labels_of(pd.DataFrame([rows.iloc[0] for rows in sets]))
    for rows, label in zip(sets, labels, strict=True):
        x = np.log2(rows[along].to_numpy(float))

        def slope(v: np.ndarray, x: np.ndarray = x) -> np.ndarray:
            return slopes_of(x, 100 * (v[..., ::2] / v[..., 1::2] - 1))

        items.append(shared(pairs, rows.index, slope, label))
    gain, at = 100 * (pairs.ratio() - 1), pairs.cells.ok.iloc[pairs.low]
    text = joined(pairs.text, breakdown(gain, at, along, "%"))
    unit = f"points per doubling of {NAMES[along]}"
    return Effect(tuple(items), unit, pairs.used, pairs.differs, text, pairs.whole)


def sets_along(pairs: Comparison, along: str, *axes: str) -> list[pd.DataFrame]:
    """The pairs, ascending along the column, of each set of those that are equal in all but it and
    `axes`; rows numbered as the pairs are. Untested where none has two values."""
    at = pairs.cells.ok.iloc[pairs.low].reset_index(drop=True)
    sets = [
        rows.sort_values(along)
        for _, rows in at[at[along].notna()].groupby(series_keys(at, (*axes, along)), sort=True)
        if rows[along].nunique() > 1
    ]
    if not sets:
        raise Untested(f"no gain at two values of {NAMES[along]} with all else equal")
    return sets


def shared(pairs: Comparison, numbers, of: Callable, label: str) -> Item:
    """A statistic of pairs, given to `of` as (low, high, low, high ...), that may share cells."""
    wanted = np.column_stack([pairs.low[numbers], pairs.high[numbers]]).ravel()
    rows, back = np.unique(wanted, return_inverse=True)
    return of_series(pairs.cells, rows, lambda v: of(v[..., back]), label)


def power_exponent(cells: Cells, axis: str, by: str | None = None) -> Effect:
    """p of throughput ~ axis^p: slope of the logarithms in each series of at least three values."""
    groups = [rows for rows in series(cells, (axis,), axis) if len(rows) >= 3]
    if not groups:
        raise Untested(f"no series with three values of {NAMES[axis]} measured")
    x_of = np.log(cells.ok[axis].to_numpy(float))
    items = of_each(cells, groups, lambda v, x: slopes_of(x, np.log(v)), x_of)
    used = _used(cells, groups)
    found = Effect(items, "exponent", used)
    text = joined(
        f"{NAMES[axis]} {used[axis].min():g} to {used[axis].max():g}",
        f"series from {found.values.min():.2f} to {found.values.max():.2f}",
        breakdown(found.values, cells.ok.iloc[[rows[0] for rows in groups]], by, "", ".2f"),
    )
    return replace(found, text=text)


def steps(cells: Cells, axis: str, levels: list) -> Effect:
    """Change of throughput at each single step along the axis, %; `levels` are the source's
    values."""
    planned = sorted(cells.planned[axis].dropna().unique())
    differs = ()
    if not set(levels) <= set(planned):
        differs = other(axis, plain(planned), plain(levels))
    lows, highs = [], []
    for rows in series(cells, (axis,), axis):
        lows += list(rows[:-1])
        highs += list(rows[1:])
    if not lows:
        raise Untested(f"no two measured cells that differ only in {NAMES[axis]}")
    pairs = Comparison(cells, np.array(lows), np.array(highs), differs, "")
    found = pairs.effect(over=False)
    rises = [f"{item.label}: {item.value:+.1f} %" for item in found.items if item.value >= 0]
    text = f"{len(lows) - len(rises)} of {len(lows)} steps fall" + (
        "; not: " + ", ".join(rises[:6]) if rises else ""
    )
    return replace(found, text=text)
