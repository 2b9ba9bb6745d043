"""The cells that decide claims: one per point of a sweep, with the error of its number.

`Cells.of(summary, sweep)` takes a summary, a row per point, with the ends of each number's
interval. `with_decisions` adds to a summary whether each row may decide, and why not; verdicts
leave rows out by the same `why_not`, so that what a table says and what a verdict rests on are one.

    decides   true: the row has a number of a run, and claims may rest on it
    note      why it decides nothing
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from moebook.models.one_rank import RANK
from moebook.predict.columns import is_under, of_those_under
from moebook.results import schema
from moebook.results.intervals import SAME, Change, Values
from moebook.study.methods import DIRECT_FIRST

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
METRIC = "throughput_tok_s"


class Untested(Exception):  # noqa: N818
    """The data cannot decide; the message is the reason a reader sees."""


@dataclass(frozen=True)
class Cells:
    """planned: every point of the sweep, any status. ok: those with a number, row i of it being
    cell i of `values`. change: what a check of robustness changed in them. known: what was worked
    out of the rows alone, which cells of another change share."""

    planned: pd.DataFrame
    ok: pd.DataFrame
    values: Values
    change: Change = SAME
    known: dict = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def of(
        cls, summary: pd.DataFrame, sweep: str, metric: str = METRIC, change: Change = SAME
    ) -> "Cells":
        """Points of `sweep` (several: separated by |) with their `metric`. Untested when the
        summary has none, or none that was measured."""
        check_columns(summary, NEEDED, metric)
        rows = of_sweep(summary, sweep)
        if rows.empty:
            raise Untested(
                f"the table has no points of the sweep {' or '.join(sorted(sweep.split('|')))}"
            )
        check_columns(summary, (metric,), metric)
        points = _one_per_cell(rows)
        ok = points[(points["status"] == "ok") & points[metric].notna()].reset_index(drop=True)
        if ok.empty:
            raise Untested(f"none of {len(points)} points was measured ({status_counts(points)})")
        return cls(points, ok, Values.of(ok, metric, change), change)

    def changed(self, metric: str, change: Change) -> "Cells":
        """The same cells under a check of robustness."""
        return replace(self, values=self.values.changed(self.ok, metric, change), change=change)

    def select(self, keep: pd.Series, keep_planned: pd.Series) -> "Cells":
        """The cells where the masks hold."""
        mask, in_plan = keep.to_numpy(bool), keep_planned.to_numpy(bool)
        planned, ok, known = self.once(
            ("select", mask.tobytes(), in_plan.tobytes()),
            lambda: (self.planned[in_plan], self.ok[mask].reset_index(drop=True), {}),
        )
        return Cells(planned, ok, self.values.take(mask), self.change, known)

    def once(self, key: tuple, make: Callable):
        """What `make` makes of the rows, made once."""
        if key not in self.known:
            self.known[key] = make()
        return self.known[key]


def check_columns(table: pd.DataFrame, columns: tuple[str, ...], metric: str) -> None:
    """ValueError where the table lacks one of them."""
    missing = [c for c in columns if c not in table]
    if missing:
        raise ValueError(
            f"columns {missing} are missing; claims need {', '.join((*NEEDED, metric))}"
        )


def counted(values: pd.Series) -> str:
    """`12 measured, 4 sampled`: how often each value comes, the most frequent first."""
    return ", ".join(f"{n} {value}" for value, n in values.value_counts().items())


def status_counts(points: pd.DataFrame) -> str:
    """`2 ok, 3 oom`"""
    counts = sorted(
        points["status"].value_counts().items(), key=lambda item: (item[0] != "ok", item[0])
    )
    return ", ".join(f"{n} {status}" for status, n in counts) or "no points"


def _one_per_cell(rows: pd.DataFrame) -> pd.DataFrame:
    """Of points equal in all that a cell is known by the one with the plainest method."""
    same = rows["input_tokens"] == rows["output_tokens"]
    points = _share_sweeps(rows.assign(length=rows["input_tokens"].where(same)))
    order = points["method"].map({m: i for i, m in enumerate(DIRECT_FIRST)})
    failed, order = points["status"] != "ok", order.fillna(len(DIRECT_FIRST))
    rank = points.assign(_failed=failed, _order=order)
    rank = rank.sort_values(["_failed", "_order"], kind="stable")
    rank = rank.drop_duplicates([c for c in schema.identity() if c in rows])
    return rank.drop(columns=["_failed", "_order"]).sort_index().reset_index(drop=True)


def of_sweep(table: pd.DataFrame, sweep: str) -> pd.DataFrame:
    """The rows of a sweep, or of several separated by |."""
    wanted = set(sweep.split("|"))
    each = table["sweeps"].unique()
    return table[table["sweeps"].isin([s for s in each if wanted & set(str(s).split(","))])]


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


def places_of_series(frame: pd.DataFrame) -> pd.Series:
    """A label per row, equal where one series of a section is compared with another: the same model
    and work, whatever a series may differ in."""
    return series_keys(frame, schema.identity("series"))


def _words(column: pd.Series) -> np.ndarray:
    """A column as text, nulls as none; each value is put into words once."""
    codes, values = pd.factorize(column.to_numpy(object))
    return np.append(values.astype(str), "").astype(object)[codes]


def series_keys(frame: pd.DataFrame, without: tuple[str, ...]) -> pd.Series:
    """A label per cell, equal for cells that differ in nothing but the columns `without` and what
    the engine was built for."""
    if "length" in without:
        without = (*without, "input_tokens", "output_tokens")
    columns = [c for c in schema.identity("place", "series") if c in frame and c not in without]
    if not columns:
        return pd.Series("", index=frame.index, dtype=object)
    words = [_words(frame[c]) for c in columns]
    labels = ["|".join(row) for row in zip(*words, strict=True)]
    return pd.Series(labels, index=frame.index, dtype=object)


COMPOSED = "composed"  # method of rows that were made of other rows, not run
CHECKS = {  # sweep -> why a row of it alone decides nothing
    "support": "a reduced depth that extrapolated points rest on: decides nothing itself",
    "validation": "a check of the methods against each other: decides nothing itself",
}
ONE_RANK = "one rank of a split model, which composed rows rest on: decides nothing itself"
BESIDE = "composed of one rank's time and communication: stands beside runs, decides nothing"
UNEVEN = "its routing was not near uniform; decides nothing"


def with_decisions(summary: pd.DataFrame) -> pd.DataFrame:
    """A copy with `decides` and `note`."""
    notes, lacking = why_not(summary), summary["status"] != "ok"
    decides = notes.isna() & ~lacking
    notes = notes.mask(lacking, summary["status"] + ": it has no number")
    return summary.assign(decides=decides, note=notes)


def why_not(summary: pd.DataFrame) -> pd.Series:
    """Why each row decides nothing, number or not; null for rows that may decide."""
    found = _under(summary)
    for mask, reason in (*_only_checks(summary), (summary["method"] == COMPOSED, BESIDE)):
        found = found.mask(found.isna() & mask, reason)
    return found


def _only_checks(summary: pd.DataFrame) -> list[tuple[pd.Series, str]]:
    """Rows that only check or support others: those of no other sweep, and single ranks."""
    each = {names: set(str(names).split(",")) for names in summary["sweeps"].unique()}
    found = [
        (summary["sweeps"].isin([s for s, own in each.items() if name in own <= set(CHECKS)]), why)
        for name, why in CHECKS.items()
    ]
    if "series" in summary:
        found.append((summary["series"].astype(str).str.startswith(RANK), ONE_RANK))
    return found


def _under(summary: pd.DataFrame) -> pd.Series:
    """Why rows of a model under its bound decide nothing; null for all others."""
    found = pd.Series(None, summary.index, dtype=schema.PANDAS["text"])
    left_out = of_those_under(summary)
    if not left_out.any():
        return found
    pct = 100 * (1 - summary["tpot_s"].astype(float) / summary["floor_tpot_s"].astype(float))
    told = pct.map(f"measured under its physical limit by {{:.0f}} %: {UNEVEN}".format)
    found = found.mask(left_out, f"its model was measured under its limit elsewhere: {UNEVEN}")
    return found.mask(left_out & is_under(summary), told)
