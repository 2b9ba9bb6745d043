"""Small tables in commentary: pandas' own `to_markdown` needs a package that is not installed."""

from collections.abc import Mapping

import pandas as pd


class _Missing:
    def __format__(self, form: str) -> str:
        return "–"


def table(rows: pd.DataFrame, cells: Mapping[str, str]) -> str:
    """A Markdown table, a line per row: head -> how a cell reads, `{gain_pct:+.0f} %`, by the
    columns of `rows`. A number that is missing reads `–`. Empty where there are no rows."""
    if rows.empty:
        return ""
    known = rows.astype(object).where(rows.notna(), _Missing()).to_dict("records")
    lines = [[form.format(**row) for form in cells.values()] for row in known]
    lines = [list(cells), ["---"] + ["---:"] * (len(cells) - 1), *lines]
    return "\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"


def ends(rows: pd.DataFrame, line: str, by: str) -> pd.DataFrame:
    """A row per value of `line`, in the order of the rows: all columns at its smallest value of
    `by`, and again, named `_last`, at its largest."""
    ordered = rows.sort_values(by, kind="stable")
    first, last = (ordered.drop_duplicates(line, keep=keep) for keep in ("first", "last"))
    both = first.merge(last, on=line, suffixes=("", "_last"))
    return rows[[line]].drop_duplicates().merge(both, on=line)


def markdown(rows: pd.DataFrame) -> str:
    """The columns of a frame as a Markdown table, with the empty lines that it needs around it."""
    lines = [rows.columns, ["---"] * rows.shape[1], *rows.itertuples(index=False)]
    text = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
    return f"\n\n{text}\n\n"
