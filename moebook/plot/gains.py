"""What figures of gains share: checked rows, and the words of their axes."""

from collections.abc import Iterable

import pandas as pd

from moebook.plot.rows import one_per_place, rows_of, values_of, with_numbers
from moebook.results import gains as analysis

NEEDED = ("series", "method", *analysis.PLACE)


def series_of(summary: pd.DataFrame, figure: str, sweep: str) -> list[str]:
    """The series of a sweep in the order of the table. ValueError where the sweep or what places
    need is missing."""
    return values_of(rows_of(summary, figure, sweep, NEEDED), "series")


def gain_rows(
    summary: pd.DataFrame, figure: str, sweep: str, over: str, metric: str = analysis.METRIC
) -> pd.DataFrame:
    """`analysis.gains` over one series, for a figure: ValueError says which sweep, columns, series
    or numbers are missing."""
    rows = rows_of(summary, figure, sweep, (*NEEDED, metric))
    with_numbers(rows, figure, [metric])
    one_per_place(rows, figure, ("series", *analysis.PLACE))
    found = analysis.gains(rows, sweep, over, metric)
    with_numbers(found, figure, ["gain_pct"])
    return found


def gain_label(over: str, of: Iterable[str] = ()) -> str:
    """`throughput gain of fp8 over bf16 (%)`"""
    of = list(of)
    return f"throughput gain{f' of {of[0]}' if len(of) == 1 else ''} over {over} (%)"
