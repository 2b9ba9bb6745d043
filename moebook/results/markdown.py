"""Tables in commentary."""

import pandas as pd


def table(frame: pd.DataFrame, head: str) -> str:
    """A frame of words as a Markdown table, its index first and called `head`, a dash where there
    is none; with the empty lines that it needs around it."""
    heads = [head, *map(str, frame.columns)]
    rule = ["---"] + ["---:"] * len(frame.columns)
    rows = frame.astype(object).fillna("–").reset_index().to_numpy()
    lines = (f"| {' | '.join(map(str, cells))} |" for cells in (heads, rule, *rows))
    return "\n\n" + "\n".join(lines) + "\n\n"
