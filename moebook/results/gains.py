"""One series against another at the same place: ratios of a metric, percent gains, by how much a
perplexity exceeds that of a reference; and the effects between named series that decide claims
(fp8 over bf16, pruned over baseline, fused over non-fused).

A place is a model with its active experts, batch and lengths. A ratio has the interval that
verdicts take (intervals.py).

The repeats of a perplexity are disjoint parts of one text. Parts differ in difficulty, so their
range is no noise of a comparison: models are compared part by part, the easiest with the easiest
and so on, as ratios of what a summary keeps.

    increase_pct      100 (median / median of `over` - 1)
    increase_pct_lo   the least of that ratio over the easiest, median and hardest part; _hi the
                      most. Of three repeats these are all the parts.

Of effects `series` and `over` are names of the column `series`, or lists of names; where none of
them was measured, a stand-in of `instead` is taken and `differs` says so. Where planned workloads
are not measured the effect is not `whole`, and the verdict holds in part."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pandas as pd

from moebook.results.cells import Cells, Untested, of_sweep, places_of_series
from moebook.results.comparison import (
    Comparison,
    Effect,
    breakdown,
    labels_of,
)
from moebook.results.conditions import NAMES, narrow, plain
from moebook.results.effects import gain_slope, joined, sets_along, shared
from moebook.results.intervals import Values, estimate, log_ratio
from moebook.study.methods import DIRECT_FIRST

PLACE = ("model", "top_k", "batch", "input_tokens", "output_tokens")
METRIC = "throughput_tok_s"


def ratios(
    summary: pd.DataFrame, sweeps: str | Iterable[str], over: str, metric: str = METRIC
) -> pd.DataFrame:
    """The rows of the sweeps but those of series `over`, with `ratio` (and _lo, _hi), their metric
    over its metric.

    A row whose counterpart has no number gets the counterpart's status and reason, and one whose
    counterpart was got by a less direct method that method. ValueError where the series is missing,
    or twice at one place."""
    wanted = {sweeps} if isinstance(sweeps, str) else set(sweeps)
    rows = of_sweep(summary, "|".join(wanted))
    rows = rows.assign(_place=places_of_series(rows))
    base, others = rows[rows["series"] == over], rows[rows["series"] != over]
    if base.empty or others.empty:
        raise ValueError(
            f"gains over {over!r} need that series and another in sweep "
            f"{' or '.join(sorted(wanted))}; series there: "
            f"{', '.join(dict.fromkeys(rows['series'].dropna())) or 'none'}"
        )
    if base.duplicated("_place").any():
        raise ValueError(
            f"series {over!r} has several rows at one {', '.join(PLACE)}; give rows of one "
            "measurement"
        )
    facts = [c for c in ("status", "reason", "method", metric) if c in rows]
    base = base.reset_index(drop=True)
    both = others.reset_index(drop=True).merge(
        base.reset_index()[["_place", "index", *facts]],
        on="_place",
        how="left",
        suffixes=("", "_over"),
        sort=False,
    )
    out = both[others.columns.drop("_place")].assign(over=over)
    out = out.copy()  # in one piece: pandas warns of frames in over a hundred
    found = _ratios(out, base.iloc[both["index"].dropna()], both["index"].notna(), metric)
    return _as_sure_as_both(out.assign(**found), both)


def _ratios(
    own: pd.DataFrame, base: pd.DataFrame, paired: pd.Series, metric: str
) -> dict[str, np.ndarray]:
    """`ratio` of each row's metric to that of its partner in `base`, which has a row for each that
    is paired; with the ends of its interval where the metric has any."""
    found = {name: np.full(len(own), np.nan) for name in ("ratio", "ratio_lo", "ratio_hi")}
    both = pd.concat([own[paired], base], ignore_index=True)
    has = both[metric].notna().to_numpy().reshape(2, -1).all(axis=0)
    n = len(base)
    index = np.column_stack([np.arange(n), n + np.arange(n)])[has]
    at = np.flatnonzero(paired)[has]
    estimates = estimate(Values.of(both, metric), index, log_ratio)
    for name, logs in zip(found, (estimates.value, *estimates.ends()), strict=True):
        found[name][at] = np.exp(logs)
    return found if f"{metric}_lo" in own else {"ratio": found["ratio"]}


def _as_sure_as_both(out: pd.DataFrame, both: pd.DataFrame) -> pd.DataFrame:
    lost = (both["status"] == "ok") & (both["status_over"] != "ok")
    out["status"] = both["status"].mask(lost, both["status_over"].fillna("not_run"))
    if "reason" in both:
        out["reason"] = both["reason"].mask(lost, both["reason_over"])
    if "method" in both:
        less = _indirect(both["method_over"]) > _indirect(both["method"])
        out["method"] = both["method"].mask(less, both["method_over"])
    return out


def _indirect(methods: pd.Series) -> pd.Series:
    return methods.map({name: i for i, name in enumerate(DIRECT_FIRST)}).fillna(-1)


def gains(summary: pd.DataFrame, sweeps: str | Iterable[str], over: str) -> pd.DataFrame:
    """`ratios` of throughput with `gain_pct` (and _lo, _hi): by how many percent it exceeds that of
    series `over`."""
    rows = ratios(summary, sweeps, over)
    ends = [c for c in ("ratio", "ratio_lo", "ratio_hi") if c in rows]
    return rows.assign(**{c.replace("ratio", "gain_pct"): 100 * (rows[c] - 1) for c in ends})


QUALITY = "quality"
PARTS = ("perplexity", "perplexity_lo", "perplexity_hi")


def increases(table: pd.DataFrame, over: str) -> pd.DataFrame:
    """The rows of sweep `quality` with `increase_pct` (and _lo, _hi, in %) over series `over`.

    Where `over` has no number every other row gets its status and reason, and no increase. Empty
    where the sweep is; ValueError where `over` is missing or there twice."""
    rows = of_sweep(table, QUALITY)
    reference = rows[rows["series"] == over]
    if len(rows) and len(reference) != 1:
        raise ValueError(
            f"quality over {over!r} needs that series once in sweep {QUALITY!r}, which has it "
            f"{len(reference)} times; "
            f"series there: {', '.join(dict.fromkeys(rows['series'].dropna()))}"
        )
    if len(rows) and (status := reference["status"].item()) != "ok":
        lost = rows["status"] == "ok"
        rows = rows.assign(
            status=rows["status"].mask(lost, status),
            reason=rows["reason"].mask(lost, reference["reason"].item()),
        )
    parts = rows[[part for part in PARTS if part in rows]].astype(float)
    base = parts.loc[reference.index].squeeze(axis=0) if len(rows) else 1.0
    ratios = 100 * (parts / base - 1)
    return rows.assign(
        increase_pct=ratios["perplexity"],
        increase_pct_lo=ratios.min(axis=1),
        increase_pct_hi=ratios.max(axis=1),
    )


def measured_series(
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
    mine, differs = measured_series(cells, series, instead)
    theirs, more = measured_series(cells, over, instead)
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


def series_pairs(
    cells: Cells,
    series,
    over: str,
    where: dict | None = None,
    model: str | None = None,
    like: str | None = None,
    instead: dict | None = None,
) -> Comparison:
    """`versus`, of the cells that the claim speaks of."""
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
    pairs = series_pairs(cells, series, over, where, model, like, instead)
    found = pairs.effect()
    text = f"{pairs.text}, from {found.values.min():+.1f} to {found.values.max():+.1f} %"
    told = breakdown(found.values, pairs.cells.ok.iloc[pairs.low], by, "%")
    return replace(found, text=joined(text, told))


def series_gain_slope(cells: Cells, pairs: Callable[[Cells], Comparison], along: str) -> Effect:
    """How the gain of one series over another grows with `along`: percentage points per doubling,
    least squares, of each set of workloads. pairs: `series_pairs` of the two."""
    return gain_slope(pairs(cells), along)


def series_gain_steps(cells: Cells, pairs: Callable[[Cells], Comparison], along: str) -> Effect:
    """By how many percentage points the gain of one series over another grows from one value of
    `along` to the next. pairs: `series_pairs` of the two."""
    found = pairs(cells)
    ends = [
        (rows.index[i : i + 2], rows.iloc[i + 1])
        for rows in sets_along(found, along)
        for i in range(len(rows) - 1)
    ]

    def growth(v: np.ndarray) -> np.ndarray:
        gain = 100 * (v[..., ::2] / v[..., 1::2] - 1)
        return gain[..., 1] - gain[..., 0]

    labels = labels_of(pd.DataFrame([upper for _, upper in ends]))
    items = tuple(
        shared(found, numbers, growth, f"up to {label}")
        for (numbers, _), label in zip(ends, labels, strict=True)
    )
    grows = sum(item.value > 0 for item in items)
    text = f"{found.text}: grows at {grows} of {len(items)} steps of {NAMES[along]}"
    return Effect(items, "points", found.used, found.differs, text, found.whole)
