"""The cells that decide claims: one per point, with its repeats, and the resampled medians that
carry their noise.

`Cells.of(table, sweep, ...)` takes a results table (one row per repeat) or a summary (one row per
point). Row 0 of `samples` is the observed median of every cell; each further row is the median of
repeats drawn again with replacement. From a summary the repeats are (lo, median, hi), which are the
repeats themselves where there were three. A metric whose _lo and _hi are a 95 % interval
(INTERVALS) is drawn from the normal distribution that has it."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from moebook.results import schema
from moebook.results.intervals import medians_of_repeats, values_in_intervals

NEEDED = (
    "sweeps",
    "model",
    "method",
    "status",
    "expert_ffn_dim",
    "num_experts",
    "top_k",
    "batch",
    "input_tokens",
    "output_tokens",
)
METHOD_ORDER = ("full", "sampled", "depth", "depth+sampled")
METRIC = "throughput_tok_s"
INTERVALS = ("balance_",)  # metrics that start so carry a 95 % interval, not a range of repeats


class Untested(Exception):  # noqa: N818
    """The data cannot decide; the message is the reason a reader sees."""


@dataclass(frozen=True)
class Cells:
    """planned: every point of the sweep, any status. ok: those with a number; row i of it is column
    i of `samples`."""

    planned: pd.DataFrame
    ok: pd.DataFrame
    samples: np.ndarray
    seed: int

    @classmethod
    def of(
        cls, table: pd.DataFrame, sweep: str, resamples: int, seed: int, metric: str = METRIC
    ) -> "Cells":
        """Points of `sweep` (several: separated by |) with their `metric`. Untested when the table
        has none, or none that was measured."""
        check_columns(table, NEEDED, metric)
        rows = of_sweep(table, sweep)
        if rows.empty:
            raise Untested(
                f"the table has no points of the sweep {' or '.join(sorted(sweep.split('|')))}"
            )
        check_columns(table, (metric,), metric)
        points = _per_point(rows, metric)
        ok = points[(points["status"] == "ok") & points["values"].map(len).gt(0)].reset_index(
            drop=True
        )
        if ok.empty:
            raise Untested(f"none of {len(points)} points was measured ({status_counts(points)})")
        has_interval = metric.startswith(INTERVALS)
        draw = values_in_intervals if has_interval else medians_of_repeats
        return cls(points, ok, draw(list(ok["values"]), resamples, seed), seed)

    def select(self, keep: pd.Series, keep_planned: pd.Series) -> "Cells":
        """The cells where the masks hold."""
        mask = keep.to_numpy(bool)
        return Cells(
            self.planned[keep_planned.to_numpy(bool)],
            self.ok[mask].reset_index(drop=True),
            self.samples[:, mask],
            self.seed,
        )


def check_columns(table: pd.DataFrame, columns: tuple[str, ...], metric: str) -> None:
    """ValueError where the table lacks one of them."""
    missing = [c for c in columns if c not in table]
    if missing:
        raise ValueError(
            f"columns {missing} are missing; claims need {', '.join((*NEEDED, metric))}"
        )


def status_counts(points: pd.DataFrame) -> str:
    """`2 ok, 3 oom`"""
    counts = sorted(
        points["status"].value_counts().items(), key=lambda item: (item[0] != "ok", item[0])
    )
    return ", ".join(f"{n} {status}" for status, n in counts) or "no points"


def _per_point(rows: pd.DataFrame, metric: str = METRIC) -> pd.DataFrame:
    """One row per point with `values`, its repeats; of points equal in all that a cell is known by
    the one with the plainest method."""
    identity = [c for c in schema.identity() if c in rows]
    if "repeat" in rows and not metric.startswith(INTERVALS):
        key = ["key"] if "key" in rows else [*identity, "method"]
        groups = rows.groupby(key, dropna=False, sort=False)
        points = groups.head(1).copy()
        points["values"] = [group[metric].dropna().to_numpy(float) for _, group in groups]
    else:
        points = rows.drop_duplicates("key") if "repeat" in rows else rows.copy()
        points = points.assign(values=[_three(row, metric) for row in points.to_dict("records")])
    points["length"] = points["input_tokens"].where(
        points["input_tokens"] == points["output_tokens"]
    )
    points = _share_sweeps(points)
    order = (
        points["method"].map({m: i for i, m in enumerate(METHOD_ORDER)}).fillna(len(METHOD_ORDER))
    )
    rank = points.assign(_failed=points["status"] != "ok", _order=order)
    rank = rank.sort_values(["_failed", "_order"], kind="stable").drop_duplicates(identity)
    return rank.drop(columns=["_failed", "_order"]).sort_index().reset_index(drop=True)


def of_sweep(table: pd.DataFrame, sweep: str) -> pd.DataFrame:
    """The rows of a sweep, or of several separated by |."""
    wanted = set(sweep.split("|"))
    return table[
        np.array(
            [bool(wanted & set(str(names).split(","))) for names in table["sweeps"]], dtype=bool
        )
    ]


def _share_sweeps(points: pd.DataFrame) -> pd.DataFrame:
    """Points equal in all that a cell is known by all belong to the sweeps of each of them."""
    sweeps = (
        points["sweeps"]
        .astype(str)
        .str.split(",")
        .groupby(series_keys(points, ()))
        .transform("sum")
    )
    return points.assign(sweeps=[",".join(dict.fromkeys(s)) for s in sweeps])


def _three(row: dict, metric: str) -> np.ndarray:
    middle = row[metric]
    if middle is None or pd.isna(middle):
        return np.array([])
    spread = [row.get(f"{metric}_{end}") for end in ("lo", "hi")]
    if any(v is None or pd.isna(v) for v in spread):
        return np.array([middle], float)
    return np.array([spread[0], middle, spread[1]], float)


def places_of_series(frame: pd.DataFrame) -> pd.Series:
    """A label per row, equal where one series of a section is compared with another: the same model
    and work, whatever a series may differ in."""
    return series_keys(frame, schema.identity("series"))


def series_keys(frame: pd.DataFrame, without: tuple[str, ...]) -> pd.Series:
    """A label per cell, equal for cells that differ in nothing but the columns `without` and what
    the engine was built for."""
    if "length" in without:
        without = (*without, "input_tokens", "output_tokens")
    columns = [c for c in schema.identity("place", "series") if c in frame and c not in without]
    labels = [
        "|".join("" if pd.isna(v) else str(v) for v in row)
        for row in frame[columns].itertuples(index=False)
    ]
    return pd.Series(labels, index=frame.index, dtype=object)
