"""Small tables in commentary."""

from collections.abc import Mapping

import pandas as pd


class _Missing:
    def __format__(self, form: str) -> str:
        return "–"


def table(rows: pd.DataFrame, columns: Mapping[str, str]) -> str:
    """A Markdown table, a line per row: head -> how a cell reads, `{gain_pct:+.0f} %`, by the
    columns of `rows`. A number that is missing reads `–`. Empty where there are no rows."""
    if rows.empty:
        return ""
    known = rows.astype(object).where(rows.notna(), _Missing())
    cells = [[form.format(**row) for form in columns.values()] for row in known.to_dict("records")]
    lines = [list(columns), ["---"] + ["---:"] * (len(columns) - 1), *cells]
    return "\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n"
