"""What skewed routing costs, in words: one layer, whole engines, and ranks."""

import pandas as pd

from moebook.results.commentary import commentary
from moebook.results.words import T, change, measured, missing, nothing, tokens
from moebook.sections.load_balancing.skew_figures import UNIFORM, ep_times, layer_ratios

LIMIT = 0.02  # change of time under which a layer is said not to change


@commentary
def skew_layer(summary: pd.DataFrame) -> str:
    """One device: skew lowers the experts read, and time where reading binds."""
    rows = _ratios(summary)
    if rows.empty:
        return nothing(summary, "skew_layer")
    told = []
    for model, own in rows.groupby("model", sort=False):
        at = own[own["skew"] == own["skew"].max()].sort_values("ratio")
        base = own[own["skew"] == 0].set_index("tokens")["experts_hit"].astype(float)
        best, last = at.iloc[0], at.loc[at["tokens"].idxmax()]
        hit = (
            f" ({float(best['experts_hit']):.0f} experts hit in place of "
            f"{base[best['tokens']]:.0f})"
            if best["tokens"] in base.index and pd.notna(best["experts_hit"])
            else ""
        )
        told.append(
            f"**{model}** at {UNIFORM[:-1]}{best['skew']:g}: {change(best['ratio'])} time at "
            f"{tokens(int(best['tokens']))}{hit}, {change(last['ratio'])} at "
            f"{int(last['tokens']):,}"
        )
    slower = int((rows.loc[rows["skew"] > 0, "ratio"] > 1 + LIMIT).sum())
    error = (rows["predicted_ratio"] / rows["ratio"] - 1).abs()[rows["skew"] > 0]
    off = (
        f" The prediction from the experts read is off by {100 * error.median():.0f} % in the "
        f"median, "
        f"{100 * error.max():.0f} % at most."
        if len(error)
        else ""
    )
    return (
        "; ".join(told)
        + f". {slower} of {int((rows['skew'] > 0).sum())} skewed layers are slower than uniform "
        "ones by "
        f"over {100 * LIMIT:.0f} %. On one device skew lowers the experts read and leaves the "
        f"products as they are; "
        "only how a kernel shares its work can make it slower."
        + off
        + missing(summary, "skew_layer")
    )


def _ratios(summary: pd.DataFrame) -> pd.DataFrame:
    try:
        rows = layer_ratios(summary, "skew_layer")
    except ValueError:  # the sweep, or its uniform routing, is not measured
        return pd.DataFrame()
    return rows[(rows["status"] == "ok") & rows["ratio"].notna()]


@commentary
def skew_engine(summary: pd.DataFrame) -> str:
    """Whole engines: what the most skewed routing changes, by batch."""
    rows = measured(summary, "skew_engine")
    base = (
        rows[rows["series"] == UNIFORM].set_index("batch")[T]
        if len(rows)
        else pd.Series(dtype=float)
    )
    told, skewed = [], rows[rows["skew"] > 0]
    ratio = skewed[T] / skewed["batch"].map(base)
    for batch, own in rows.groupby("batch") if len(rows) else ():
        last = own.loc[own["skew"].idxmax()]
        if batch in base.index and last["skew"] > 0:
            told.append(
                f"batch {batch} {change(last[T] / base[batch])} at zipf {last['skew']:g} "
                f"({base[batch]:,.0f} to {last[T]:,.0f} tokens/s)"
            )
    if not told:
        return nothing(summary, "skew_engine")
    return (
        f"{rows['model'].iloc[0]}, against uniform routing: "
        + "; ".join(told)
        + f". Of {ratio.notna().sum()} "
        f"skewed points {int((ratio > 1 + LIMIT).sum())} are faster by over {100 * LIMIT:.0f} %, "
        f"{int((ratio < 1 - LIMIT).sum())} slower. On one device skew reduces the distinct experts "
        f"that a step reads; a "
        "single sequence reads its own K experts whatever the skew."
        + missing(summary, "skew_engine")
    )


@commentary
def skew_ep(summary: pd.DataFrame) -> str:
    """What ranks are predicted to pay, beside one device."""
    if _ratios(summary).empty:
        return nothing(summary, "skew_layer")
    rows = ep_times(summary, "skew_ep")
    told = []
    for panel, own in rows.groupby("panel", sort=False):
        at = own[own["skew"] == own["skew"].max()]
        parts = [
            f"{r.time_over_uniform:.2f} times on {r.ranks} ranks"
            for r in at.itertuples()
            if r.ranks > 1
        ]
        one = [
            f"one device measured {r.time_over_uniform:.2f}"
            for r in at.itertuples()
            if r.ranks == 1
        ]
        told.append(f"{panel}, zipf {at['skew'].iloc[0]:g}: " + ", ".join([*parts, *one]))
    return (
        f"PREDICTED for {rows['model'].iloc[0]}, experts placed at random, fullest rank over the "
        f"same under uniform "
        "routing: "
        + "; ".join(told)
        + ". Expert parallelism is where imbalance costs: all ranks wait for the fullest. "
        "Communication, and moving or copying hot experts, are not in this."
    )
