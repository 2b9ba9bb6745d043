"""Section 1 in words; each function speaks of the figure of its name."""

import pandas as pd

from moebook.plot.figure import AXES
from moebook.predict import columns
from moebook.predict.columns import under_the_floor
from moebook.results.cells import counted
from moebook.results.commentary import (
    NOTHING,
    T,
    change,
    commentary,
    ends_of,
    energy,
    markdown,
    measured,
    nothing,
    planned,
    predicted_vs_measured,
    price,
    with_length,
)
from moebook.results.page import Number
from moebook.results.schema import kind_word
from moebook.sections.hyperparameter_scaling.heatmaps import CELL
from moebook.sections.hyperparameter_scaling.routing_commentary import routing_regimes
from moebook.sections.hyperparameter_scaling.tables import gap_rows, validation_table

__all__ = ["energy", "predicted_vs_measured", "price", "routing_regimes"]

ONE_VALUE = "No two values of this size were measured on cells that are alike otherwise."
MISS_PCT = 3  # an error over this is called a miss


@commentary
def headline(table: pd.DataFrame) -> str:
    """The finding in one sentence."""
    ratio, low, high = _ends(table, "expert_ffn_dim")
    gap, fewest, most = _ends(table, "top_k")
    if ratio.empty or gap.empty:
        return _part_of_the_grid(table)
    return (
        f"**Finding.** Growing the experts' FFN from {low} to {high} changes throughput by "
        f"{change(ratio.mean())} on average, and {fewest} active expert is {change(1 / gap.max())} "
        f"to {change(1 / gap.min())} faster than {most}: what counts is how many bytes of distinct "
        f"experts a step reads."
    )


def _part_of_the_grid(table: pd.DataFrame) -> str:
    cells = len(measured(table, "grid"))
    if not cells:
        return nothing(table, "grid", "The grid is not measured.")
    told = "; ".join(f"{one.label} {one.value}" for one in numbers(table))
    return f"**Finding.** Of the grid {cells} cells are measured" + f": {told}" * bool(told) + "."


def numbers(table: pd.DataFrame) -> tuple[Number, ...]:
    """Mean change of throughput over each size of the grid, and a step over its limit."""
    found = []
    for axis, name in (("expert_ffn_dim", "FFN dim"), ("num_experts", "experts"), ("top_k", "K")):
        ratio, low, high = _ends(table, axis)
        if len(ratio):
            of = f"throughput, {name} {low} to {high}, mean (n = {len(ratio)})"
            found.append(Number(change(ratio.mean()), of))
    cells = measured(table, "grid", "floor_tpot_s")
    if len(cells):
        over = (cells["tpot_s"] / cells["floor_tpot_s"]).astype(float).median()
        found.append(Number(f"{over:.2f}×", "a decode step over its physical limit, median"))
    return tuple(found)


def _ends(table: pd.DataFrame, axis: str) -> tuple[pd.Series, int, int]:
    """(throughput at the largest over that at the smallest value of `axis`, per cell of the grid
    that has both; smallest; largest)"""
    rows = measured(table, "grid")
    low, high = rows[axis].min(), rows[axis].max()
    wide = rows.pivot_table(index=[c for c in CELL if c != axis], columns=axis, values=T)
    if low == high or wide.empty:
        return pd.Series(dtype=float), low, high
    return (wide[high] / wide[low]).dropna(), low, high


def _by(ratio: pd.Series, level: str, name: str) -> str:
    """A table of mean changes, a row per value of an index level."""
    means = ratio.groupby(level).mean()
    return markdown(pd.DataFrame({name: means.index, "mean change": means.map(change)}))


def _no_pair(table: pd.DataFrame) -> str:
    """Why nothing is said of a size of the grid."""
    none = measured(table, "grid").empty
    return nothing(table, "grid", NOTHING if none else ONE_VALUE)


def _along(table: pd.DataFrame, axis: str, name: str, more: str = "") -> str:
    """What throughput does from the smallest to the largest value of `axis`."""
    ratio, low, high = _ends(table, axis)
    if ratio.empty:
        return _no_pair(table)
    said = f"From {name.format(low)} to {high} throughput changes by **{change(ratio.mean())}**"
    if len(ratio) == 1:
        return f"{said} in the one pair of cells that was measured.{more}"
    return (
        f"{said} on average over {len(ratio)} pairs of cells. They range from "
        f"{change(ratio.min())} to {change(ratio.max())}.{more}"
        f"{_by(ratio, 'top_k', 'active experts')}"
    )


@commentary
def ffn_scaling(table: pd.DataFrame) -> str:
    return _along(table, "expert_ffn_dim", "FFN {}")


@commentary
def expert_scaling(table: pd.DataFrame) -> str:
    why = " A decode step reads every expert that some sequence of the batch picked."
    return _along(table, "num_experts", "{} experts", why)


@commentary
def active_scaling(table: pd.DataFrame) -> str:
    ratio, low, high = _ends(table, "top_k")
    if ratio.empty:
        return _no_pair(table)
    gap = 1 / ratio
    return (
        f"{low} active expert is **{change(gap.mean())}** faster than {high} on average over "
        f"{len(gap)} cells. They range from {change(gap.min())} to {change(gap.max())}. With few "
        f"experts the batch reads all of them whatever their active number, so the gap is small."
        f"{_by(gap, 'num_experts', 'experts')}{_on_the_sources_cards(table, low, high)}"
    )


@commentary
def gap_by_routing(table: pd.DataFrame) -> str:
    """What fewer active experts gain under each routing of the grid, by FFN dimension."""
    rows = gap_rows(table)
    if rows.empty:
        return _no_pair(table)
    means = rows.pivot_table(index="expert_ffn_dim", columns="regime", values="gap", sort=False)
    shown = means.map(change).reset_index(names="FFN dim")
    return (
        f"Fewest over most active experts: {change(rows['gap'].min())} to "
        f"{change(rows['gap'].max())}. With `same` all tokens of a step take the same K experts. "
        f"Mean over the expert counts measured at each width:{markdown(shown)}"
    )


def _on_the_sources_cards(table: pd.DataFrame, low: int, high: int) -> str:
    """Fewest over most active experts at the grid's narrowest and widest FFN, predicted."""
    rows = measured(table, "grid")
    rows = rows[rows["num_experts"] == rows["num_experts"].min()]
    pairs = {}
    for ffn in sorted({rows["expert_ffn_dim"].min(), rows["expert_ffn_dim"].max()}):
        own = rows[rows["expert_ffn_dim"] == ffn].set_index("top_k")
        own = own.assign(top_k=own.index)
        if {low, high} <= set(own.index) and own.index.is_unique:
            pairs[f"{low} over {high} active at FFN {ffn}"] = own.loc[low], own.loc[high]
    return columns.words(pairs)


@commentary
def grid_heatmap(table: pd.DataFrame) -> str:
    rows = planned(table, "grid")
    if rows.empty:
        return nothing(table, "grid")
    ok = rows[rows["status"] == "ok"]
    gone = counted(rows["status"].drop(ok.index).replace("oom", "out of memory")) or "none missing"
    if ok.empty:
        return f"{len(rows)} cells, none measured ({gone})."
    methods = counted(ok["method"].map(kind_word))
    return (
        f"{len(rows)} cells: {len(ok)} with a number ({methods}); {gone}. Throughput runs from "
        f"{ok[T].min():,.0f} to {ok[T].max():,.0f} tokens/s. Repeats of a start spread over "
        f"{ok['spread_pct'].max():.1f} % at most."
    )


@commentary
def grid_over_floor(table: pd.DataFrame) -> str:
    """The cells nearest to and farthest from the physical limit."""
    rows = measured(table, "grid", "floor_e2e_s")
    if rows.empty:
        return nothing(table, "grid", "Without measured peaks there is no physical limit.")
    cells = rows[list(CELL)].astype(str).agg(", ".join, axis=1)
    over = rows.assign(over=rows["e2e_s"] / rows["floor_e2e_s"], cell=cells)
    named = ", ".join(AXES[column][0].partition(" (")[0] for column in CELL)
    return ends_of(over, "over", f"E2E over its limit, by {named}:", "{:.2f}×", "cell").strip()


@commentary
def over_floor(table: pd.DataFrame) -> str:
    """Measured over the physical limit, and the models whose measurement lies under it."""
    ok = table[table["status"] == "ok"]
    if "floor_tpot_s" not in ok or ok["floor_tpot_s"].isna().all():
        return "The device's peaks were not measured, so there is no physical limit."
    cells = measured(table, "grid")
    if cells.empty:
        return nothing(table, "grid") + _under_bound(table)
    told = []
    for name, time in (("a decode step", "tpot_s"), ("the first token", "ttft_s")):
        over = cells[time] / cells[f"floor_{time}"]
        told.append(f"{name} {over.median():.2f} ({over.min():.2f} to {over.max():.2f})")
    said = f"In multiples of the physical limit, median over the grid: {'; '.join(told)}. "
    return said + _under_bound(table)


def _under_bound(table: pd.DataFrame) -> str:
    """Models that measured faster than their physical limit."""
    ratio = (table["tpot_s"] / table["floor_tpot_s"]).where(table["status"] == "ok")
    return "".join(
        f"**{model} lies under its physical limit** (down to "
        f"{ratio[table['model'] == model].min():.2f} times). The device cannot read faster, so "
        f"the model's dummy weights do not route near uniform: they read fewer experts. Its "
        f"points are shown, and left out of verdicts and prediction. "
        for model in under_the_floor(table)
    )


@commentary
def batch_topk(table: pd.DataFrame) -> str:
    return _over_batch(table, "batch_topk", "top_k", "active experts")


@commentary
def batch_length(table: pd.DataFrame) -> str:
    return _over_batch(table, "batch_length", "length", "tokens in and out")


def _over_batch(table: pd.DataFrame, sweep: str, line: str, name: str) -> str:
    """Growth of throughput with batch, and its change along `line` at the ends of the batches, a
    row per model."""
    rows = measured(table, sweep)
    if rows.empty:
        return nothing(table, sweep, NOTHING)
    found = []
    for model, own in with_length(rows).groupby("model", sort=False):
        wide = own.pivot_table(index="batch", columns=line, values=T)
        few, many = wide.index.min(), wide.index.max()
        grown = (wide.loc[many] / wide.loc[few]).dropna()
        times = "throughput was not measured at both ends of the batch range"
        if not grown.empty:
            times = f"throughput grows {grown.min():.1f} to {grown.max():.1f} times"
            times += f" from batch {few} to {many}"
        low, high = wide.columns.min(), wide.columns.max()
        ratio = (wide[high] / wide[low]).dropna() if low != high else wide.iloc[:0, 0]
        ends = dict.fromkeys([*ratio.index[:1], *ratio.index[-1:]])
        each = ", ".join(f"{change(ratio[batch])} at batch {batch}" for batch in ends)
        cost = f"; from {low} to {high} {name} it changes by {each}" if each else ""
        found.append(f"**{model}**: {times}{cost}.")
    return " ".join(found)


@commentary
def method_validation(table: pd.DataFrame) -> str:
    """How far `sampled` and `depth` are from the better method, misses included."""
    rows = validation_table(table)
    if rows.empty:
        return nothing(table, "validation", NOTHING)
    error = rows["error_pct"]
    worst = rows.loc[error.abs().idxmax()]
    misses = int((error.abs() > MISS_PCT).sum())
    return (
        f"The same points by a shorter method: {misses} of {len(rows)} miss the E2E of the better "
        f"one by over {MISS_PCT} %. The median error is {error.abs().median():.1f} %, the largest "
        f"{worst['error_pct']:+.1f} % ({worst['label']}, {worst['method']} against "
        f"{worst['reference']})."
    )
