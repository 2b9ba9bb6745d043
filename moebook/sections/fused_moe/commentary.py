"""Section 6 in words: a function per figure, named like it."""

import pandas as pd

from moebook.predict.layers import turning_points
from moebook.results.commentary import (
    NOTHING,
    commentary,
    ends_of,
    first_and_last,
    markdown,
    measured,
    missing,
    nothing,
    with_length,
)
from moebook.results.gains import ratios
from moebook.results.page import Number
from moebook.sections.fused_moe.figures import TIME, WORDS, kernel_of

FUSED, NO_GRAPHS, LOOP, GROUPED = "fused", "fused, no graphs", "expert loop", "grouped GEMM"


def _variants(rows: pd.DataFrame, sweep: str) -> pd.DataFrame:
    """The rows of the other variants, with `over`, the fused engine that each is compared with, and
    their `ratio` to it, and its `graphs_over`. The loop, which runs without decode graphs, is
    compared with its like."""
    have = set(rows["series"])
    if not {FUSED} < have:
        return rows.head(0).assign(over="", ratio=0.0, graphs_over="")
    like = NO_GRAPHS if NO_GRAPHS in have else FUSED
    found = ratios(rows, sweep, FUSED).query("series != @LOOP")
    if LOOP in have:
        found = pd.concat([found, ratios(rows, sweep, like).query("series == @LOOP")])
    graphs = found["over"].map(rows.groupby("series")["graphs"].first())
    return found.assign(graphs_over=graphs).dropna(subset="ratio")


@commentary
def headline(table: pd.DataFrame) -> str:
    """The finding in one sentence."""
    rows, lost = measured(table, "ladder_batch"), missing(table, "ladder_batch")
    if not {FUSED, LOOP} <= set(rows["series"]):
        said = "The variants of whole engines are not measured." + lost
        return nothing(table, "ladder_batch", said)
    found = _variants(rows, "ladder_batch")
    loss = (100 * (1 - found["ratio"])).groupby(found["series"]).agg(["min", "max"]).round()
    if LOOP not in loss.index:
        return "The variants of whole engines have no workload in common." + lost
    loop = found[found["series"] == LOOP].iloc[0]
    text = "loses {:.0f} to {:.0f} % of its throughput".format(*loss.loc[LOOP])
    if loop["graphs"] != loop["graphs_over"]:
        text += f" ({loop['over']} under {loop['graphs_over']} graphs, the loop without)"
    if GROUPED in loss.index:
        text += ", one with grouped GEMMs {:.0f} to {:.0f} %".format(*loss.loc[GROUPED])
    return (
        f"**Finding.** An engine with an eager loop over experts {text}, over the batch sweep: "
        "what a fused kernel gains depends on what it is compared with."
    )


def numbers(table: pd.DataFrame) -> tuple[Number, ...]:
    """What the loop and grouped GEMMs cost whole engines, and one layer of many tokens."""
    rows = measured(table, "ladder_batch")
    found = _variants(rows, "ladder_batch")
    out = []
    for series in (GROUPED, LOOP):
        own = found[found["series"] == series].sort_values("batch")
        for row in own.iloc[[0, -1]].itertuples() if len(own) > 1 else ():
            what = f"{row.over} over {series}, batch {row.batch:.0f}, {row.model}"
            out.append(Number(f"{1 / row.ratio:.2f}×", what))
    return tuple(out)


@commentary
def layer_time(table: pd.DataFrame) -> str:
    """Times at the ends, and agreement with the reference."""
    rows = measured(table, "layer")
    if rows.empty:
        return nothing(table, "layer")
    rows = rows.assign(us=1e6 * rows[TIME].astype(float))
    by_tokens = rows.groupby(["series", "batch"], sort=False)["us"].agg(["min", "max"])
    errors = rows.groupby("series")["relative_error"].max().astype(float).reset_index()
    found = first_and_last(by_tokens.reset_index(), "series", "batch").merge(errors, on="series")
    cells = {
        "": "{series}",
        "fewest tokens": "{min:,.0f}–{max:,.0f} µs for {batch:,}",
        "most": "{min_last:,.0f}–{max_last:,.0f} µs for {batch_last:,}",
        "largest relative error": "{relative_error:.1e}",
    }
    head = "Times over the models, and the largest error against float64:"
    ends = ends_of(found, "max_last", "A call of the most tokens takes", "{:,.0f} µs")
    return head + markdown(found, cells) + ends + missing(table, "layer").lstrip()


@commentary
def layer_slowdown(table: pd.DataFrame) -> str:
    """How many times the others take, by tokens."""
    rows = measured(table, "layer")
    fused = None if rows.empty else kernel_of(rows)
    if fused is None or rows["series"].nunique() == 1:
        return nothing(table, "layer", NOTHING)
    found = ratios(rows, "layer", fused, TIME).dropna(subset="ratio")
    medians = found.groupby(["series", "batch"])["ratio"].median().reset_index()
    most = first_and_last(medians, "series", "ratio")[["series", "batch_last", "ratio_last"]]
    cells = {
        "": "{series}",
        "fewest tokens": "{ratio:.1f} for {batch:,}",
        "most times": "{ratio_last_most:.1f} for {batch_last_most:,}",
        "most tokens": "{ratio_last:.1f} for {batch_last:,}",
    }
    found = first_and_last(medians, "series", "batch").merge(
        most, on="series", suffixes=("", "_most")
    )
    if found.empty:
        return NOTHING
    ends = "".join(
        ends_of(found, f"ratio{end}", f"With the {word} tokens others take, × {fused},", "{:.1f}")
        for end, word in (("", "fewest"), ("_last", "most"))
    )
    head = f"How many times as long as {fused} (median over models):"
    return head + markdown(found, cells) + ends.strip()


@commentary
def roofline(table: pd.DataFrame) -> str:
    """Best share of the roof, and where each variant turns from reading to computing."""
    rows = measured(table, "layer")
    if rows.empty or rows["floor_layer_s"].isna().all():
        return nothing(table, "layer", NOTHING)
    turns = turning_points(rows)
    turns = turns.assign(share=100 / turns["least_over_floor"])
    timing = rows.groupby("series")["layer_timing"].unique().str.join(", ")
    if "graph" in set(timing):  # launches hide where calls turn
        turns["turn_tokens"] = turns["turn_tokens"].mask(turns["series"].map(timing) == "calls")
    found = turns.groupby("series", sort=False).agg(
        low=("share", "min"),
        high=("share", "max"),
        first=("turn_tokens", "min"),
        last=("turn_tokens", "max"),
        turning=("turn_tokens", "count"),
        models=("model", "size"),
    )
    cells = {
        "": "{series}",
        "best share of the roof": "{low:.0f} to {high:.0f} %",
        "turns at (tokens)": "{first:,.0f} to {last:,.0f}",
        "of models": "{turning} of {models}",
        "timed by": "{timing}",
    }
    beyond = "Over 100 %: caches, or reading without writing, beat the measured copy."
    return (
        ends_of(found.reset_index(), "high", "The best share of the roof:", "{:.0f} %")
        + "A variant is compute-bound from where the flat time of reading all experts meets the "
        "line of the largest call."
        + markdown(found.assign(timing=timing).reset_index(), cells)
        + beyond * bool((turns["share"] > 100).any())
    )


@commentary
def layer_quantized(table: pd.DataFrame) -> str:
    """Quantized layers against the fused kernel without quantization."""
    rows, plain = measured(table, "layer_quantized"), measured(table, "layer")
    fused = None if plain.empty else kernel_of(plain)
    if rows.empty or fused is None:
        return nothing(table, "layer_quantized")
    both = pd.concat([plain[plain["series"] == fused], rows])
    found = ratios(both, ("layer", "layer_quantized"), fused, TIME)
    speed = (1 / found["ratio"]).groupby(found["series"], sort=False)
    found = speed.agg(["min", "max", "median"]).dropna().reset_index()
    found = found.assign(series=found["series"].replace(WORDS, regex=True))
    dtype = plain.loc[plain["series"] == fused, "dtype"].iloc[0]
    head = (
        f"Times as fast as {fused} in {dtype}, over models and tokens:" if len(found) else NOTHING
    )
    cells = {"": "{series}", "from": "{min:.2f}", "to": "{max:.2f}", "median": "{median:.2f}"}
    ends = ends_of(found, "median", "In the median a format is", "{:.2f} times as fast")
    return head + markdown(found, cells) + ends + missing(table, "layer_quantized").lstrip()


@commentary
def tuning(table: pd.DataFrame) -> str:
    """Which shapes the engine has no tuned configuration for, and what tuning gained on one."""
    known = measured(table, "layer").dropna(subset="moe_config_tuned").drop_duplicates("model")
    without = ", ".join(known.loc[~known["moe_config_tuned"].astype(bool), "model"]) or "none"
    text = (
        f"Of {len(known)} shapes the engine has no tuned configuration on this device for "
        f"{without}. "
    ) * bool(len(known))
    rows = measured(table, "layer_tuned")
    if rows.empty:
        said = "Nothing was tuned here." + missing(table, "layer_tuned")
        return text + nothing(table, "layer_tuned", said)
    saved = ", ".join(
        f"{100 * (1 - r.layer_time_s / r.default_time_s):.0f} % of the time at {r.batch} tokens "
        f"({r.configs_tried} tried)"
        for r in rows.itertuples()
    )
    return text + f"Tuning {rows['model'].iloc[0]} saves {saved}."


@commentary
def over_batch(table: pd.DataFrame) -> str:
    """Fig 14: gain of the fused engine over each variant along the batch."""
    return _gains(table, "ladder_batch", "batch")


@commentary
def over_length(table: pd.DataFrame) -> str:
    """Fig 14: gain of the fused engine over each variant along the length."""
    return _gains(table, "ladder_length", "length")


def _gains(table: pd.DataFrame, sweep: str, axis: str) -> str:
    rows = with_length(measured(table, sweep))
    if FUSED not in set(rows["series"]):
        return nothing(table, sweep)
    found = _variants(rows, sweep)
    found = found.assign(gain=100 * (1 / found["ratio"] - 1))
    means = found.groupby("series")["gain"].mean().rename("mean").reset_index()
    cells = {
        "": "{over} over {series}",
        f"smallest {axis}": f"{{gain:+.0f}} % at {{{axis}}}",
        "largest": f"{{gain_last:+.0f}} % at {{{axis}_last}}",
        "mean": "{mean:+.0f} %",
        "graphs of both": "{graphs_over}, {graphs}",
    }
    found = first_and_last(found, "series", axis).merge(means, on="series")
    head = "Gain in throughput:" if len(found) else NOTHING
    others = found[found["series"] != NO_GRAPHS]
    ends = ends_of(others, "mean", "The fused kernel gains, on average,")
    return head + markdown(found, cells) + ends + missing(table, sweep).lstrip()
