"""The measured effects that decide claims. Each compares cells that differ in one thing only.

An effect function takes the `Cells` of a sweep and named arguments, and gives an `Effect`: a value
with its 95 % interval. `Untested` says why the data cannot decide.

Arguments shared by many: `axis` the column that changes; `low`, `high` its ends in the source;
`where` {column: {values, side}} keeps the source's values, or at another scale the smallest or
largest half of its own; `model`, `like` the source's model, or the text that names a stand-in; `by`
a column for the breakdown in the text."""

import numpy as np
import pandas as pd

from moebook.results.cells import Cells, Untested, series_keys
from moebook.results.comparison import (
    NAMES,
    Effect,
    breakdown,
    mean_of,
    narrow,
    pair,
    plain,
    series,
    slopes_of,
    summarise,
)
from moebook.results.intervals import pairs_again


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
) -> Effect:
    """Mean change of throughput from low to high, %."""
    cells, differs = narrow(cells, where, model, like)
    pairs = pair(cells, axis, low, high, ends=ends, own_range=own_range)
    change = 100 * (1 / pairs.ratio() - 1)
    text = joined(pairs.text, breakdown(change[0], cells.ok.iloc[pairs.low], by, "%"))
    return mean_of(change, cells, "%", pairs.used, differs + pairs.differs, text)


def end_gap(
    cells: Cells,
    axis: str,
    low,
    high,
    where: dict | None = None,
    by: str | None = None,
    reduce: str = "mean",
) -> Effect:
    """How much faster low is than high, %: mean over pairs, or the largest (then only repeats are
    drawn again)."""
    cells, differs = narrow(cells, where)
    pairs = pair(cells, axis, low, high)
    gap = 100 * (pairs.ratio() - 1)
    text = joined(
        f"from {gap[0].min():+.1f} to {gap[0].max():+.1f} %",
        breakdown(gap[0], cells.ok.iloc[pairs.low], by, "%"),
    )
    if reduce == "max":
        return summarise(
            gap.max(axis=1), "%", gap.shape[1], pairs.used, differs + pairs.differs, text
        )
    return mean_of(gap, cells, "%", pairs.used, differs + pairs.differs, text)


def end_ratio(cells: Cells, axis: str, low, high, by: str | None = None) -> Effect:
    """Throughput at high over throughput at low, geometric mean; needs the source's own ends."""
    pairs = pair(cells, axis, low, high, own_range=False)
    logs = -np.log(pairs.ratio())
    text = breakdown(np.exp(logs[0]), cells.ok.iloc[pairs.low], by, "x", ".1f")
    stat = np.exp(pairs_again(logs, cells.seed).mean(axis=1))
    return summarise(stat, "x", logs.shape[1], pairs.used, pairs.differs, text)


def first_step_worst(cells: Cells, axis: str, low, high) -> Effect:
    """Loss of the first step less the largest loss of the later ones, percentage points of loss per
    doubling."""
    planned = sorted(cells.planned[axis].dropna().unique())
    differs = (
        ()
        if {low, high} <= set(planned)
        else (f"{NAMES[axis]} {planned[0]:g} to {planned[-1]:g} (source {low:g} to {high:g})",)
    )
    columns, used = [], []
    for rows in series(cells, (axis,), axis):
        x = cells.ok[axis].to_numpy(float)[rows]
        if len(x) < 3 or list(x[:2]) != [float(v) for v in planned[:2]]:
            continue
        y = cells.samples[:, rows]
        loss = 100 * (1 - (y[:, 1:] / y[:, :-1]) ** (1 / np.log2(x[1:] / x[:-1])))
        columns.append(loss)
        used += list(rows)
    if not columns:
        raise Untested(
            f"no series with its first step and a later one measured along {NAMES[axis]}"
        )
    values = np.column_stack([c[:, 0] - c[:, 1:].max(axis=1) for c in columns])
    steps = max(c.shape[1] for c in columns)
    means = [np.mean([c[0, s] for c in columns if c.shape[1] > s]) for s in range(steps)]
    text = "mean loss per doubling: " + ", ".join(
        f"{a:g} to {b:g}: {m:.1f} %" for a, b, m in zip(planned, planned[1:], means, strict=False)
    )
    return mean_of(values, cells, "points", cells.ok.iloc[sorted(set(used))], differs, text)


def worst_level(cells: Cells, axis: str, low, high, across: str, level) -> Effect:
    """Change from low to high at `level` of `across`, less the worst change at any other level;
    percentage points."""
    pairs = pair(cells, axis, low, high)
    change = 100 * (1 / pairs.ratio() - 1)
    at = cells.ok[across].to_numpy()[pairs.low]
    differs = pairs.differs
    if level not in set(cells.planned[across]):
        differs += (f"{NAMES[across]} {max(at):g} (source {level:g})",)
        level = max(at)
    keys = series_keys(cells.ok.iloc[pairs.low], (axis, across)).to_numpy()
    values, used = [], []
    for key in sorted(set(keys)):
        mine, others = (np.flatnonzero((keys == key) & m) for m in (at == level, at != level))
        if len(mine) and len(others):
            values.append(change[:, mine[0]] - change[:, others].min(axis=1))
            used += [*pairs.low[mine], *pairs.high[mine], *pairs.low[others], *pairs.high[others]]
    if not values:
        raise Untested(f"no series measured both with {NAMES[across]} {level:g} and another")
    text = breakdown(change[0], cells.ok.iloc[pairs.low], across, "%")
    return mean_of(
        np.column_stack(values), cells, "points", cells.ok.iloc[sorted(set(used))], differs, text
    )


def gap_shift(
    cells: Cells, axis: str, low, high, across: str, across_low, across_high, absolute: bool = False
) -> Effect:
    """Gap of low over high at across_high less the gap at across_low: percentage points, or
    tokens/s if `absolute`."""
    pairs = pair(cells, axis, low, high)
    a, b = cells.samples[:, pairs.low], cells.samples[:, pairs.high]
    gap = a - b if absolute else 100 * (a / b - 1)
    unit = "tokens/s" if absolute else "points"
    at = cells.ok.iloc[pairs.low].reset_index(drop=True)
    differs = pairs.differs
    if not {across_low, across_high} <= set(cells.planned[across]):
        differs += (
            f"{NAMES[across]} {at[across].min():g} to {at[across].max():g} (source {across_low:g} "
            f"to {across_high:g})",
        )
        across_low, across_high = at[across].min(), at[across].max()
    keys = series_keys(at, (axis, across)).to_numpy()
    first, second = (
        {k: i for i, k in enumerate(keys) if at[across][i] == v} for v in (across_low, across_high)
    )
    both = sorted(set(first) & set(second)) if across_low != across_high else []
    if not both:
        raise Untested(f"no series measured at {NAMES[across]} {across_low:g} and {across_high:g}")
    i, j = [first[k] for k in both], [second[k] for k in both]
    used = cells.ok.iloc[np.unique(np.concatenate([pairs.low[i + j], pairs.high[i + j]]))]
    text = (
        f"mean gap {gap[0, i].mean():.4g} at {across_low:g}, {gap[0, j].mean():.4g} at "
        f"{across_high:g}"
    )
    return mean_of(gap[:, j] - gap[:, i], cells, unit, used, differs, text)


def gap_slope(cells: Cells, axis: str, low, high, along: str) -> Effect:
    """How the gap of low over high grows with `along`: percentage points per doubling, least
    squares per series."""
    pairs = pair(cells, axis, low, high)
    gap = 100 * (pairs.ratio() - 1)
    at = cells.ok.iloc[pairs.low].reset_index(drop=True)
    slopes = []
    for _, rows in at.groupby(series_keys(at, (axis, along)), sort=True):
        if rows[along].nunique() > 1:
            slopes.append(slopes_of(np.log2(rows[along].to_numpy(float)), gap[:, rows.index]))
    if not slopes:
        raise Untested(f"no series with the gap at two values of {NAMES[along]}")
    return mean_of(
        np.column_stack(slopes),
        cells,
        f"points per doubling of {NAMES[along]}",
        pairs.used,
        pairs.differs,
        breakdown(gap[0], at, along, "%"),
    )


def power_exponent(cells: Cells, axis: str, by: str | None = None) -> Effect:
    """p of throughput ~ axis^p: slope of the logarithms in each series of at least three values,
    mean of series."""
    slopes, used, heads = [], [], []
    for rows in series(cells, (axis,), axis):
        x = cells.ok[axis].to_numpy(float)[rows]
        if len(x) >= 3:
            slopes.append(slopes_of(np.log(x), np.log(cells.samples[:, rows])))
            heads.append(rows[0])
            used += list(rows)
    if not slopes:
        raise Untested(f"no series with three values of {NAMES[axis]} measured")
    values = np.column_stack(slopes)
    x = cells.ok[axis].iloc[used]
    text = joined(
        f"{NAMES[axis]} {x.min():g} to {x.max():g}",
        f"series from {values[0].min():.2f} to {values[0].max():.2f}",
        breakdown(values[0], cells.ok.iloc[heads], by, "", ".2f"),
    )
    return mean_of(values, cells, "exponent", cells.ok.iloc[used], (), text)


def falling_steps(cells: Cells, axis: str, levels: list) -> Effect:
    """Share of single steps along the axis at which throughput falls, %; `levels` are the source's
    values."""
    planned = sorted(cells.planned[axis].dropna().unique())
    differs = (
        ()
        if set(levels) <= set(planned)
        else (f"{NAMES[axis]} {plain(planned)} (source {plain(levels)})",)
    )
    lows, highs = [], []
    for rows in series(cells, (axis,), axis):
        lows += list(rows[:-1])
        highs += list(rows[1:])
    if not lows:
        raise Untested(f"no two measured cells that differ only in {NAMES[axis]}")
    ratio = cells.samples[:, highs] / cells.samples[:, lows]
    rises = [
        f"{_cell(cells.ok.iloc[a], axis)} to {cells.ok[axis][b]:g}: {100 * (r - 1):+.1f} %"
        for a, b, r in zip(lows, highs, ratio[0], strict=True)
        if r >= 1
    ]
    text = f"{len(lows) - len(rises)} of {len(lows)} steps fall" + (
        "; not: " + ", ".join(rises[:6]) if rises else ""
    )
    used = cells.ok.iloc[sorted({*lows, *highs})]
    return mean_of(100.0 * (ratio < 1), cells, "% of steps", used, differs, text)


def _cell(row: pd.Series, axis: str) -> str:
    shown = [c for c in ("expert_ffn_dim", "num_experts", "batch") if c != axis]
    return ", ".join(f"{NAMES[c]} {row[c]:g}" for c in shown) + f", {NAMES[axis]} {row[axis]:g}"
