"""Effects of speculative decoding that decide claims: drafts against each other, over length and
over draft tokens.

Drafts are compared at equal model, batch, lengths, draft tokens and set acceptance. The source let
its drafts' own weights decide acceptance and prints none; where it was set here, or weights are
dummy, `differs` says so. A draft that was planned and has no number is told in the text, and the
effect is then not `whole`."""

from dataclasses import replace

import numpy as np
import pandas as pd

from moebook.predict.under_bound import is_under
from moebook.results import effects
from moebook.results.cells import SERIES_OF, Cells, Untested, series_keys
from moebook.results.pairs import NAMES, Effect, mean_of, plain, series
from moebook.results.series_effects import series_gain


def draft_lead(cells: Cells, draft: str, instead: dict | None = None) -> Effect:
    """How much faster `draft` is than the fastest other draft at the same place, %, mean over
    places."""
    cells, told = _drafts(cells)
    (mine,), differs = _chosen(cells, [draft], instead)
    names, keys = cells.ok["series"].to_numpy(), series_keys(cells.ok, SERIES_OF).to_numpy()
    values, used, best = [], [], []
    for i in np.flatnonzero(names == mine):
        others = np.flatnonzero((keys == keys[i]) & (names != mine))
        if len(others):
            values.append(100 * (cells.samples[:, i] / cells.samples[:, others].max(axis=1) - 1))
            used += [i, *others]
            best.append(names[max((i, *others), key=lambda j: cells.samples[0, j])])
    if not values:
        raise Untested(f"no place at which both {mine} and another draft were measured{told}")
    counts = pd.Series(best).value_counts()
    text = (
        "fastest: "
        + ", ".join(f"{name} at {n} of {len(best)}" for name, n in counts.items())
        + told
    )
    found = mean_of(
        np.column_stack(values),
        cells,
        "%",
        cells.ok.iloc[sorted(set(used))],
        (*differs, *_conditions(cells)),
        text,
    )
    return replace(found, whole=not told)


def draft_gain(
    cells: Cells,
    draft: str,
    over: str,
    where: dict | None = None,
    instead: dict | None = None,
    by: str | None = None,
) -> Effect:
    """How much faster one draft is than another, %, mean over the places of `where`."""
    cells, told = _drafts(cells)
    sides = [_chosen(cells, [name], instead)[0][0] for name in (draft, over)]
    if sides[0] == sides[1]:
        raise Untested(
            f"{sides[0]} stands for both {draft} and {over}: they cannot be told apart here"
        )
    found = series_gain(cells, draft, over, where=where, instead=instead, by=by)
    return replace(found, differs=(*found.differs, *_conditions(cells)))


def draft_change(
    cells: Cells, axis: str, low, high, drafts: list[str] | None = None, instead: dict | None = None
) -> Effect:
    """Change of throughput from low to high of the axis, %, mean over `drafts` (None: all)."""
    cells, told = _drafts(cells, drafts)
    differs: tuple[str, ...] = ()
    if drafts is not None:
        names, differs = _chosen(cells, drafts, instead)
        cells = cells.select(
            cells.ok["series"].isin(names), cells.planned["series"].isin({*drafts, *names})
        )
    found = effects.end_change(cells, axis, low, high)
    medians = found.used.assign(median=cells.samples[0, found.used.index]).sort_values(axis)
    ends = medians.groupby("series", sort=False)["median"].agg(["first", "last"])
    each = ", ".join(
        f"{name} {100 * (last / first - 1):+.1f} %" for name, first, last in ends.itertuples()
    )
    return replace(
        found,
        differs=(*differs, *found.differs, *_conditions(cells)),
        text=each + told,
        whole=not told,
    )


def draft_steps(cells: Cells, axis: str = "draft_tokens") -> Effect:
    """Share of single steps along the axis at which throughput falls, %; series with a draft
    only."""
    cells, told = _drafts(cells)
    pairs = [
        (a, b)
        for rows in series(cells, (axis,), axis)
        for a, b in zip(rows, rows[1:], strict=False)
    ]
    if not pairs:
        raise Untested(f"no draft was measured at two values of {NAMES[axis]}{told}")
    lows, highs = np.array(pairs).T
    falls = cells.samples[:, highs] < cells.samples[:, lows]
    by = pd.DataFrame({"series": cells.ok["series"].to_numpy()[lows], "falls": falls[0]}).groupby(
        "series", sort=False
    )
    each = ", ".join(f"{name} {int(own.sum())} of {len(own)}" for name, own in by["falls"])
    text = f"{NAMES[axis]} {plain(sorted(cells.ok[axis].unique()))}: steps that fall: {each}{told}"
    used = cells.ok.iloc[np.unique(pairs)]
    found = mean_of(100.0 * falls, cells, "% of steps", used, _conditions(cells), text)
    return replace(found, whole=not told)


def _drafts(cells: Cells, names: list[str] | None = None) -> tuple[Cells, str]:
    """The cells with a draft, and a text on planned ones (of `names`) without a number; empty where
    all have one."""
    if "draft_tokens" not in cells.planned:
        raise Untested("no point of the table speaks of draft tokens")
    kept = cells.select(
        cells.ok["draft_tokens"].fillna(0) > 0, cells.planned["draft_tokens"].fillna(0) > 0
    )
    if kept.ok.empty:
        raise Untested("no point with a draft was measured")
    gone = kept.planned[
        (kept.planned["status"] != "ok") & (kept.planned["series"].isin(names) if names else True)
    ]
    each = "; ".join(
        f"{row.series}: {row.reason or row.status}"
        for row in gone.drop_duplicates("series").itertuples()
    )
    return kept, f"; not measured everywhere: {each}" if each else ""


def _chosen(
    cells: Cells, wanted: list[str], instead: dict | None
) -> tuple[list[str], tuple[str, ...]]:
    """The wanted series that were measured, or the first of their stand-ins that was."""
    have = set(cells.ok["series"])
    found = [name for name in wanted if name in have]
    if found:
        return found, ()
    stand_in = [name for name in (instead or {}).get(wanted[0], ()) if name in have]
    if stand_in:
        return stand_in[:1], (f"series {stand_in[0]} in place of {plain(wanted)}",)
    told = cells.planned.loc[cells.planned["series"].isin(wanted), "reason"].dropna()
    raise Untested(
        f"no measured points of {plain(wanted)}"
        + (f" ({told.iloc[0]})" if len(told) else f"; series measured: {plain(sorted(have))}")
    )


def _conditions(cells: Cells) -> tuple[str, ...]:
    """How the acceptance of these cells came about, where it is not by the models' own weights; and
    whether their draft tokens share experts, which makes verifying cheaper than for tokens of
    near-uniform routing."""
    found: tuple[str, ...] = ()
    given = cells.ok["set_acceptance"].dropna().unique() if "set_acceptance" in cells.ok else []
    if len(given):
        found = (
            f"acceptance set to {plain(sorted(given))} for every draft (source: what its models' "
            f"weights gave)",
        )
    elif "weights" in cells.ok and (cells.ok["weights"] == "dummy").any():
        found = ("acceptance that of dummy weights (source: what its models' weights gave)",)
    if under := int(is_under(cells.ok).sum()):
        found += (
            f"{under} of {len(cells.ok)} points with a draft faster than their floor, so their "
            f"draft tokens share "
            "experts",
        )
    return found
