"""Section 1 in words (see this folder's __init__)."""

import pandas as pd

from moebook.predict.under_bound import under_the_floor
from moebook.results.commentary import commentary
from moebook.results.words import NOTHING, T, change, measured, nothing, with_length
from moebook.sections.hyperparameter_scaling.validation import validation_table


def _ends(rows: pd.DataFrame, axis: str) -> tuple[pd.Series, int, int]:
    """Ratio of throughput at the largest to the smallest value of `axis` within the grid, for cells
    that have both."""
    others = [c for c in ("expert_ffn_dim", "num_experts", "top_k") if c != axis]
    low, high = rows[axis].min(), rows[axis].max()
    wide = rows.pivot_table(index=others, columns=axis, values=T)
    if low == high or wide.empty:
        return pd.Series(dtype=float), low, high
    return (wide[high] / wide[low]).dropna(), low, high


def _along(summary: pd.DataFrame, axis: str, name: str) -> str:
    """Change of throughput from the smallest to the largest value of `axis`, whole and by active
    experts."""
    ratio, low, high = _ends(measured(summary, "grid"), axis)
    if ratio.empty:
        return nothing(summary, "grid", NOTHING)
    by_k = ", ".join(f"{k}: {change(r)}" for k, r in ratio.groupby("top_k").mean().items())
    return (
        f"From {name.format(low)} to {high} throughput changes by **{change(ratio.mean())}** on "
        f"average over "
        f"{len(ratio)} pairs of cells (from {change(ratio.min())} to {change(ratio.max())}). "
        f"By active experts: {by_k}."
    )


@commentary
def ffn(summary: pd.DataFrame) -> str:
    """Fig 7."""
    return _along(summary, "expert_ffn_dim", "FFN {}")


@commentary
def experts(summary: pd.DataFrame) -> str:
    """Fig 8."""
    text = _along(summary, "num_experts", "{} experts")
    if _ends(measured(summary, "grid"), "num_experts")[0].empty:
        return text
    return text + (
        " A decode step reads every expert that some sequence of the batch picked: more experts "
        "and more picks "
        "mean more distinct experts read."
    )


@commentary
def active(summary: pd.DataFrame) -> str:
    """Fig 9."""
    ratio, low, high = _ends(measured(summary, "grid"), "top_k")
    if ratio.empty:
        return nothing(summary, "grid", NOTHING)
    gap = 1 / ratio
    by_e = gap.groupby("num_experts").mean()
    return (
        f"{low} active expert is **{change(gap.mean())}** faster than {high} on average over "
        f"{len(gap)} cells, "
        f"from {change(gap.min())} to {change(gap.max())}. By number of experts: "
        + ", ".join(f"{e}: {change(r)}" for e, r in by_e.items())
        + ". With few experts the batch reads all of them whatever the top-k, so the gap is small."
    )


@commentary
def grid(summary: pd.DataFrame) -> str:
    """The heat map of the grid."""
    own = summary[summary["sweeps"].str.split(",").map(lambda s: "grid" in s)]
    if own.empty:
        return nothing(summary, "grid")
    ok, counts = own[own["status"] == "ok"], own["status"].value_counts()
    by_method = ", ".join(f"{n} {m}" for m, n in ok["method"].value_counts().items())
    rest = (
        ", ".join(
            f"{n} {s.replace('oom', 'out of memory')}" for s, n in counts.items() if s != "ok"
        )
        or "none missing"
    )
    if ok.empty:
        return f"{len(own)} cells, none measured ({rest})."
    return (
        f"{len(own)} cells: {len(ok)} with a number ({by_method}); {rest}. Throughput runs from "
        f"{ok[T].min():,.0f} to {ok[T].max():,.0f} tokens/s (input + output); the widest spread of "
        f"the repeats of "
        f"one cell is {ok['spread_pct'].max():.1f} %."
    )


@commentary
def floor(summary: pd.DataFrame) -> str:
    """Measured over the floor, and the models whose measurement lies under it."""
    ok = summary[(summary["status"] == "ok")]
    if "floor_tpot_s" not in ok or ok["floor_tpot_s"].isna().all():
        return "The device's ceilings were not measured, so there is no floor."
    cells = measured(summary, "grid")
    if cells.empty:
        return nothing(summary, "grid") + _under(summary)
    step, first = cells["tpot_s"] / cells["floor_tpot_s"], cells["ttft_s"] / cells["floor_ttft_s"]
    text = (
        f"Over the grid a decode step takes {step.median():.2f} times its floor (from "
        f"{step.min():.2f} to "
        f"{step.max():.2f}), the first token {first.median():.2f} times (from {first.min():.2f} to "
        f"{first.max():.2f})."
    )
    return text + _under(summary)


def _under(summary: pd.DataFrame) -> str:
    """Models that measured faster than their floor."""
    ok, text = summary[summary["status"] == "ok"], ""
    for model in under_the_floor(summary):
        own = ok[ok["model"] == model]
        lowest = (own["tpot_s"] / own["floor_tpot_s"]).min()
        text += (
            f" **{model} lies under its floor** (down to {lowest:.2f} times): it would have to "
            f"read faster than "
            f"the device can, so it reads fewer experts than near-uniform routing hits. Its dummy "
            f"weights do not "
            f"route near uniform on this device; its points are shown, and left out of verdicts "
            f"and prediction."
        )
    return text


@commentary
def batch(summary: pd.DataFrame, sweep: str, line: str) -> str:
    """Figs 5 and 6: growth with batch, and the effect of `line` (top_k or input_tokens) at the
    largest batch."""
    rows = measured(summary, sweep)
    if rows.empty:
        return nothing(summary, sweep, NOTHING)
    name = {"top_k": "active experts", "input_tokens": "tokens in and out"}[line]
    sentences = []
    line = {"input_tokens": "length"}.get(line, line)
    for model, own in with_length(rows).groupby("model", sort=False):
        wide = own.pivot_table(index="batch", columns=line, values=T)
        grown = (wide.loc[wide.index.max()] / wide.loc[wide.index.min()]).dropna()
        text = f"**{model}**: "
        text += (
            f"batch {wide.index.min()} to {wide.index.max()} multiplies throughput by "
            f"{grown.min():.1f} to "
            f"{grown.max():.1f}"
            if not grown.empty
            else "not measured at both ends of the batch range"
        )
        widest = wide.dropna(how="all", axis=1).loc[:, lambda w: w.notna().sum() > 0]
        low, high = widest.columns.min(), widest.columns.max()
        at = widest[[low, high]].dropna() if low != high else widest.iloc[:0]
        if not at.empty:
            text += (
                f"; from {low} to {high} {name} throughput changes by "
                f"{change((at[high] / at[low]).iloc[-1])} at "
                f"batch {at.index[-1]} and by {change((at[high] / at[low]).iloc[0])} at batch "
                f"{at.index[0]}"
            )
        sentences.append(text + ".")
    return " ".join(sentences)


@commentary
def validation(summary: pd.DataFrame) -> str:
    """How far `sampled` and `depth` are from the better method, misses included."""
    table = validation_table(summary)
    if table.empty:
        return nothing(summary, "validation", NOTHING)
    rows = [
        f"{r.label}: {r.method} against {r.reference} {r.error_pct:+.1f} %"
        + (" (**a miss**: over 3 %)" if abs(r.error_pct) > 3 else "")
        for r in table.itertuples()
    ]
    return "Error in E2E: " + "; ".join(rows) + "."


@commentary
def headline(summary: pd.DataFrame) -> str:
    """The finding in one sentence."""
    ratio, low, high = _ends(measured(summary, "grid"), "expert_ffn_dim")
    gap, k_low, k_high = _ends(measured(summary, "grid"), "top_k")
    if ratio.empty or gap.empty:
        return nothing(summary, "grid", "The grid is not measured.")
    return (
        f"**Finding.** Growing the experts' FFN from {low} to {high} changes throughput by "
        f"{change(ratio.mean())} on "
        f"average, and {k_low} active expert is {change(1 / gap.max())} to {change(1 / gap.min())} "
        f"faster than "
        f"{k_high}: what counts is how many bytes of distinct experts a step reads."
    )
