"""Effects between named series of a section (fp8 over bf16, pruned over baseline, fused over
non-fused).

Cells are compared at equal model, active experts, batch and lengths. `series` and `over` are names
of the column `series`, or lists of names; where none of them was measured, a stand-in of `instead`
is taken and `differs` says so. Where planned workloads are not measured the effect is not `whole`,
and the verdict holds in part."""

from collections.abc import Iterator

import numpy as np

from moebook.results.cells import Cells, Untested, places_of_series, series_keys
from moebook.results.comparison import (
    NAMES,
    Comparison,
    Effect,
    breakdown,
    mean_of,
    narrow,
    plain,
    slopes_of,
    summarise,
)


def _names(
    cells: Cells, wanted: str | list[str], instead: dict | None
) -> tuple[list[str], tuple[str, ...]]:
    """The wanted series that were measured; a stand-in from `instead` where none was."""
    wanted = [wanted] if isinstance(wanted, str) else list(wanted)
    have = set(cells.ok["series"])
    found = [w for w in wanted if w in have]
    if found:
        return found, ()
    stand_in = [s for s in (instead or {}).get(wanted[0], ()) if s in have]
    if stand_in:
        return stand_in[:1], (f"series {stand_in[0]} in place of {wanted[0]}",)
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
    mine, differs = _names(cells, series, instead)
    theirs, more = _names(cells, over, instead)
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


def _gains(
    cells: Cells, series, over, where, model, like, instead
) -> tuple[Comparison, np.ndarray, tuple[str, ...], Cells]:
    cells, differs = narrow(cells, where, model, like)
    pairs = versus(cells, series, over, instead)
    return pairs, 100 * (pairs.ratio() - 1), differs + pairs.differs, cells


def _by(gain: np.ndarray, cells: Cells, rows: np.ndarray, by: str | None) -> str:
    told = breakdown(gain, cells.ok.iloc[rows], by, "%")
    return f"; {told}" if told else ""


def series_gain(
    cells: Cells,
    series,
    over: str,
    where: dict | None = None,
    model: str | None = None,
    like: str | None = None,
    instead: dict | None = None,
    by: str | None = None,
    reduce: str = "mean",
) -> Effect:
    """How much faster `series` is than `over`, %: mean over pairs, or the least or largest of them
    (min, max)."""
    pairs, gain, differs, cells = _gains(cells, series, over, where, model, like, instead)
    text = f"{pairs.text}, from {gain[0].min():+.1f} to {gain[0].max():+.1f} %" + _by(
        gain[0], cells, pairs.low, by
    )
    if reduce == "mean":
        return mean_of(gain, cells, "%", pairs.used, differs, text, pairs.whole)
    stat = {"min": np.min, "max": np.max}[reduce](gain, axis=1)
    return summarise(stat, "%", gain.shape[1], pairs.used, differs, text, pairs.whole)


def series_wins(
    cells: Cells,
    series,
    over: str,
    where: dict | None = None,
    model: str | None = None,
    like: str | None = None,
    instead: dict | None = None,
) -> Effect:
    """Share of equal workloads at which `series` is the faster one, %."""
    pairs, gain, differs, cells = _gains(cells, series, over, where, model, like, instead)
    wins = 100.0 * (gain > 0)
    text = f"{pairs.text}: faster at {int(wins[0].sum() / 100)} of {wins.shape[1]} workloads"
    return mean_of(wins, cells, "% of workloads", pairs.used, differs, text, pairs.whole)


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
    least squares."""
    pairs, gain, differs, cells = _gains(cells, series, over, None, model, like, instead)
    slopes = [slopes_of(np.log2(x), own) for x, own in _along(cells, pairs, gain, along)]
    unit = f"points per doubling of {NAMES[along]}"
    text = pairs.text + _by(gain[0], cells, pairs.low, along)
    return mean_of(np.column_stack(slopes), cells, unit, pairs.used, differs, text, pairs.whole)


def series_gain_steps(
    cells: Cells,
    series,
    over: str,
    along: str,
    model: str | None = None,
    like: str | None = None,
    instead: dict | None = None,
) -> Effect:
    """Share of the steps from one value of `along` to the next at which the gain of `series` over
    `over` grows, %."""
    pairs, gain, differs, cells = _gains(cells, series, over, None, model, like, instead)
    grows = np.column_stack(
        [100.0 * (np.diff(own, axis=1) > 0) for _, own in _along(cells, pairs, gain, along)]
    )
    text = (
        f"{pairs.text}: grows at {int(grows[0].sum() / 100)} of {grows.shape[1]} steps of "
        f"{NAMES[along]}"
    )
    return mean_of(grows, cells, "% of steps", pairs.used, differs, text, pairs.whole)


def _along(
    cells: Cells, pairs: Comparison, gain: np.ndarray, along: str
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Values of `along`, ascending, and the gains there (samples, values), for each set of
    workloads that are equal else. Untested where none has two values."""
    at = cells.ok.iloc[pairs.low].reset_index(drop=True)
    sets = [
        rows.sort_values(along)
        for _, rows in at[at[along].notna()].groupby(series_keys(at, (along,)), sort=True)
        if rows[along].nunique() > 1
    ]
    if not sets:
        raise Untested(f"no gain at two values of {NAMES[along]} with all else equal")
    return ((rows[along].to_numpy(float), gain[:, rows.index]) for rows in sets)
