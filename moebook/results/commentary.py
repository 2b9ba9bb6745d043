"""A section's commentary: text whose every number is computed from the table it speaks of, and
what the commentaries of several sections share.

    @commentary
    def over_batch(table): ...

    over_batch(run)            in a notebook: at most three bullets, the rest folded
    over_batch(run.table)      anywhere: the text, in Markdown
"""

from collections.abc import Callable
from functools import wraps

import pandas as pd

from moebook.results.cells import of_sweep
from moebook.study.lengths import Length

T = "throughput_tok_s"
NOTHING = "Nothing was measured for this figure."


def commentary(say: Callable[..., str]) -> Callable:
    """Let a function (table, ...) -> text also take a notebook's run, and return what it shows
    then."""

    @wraps(say)
    def either(of, *args, **given):
        if isinstance(of, pd.DataFrame):
            return say(of, *args, **given)
        return of.say(say, *args, **given)

    return either


def lengths_of(rows: pd.DataFrame) -> list[Length]:
    """The length of each row; of a table without outputs as many out as in."""
    outputs = rows["output_tokens"] if "output_tokens" in rows else rows["input_tokens"]
    return [Length(int(i), int(o)) for i, o in zip(rows["input_tokens"], outputs, strict=True)]


def measured(summary: pd.DataFrame, sweep: str) -> pd.DataFrame:
    """Rows of a sweep that have a number."""
    rows = planned(summary, sweep)
    return rows[rows["status"] == "ok"]


def planned(summary: pd.DataFrame, sweep: str) -> pd.DataFrame:
    """Rows of a sweep, with a number or not."""
    return of_sweep(summary, sweep)


def nothing(summary: pd.DataFrame, sweep: str, said: str | None = None) -> str:
    """Why there is nothing to tell of a sweep: the plan lacks it, else what is said, by default
    that nothing was measured and what stood in the way."""
    if planned(summary, sweep).empty:
        return f"Not part of this plan: sweep `{sweep}`."
    return NOTHING + missing(summary, sweep) if said is None else said


def change(ratio: float, digits: int = 0) -> str:
    """1.25 as `+25 %`"""
    return f"{100 * (ratio - 1):+.{digits}f} %"


def ends_of(
    rows: pd.DataFrame, column: str, head: str, value: str = "{:+.0f} %", name: str = "series"
) -> str:
    """`<head> -5 % (a) to +30 % (b). `: the least and the greatest of a column, each with the name
    of its row; empty where there is none."""
    values = rows[column].astype(float).reset_index(drop=True).dropna()
    if values.empty:
        return ""
    names = rows[name].reset_index(drop=True)
    at = dict.fromkeys([values.idxmin(), values.idxmax()])
    return f"{head} {' to '.join(f'{value.format(values[i])} ({names[i]})' for i in at)}. "


def with_length(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with `length`, which reads `128` or, where another number goes out, `1024 + 256`."""
    return rows.assign(length=pd.Series(lengths_of(rows), index=rows.index, dtype=object))


def length_of(row) -> Length:
    """The length of one row."""
    return Length(int(row["input_tokens"]), int(row["output_tokens"]))


def in_order(rows: pd.DataFrame, column: str = "series") -> list:
    """Values of a column in their order of appearance."""
    return list(dict.fromkeys(rows[column]))


def missing(summary: pd.DataFrame, sweep: str) -> str:
    """A sentence on the series of a sweep that could not be run, each with its reason; empty where
    all were."""
    rows = planned(summary, sweep)
    gone = rows[rows["status"] != "ok"].drop_duplicates("series")
    gone = gone[~gone["series"].isin(rows.loc[rows["status"] == "ok", "series"])]
    told = "; ".join(f"{r.series}: {r.status} ({r.reason})" for r in gone.itertuples())
    return f" Not measured: {told}." if told else ""


def with_gain(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `gains` that have one."""
    return rows[(rows["status"] == "ok") & rows["gain_pct"].notna()]
