"""Section 1 as figures: throughput over one hyperparameter at a time (Figs 5 to 9), and checks."""

from collections.abc import Iterable

import pandas as pd
from matplotlib.figure import Figure

from moebook.explore.views import View
from moebook.plot import length_axis
from moebook.plot.figure import (
    Drawing,
    figure,
    one_per_place,
    plotted,
    reading,
    rows_of,
    with_numbers,
)
from moebook.plot.lines import Spec, lines
from moebook.plot.shared import energy, predicted_vs_measured
from moebook.predict.columns import under_the_floor
from moebook.results.commentary import T
from moebook.sections.hyperparameter_scaling.heatmaps import CELL, grid_heatmap, grid_over_floor
from moebook.sections.hyperparameter_scaling.tables import (
    AUTHOR,
    FROM_K,
    IDENTICAL,
    OVER,
    OWN,
    gap_rows,
    regime_rows,
)

FFN, EXPERTS, ACTIVE = "expert_ffn_dim", "num_experts", "top_k"
FADED = 0.3  # opacity of what is drawn and not to be read
__all__ = ["energy", "grid_heatmap", "grid_over_floor", "predicted_vs_measured"]


@figure("fig05_batch_topk")
def batch_topk(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 5: throughput over that with the fewest active experts K (×), over batch B: a line per K,
    a panel per model; one measured under its physical limit is grey."""
    return _over_first(table, "batch_topk", "top_k", "fewest active experts", width)


@figure("fig06_batch_length")
def batch_length(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 6: throughput over that at the shortest length S (×), over batch B: a line per S (tokens
    in, and out), a panel per model; one measured under its physical limit is grey."""
    return _over_first(table, "batch_length", "input_tokens", "shortest length", width)


def _over_first(table: pd.DataFrame, sweep: str, line: str, first: str, width: str) -> Drawing:
    """Throughput over that of the line with the least value, at the same model and batch."""
    rows = rows_of(table, sweep, sweep, ("model", line, "batch", "method", T))
    with_numbers(rows, sweep, [T])
    least = rows.loc[rows[line] == rows[line].min()].drop_duplicates(["model", "batch"])
    base = least.set_index(["model", "batch"])[T]
    base = base.reindex(pd.MultiIndex.from_frame(rows[["model", "batch"]])).to_numpy(float)
    ratio = (rows[T] / base).where(rows["status"] == "ok")
    rows = rows.assign(over_first=ratio)
    with_numbers(rows, sweep, ["over_first"])
    named = reading(line, rows[line].min())
    if line == length_axis.INPUT:
        named = length_axis.words_of(least)[0]
    spec = Spec(
        sweep,
        None,
        "model",
        line,
        "batch",
        metric="over_first",
        log_y=False,
        level=1,
        level_label=f"{first}: {named}",
        y_label=f"throughput (× {named})",
    )
    fig, _ = lines(rows, spec, width=width)
    _grey_out(fig, under_the_floor(table), "under its physical limit:\nnot near-uniform routing")
    return fig, plotted(rows, [T], ["over_first"])


def _grey_out(fig: Figure, models: Iterable[str], why: str) -> None:
    """Fade the panels whose titles start with one of `models`, and write `why` in them."""
    for ax in fig.axes:
        if any(ax.get_title().startswith(name) for name in models):
            for artist in [*ax.lines, *ax.collections]:
                artist.set_alpha(FADED)
            where = {"transform": ax.transAxes, "ha": "center", "va": "center", "gid": "invalid"}
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
            ax.text(0.5, 0.5, why, fontsize=7, color="0.2", bbox=box, zorder=5, **where)


@figure("fig07_ffn_scaling")
def ffn_scaling(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 7: throughput (tokens/s) over the experts' FFN dimension I (channels): a line per active
    experts K, a panel per expert count E."""
    return _over(table, Spec("ffn_scaling", "grid", EXPERTS, ACTIVE, FFN), width)


@figure("fig08_expert_scaling")
def expert_scaling(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 8: throughput (tokens/s) over expert count E: a line per active experts K, a panel per
    FFN dimension I."""
    return _over(table, Spec("expert_scaling", "grid", FFN, ACTIVE, EXPERTS), width)


@figure("fig09_active_scaling")
def active_scaling(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 9: throughput (tokens/s) over active experts K: a line per expert count E, a panel per
    FFN dimension I."""
    return _over(table, Spec("active_scaling", "grid", FFN, EXPERTS, ACTIVE), width)


def _over(table: pd.DataFrame, spec: Spec, width: str) -> Drawing:
    """Lines of the grid over one of its sizes. ValueError where that has one value: no line."""
    rows = rows_of(table, spec.name, spec.sweep, (spec.x,))
    if rows[spec.x].nunique() < 2:
        raise ValueError(f"{spec.name}: {spec.x} has one value in the grid: no line over it")
    return lines(table, spec, width=width)


@figure("gap_by_routing")
def gap_by_routing(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Throughput with the fewest active experts K over that with the most (×), over FFN dimension
    I: a line per expert count E, a panel per routing of the grid."""
    rows = with_numbers(gap_rows(table), "gap_by_routing", ["gap"])
    few, many = (reading(ACTIVE, k) for k in (table[ACTIVE].min(), rows[ACTIVE].max()))
    spec = Spec(
        "gap_by_routing",
        None,
        "regime",
        EXPERTS,
        FFN,
        metric="gap",
        y_label=f"throughput, {few} over {many} (×)",
        log_y=False,
        level=1,
        level_label="no difference",
    )
    fig, _ = lines(rows, spec, width=width)
    return fig, plotted(rows, [T], ["regime", FFN, EXPERTS, "gap"])


@figure("routing_regimes")
def routing_regimes(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Throughput over that with two active experts (×), over active experts K: a line per routing,
    a panel per model as measured, and one on the cards of the source's author, with his rows beside
    the imposed routings scaled to those cards (bars: 95 % intervals)."""
    rows = with_numbers(regime_rows(table), "routing_regimes", [OVER])
    own = rows["regime"].isin((OWN, IDENTICAL, AUTHOR))
    rows = rows.assign(regime=rows["regime"].where(own, "routing imposed: " + rows["regime"]))
    spec = Spec(
        "routing_regimes",
        None,
        "place",
        "regime",
        "top_k",
        metric=OVER,
        y_label=f"throughput (× {FROM_K} active)",
        kind="kind",
        log_y=False,
        level=1,
        level_label="no change; bars: 95 % intervals of the prediction",
    )
    fig, _ = lines(rows, spec, width=width)
    return fig, plotted(rows, ["throughput_tok_s"], ["place", "regime", "top_k", "kind", OVER])


@figure("over_floor")
def over_floor(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """TTFT and TPOT as multiples of their physical limits (dashed: 1) over FFN dimension I: a line
    per active experts K, a panel per quantity and expert count E."""
    bounds = {"TTFT": ("ttft_s", "floor_ttft_s"), "TPOT": ("tpot_s", "floor_tpot_s")}
    needed = [column for pair in bounds.values() for column in pair]
    rows = rows_of(table, "over_floor", "grid", (*CELL, "method", *needed))
    ok = with_numbers(rows, "over_floor", bounds["TTFT"])
    one_per_place(rows, "over_floor", CELL)
    experts = ok["num_experts"].map(lambda count: reading("num_experts", count))
    panels = []
    for name, (value, bound) in bounds.items():
        ends = [end for end in ("", "_lo", "_hi") if f"{value}{end}" in ok]
        ratios = {f"over_floor{end}": ok[f"{value}{end}"] / ok[bound] for end in ends}
        panels.append(ok.assign(panel=f"{name}, " + experts, **ratios).sort_values("num_experts"))
        ok = ok.assign(**{f"{name.lower()}_over_floor": ratios["over_floor"]})
    spec = Spec(
        "over_floor",
        "grid",
        "panel",
        "top_k",
        "expert_ffn_dim",
        metric="over_floor",
        level=1,
        level_label="physical limit",
        y_label="measured over physical limit (×)",
        panels_in_row=experts.nunique(),
    )
    fig, _ = lines(pd.concat(panels).dropna(subset="over_floor"), spec, width=width)
    shown = [f"{name.lower()}_over_floor" for name in bounds]
    shown = [column for column in shown if ok[column].notna().any()]
    return fig, plotted(ok, ["ttft_s", "tpot_s"], ["floor_ttft_s", "floor_tpot_s", *shown])


VIEWS = (
    View("Fig 7: FFN width", "grid", FFN, ACTIVE, EXPERTS),
    View("Fig 8: experts", "grid", EXPERTS, ACTIVE, FFN),
    View("Fig 9: active experts", "grid", ACTIVE, EXPERTS, FFN),
    View("grid, all tokens routed the same", "grid_same", FFN, ACTIVE, EXPERTS),
    View("routing", "routing", ACTIVE, "routing", "model", over=(ACTIVE, 2)),
    View(
        "Fig 5: batch and active experts", "batch_topk", "batch", ACTIVE, "model", over=(ACTIVE, 1)
    ),
    View(
        "Fig 6: batch and length",
        "batch_length",
        "batch",
        "input_tokens",
        "model",
        over=("input_tokens", 128),
    ),
)
