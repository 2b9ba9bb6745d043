"""What number formats gain, save and cost: the paper's Fig 10, a ladder of formats, memory;
quality: its own module.

Each function: (summary, *, width) -> (Figure, plotted rows); ValueError says which sweep or columns
are missing."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from moebook.explore.views import View
from moebook.plot import layout, length_axis, style
from moebook.plot import lines as panels
from moebook.plot.checks import predicted_vs_measured
from moebook.plot.figure import figure
from moebook.plot.gains import gain_label, gain_rows, series_of
from moebook.plot.lines import Spec, lines
from moebook.plot.rows import (
    AXES,
    METRICS,
    has_sweep,
    one_per_place,
    plotted,
    reading,
    rows_of,
    values_of,
    with_numbers,
)
from moebook.sections.quantization.quality_figures import quality, quality_and_speed

__all__ = [
    "predicted_vs_measured",
    "formats",
    "gain",
    "memory",
    "over_batch",
    "over_length",
    "quality",
    "quality_and_speed",
]

SPECS = {
    spec.name: spec
    for spec in (
        Spec("over_batch", "quant_batch", panel="model", line="series", x="batch"),
        Spec("over_length", "quant_length", panel="model", line="series", x="input_tokens"),
    )
}
SIDES = (
    ("quant_batch", "batch", "over batch"),
    ("quant_length", "input_tokens", "over length"),
)  # of `gain`
SOURCE_PAIR = ["bf16", "fp8"]
SOURCE_RANGE_PCT = {
    "quant_batch": (25, 30),
    "quant_length": (20, 25),
}  # at its largest batch; across its lengths
SOURCE_LABEL = "the source's range"
SHADE = "0.86"
MEMORY = {
    "weights_gb": "weights|(GB)",
    "kv_capacity_tokens": "KV capacity|(tokens)",
    "fitting_batch": "largest batch|(of {}|tokens)",
}
NUMBER_IN = 0.36  # room for a number beside its bar
NARROW_IN = 1.0  # panels narrower than this have numbers on their bars


@figure("fig10_batch")
def over_batch(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Fig 10: throughput over batch, a line per format, a panel per model."""
    return lines(summary, SPECS["over_batch"], width=width)


@figure("fig10_length")
def over_length(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Fig 10: throughput over input = output length at the largest batch, a line per format, a
    panel per model."""
    return lines(summary, SPECS["over_length"], width=width)


@figure("gain")
def gain(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """What the pair's second format gains over its first (%), over batch and over length, a line
    per model."""
    shown = [side for side in SIDES if has_sweep(summary, side[0])] or SIDES
    pair = series_of(summary, "gain", shown[0][0])[:2]
    sides = {}
    for sweep, x, title in shown:
        rows = gain_rows(summary, "gain", sweep, pair[0])
        spec = Spec(
            "gain", sweep, "panel", "model", x, metric="gain_pct", level=0, level_label="no gain"
        )
        own = rows[rows["series"] == pair[1]].assign(panel=f"{title}\n{_held(rows, x)}")
        own, spec = length_axis.placed(own, spec)
        sides[sweep] = spec, own
    both = pd.concat([rows for _, rows in sides.values()], ignore_index=True)
    ok = with_numbers(both, "gain", ["gain_pct"])
    looks = panels.looks_of(values_of(both, "model"))
    shaded = pair == SOURCE_PAIR
    with style.paper_style(width) as inches:
        fig = Figure(figsize=(inches, 2.6), layout="constrained")
        axes = list(fig.subplots(1, len(sides), sharey=True, squeeze=False).flat)
        for ax, (spec, rows) in zip(axes, sides.values(), strict=True):
            one_per_place(rows, "gain", ("model", spec.x))
            panels.draw_lines(ax, rows, spec, looks)
            panels.x_scale([ax], rows, spec, width)
            ax.set(
                title=rows["panel"].iloc[0],
                xlabel=AXES[spec.x][0].replace(" (", "\n(" if width == "column" else " ("),
            )
            if shaded:
                _shade(ax, spec)
        held = pd.DataFrame(
            {"gain_pct": [float(v) for low_high in SOURCE_RANGE_PCT.values() for v in low_high]}
        )
        panels.y_scale(axes, both, pd.concat([ok, held]) if shaded else ok, spec, False, None)
        fig.supylabel(gain_label(pair[0], pair[1:]))
        handles, labels = panels.notes_legend(both, ok, spec)
        notes = (
            ([*handles, Patch(color=SHADE)], [*labels, SOURCE_LABEL])
            if shaded
            else (handles, labels)
        )
        layout.settle(fig, panels.series_legend(spec, looks), notes, handler_map=panels.HANDLERS)
        return fig, plotted(both, ["gain_pct"], ["sweeps", "series", "over"])


def _held(rows: pd.DataFrame, x: str) -> str:
    """What a side of `gain` holds fixed, as its title says it."""
    held = (
        length_axis.words_of(rows)
        if x == "batch"
        else [reading("batch", value) for value in values_of(rows, "batch")]
    )
    return ", ".join(held)


def _shade(ax: Axes, spec: Spec) -> None:
    low, high = SOURCE_RANGE_PCT[spec.sweep]
    left, right = ax.get_xlim()
    if spec.x == "batch":  # the source states it for its largest batch alone
        left = right / 1.3**2
    ax.fill_between([left, right], low, high, color=SHADE, linewidth=0, zorder=0.4, gid="source")


@figure("formats")
def formats(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Throughput of one model in every format, a row per format, a panel per batch; formats without
    a number marked."""
    rows = rows_of(summary, "formats", "formats", ("series", "batch", "method", "throughput_tok_s"))
    ok = with_numbers(rows, "formats", ["throughput_tok_s"])
    one_per_place(rows, "formats", ("series", "batch"))
    series, batches = values_of(rows, "series"), values_of(rows, "batch")
    on_page = width == "page"
    shape = (1, len(batches)) if on_page else (len(batches), 1)
    with style.paper_style(width) as inches:
        fig = Figure(
            figsize=(inches, shape[0] * (0.17 * len(series) + 0.45) + 0.3), layout="constrained"
        )
        axes = fig.subplots(*shape, sharey=True, squeeze=False).flat
        for ax, batch in zip(axes, batches, strict=True):
            own = rows[rows["batch"] == batch]
            _bars(ax, own, series, "throughput_tok_s", _panel_in(inches, shape[1]))
            ax.set_title(reading("batch", batch))
        fig.supxlabel(METRICS["throughput_tok_s"])
        handles = panels.method_handles([panels.method_kind(m) for m in ok["method"]])
        layout.settle(fig, handles, handler_map=panels.HANDLERS)
        return fig, plotted(rows, ["throughput_tok_s"], ["series"])


@figure("memory")
def memory(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Weights, KV capacity and the largest batch that fits it at the sweep's length, a row per
    format."""
    columns = (
        "series",
        "batch",
        "input_tokens",
        "output_tokens",
        "weights_bytes",
        "kv_capacity_tokens",
    )
    rows = rows_of(summary, "memory", "formats", columns)
    with_numbers(rows, "memory", columns[-2:])
    length = int((rows["input_tokens"] + rows["output_tokens"]).max())
    rows = rows.assign(
        weights_gb=rows["weights_bytes"].astype(float) / 1e9,
        kv_capacity_tokens=rows["kv_capacity_tokens"].astype(float),
        fitting_batch=rows["kv_capacity_tokens"].astype(float) // length,
    )
    known = (rows["status"] == "ok") & rows[["weights_gb", "kv_capacity_tokens"]].notna().all(
        axis=1
    )
    rows = rows.assign(
        _unknown=~known, status=rows["status"].mask((rows["status"] == "ok") & ~known, "not_run")
    )
    series = values_of(rows, "series")
    rows = rows.sort_values(["_unknown", "batch"], kind="stable").drop_duplicates("series")
    rows = rows.set_index("series").loc[series].reset_index()
    with style.paper_style(width) as inches:
        fig = Figure(
            figsize=(inches, 0.17 * len(series) + (0.5 if width == "page" else 0.75)),
            layout="constrained",
        )
        for ax, (column, label) in zip(
            fig.subplots(1, 3, sharey=True), MEMORY.items(), strict=True
        ):
            _bars(
                ax,
                rows,
                series,
                column,
                _panel_in(inches, 3),
                words=column == "weights_gb" or width == "page",
            )
            ax.set_xlabel(label.format(length).replace("|", " " if width == "page" else "\n"))
        layout.settle(fig)
        return fig, plotted(
            rows, ["weights_gb", "kv_capacity_tokens", "fitting_batch"], ["series", "weights_bytes"]
        )


def _panel_in(inches: float, columns: int) -> float:
    """About how wide a panel of rows gets, the rows' names taken off."""
    return (inches - 1.1) / columns - 0.1


def _bars(
    ax: Axes,
    rows: pd.DataFrame,
    series: list[str],
    metric: str,
    panel_in: float,
    words: bool = True,
) -> None:
    """A bar per series from zero, its number beside it, points by method; a mark and its word where
    there is none."""
    colour = style.OKABE_ITO[0]
    ok = rows[(rows["status"] == "ok") & rows[metric].notna()]
    at = [series.index(name) for name in ok["series"]]
    values = ok[metric].to_numpy(float)
    ax.barh(at, values, height=0.55, color=colour, alpha=0.35, linewidth=0, gid="bars")
    bars = style.error_bars(ok, metric)
    if bars is not None:
        ax.errorbar(values, at, xerr=bars, fmt="none", ecolor=colour, elinewidth=0.8, capsize=1.5)
        panels.draw_points(
            ax,
            values,
            pd.Series(at).to_numpy(),
            [panels.method_kind(m) for m in ok["method"]],
            colour,
            "o",
        )
    narrow = panel_in < NARROW_IN
    for y, value in zip(at, values, strict=True):
        ax.annotate(
            style.cell_number(value) if value else "0",
            (0 if narrow else value, y),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            gid="number",
        )
    for row in rows[~rows.index.isin(ok.index)].itertuples():
        _mark_row(
            ax, series.index(row.series), "failed" if row.status == "ok" else row.status, words
        )
    reach = max(values.max() if len(values) else 1.0, 1e-9)
    ax.set(
        ylim=(len(series) - 0.5, -0.5),
        xlim=(0, reach * 1.07 if narrow else reach / (1 - NUMBER_IN / panel_in)),
    )
    ax.set_yticks(range(len(series)), series)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
    ax.xaxis.set_major_locator(MaxNLocator(2 if narrow else 3, steps=[1, 2, 2.5, 5, 10]))
    ax.xaxis.set_major_formatter(FuncFormatter(style.short_number))


def _mark_row(ax: Axes, y: int, status: str, words: bool) -> None:
    marker, word = style.MISSING[status]
    ax.plot(
        [0.03],
        [y],
        transform=ax.get_yaxis_transform(),
        linestyle="none",
        marker=marker,
        color=style.GREY,
        markersize=4.5,
        markeredgewidth=1.1,
        clip_on=False,
        gid=f"missing-{status}",
    )
    if words:
        ax.annotate(
            word,
            (0.03, y),
            xycoords=ax.get_yaxis_transform(),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=7,
            color=style.GREY,
        )


VIEWS = (
    View("over batch", "quant_batch", "batch", "series", "model"),
    View("over length", "quant_length", "input_tokens", "series", "model"),
    View("formats", "formats", "batch", "series", "model"),
    View("quality", "quality", "series", metric="perplexity"),
)
