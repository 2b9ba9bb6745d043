"""Effects of speculative decoding that decide claims: drafts against each other, over length and
over draft tokens.

Drafts are compared at equal model, batch, lengths, draft tokens and set acceptance. The source let
its drafts' own weights decide acceptance and prints none; where it was set here, or weights are
dummy, `differs` says so. A draft that was planned and has no number is named in the text, and the
effect is then not `whole`."""

from dataclasses import replace

import numpy as np
import pandas as pd

from moebook.predict.columns import is_under
from moebook.results import effects, schema
from moebook.results.cells import Cells, Untested, series_keys
from moebook.results.comparison import (
    Comparison,
    Effect,
    labels_of,
    percent,
    series,
)
from moebook.results.conditions import NAMES, plain
from moebook.results.effects import of_series
from moebook.results.gains import measured_series, series_gain
from moebook.sections.speculative_decoding.drafts import matching


def draft_lead(cells: Cells, draft: str, instead: dict | None = None) -> Effect:
    """How much faster `draft` is than the fastest other draft at each place, %. Untested where all
    drafts have one acceptance that was set: then the cheapest wins by construction."""
    _own_acceptance(cells)
    cells, lost = _drafts(cells)
    (mine,), differs = measured_series(cells, [draft], instead)
    is_mine, keys = cells.ok["series"] == mine, series_keys(cells.ok, schema.identity("series"))
    others = cells.ok.index[~is_mine].groupby(keys[~is_mine])
    places = [[i, *others[keys[i]]] for i in cells.ok.index[is_mine] if keys[i] in others]
    if not places:
        raise Untested(f"no place at which both {mine} and another draft were measured{lost}")
    labels = labels_of(cells.ok.iloc[[at[0] for at in places]])
    items = tuple(
        of_series(cells, at, _lead, label, percent)
        for at, label in zip(places, labels, strict=True)
    )
    values = cells.values.value
    best = [cells.ok["series"][at[int(values[at].argmax())]] for at in places]
    counts = [f"{name} at {n} of {len(best)}" for name, n in pd.Series(best).value_counts().items()]
    used = cells.ok.iloc[np.unique(np.concatenate(places))]
    found = Effect(items, "%", used, differs, "fastest: " + ", ".join(counts))
    return _finished(found, cells, lost)


def _lead(v: np.ndarray) -> np.ndarray:
    """Logarithm of the first of (..., n) over the largest of the others."""
    return np.log(v[..., 0] / v[..., 1:].max(axis=-1))


def _own_acceptance(cells: Cells) -> None:
    """Untested where every draft's acceptance was set to one value; told: what a step of each costs
    and what acceptance it needs to be as fast as the cheapest."""
    if "set_acceptance" not in cells.ok:
        return
    rows = cells.ok.dropna(subset="set_acceptance")
    given = rows["set_acceptance"]
    if (
        rows["series"].nunique() < 2
        or rows.groupby("series")["set_acceptance"].first().nunique() > 1
    ):
        return
    needed = matching(cells.planned, float(given.iloc[0]))
    each = "; ".join(
        f"{row.series}: a step costs {row.cost_ratio:.2f} plain ones, needs "
        + ("more than any acceptance gives" if pd.isna(row.needed) else f"{row.needed:.2f}")
        for row in needed.itertuples()
    )
    raise Untested(
        f"acceptance per draft was not measured: it was set to {plain(sorted(set(given)))} for "
        f"every draft, and then the cheapest wins by construction"
        + (f"; to be as fast as the cheapest at that: {each}" if each else "")
    )


def draft_gain(
    cells: Cells,
    draft: str,
    over: str,
    where: dict | None = None,
    instead: dict | None = None,
    by: str | None = None,
) -> Effect:
    """How much faster one draft is than another, %, at each place of `where`."""
    _own_acceptance(cells)
    cells, _ = _drafts(cells)
    mine, other = (measured_series(cells, [name], instead)[0][0] for name in (draft, over))
    if mine == other:
        raise Untested(f"{mine} stands for both {draft} and {over}: they cannot be told apart here")
    found = series_gain(cells, draft, over, where=where, instead=instead, by=by)
    return replace(found, differs=(*found.differs, *_conditions(cells)))


def draft_change(
    cells: Cells, axis: str, low, high, drafts: list[str] | None = None, instead: dict | None = None
) -> Effect:
    """Change of throughput from low to high of the axis, %, with each of `drafts` (None: all)."""
    cells, lost = _drafts(cells, drafts)
    differs: tuple[str, ...] = ()
    if drafts is not None:
        chosen, differs = measured_series(cells, drafts, instead)
        cells = cells.select(
            cells.ok["series"].isin(chosen), cells.planned["series"].isin({*drafts, *chosen})
        )
    found = effects.end_change(cells, axis, low, high)
    text = ", ".join(f"{item.label} {item.value:+.1f} %" for item in found.items)
    return _finished(replace(found, differs=differs + found.differs, text=text), cells, lost)


def draft_steps(cells: Cells) -> Effect:
    """Change of throughput at each single step to more draft tokens, %; series with a draft
    only."""
    axis = "draft_tokens"
    cells, lost = _drafts(cells)
    rows = [own for own in series(cells, (axis,), axis) if len(own) > 1]
    if not rows:
        raise Untested(f"no draft was measured at two values of {NAMES[axis]}{lost}")
    lows, highs = (np.concatenate([own[side] for own in rows]) for side in (np.s_[:-1], np.s_[1:]))
    found = Comparison(cells, lows, highs, (), "").effect(over=False)
    by = pd.Series(found.values < 0).groupby(cells.ok["series"].to_numpy()[lows], sort=False)
    each = ", ".join(f"{name} {own.sum()} of {len(own)}" for name, own in by)
    text = f"{NAMES[axis]} {plain(sorted(cells.ok[axis].unique()))}: steps that fall: {each}"
    return _finished(replace(found, text=text), cells, lost)


def _finished(found: Effect, cells: Cells, lost: str) -> Effect:
    """With the conditions of its cells, and what was not measured."""
    differs = (*found.differs, *_conditions(cells))
    return replace(found, differs=differs, text=found.text + lost, whole=not lost)


def _drafts(cells: Cells, names: list[str] | None = None) -> tuple[Cells, str]:
    """The cells with a draft, and a text on planned ones (of `names`) without a number; empty where
    all have one."""
    if "draft_tokens" not in cells.planned:
        raise Untested("no point of the table speaks of draft tokens")
    kept = cells.select(*(rows["draft_tokens"].fillna(0) > 0 for rows in (cells.ok, cells.planned)))
    if kept.ok.empty:
        raise Untested("no point with a draft was measured")
    gone = kept.planned[kept.planned["status"] != "ok"].drop_duplicates("series")
    gone = gone[gone["series"].isin(names)] if names else gone
    each = "; ".join(f"{row.series}: {row.reason or row.status}" for row in gone.itertuples())
    return kept, f"; not measured everywhere: {each}" if each else ""


def _conditions(cells: Cells) -> tuple[str, ...]:
    """How the acceptance of these cells came about, where it is not by the models' own weights; and
    whether their draft tokens share experts, which makes verifying cheaper than for tokens of
    near-uniform routing."""
    source = "(source: what its models' weights gave)"
    found: list[str] = []
    given = cells.ok["set_acceptance"].dropna().unique() if "set_acceptance" in cells.ok else []
    if len(given):
        found.append(f"acceptance set to {plain(sorted(given))} for every draft {source}")
    elif "weights" in cells.ok and (cells.ok["weights"] == "dummy").any():
        found.append(f"acceptance that of dummy weights {source}")
    if under := int(is_under(cells.ok).sum()):
        found.append(
            f"{under} of {len(cells.ok)} points with a draft faster than their floor, so their "
            f"draft tokens share experts"
        )
    return tuple(found)
