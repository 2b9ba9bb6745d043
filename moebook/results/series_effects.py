"""Effects between named series of a section (fp8 over bf16, pruned over baseline, fused over
non-fused).

Cells are compared at equal model, active experts, batch and lengths. `series` and `over` are names
of the column `series`, or lists of names; where none of them was measured, a stand-in of `instead`
is taken and `differs` says so. Where planned workloads are not measured the effect is not `whole`,
and the verdict holds in part."""

from dataclasses import replace

import numpy as np
import pandas as pd

from moebook.results.cells import Cells, Untested, places_of_series
from moebook.results.comparison import (
    NAMES,
    Comparison,
    Effect,
    breakdown,
    labels_of,
    narrow,
    plain,
)
from moebook.results.effects import gain_slope, joined, sets_along, shared


def names(
    cells: Cells, wanted: str | list[str], instead: dict | None
) -> tuple[list[str], tuple[str, ...]]:
    """The wanted series that were measured; a stand-in from `instead` where none was, and that it
    stands in."""
    wanted = [wanted] if isinstance(wanted, str) else list(wanted)
    have = set(cells.ok["series"])
    found = [w for w in wanted if w in have]
    if found:
        return found, ()
    stand_in = [s for s in (instead or {}).get(wanted[0], ()) if s in have]
    if stand_in:
        return stand_in[:1], (f"series {stand_in[0]} in place of {plain(wanted)}",)
    told = cells.planned.loc[cells.planned["series"].isin(wanted), "reason"].dropna()
    raise Untested(
        f"no measured points of {plain(wanted)}"
        + (f" ({told.iloc[0]})" if len(told) else f"; series measured: {plain(sorted(have))}")
    )


def versus(
    cells: Cells, series: str | list[str], over: str, instead: dict | None = None
) -> Comparison:
    """Low: one of `series`, high: `over`, at equal model, active experts, batch and
    lengths."""
    mine, differs = names(cells, series, instead)
    theirs, more = names(cells, over, instead)
    keys = places_of_series(cells.ok).to_numpy()
    name = cells.ok["series"].to_numpy()
    base = {k: i for i, k in enumerate(keys) if name[i] == theirs[0]}
    pairs = [(i, base[k]) for i, k in enumerate(keys) if name[i] in mine and k in base]
    if not pairs:
        raise Untested(f"no workload at which both {plain(mine)} and {theirs[0]} were measured")
    low, high = np.array(pairs).T
    wanted = {series, *mine} if isinstance(series, str) else {*series, *mine}
    planned = cells.planned.assign(place=places_of_series(cells.planned))
    places = set(planned.loc[planned["series"] == theirs[0], "place"])
    of = int((planned["series"].isin(wanted) & planned["place"].isin(places)).sum())
    text = f"{plain(mine)} over {theirs[0]}" + f" at {len(pairs)} of {of} planned workloads" * (
        len(pairs) < of
    )
    return Comparison(cells, low, high, (*differs, *more), text, len(pairs) >= of)


def _pairs(cells: Cells, series, over, where, model, like, instead) -> Comparison:
    cells, differs = narrow(cells, where, model, like)
    pairs = versus(cells, series, over, instead)
    return replace(pairs, differs=differs + pairs.differs)


def series_gain(
    cells: Cells,
    series,
    over: str,
    where: dict | None = None,
    model: str | None = None,
    like: str | None = None,
    instead: dict | None = None,
    by: str | None = None,
) -> Effect:
    """How much faster `series` is than `over` at each workload, %."""
    pairs = _pairs(cells, series, over, where, model, like, instead)
    found = pairs.effect()
    text = f"{pairs.text}, from {found.values.min():+.1f} to {found.values.max():+.1f} %"
    told = breakdown(found.values, pairs.cells.ok.iloc[pairs.low], by, "%")
    return replace(found, text=joined(text, told))


def series_gain_slope(
    cells: Cells,
    series,
    over: str,
    along: str,
    model: str | None = None,
    like: str | None = None,
    instead: dict | None = None,
) -> Effect:
    """How the gain of `series` over `over` grows with `along`: percentage points per doubling,
    least squares, of each set of workloads."""
    return gain_slope(_pairs(cells, series, over, None, model, like, instead), along)


def series_gain_steps(
    cells: Cells,
    series,
    over: str,
    along: str,
    model: str | None = None,
    like: str | None = None,
    instead: dict | None = None,
) -> Effect:
    """By how many percentage points the gain of `series` over `over` grows from one value of
    `along` to the next."""
    pairs = _pairs(cells, series, over, None, model, like, instead)
    ends = [
        (rows.index[i : i + 2], rows.iloc[i + 1])
        for rows in sets_along(pairs, along)
        for i in range(len(rows) - 1)
    ]

    def growth(v: np.ndarray) -> np.ndarray:
        gain = 100 * (v[..., ::2] / v[..., 1::2] - 1)
        return gain[..., 1] - gain[..., 0]

    labels = labels_of(pd.DataFrame([upper for _, upper in ends]))
    items = tuple(
        shared(pairs, numbers, growth, f"up to {label}")
        for (numbers, _), label in zip(ends, labels, strict=True)
    )
    grows = sum(item.value > 0 for item in items)
    text = f"{pairs.text}: grows at {grows} of {len(items)} steps of {NAMES[along]}"
    return Effect(items, "points", pairs.used, pairs.differs, text, pairs.whole)
