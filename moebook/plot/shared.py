"""Whole figures that several sections share: predictions against measurements, and energy against
throughput."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from moebook.plot import layout, markers, style
from moebook.plot.figure import (
    METRICS,
    Drawing,
    figure,
    one_per_place,
    plotted,
    rows_of,
    with_numbers,
)
from moebook.plot.layout import name_points
from moebook.predict.columns import LEFT_OUT
from moebook.results.schema import method_kind
from moebook.study.points import ENERGY

MOST_MODELS = 10  # of which each has a colour and a line in the legend
MOST_NAMED = 4  # points of more models that have a name: those furthest off
ALIKE = style.OKABE_ITO[0]
MEASURED = "measured end-to-end latency (s)"
X, Y, NET = "throughput_tok_s", "energy_per_output_token_j", "energy_net_per_output_token_j"
WITHOUT = {"linestyle": markers.DASHES, "linewidth": 0.8, "marker": ".", "markersize": 3}


@figure("predicted_vs_measured")
def predicted_vs_measured(summary: pd.DataFrame, *, width: str = "page") -> Drawing:
    """E2E latency, predicted against measured (s, log-log), a colour per model (of more than ten,
    names beside the worst); median and 90th percentile of the error are printed.

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
    many = len(models) > MOST_MODELS
    looks = dict.fromkeys(models, (ALIKE, "o")) if many else markers.looks_of(models)
    with style.paper_style(width) as inches:
        shape, tall = ((1, 2), 3.1) if width == "page" else ((2, 1), 4.6)
        fig = Figure(figsize=(inches, tall), layout="constrained")
        parity, errors = fig.subplots(*shape, height_ratios=[1] if width == "page" else [2, 1])
        for model, (colour, marker) in looks.items():
            own = ok["model"] == model
            for ax, column in ((parity, "predicted_e2e_s"), (errors, "error_pct")):
                places = (ok.loc[own, c].to_numpy(float) for c in ("e2e_s", column))
                markers.draw_points(ax, *places, kinds[own], colour, marker)
        _parity(parity, ok)
        said = error_text(ok[kinds != "depth"], bool(held.any()))
        parity.text(0.03, 0.97, said, transform=parity.transAxes, va="top")
        _errors(errors, ok)
        errors.set_xlim(parity.get_xlim())
        if width == "column":
            parity.set_xlabel("")
        handles: list = [
            Line2D([], [], linestyle="none", color=c, marker=m) for c, m in looks.values()
        ]
        more, texts = markers.method_handles(list(kinds))
        line = Line2D([], [], color=style.GREY, linewidth=0.8)
        notes = ([*more, line], [*texts, "predicted = measured"])
        named = ([], []) if many else (handles, models)
        layout.settle(fig, named, notes, handler_map=markers.HANDLERS)
        if many:
            far = ok.loc[ok["error_pct"].abs().nlargest(MOST_NAMED).index]
            name_points(errors, far[["e2e_s", "error_pct"]], far["model"])
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
    ax.set(xlabel=MEASURED, ylabel="predicted end-to-end latency (s)")


def _errors(ax: Axes, ok: pd.DataFrame) -> None:
    ax.axhline(0, color=style.GREY, linewidth=0.8, zorder=1, gid="parity")
    style.value_axis([ax], ok["e2e_s"].min(), ok["e2e_s"].max(), axis="x", log=True)
    reach = 1.15 * max(ok["error_pct"].abs().max(), 1.0)
    ax.set(ylim=(-reach, reach), xlabel=MEASURED, ylabel="prediction error (%)")


@figure("energy")
def energy(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Energy of an output token (J) against throughput (tokens/s), both logarithmic, a line per
    model or series, its batches beside where they differ. Dashed: without the idle card's power."""
    rows = rows_of(table, "energy", ENERGY, ("model", "series", "batch", X, Y, NET))
    ok = with_numbers(rows, "energy", [X, Y, NET])
    one_per_place(rows, "energy", ("model", "series", "batch"))
    if len(ok) < 2:
        raise ValueError("energy: one point alone is no curve, the text has its numbers")
    ok = ok.assign(line_label=_line_labels(ok)).sort_values("batch", kind="stable")
    looks = markers.looks_of(list(dict.fromkeys(ok["line_label"])))
    with style.paper_style(width) as inches:
        fig = Figure(figsize=(inches, 2.8), layout="constrained")
        ax = fig.subplots()
        handles = []
        for name, (colour, marker) in looks.items():
            own = ok[ok["line_label"] == name]
            ax.plot(own[X], own[Y], color=colour, label=name)
            handles.append(Line2D([], [], color=colour, marker=marker))
            places = own[X].to_numpy(float), own[Y].to_numpy(float)
            markers.draw_points(ax, *places, ["sampled"] * len(own), colour, marker)
            ax.plot(own[X], own[NET], color=colour, **WITHOUT)
        ax.set(xscale="log", yscale="log", xlabel=METRICS[X], ylabel=METRICS[Y])
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(style.short_number))
            axis.set_minor_locator(NullLocator())
        net = Line2D([], [], color=style.GREY, **WITHOUT)
        kinds, words = markers.method_handles(["sampled"])
        notes = ([*kinds, net], [*words, "without idle power"])
        layout.settle(fig, (handles, list(looks)), notes, handler_map=markers.HANDLERS)
        if ok["batch"].nunique() > 1:
            name_points(ax, ok[[X, Y]], "B " + ok["batch"].astype(str), style.RC["font.size"])
        return fig, plotted(ok, [X, Y, NET, "idle_power_w", "decode_power_w"], ["series"])


def _line_labels(rows: pd.DataFrame) -> pd.Series:
    """What tells the lines apart: the series, the model, or both."""
    series = rows["series"].fillna("").astype(str)
    if rows["model"].nunique() == 1 and series.nunique() > 1:
        return series
    return rows["model"] + (", " + series if series.nunique() > 1 else "")
