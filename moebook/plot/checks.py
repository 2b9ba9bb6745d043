"""Figures that judge: predictions against measurements, cheaper methods against full runs."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from moebook.plot import layout, lines, style
from moebook.plot.figure import figure
from moebook.plot.rows import plotted, rows_of, with_numbers
from moebook.predict.columns import LEFT_OUT
from moebook.results.schema import method_kind


@figure("predicted_vs_measured")
def predicted_vs_measured(
    summary: pd.DataFrame, *, width: str = "page"
) -> tuple[Figure, pd.DataFrame]:
    """E2E latency, predicted against measured (s, log-log), a colour per model; median and 90th
    percentile of the error are printed.

    Where points were predicted while their model was left out of the fit, those alone are drawn;
    else what the shipped calibration says of one's own points. Depth-extrapolated rows are shown
    open and left out of the error: they were not measured at full depth."""
    columns = ("model", "method", "e2e_s", "predicted_e2e_s", "predicted_how")
    rows = rows_of(summary, "predicted_vs_measured", None, columns)
    ok = with_numbers(rows, "predicted_vs_measured", ["e2e_s", "predicted_e2e_s"])
    held = ok["predicted_how"] == LEFT_OUT
    ok = ok[held].reset_index(drop=True) if held.any() else ok
    ok = ok.assign(error_pct=100 * (ok["predicted_e2e_s"] / ok["e2e_s"] - 1))
    kinds = ok["method"].map(method_kind)
    models = list(dict.fromkeys(ok["model"]))
    looks = lines.looks_of(models)
    with style.paper_style(width) as inches:
        shape, tall = ((1, 2), 3.1) if width == "page" else ((2, 1), 4.6)
        fig = Figure(figsize=(inches, tall), layout="constrained")
        parity, errors = fig.subplots(*shape, height_ratios=[1] if width == "page" else [2, 1])
        for model, (colour, marker) in looks.items():
            own = ok["model"] == model
            for ax, column in ((parity, "predicted_e2e_s"), (errors, "error_pct")):
                lines.draw_points(
                    ax,
                    ok.loc[own, "e2e_s"].to_numpy(float),
                    ok.loc[own, column].to_numpy(float),
                    list(kinds[own]),
                    colour,
                    marker,
                )
        _parity(parity, ok)
        parity.text(
            0.03,
            0.97,
            error_text(ok[kinds != "depth"], bool(held.any())),
            transform=parity.transAxes,
            va="top",
        )
        _errors(errors, ok)
        errors.set_xlim(parity.get_xlim())
        if width == "column":
            parity.set_xlabel("")
        handles: list = [
            Line2D([], [], linestyle="none", color=c, marker=m) for c, m in looks.values()
        ]
        more, texts = lines.method_handles(list(kinds))
        line = Line2D([], [], color=style.GREY, linewidth=0.8)
        layout.settle(
            fig,
            (handles, models),
            ([*more, line], [*texts, "predicted = measured"]),
            handler_map=lines.HANDLERS,
        )
        return fig, plotted(ok, ["e2e_s"], ["predicted_e2e_s", "error_pct"])


def error_text(rows: pd.DataFrame, held: bool) -> str:
    """Median and 90th percentile of the rows' absolute `error_pct`, and how they were predicted.
    held: while their model was left out of the fit."""
    if rows.empty:
        return "no row measured at full depth"
    error = rows["error_pct"].abs()
    how = "model left out of the fit" if held else "by the shipped calibration"
    return (
        f"{how}:\nmedian error {error.median():.1f} %\n"
        f"90th percentile {error.quantile(0.9):.0f} %\nn = {len(rows)}"
    )


def _parity(ax: Axes, ok: pd.DataFrame) -> None:
    both = ok[["e2e_s", "predicted_e2e_s"]].to_numpy(float)
    low, high = both.min(), both.max()
    ax.axline((low, low), (high, high), color=style.GREY, linewidth=0.8, zorder=1, gid="parity")
    for axis in ("x", "y"):
        style.value_axis([ax], low, high, axis=axis, log=True)
    ax.set(xlabel="measured end-to-end latency (s)", ylabel="predicted end-to-end latency (s)")


def _errors(ax: Axes, ok: pd.DataFrame) -> None:
    ax.axhline(0, color=style.GREY, linewidth=0.8, zorder=1, gid="parity")
    style.value_axis([ax], ok["e2e_s"].min(), ok["e2e_s"].max(), axis="x", log=True)
    reach = 1.15 * max(ok["error_pct"].abs().max(), 1.0)
    ax.set(
        ylim=(-reach, reach),
        xlabel="measured end-to-end latency (s)",
        ylabel="prediction error (%)",
    )
