"""What more active experts cost under each routing, in words, and which one the source follows."""

import pandas as pd

from moebook.results.commentary import NOTHING, change, commentary, markdown, nothing
from moebook.sections.hyperparameter_scaling.tables import (
    AUTHOR,
    FROM_K,
    OVER,
    THERE,
    ends,
    nearest,
    regime_rows,
)


@commentary
def routing_regimes(table: pd.DataFrame) -> str:
    """What more active experts cost under each routing, and which of them the source follows."""
    rows = regime_rows(table)
    if rows.empty:
        return nothing(table, "routing", NOTHING)
    last = ends(rows)
    said = last[OVER].map(change)
    if f"{OVER}_lo" in last:
        sides = last[[f"{OVER}_lo", f"{OVER}_hi"]].sub(1).mul(100)
        said += [f" [{a:+.0f}, {b:+.0f}]" if a == a else "" for a, b in sides.to_numpy()]
    wide = last.assign(said=said).pivot(index="place", columns="regime", values="said")
    shown = wide[list(dict.fromkeys(last["regime"]))].reset_index()
    follows = "".join(_follows(model, own) for model, own in last.groupby("model", sort=False))
    return (
        f"{follows}With `same`, as in a batch of identical sequences, a step reads K experts of a "
        f"layer; with `uniform` nearly all. What both come to {THERE} is predicted from the "
        f"measured rows, with 95 % intervals. Throughput from {FROM_K} active experts to the most "
        f"that were published, else measured:{markdown(shown)}"
    )


def _follows(model: str, own: pd.DataFrame) -> str:
    """Which routing a model's published fall is nearest to, by how much it misses it, and whether
    intervals tell both routings apart."""
    found = nearest(own)
    if found is None:
        return ""
    theirs = own.loc[own["regime"] == AUTHOR, OVER].iloc[0]
    apart = 100 * (theirs - found[OVER])
    text = f"On {model} the published runs are nearest to `{found['regime']}`"
    text += f" ({abs(apart):.0f} points {'above' if apart > 0 else 'below'} it)"
    there = own[own["kind"] == "predicted"]
    if there.empty:
        return text + ". "
    inside = there.loc[there[f"{OVER}_lo"].le(theirs) & there[f"{OVER}_hi"].ge(theirs), "regime"]
    told = {
        0: ", but outside both intervals. ",
        1: f", inside the interval of `{inside.max()}` alone. ",
    }
    return text + told.get(len(inside), ", but inside both intervals: they do not tell. ")
