"""Tables in a commentary: pandas' own `to_markdown` needs a package that is not installed."""

import pandas as pd


def markdown(rows: pd.DataFrame) -> str:
    """The columns of a frame as a Markdown table, with the empty lines that it needs around it."""
    lines = [rows.columns, ["---"] * rows.shape[1], *rows.itertuples(index=False)]
    text = "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)
    return f"\n\n{text}\n\n"
