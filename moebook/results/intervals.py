"""Intervals of what is compared: statistics of cells, with the error that engine starts give them.

A cell has a value, the standard error of its logarithm and degrees of freedom (starts.py). A
statistic of several cells has

    from OWN blocks on      its values in the blocks that all its cells have: their mean, and
                            Student's t with blocks - 1 degrees of freedom. A block is one engine
                            start of each cell on one host, neighbours in time
    with fewer              the cells' errors, carried through it one at a time

Nothing is drawn at random, and cells of a grid are fixed: no interval speaks of other cells."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from moebook.results import starts

EXACT = 1e9  # degrees of freedom of what has no error
AT_ONCE = 1 << 21  # numbers that an estimate works on together


@dataclass(frozen=True)
class Change:
    """What a check of robustness changes: all deviations times `deviation`; the records of a host
    or a block left out, where the cell has others; thresholds moved by their rounding, `moved`
    times."""

    deviation: float = 1.0
    host: str | None = None
    block: str | None = None
    moved: int = 0


SAME = Change()


@dataclass(frozen=True)
class Values:
    """N cells: value, standard error of its logarithm, degrees of freedom, and the value in each
    block, (N, B), a column each."""

    value: np.ndarray
    se: np.ndarray
    df: np.ndarray
    blocks: pd.DataFrame

    @classmethod
    def of(cls, rows: pd.DataFrame, metric: str, change: Change = SAME) -> "Values":
        """Of the rows of a summary: the ends of their interval tell the error."""
        value = rows[metric].to_numpy(float)
        df = _degrees(rows, metric)
        lo, hi = (_numbers(rows, f"{metric}_{end}", np.nan) for end in ("lo", "hi"))
        with np.errstate(invalid="ignore", divide="ignore"):
            se = np.log(hi / lo) / (2 * starts.quantile(df))
        found = cls(value, np.nan_to_num(se), df, starts.blocks_of(rows, metric))
        return found.changed(rows, metric, change)

    def changed(self, rows: pd.DataFrame, metric: str, change: Change) -> "Values":
        """As a check of robustness has them; rows: those that they are of."""
        if change.host is None and change.block is None:
            return replace(self, se=self.se * change.deviation)
        gone = np.array([_is_of(block, change) for block in self.blocks], dtype=bool)
        all_ = self.blocks.to_numpy(float)
        left, has = np.where(gone, np.nan, all_), ~np.isnan(all_)
        hit = (has & gone).any(axis=1) & (has & ~gone).any(axis=1)
        value, se, df = self.value.copy(), self.se.copy(), self.df.copy()
        sd, its_df = starts.deviation(rows[hit], metric)
        middle, se[hit], df[hit] = starts.of_starts(np.log(left[hit]), sd, its_df)
        value[hit] = np.exp(middle)
        blocks = pd.DataFrame(np.where(hit[:, None], left, all_), columns=self.blocks.columns)
        return Values(value, se, df, blocks)

    def take(self, mask: np.ndarray) -> "Values":
        """The cells where the mask holds."""
        return Values(self.value[mask], self.se[mask], self.df[mask], self.blocks[mask])


def _numbers(rows: pd.DataFrame, column: str, other: float) -> np.ndarray:
    if column not in rows:
        return np.full(len(rows), other)
    return rows[column].astype(float).fillna(other).to_numpy()


def _degrees(rows: pd.DataFrame, metric: str) -> np.ndarray:
    """Of the interval that a summary tells of a metric: those of a point's starts, else of its
    class; of what is not timed between starts, many."""
    if metric not in starts.time_of() or "n_records" not in rows:
        return np.full(len(rows), EXACT)
    n = _numbers(rows, "n_records", 0.0)
    return np.where(
        n >= starts.OWN, n - 1, np.where(n > 0, starts.deviation(rows, metric)[1], EXACT)
    )


def _is_of(block: str, change: Change) -> bool:
    return block == change.block or block.rpartition("#")[0] == change.host


@dataclass(frozen=True)
class Estimates:
    """P statistics: value, standard error, degrees of freedom."""

    value: np.ndarray
    se: np.ndarray
    df: np.ndarray

    def ends(self, level: float = starts.LEVEL) -> tuple[np.ndarray, np.ndarray]:
        half = self.se * starts.quantile(self.df, level)
        return self.value - half, self.value + half


def estimate(values: Values, index: np.ndarray, of: Callable) -> Estimates:
    """P statistics of M cells each. index: (P, M) numbers of cells, those of a row all different.
    of: values (P, M) -> (P,)."""
    index = np.asarray(index)
    x, se, df = values.value[index], values.se[index], values.df[index]
    parts = _carried(x, se, of)
    total = parts.sum(axis=1)
    shares = parts / np.where(total > 0, total, 1.0)[:, None]
    harmonic = (shares / df).sum(axis=1)  # of one df alike all around it is that df
    its_df = np.where(harmonic > 0, 1 / np.where(harmonic > 0, harmonic, 1.0), EXACT)
    found = Estimates(np.asarray(of(x), float).copy(), np.sqrt(total), its_df)
    return _with_blocks(found, values, index, of)


def _carried(x: np.ndarray, se: np.ndarray, of: Callable) -> np.ndarray:
    """(P, M) squared errors of P statistics from each of their M cells, all else as it is."""
    (many, width), found = x.shape, []
    for at in range(0, many, max(1, AT_ONCE // width**2)):
        here = slice(at, at + max(1, AT_ONCE // width**2))
        own = np.exp(se[here])[:, :, None] * np.eye(width) + (1 - np.eye(width))
        up, down = x[here, None, :] * own, x[here, None, :] / own
        each = [np.asarray(of(v.reshape(-1, width))).reshape(-1, width) for v in (up, down)]
        found.append(((each[0] - each[1]) / 2) ** 2)
    return np.concatenate([x[:0], *found])  # of no statistics, none


def _with_blocks(found: Estimates, values: Values, index: np.ndarray, of: Callable) -> Estimates:
    """Statistics whose cells share OWN blocks or more, from those."""
    each = values.blocks.to_numpy(float)[index]  # (P, M, B)
    kinds, kind = np.unique(~np.isnan(each).any(axis=1), axis=0, return_inverse=True)
    for number, shared in enumerate(kinds):
        if (n := int(shared.sum())) >= starts.OWN:
            here = np.flatnonzero(kind.ravel() == number)
            own = each[here][:, :, shared].transpose(0, 2, 1).reshape(-1, index.shape[1])
            own = np.asarray(of(own), float).reshape(len(here), n)
            found.value[here] = own.mean(axis=1)
            found.se[here] = own.std(axis=1, ddof=1) / np.sqrt(n)
            found.df[here] = n - 1
    return found


def log_ratio(v: np.ndarray) -> np.ndarray:
    """Of (..., 2): the logarithm of the first over the second."""
    return np.log(v[..., 0] / v[..., 1])
