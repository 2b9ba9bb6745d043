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
    block."""

    value: np.ndarray
    se: np.ndarray
    df: np.ndarray
    blocks: tuple[dict[str, float], ...]

    @classmethod
    def of(cls, rows: pd.DataFrame, metric: str, change: Change = SAME) -> "Values":
        """Of the rows of a summary: the ends of their interval tell the error."""
        value = rows[metric].to_numpy(float)
        df = _degrees(rows, metric)
        lo, hi = (_numbers(rows, f"{metric}_{end}", np.nan) for end in ("lo", "hi"))
        with np.errstate(invalid="ignore", divide="ignore"):
            se = np.log(hi / lo) / (2 * starts.quantile(df))
        found = cls(value, np.nan_to_num(se), df, tuple(starts.blocks_of(rows, metric)))
        return found._changed(rows, metric, change)

    def _changed(self, rows: pd.DataFrame, metric: str, change: Change) -> "Values":
        if change.host is None and change.block is None:
            return replace(self, se=self.se * change.deviation)
        value, se, df, blocks = self.value.copy(), self.se.copy(), self.df.copy(), [*self.blocks]
        sd, its_df = starts.deviation(rows, metric)
        for i, own in enumerate(self.blocks):
            left = {b: v for b, v in own.items() if not _is_of(b, change)}
            if left and len(left) < len(own):
                logs = [float(np.log(v)) for v in left.values()]
                middle, se[i], df[i] = starts.of_starts(logs, sd[i], its_df[i])
                value[i], blocks[i] = np.exp(middle), left
        return Values(value, se, df, tuple(blocks))

    def take(self, mask: np.ndarray) -> "Values":
        """The cells where the mask holds."""
        kept = tuple(own for own, keep in zip(self.blocks, mask, strict=True) if keep)
        return Values(self.value[mask], self.se[mask], self.df[mask], kept)


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
    parts = np.empty(x.shape)
    for j in range(x.shape[1]):
        up, down = x.copy(), x.copy()
        up[:, j] *= np.exp(se[:, j])
        down[:, j] *= np.exp(-se[:, j])
        parts[:, j] = ((of(up) - of(down)) / 2) ** 2
    total = parts.sum(axis=1)
    shares = parts / np.where(total > 0, total, 1.0)[:, None]
    harmonic = (shares / df).sum(axis=1)  # of one df alike all around it is that df
    its_df = np.where(harmonic > 0, 1 / np.where(harmonic > 0, harmonic, 1.0), EXACT)
    found = Estimates(np.asarray(of(x), float).copy(), np.sqrt(total), its_df)
    return _with_blocks(found, values, index, of)


def _with_blocks(found: Estimates, values: Values, index: np.ndarray, of: Callable) -> Estimates:
    """Statistics whose cells share OWN blocks or more, from those."""
    for p, row in enumerate(index):
        shared = set(values.blocks[row[0]])
        for i in row[1:]:
            shared &= set(values.blocks[i])
        if len(shared) >= starts.OWN:
            each = np.array([[values.blocks[i][b] for i in row] for b in sorted(shared)])
            own = np.asarray(of(each), float)
            found.value[p], n = own.mean(), len(own)
            found.se[p], found.df[p] = own.std(ddof=1) / np.sqrt(n), n - 1
    return found


def log_ratio(v: np.ndarray) -> np.ndarray:
    """Of (..., 2): the logarithm of the first over the second."""
    return np.log(v[..., 0] / v[..., 1])
