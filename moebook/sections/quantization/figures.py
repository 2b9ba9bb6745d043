"""What number formats gain, save and cost: the paper's Fig 10, all formats on one model, memory;
quality: its own module.

Each function: (table, *, width) -> (Figure, plotted rows); ValueError says which sweep or columns
are missing."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from moebook.explore.views import View
from moebook.plot import layout, length_axis, lines, markers, style
from moebook.plot.figure import (
    AXES,
    METRICS,
    Drawing,
    figure,
    gain_label,
    gain_rows,
    has_sweep,
    one_per_place,
    plotted,
    reading,
    rows_of,
    series_of,
    values_of,
    with_numbers,
)
from moebook.plot.lines import Spec
from moebook.plot.quality import side_by_side
from moebook.plot.shared import energy, predicted_vs_measured
from moebook.results.schema import method_kind
from moebook.sections.quantization.quality_figures import quality_and_speed

__all__ = ["energy", "predicted_vs_measured", "quality_and_speed"]

SIDES = {  # of `gain`: sweep -> (x, title, the source's range in %)
    "quant_batch": ("batch", "over batch", (25, 30)),  # at its largest batch
    "quant_length": ("input_tokens", "over length", (20, 25)),  # across its lengths
}
SOURCE_PAIR = ["bf16", "fp8"]
SHADE = "0.86"
MEMORY = {
    "weights_gb": "weights (GB)",
    "kv_capacity_tokens": "KV capacity (tokens)",
    "fitting_batch": "largest batch (of {} tokens)",
}
NUMBER_IN = 0.36  # room for a number at the end of its bar


@figure("fig10_batch")
def over_batch(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 10: throughput (tokens/s) over batch, a line per format, a panel per model."""
    spec = Spec("over_batch", "quant_batch", "model", "series", "batch", log_y=False)
    return lines.lines(table, spec, width=width)


@figure("fig10_length")
def over_length(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 10: throughput (tokens/s) over input = output length at the largest batch, a line per
    format, a panel per model."""
    spec = Spec("over_length", "quant_length", "model", "series", "input_tokens", log_y=False)
    return lines.lines(table, spec, width=width)


@figure("gain")
def gain(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """What the pair's second format gains over its first (%), over batch and over length, a line
    per model.

    Own axes: each panel has an x of its own."""
    sweeps = [sweep for sweep in SIDES if has_sweep(table, sweep)] or list(SIDES)
    base, other = series_of(table, "gain", sweeps[0])[:2]
    sides = [_side(table, sweep, base, other) for sweep in sweeps]
    both = pd.concat([rows for rows, _ in sides], ignore_index=True)
    ok, looks = (
        with_numbers(both, "gain", ["gain_pct"]),
        markers.looks_of(values_of(both[both["gain_pct"].notna()], "model")),
    )
    with style.paper_style(width) as inches:
        fig = Figure(figsize=(inches, 2.6), layout="constrained")
        axes = list(fig.subplots(1, len(sides), sharey=True, squeeze=False).flat)
        for ax, (rows, spec) in zip(axes, sides, strict=True):
            lines.draw_lines(ax, rows, spec, looks)
            lines.x_scale([ax], rows, spec, width)
            label = AXES[spec.x][0]
            ax.set_xlabel(label.replace(" (", "\n(") if width == "column" else label)
            ax.set_title(rows["panel"].iloc[0])
        spec = sides[0][1]
        handles, labels = lines.notes_legend(both, ok, spec)
        held = ok
        if [base, other] == SOURCE_PAIR:
            _shade(axes, sides)
            handles, labels = [*handles, Patch(color=SHADE)], [*labels, "the source's range"]
            ranges = [percent for *_, percents in SIDES.values() for percent in percents]
            held = pd.concat([ok, pd.DataFrame({"gain_pct": ranges})])
        lines.y_scale(axes, both, held, spec, False, None)
        fig.supylabel(gain_label(base, other))
        legends = lines.series_legend(spec, looks), (handles, labels)
        layout.settle(fig, *legends, handler_map=markers.HANDLERS)
        return fig, plotted(both, ["gain_pct"], ["sweeps", "series", "over"])


def _side(table: pd.DataFrame, sweep: str, base: str, other: str) -> tuple[pd.DataFrame, Spec]:
    """One panel of `gain`: its rows, with a title that says what is held fixed, and its Spec."""
    x, title, _ = SIDES[sweep]
    rows = gain_rows(table, "gain", sweep, base)
    if x == "batch":
        held = length_axis.words_of(rows)
    else:
        held = [reading("batch", value) for value in values_of(rows, "batch")]
    rows = rows[rows["series"] == other].assign(panel=f"{title}\n{', '.join(held)}")
    one_per_place(rows, "gain", ("model", x, "output_tokens"))
    spec = Spec("gain", sweep, "panel", "model", x, "gain_pct", level=0, level_label="no gain")
    return length_axis.placed(rows, spec)


def _shade(axes: list[Axes], sides: list[tuple[pd.DataFrame, Spec]]) -> None:
    """The source's range behind the lines: of a batch, at its largest alone."""
    for ax, (_, spec) in zip(axes, sides, strict=True):
        low, high = SIDES[spec.sweep][2]
        left, right = ax.get_xlim()
        left = right / 1.3**2 if spec.x == "batch" else left
        ax.fill_between(
            [left, right], low, high, color=SHADE, linewidth=0, zorder=0.4, gid="source"
        )


@figure("formats")
def formats(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Throughput (tokens/s) of one model in every format, a row per format, a panel per batch;
    formats without a number marked.

    Own axes: bars with their numbers."""
    rows = rows_of(table, "formats", "formats", ("series", "batch", "method", "throughput_tok_s"))
    ok = with_numbers(rows, "formats", ["throughput_tok_s"])
    one_per_place(rows, "formats", ("series", "batch"))
    series, batches = values_of(rows, "series"), values_of(rows, "batch")
    with style.paper_style(width):
        fig, axes = side_by_side(len(batches), width, _tall(series))
        for ax, batch in zip(axes, batches, strict=True):
            _bars(ax, rows[rows["batch"] == batch], series, "throughput_tok_s")
            ax.set_title(reading("batch", batch))
        fig.supxlabel(METRICS["throughput_tok_s"])
        handles = markers.method_handles([method_kind(m) for m in ok["method"]])
        layout.settle(fig, handles, handler_map=markers.HANDLERS)
        return fig, plotted(rows, ["throughput_tok_s"], ["series"])


@figure("memory")
def memory(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Weights (GB), KV capacity (tokens) and the largest batch that fits it at the sweep's length,
    a row per format.

    Own axes: bars with their numbers."""
    known = ["weights_bytes", "kv_capacity_tokens"]
    columns = ("series", "batch", "input_tokens", "output_tokens", *known)
    rows = rows_of(table, "memory", "formats", columns)
    with_numbers(rows, "memory", known)
    length = int((rows["input_tokens"] + rows["output_tokens"]).max())
    weights, capacity = (rows[column].astype(float) for column in known)
    rows = rows.assign(
        weights_gb=weights / 1e9,
        kv_capacity_tokens=capacity,
        fitting_batch=capacity // length,
        _lacking=(rows["status"] != "ok") | weights.isna() | capacity.isna(),
    )
    lost = (rows["status"] == "ok") & rows["_lacking"]
    rows = rows.assign(status=rows["status"].mask(lost, "not_run"))
    series = values_of(rows, "series")
    rows = rows.sort_values(["_lacking", "batch"], kind="stable").drop_duplicates("series")
    rows = rows.set_index("series").loc[series].reset_index()
    with style.paper_style(width):
        fig, axes = side_by_side(len(MEMORY), width, _tall(series))
        for ax, (column, label) in zip(axes, MEMORY.items(), strict=True):
            _bars(ax, rows, series, column)
            ax.set_xlabel(label.format(length))
        layout.settle(fig)
        rows = rows.drop(columns="batch")  # an engine's memory is that of any batch
        return fig, plotted(rows, list(MEMORY), ["series", "weights_bytes"])


def _tall(series: list[str]) -> float:
    """Inches of a panel with a row per series."""
    return 0.17 * len(series) + 0.75


def _bars(ax: Axes, rows: pd.DataFrame, series: list[str], metric: str) -> None:
    """A bar per series from zero, its number at its end, points by method; a mark and its word
    where there is none."""
    colour = style.OKABE_ITO[0]
    rows = rows.assign(place=rows["series"].map(series.index))
    ok = rows[(rows["status"] == "ok") & rows[metric].notna()]
    y, values = ok["place"].to_numpy(), ok[metric].to_numpy(float)
    ax.barh(y, values, height=0.55, color=colour, alpha=0.35, linewidth=0)
    ends = np.fmax(values, ok[f"{metric}_hi"].to_numpy(float)) if f"{metric}_hi" in ok else values
    beyond = {"textcoords": "offset points", "xytext": (5, 0), "va": "center", "fontsize": 7}
    for place, value, end in zip(y, values, ends, strict=True):
        ax.annotate(style.cell_number(value) if value else "0", (end, place), **beyond)
    bars = style.error_bars(ok, metric)
    if bars is not None:
        ax.errorbar(values, y, xerr=bars, fmt="none", ecolor=colour, elinewidth=0.8, capsize=1.5)
        kinds = [method_kind(method) for method in ok["method"]]
        markers.draw_points(ax, values, y, kinds, colour, "o")
    grey = {"color": style.GREY, "transform": ax.get_yaxis_transform()}
    for row in rows.drop(ok.index).itertuples():
        status = "failed" if row.status == "ok" else row.status
        marker, word = style.MISSING[status]
        mark = ax.plot(0.03, row.place, linestyle="none", marker=marker, clip_on=False, **grey)
        mark[0].set_gid(f"missing-{status}")
        ax.text(0.06, row.place, word, va="center", fontsize=7, **grey)
    columns = ax.get_subplotspec().get_gridspec().ncols
    panel_in = (ax.figure.get_figwidth() - 1.1) / columns - 0.1  # the rows' names taken off
    reach = max(ends.max(initial=0.0), 1e-9)
    ax.set(
        ylim=(len(series) - 0.5, -0.5),
        xlim=(0, reach / (1 - NUMBER_IN / panel_in)),
    )
    ax.set_yticks(range(len(series)), series)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    ax.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 2.5, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(style.short_number))


GAIN_VIEW = {"over": ("series", "bf16")}
VIEWS = (
    View("Fig 10: gain over batch", "quant_batch", "batch", "series", "model", **GAIN_VIEW),
    View(
        "Fig 10: gain over length", "quant_length", "input_tokens", "series", "model", **GAIN_VIEW
    ),
    View("throughput over batch", "quant_batch", "batch", "series", "model"),
    View("formats", "formats", "batch", "series", "model", **GAIN_VIEW),
    View("memory", "formats", "series", None, "batch", "weights_bytes"),
    View("quality", "quality", "series", metric="perplexity"),
)
