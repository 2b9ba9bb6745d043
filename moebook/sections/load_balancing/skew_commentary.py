"""What skewed routing costs, in words: of one layer, of whole engines, and on ranks."""

from collections.abc import Callable

import pandas as pd

from moebook.results.balance import EP_DEGREES
from moebook.results.commentary import commentary, markdown, missing, nothing
from moebook.results.gains import METRIC
from moebook.sections.load_balancing import skew

LIMIT = 0.02  # change of time or throughput under which there is said to be none


@commentary
def skew_layer(summary: pd.DataFrame) -> str:
    """One device: skew lowers the experts read, and time where reading binds."""
    rows = _ratios(skew.layer_ratios, summary, "ratio")
    if rows.empty:
        return nothing(summary, "skew_layer")
    rows = rows.assign(change_pct=100 * (rows["ratio"] - 1))
    models = rows[rows["skew"] == rows.groupby("model")["skew"].transform("max")]
    models = models.groupby("model", sort=False)
    last = rows.loc[models["tokens"].idxmax(), ["model", "tokens", "change_pct"]]
    uniform = rows.loc[rows["skew"] == 0, ["model", "tokens", "experts_hit"]]
    found = rows.loc[models["ratio"].idxmin()].merge(last, on="model", suffixes=("", "_last"))
    found = found.merge(uniform, "left", on=["model", "tokens"], suffixes=("", "_uniform"))
    heads = {
        "model": "{model}",
        "routing": "zipf {skew:g}",
        "fastest call": "{tokens:,} tokens: {change_pct:+.0f} % time",
        "its experts hit": "{experts_hit:.0f} in place of {experts_hit_uniform:.0f}",
        "largest call": "{tokens_last:,} tokens: {change_pct_last:+.0f} % time",
    }
    skewed = rows[rows["skew"] > 0]
    said = (
        f"{(skewed['ratio'] > 1 + LIMIT).sum()} of {len(skewed)} skewed layers are slower than "
        f"uniform ones by over {100 * LIMIT:.0f} %. On one device skew lowers the experts read and "
        "leaves the products as they are; only how a kernel shares its work can make it slower."
    )
    if len(skewed):
        off_pct = 100 * (skewed["predicted_ratio"] / skewed["ratio"] - 1).abs()
        said += (
            f" The prediction from the experts read is off by {off_pct.median():.0f} % in the "
            f"median, {off_pct.max():.0f} % at most."
        )
    return said + missing(summary, "skew_layer") + markdown(found, heads)


@commentary
def skew_engine(summary: pd.DataFrame) -> str:
    """Whole engines: what the most skewed routing changes, by batch."""
    rows = _ratios(skew.engine_ratios, summary, "over_uniform")
    skewed = rows[rows["skew"] > 0]
    if skewed.empty:
        return nothing(summary, "skew_engine")
    most = skewed.loc[skewed.groupby("batch")["skew"].idxmax()]
    most = most.assign(change_pct=100 * (most["over_uniform"] - 1))
    heads = {
        "batch": "{batch}",
        "routing": "zipf {skew:g}",
        "tokens/s": f"{{{METRIC}:,.0f}}",
        "uniform, tokens/s": "{uniform_tok_s:,.0f}",
        "change": "{change_pct:+.0f} %",
    }
    ratio = skewed["over_uniform"]
    return (
        f"{rows['model'].iloc[0]}, against uniform routing. Of {len(skewed)} skewed points "
        f"{(ratio > 1 + LIMIT).sum()} are faster by over {100 * LIMIT:.0f} %, "
        f"{(ratio < 1 - LIMIT).sum()} slower. On one device skew reduces the distinct experts that "
        "a step reads; a single sequence reads its own K experts whatever the skew."
        f"{missing(summary, 'skew_engine')}{markdown(most, heads)}"
    )


@commentary
def skew_ep(summary: pd.DataFrame) -> str:
    """What ranks are predicted to pay, and what one device does."""
    if _ratios(skew.layer_ratios, summary, "ratio").empty:
        return nothing(summary, "skew_layer")
    rows = skew.ep_times(summary, "skew_ep")
    most = rows[rows["skew"] == rows["skew"].max()]
    found = most.set_index(["panel", "ranks"])[skew.TIMES].unstack(sort=False).add_prefix("ranks_")
    names = {1: "one device, measured"} | {d: f"{d} ranks, PREDICTED" for d in EP_DEGREES}
    known = {d: name for d, name in names.items() if f"ranks_{d}" in found}
    heads = {"call": "{panel}"} | {name: f"{{ranks_{d}:.2f}}" for d, name in known.items()}
    return (
        f"Time of a layer of {rows['model'].iloc[0]} under zipf {rows['skew'].max():g}, × uniform. "
        "PREDICTED: experts placed at random, the fullest rank. Expert parallelism is where "
        "imbalance costs: all ranks wait for the fullest. Communication, and moving or copying hot "
        f"experts, are not in this.{markdown(found.reset_index(), heads)}"
    )


def _ratios(of: Callable, summary: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows that have the ratio; none where the sweep, or its uniform routing, is not measured."""
    try:
        rows = of(summary, "commentary")
    except ValueError:
        return pd.DataFrame(columns=["skew", column])
    return rows[(rows["status"] == "ok") & rows[column].notna()]
