"""Tables in a commentary: pandas' own `to_markdown` needs a package that is not installed."""

import pandas as pd


def markdown(rows: pd.DataFrame) -> str:
    """The columns of a frame as a Markdown table that stands on its own after a sentence."""
    lines = [rows.columns, ["---"] * rows.shape[1], *rows.itertuples(index=False)]
    return "\n\n" + "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n"
