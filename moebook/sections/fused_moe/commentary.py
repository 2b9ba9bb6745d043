"""Section 6 in words (see this folder's __init__)."""

import pandas as pd

from moebook.predict.layers import turning_points
from moebook.results.commentary import commentary
from moebook.results.gains import gains
from moebook.results.words import (
    NOTHING,
    T,
    from_to,
    in_order,
    measured,
    missing,
    nothing,
    tokens,
    with_gain,
    with_length,
)

FUSED = ("fused Triton", "fused (engine's choice)")
LOOP, GROUPED = "expert loop", "grouped GEMM"


def _fused(rows: pd.DataFrame) -> str | None:
    return next((s for s in FUSED if s in set(rows["series"])), None)


@commentary
def layer(summary: pd.DataFrame) -> str:
    """Times at the ends, and agreement with the reference."""
    rows = measured(summary, "layer")
    if rows.empty:
        return nothing(summary, "layer")
    worst = rows.groupby("series", sort=False)["relative_error"].max()
    told = []
    for series in in_order(rows):
        own = rows[rows["series"] == series]
        low, high = (
            own[own["batch"] == n]["layer_time_s"] for n in (own["batch"].min(), own["batch"].max())
        )
        told.append(
            f"{series} {1e6 * low.min():,.0f}–{1e6 * low.max():,.0f} µs for "
            f"{tokens(own['batch'].min())}, "
            f"{1e6 * high.min():,.0f}–{1e6 * high.max():,.0f} µs for {tokens(own['batch'].max())}"
        )
    errors = ", ".join(f"{series} {error:.1e}" for series, error in worst.items())
    return (
        "Over the models: "
        + "; ".join(told)
        + f". Largest relative error against float64: {errors}."
        + missing(summary, "layer")
    )


@commentary
def speedup(summary: pd.DataFrame) -> str:
    """How many times the others take, by tokens."""
    rows = measured(summary, "layer")
    fused = _fused(rows)
    if fused is None:
        return nothing(summary, "layer", NOTHING)
    wide = rows.pivot_table(index=["model", "batch"], columns="series", values="layer_time_s")
    told = []
    for series in in_order(rows):
        ratio = (wide[series] / wide[fused]).dropna()
        if series == fused or ratio.empty:
            continue
        at = ratio.groupby("batch").median()
        places = sorted({at.index[0], at.idxmax(), at.index[-1]})[1:]
        told.append(
            ", ".join(
                [
                    f"the {series} takes {at.iloc[0]:.1f} times as long for {tokens(at.index[0])}",
                    *(f"{at[n]:.1f} for {n}" for n in places),
                ]
            )
        )
    return f"Against {fused} (median over models): " + "; ".join(told) + "." if told else NOTHING


@commentary
def roofline(summary: pd.DataFrame) -> str:
    """Best share of the ceilings, and where each variant turns from reading to computing."""
    rows = measured(summary, "layer")
    if rows.empty or rows["floor_layer_s"].isna().all():
        return nothing(summary, "layer", NOTHING)
    turns = turning_points(rows)
    told = []
    by_calls = (
        set(rows.loc[rows["layer_timing"] == "calls", "series"])
        if rows["layer_timing"].eq("graph").any()
        else set()
    )
    for series, own in turns.groupby("series", sort=False):
        share = 100 / own["least_over_floor"]
        turn = own["turn_tokens"].dropna()
        where = (
            f" and turns compute-bound at {turn.min():,.0f} to {turn.max():,.0f} tokens "
            f"({len(turn)} of {len(own)} models)"
            if len(turn)
            else " and never grows to twice its flat time within the tokens measured"
        )
        where = where if series not in by_calls else " (plain calls, launches included)"
        told.append(
            f"**{series}** reaches {share.min():.0f} to {share.max():.0f} % of the roof at its "
            f"best{where}"
        )
    beyond = bool((turns["least_over_floor"] < 1).any())
    over = " Over 100 %: caches, or reading without writing, beat the measured copy." * beyond
    return (
        "; ".join(told)
        + ". The turn is where the flat time of reading all experts meets the line of the largest "
        "call." + over
    )


@commentary
def quantized(summary: pd.DataFrame) -> str:
    """Quantized layers against the fused kernel without quantization."""
    rows, plain = measured(summary, "layer_quantized"), measured(summary, "layer")
    fused = _fused(plain)
    if rows.empty or fused is None:
        return nothing(summary, "layer_quantized")
    plain = plain[plain["series"] == fused]
    base, dtype = plain.set_index(["model", "batch"])["layer_time_s"], plain["dtype"].iloc[0]
    told = []
    for series in in_order(rows):
        own = rows[rows["series"] == series].set_index(["model", "batch"])["layer_time_s"]
        ratio = (base / own).dropna()
        if ratio.empty:
            continue
        told.append(
            f"{series} is {ratio.min():.2f} to {ratio.max():.2f} times as fast as {fused} in "
            f"{dtype} (median "
            f"{ratio.median():.2f})"
        )
    return ("; ".join(told) + "." if told else NOTHING) + missing(summary, "layer_quantized")


@commentary
def tuning(summary: pd.DataFrame) -> str:
    """Which shapes the engine has no tuned configuration for, and what tuning gained on one."""
    layers = measured(summary, "layer")
    known = layers[layers["moe_config_tuned"].notna()].drop_duplicates("model")
    without = [r.model for r in known.itertuples() if not r.moe_config_tuned]
    text = ""
    if len(known):
        text = (
            f"Of {len(known)} shapes the engine has no tuned configuration on this device for "
            + (", ".join(without) if without else "none")
            + ". "
        )
    rows = measured(summary, "layer_tuned")
    if rows.empty:
        return text + nothing(
            summary, "layer_tuned", "Nothing was tuned here." + missing(summary, "layer_tuned")
        )
    told = ", ".join(
        f"{100 * (1 - r.layer_time_s / r.default_time_s):.0f} % of the time at {r.batch} tokens "
        f"({r.configs_tried} tried)"
        for r in rows.itertuples()
    )
    return text + f"Tuning {rows['model'].iloc[0]} saves {told}."


@commentary
def engines(summary: pd.DataFrame, sweep: str) -> str:
    """Fig 14: gain of the fused engine over each other series along the sweep."""
    rows, axis = (
        measured(summary, sweep),
        {"ladder_batch": "batch", "ladder_length": "length"}[sweep],
    )
    if rows.empty or "fused" not in set(rows["series"]):
        return nothing(summary, sweep)
    wide = with_length(rows).pivot_table(index=axis, columns="series", values=T)
    told = []
    for series in in_order(rows):
        over = "fused, no graphs" if series == LOOP and "fused, no graphs" in wide else "fused"
        if series in ("fused", over):
            continue
        gain = 100 * (wide[over] / wide[series] - 1).dropna()
        if len(gain):
            told.append(
                f"{over} over {series}: {from_to(gain, axis)} (mean {gain.mean():+.0f} %)"
                + _unlike(rows, over, series)
            )
    return ("; ".join(told) + "." if told else NOTHING) + missing(summary, sweep)


def _unlike(rows: pd.DataFrame, one: str, other: str) -> str:
    """Says where one series decodes under graphs and the other cannot, so that the gain holds both
    differences."""
    graphs = rows.groupby("series")["graphs"].first() if "graphs" in rows else {}
    differ = one in graphs and other in graphs and graphs[one] != graphs[other]
    return f", {one} with decode graphs and {other} without" * bool(differ)


@commentary
def headline(summary: pd.DataFrame) -> str:
    """The finding in one sentence."""
    rows = measured(summary, "ladder_batch")
    if not {"fused", LOOP} <= set(rows["series"]):
        return nothing(
            summary,
            "ladder_batch",
            "The ladder of engines is not measured." + missing(summary, "ladder_batch"),
        )
    base = "fused, no graphs" if "fused, no graphs" in set(rows["series"]) else "fused"
    loop = -with_gain(gains(summary, "ladder_batch", over=base).query("series == @LOOP"))[
        "gain_pct"
    ]
    if loop.empty:
        return "The ladder of engines has no workload in common." + missing(summary, "ladder_batch")
    text = (
        f"**Finding.** An engine with an eager loop over experts loses {loop.min():.0f} to "
        f"{loop.max():.0f} % of its "
        f"throughput{_unlike(rows, base, LOOP)}"
    )
    grouped = with_gain(gains(summary, "ladder_batch", over="fused").query("series == @GROUPED"))[
        "gain_pct"
    ]
    if len(grouped):
        text += f", one with grouped GEMMs {-grouped.max():.0f} to {-grouped.min():.0f} %"
    return (
        text
        + ", over the batch sweep: what a fused kernel gains depends on what it is compared with."
    )
