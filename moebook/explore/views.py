"""What a section offers the explorer: views, rows with their first axes. The first opens it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import pandas as pd

from moebook.plot.length_axis import as_pairs
from moebook.plot.rows import METRICS
from moebook.results.cells import of_sweep


@dataclass(frozen=True, eq=False)
class View:
    """Rows of a results table and where their columns go at first; the reader may move them."""

    name: str
    sweep: str | None  # None: all rows
    x: str
    line: str | None = None  # None: one line
    panel: str | None = None  # None: one panel
    metric: str = "throughput_tok_s"
    where: Mapping[str, object] = field(default_factory=dict)  # column -> value rows must have
    log_x: bool = True
    log_y: bool | None = None  # None: as the values ask
    over: tuple[str, object] | None = None  # ratios to the rows with this value of a column
    table: Callable[[pd.DataFrame], pd.DataFrame] | None = None  # makes what rows are taken from

    def rows(self, summary: pd.DataFrame) -> pd.DataFrame:
        """The view's rows of a results summary; none where it was not measured."""
        rows = summary if self.table is None else self.table(summary)
        if self.sweep is not None:
            rows = of_sweep(rows, self.sweep)
        for column, value in self.where.items():
            rows = rows[rows[column] == value]
        return as_pairs(_plain(rows))


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    """Without columns that hold nothing, words as Python's: pandas takes a tenth of the time on a
    table of few rows that it takes on Arrow's."""
    rows = rows[[c for c in rows if c == "status" or rows[c].notna().any()]]
    words = [c for c in rows if isinstance(rows[c].dtype, pd.StringDtype | pd.ArrowDtype)]
    return rows.astype(dict.fromkeys(words, object)).reset_index(drop=True)


def metrics_of(rows: pd.DataFrame) -> list[str]:
    """The metrics of which some row has a number."""
    own = [metric for metric in METRICS if metric in rows]
    has = rows.loc[rows["status"] == "ok", own].notna().any()
    return [metric for metric in own if has[metric]]


def with_rows(
    summary: pd.DataFrame, views: tuple[View, ...]
) -> tuple[dict[View, pd.DataFrame], dict[str, str]]:
    """The views that have something to draw, with their rows, in the order declared; and why the
    others have not."""
    found: dict[View, pd.DataFrame] = {}
    missing: dict[str, str] = {}
    for view in views:
        try:
            rows = view.rows(summary)
        except ValueError as error:
            missing[view.name] = str(error)
            continue
        if metrics_of(rows):
            found[view] = rows
        else:
            missing[view.name] = "no row has a number"
    return found, missing
