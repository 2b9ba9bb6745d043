"""Section 1 as figures: throughput over one hyperparameter at a time (Figs 5 to 9), and checks."""

import pandas as pd

from moebook.explore.views import View
from moebook.plot import checks
from moebook.plot.checks import predicted_vs_measured
from moebook.plot.figure import Drawing, figure
from moebook.plot.lines import Spec, lines
from moebook.plot.rows import one_per_place, plotted, reading, rows_of, with_numbers
from moebook.sections.hyperparameter_scaling.heatmaps import CELL, grid_heatmap, grid_over_floor
from moebook.sections.hyperparameter_scaling.regimes import FROM_K, OVER, regime_rows
from moebook.sections.hyperparameter_scaling.validation import validation_table

__all__ = ["grid_heatmap", "grid_over_floor", "predicted_vs_measured"]

VIEWS = (
    View("grid", "grid", "expert_ffn_dim", "top_k", "num_experts"),
    View("batch and active experts", "batch_topk", "batch", "top_k", "model"),
    View("batch and length", "batch_length", "batch", "input_tokens", "model"),
)


@figure("fig05_batch_topk")
def batch_topk(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 5: throughput (tokens/s) over batch B, log-log: a line per active experts K, a panel per
    model. Error bars: 95 % between engine starts."""
    return lines(
        table, Spec("batch_topk", "batch_topk", "model", "top_k", "batch", log_y=True), width=width
    )


@figure("fig06_batch_length")
def batch_length(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 6: throughput (tokens/s) over batch B, log-log: a line per length S (tokens in, and out),
    a panel per model."""
    spec = Spec("batch_length", "batch_length", "model", "input_tokens", "batch", log_y=True)
    return lines(table, spec, width=width)


@figure("fig07_ffn_scaling")
def ffn_scaling(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 7: throughput (tokens/s) over the experts' FFN dimension I (channels): a line per active
    experts K, a panel per expert count E."""
    spec = Spec("ffn_scaling", "grid", "num_experts", "top_k", "expert_ffn_dim")
    return lines(table, spec, width=width)


@figure("fig08_expert_scaling")
def expert_scaling(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 8: throughput (tokens/s) over expert count E: a line per active experts K, a panel per
    FFN dimension I."""
    spec = Spec("expert_scaling", "grid", "expert_ffn_dim", "top_k", "num_experts")
    return lines(table, spec, width=width)


@figure("fig09_active_scaling")
def active_scaling(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 9: throughput (tokens/s) over active experts K: a line per expert count E, a panel per
    FFN dimension I."""
    spec = Spec("active_scaling", "grid", "expert_ffn_dim", "num_experts", "top_k")
    return lines(table, spec, width=width)


@figure("routing_regimes")
def routing_regimes(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Throughput over that with two active experts (×), over active experts K: a line per routing
    and one of the source's author, a panel per model."""
    rows = with_numbers(regime_rows(table), "routing_regimes", [OVER])
    spec = Spec(
        "routing_regimes",
        None,
        "model",
        "regime",
        "top_k",
        metric=OVER,
        y_label=f"throughput (× {FROM_K} active)",
        kind="kind",
        log_y=False,
        level=1,
        level_label="no change",
    )
    fig, _ = lines(rows, spec, width=width)
    return fig, plotted(rows, ["throughput_tok_s"], ["model", "regime", "top_k", "kind", OVER])


@figure("over_floor")
def over_floor(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """TTFT and TPOT as multiples of their roofline bounds (dashed: 1) over FFN dimension I: a line
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
        level_label="roofline bound",
        y_label="measured over roofline bound (×)",
        panels_in_row=experts.nunique(),
    )
    fig, _ = lines(pd.concat(panels).dropna(subset="over_floor"), spec, width=width)
    shown = [f"{name.lower()}_over_floor" for name in bounds]
    shown = [column for column in shown if ok[column].notna().any()]
    return fig, plotted(ok, ["ttft_s", "tpot_s"], ["floor_ttft_s", "floor_tpot_s", *shown])


@figure("method_validation")
def method_validation(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """How far E2E latency sampled, or extrapolated over depth, is from the same points measured in
    full (%)."""
    return checks.method_validation(validation_table(table), width=width)
