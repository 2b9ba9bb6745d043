"""Which cells a claim compares: narrowed to its conditions, paired along one axis, with the noise
of pairs and repeats.

Where the plan holds the source's values of an axis they are used, and missing cells make a claim
untested; a plan at another scale is read over its own range, and `differs` says so."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from moebook.results import intervals
from moebook.results.cells import Cells, Untested, series_keys, status_counts

NAMES = {
    "expert_ffn_dim": "expert FFN dim",
    "num_experts": "experts",
    "top_k": "active experts",
    "batch": "batch",
    "length": "input = output tokens",
    "model": "model",
    "draft_tokens": "draft tokens",
    "skew": "Zipf exponent",
    "input_tokens": "input tokens",
}


@dataclass(frozen=True)
class Effect:
    """value with its 95 % interval, over n pairs, series or steps; `used` are the rows that
    entered, `basis` those that the value rests on where they are fewer."""

    value: float
    lo: float
    hi: float
    unit: str
    n: int
    used: pd.DataFrame
    differs: tuple[str, ...] = ()
    text: str = ""
    whole: bool = True  # False: planned cells that the effect speaks of are not measured
    basis: pd.DataFrame | None = None


@dataclass(frozen=True)
class Comparison:
    """Columns of `samples` to compare: `low[p]` with `high[p]`."""

    cells: Cells
    low: np.ndarray
    high: np.ndarray
    differs: tuple[str, ...]
    text: str
    whole: bool = True

    def ratio(self) -> np.ndarray:
        """(R+1, P) throughput at low over throughput at high."""
        return self.cells.samples[:, self.low] / self.cells.samples[:, self.high]

    @property
    def used(self) -> pd.DataFrame:
        return self.cells.ok.iloc[np.unique(np.concatenate([self.low, self.high]))]


def summarise(
    stat: np.ndarray,
    unit: str,
    n: int,
    used: pd.DataFrame,
    differs: tuple[str, ...],
    text: str,
    whole: bool = True,
) -> Effect:
    """The effect of (1 + R,) values of a statistic, the first observed, with its interval."""
    lo, hi = intervals.ends(stat)
    differs = tuple(dict.fromkeys(differs))
    return Effect(float(stat[0]), lo, hi, unit, n, used, differs, text, whole)


def mean_of(
    values: np.ndarray,
    cells: Cells,
    unit: str,
    used: pd.DataFrame,
    differs: tuple[str, ...],
    text: str,
    whole: bool = True,
) -> Effect:
    """The mean over (1 + R, P) values of pairs, with the noise of repeats and of pairs."""
    means = intervals.pairs_again(values, cells.seed).mean(axis=1)
    return summarise(means, unit, values.shape[1], used, differs, text, whole)


def plain(values) -> str:
    return ", ".join(f"{v:g}" if isinstance(v, (int, float, np.number)) else str(v) for v in values)


def narrow(
    cells: Cells, where: dict | None, model: str | None = None, like: str | None = None
) -> tuple[Cells, tuple[str, ...]]:
    """The cells that the claim speaks of, and how they differ from the source's."""
    differs: tuple[str, ...] = ()
    if model is not None:
        cells, differs = of_model(cells, model, like)
    for axis, spec in (where or {}).items():
        planned = sorted(cells.planned[axis].dropna().unique())
        values = [v for v in spec["values"] if v in planned]
        if not values:
            if len(planned) < 2:
                raise Untested(
                    f"{NAMES[axis]} has "
                    f"{f'one value ({plain(planned)})' if planned else 'no value'}; the claim "
                    f"speaks of {plain(spec['values'])}"
                )
            half = len(planned) // 2
            values = planned[:half] if spec["side"] == "smallest" else planned[-half:]
        if set(values) != set(spec["values"]):
            differs += (f"{NAMES[axis]} {plain(values)} (source {plain(spec['values'])})",)
        cells = _keep(cells, axis, values)
    return cells, differs


def _keep(cells: Cells, axis: str, values: list) -> Cells:
    kept = cells.select(cells.ok[axis].isin(values), cells.planned[axis].isin(values))
    if kept.ok.empty:
        raise Untested(
            f"no measured cell with {NAMES[axis]} {plain(values)} ({status_counts(kept.planned)})"
        )
    return kept


def of_model(cells: Cells, model: str, like: str | None) -> tuple[Cells, tuple[str, ...]]:
    """Cells of the named model, or of the one stand-in whose name holds `like`."""
    names = sorted(cells.planned["model"].astype(str).unique())
    same = [n for n in names if n.startswith(model)]
    near = [n for n in names if like and like in n.lower()]
    if not same and not near:
        raise Untested(f"no points of {model}; the table has {', '.join(names)}")
    chosen = (same or near)[0]
    return _keep(cells, "model", [chosen]), () if same else (f"model {chosen} (source {model})",)


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
        differs = (f"{NAMES[axis]} {own[0]:g} to {own[-1]:g} (source {low:g} to {high:g})",)
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
    frame = cells.ok[cells.ok[axis].notna()]
    groups = frame.groupby(series_keys(frame, without), sort=True)
    return [group.sort_values(axis).index.to_numpy() for _, group in groups]


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
    """Least-squares slope of every row of y (R+1, P) on x (P)."""
    centred = x - x.mean()
    return y @ centred / (centred @ centred)
