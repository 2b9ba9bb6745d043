"""What fusing the MoE layer gains: single layers over tokens and under the roofline, and whole
engines (Fig 14).

Each function: (table, a row per point; width) -> (Figure, plotted rows); ValueError says which
sweep or columns are missing."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from moebook.explore.views import View
from moebook.plot import layout, lines, markers, panels, style
from moebook.plot.figure import (
    Drawing,
    figure,
    layer_rows,
    one_per_place,
    plotted,
    rows_of,
    values_of,
    with_numbers,
)
from moebook.plot.lines import Spec
from moebook.results.cells import of_sweep
from moebook.results.gains import ratios

ENGINE_KERNELS = ("fused Triton", "fused (engine's choice)")  # the first with a time is compared
SHORT_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
WORDS = {"fp8_per_channel": "fp8 per channel", "fp8_block": "fp8 blocks"}  # of formats, to read
TIME = "layer_time_s"
BOUND = "physical limit"
BY_SERIES = {"panel": "model", "line": "series"}
LAYER = {**BY_SERIES, "kind": "layer_timing", "marker_scale": 0.7}
NOTE_GAP = 6.0  # least ratio of intensities from one annotated token count to the next
SAME = 1e-6  # relative difference under which two rates are one peak


@figure("fig14_batch")
def over_batch(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 14: throughput of whole engines over batch, a line per variant."""
    spec = Spec("over_batch", "ladder_batch", **BY_SERIES, x="batch", shared_floor=BOUND)
    return lines.lines(table, spec, width=width)


@figure("fig14_length")
def over_length(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 14: throughput of whole engines over input = output length, a line per variant."""
    spec = Spec("over_length", "ladder_length", **BY_SERIES, x="input_tokens", shared_floor=BOUND)
    return lines.lines(table, spec, width=width)


@figure("layer_time")
def layer_time(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Time of one layer (µs) over tokens, a line per backend, a panel per model, with the roofline
    bound; both axes logarithmic."""
    spec = Spec(
        "layer_time",
        None,
        **LAYER,
        x="tokens",
        metric="layer_time_us",
        log_y=True,
        shared_floor=BOUND,
    )
    return lines.lines(_layers(table, "layer_time", "layer"), spec, width=width)


@figure("layer_slowdown")
def layer_slowdown(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Time of every other backend over that of the engine's fused kernel, over tokens; above 1 the
    kernel is faster."""
    rows = _layers(table, "layer_slowdown", "layer")
    over = kernel_of(rows)
    if over is None:
        timed = ", ".join(with_numbers(rows, "layer_slowdown", [TIME])["series"].unique())
        raise ValueError(
            f"layer_slowdown needs a time of {' or '.join(ENGINE_KERNELS)} in sweep 'layer'; with "
            f"times: {timed}"
        )
    one_per_place(rows, "layer_slowdown", ("model", "series", "tokens"))
    spec = Spec(
        "layer_slowdown",
        None,
        **LAYER,
        x="tokens",
        metric="ratio",
        level=1,
        level_label=over,
        y_label=f"layer time (× that of {over})",
    )
    looks = markers.looks_of(values_of(rows, "series"))
    return lines.lines(ratios(rows, "layer", over, TIME), spec, width=width, looks=looks)


@figure("layer_quantized")
def layer_quantized(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Time of one quantized layer over that of the engine's fused kernel in the plain dtype (×),
    over tokens; under 1 the format is faster.

    ValueError where the plain kernel has no time."""
    rows = _layers(table, "layer_quantized", "layer_quantized")
    others = table[table["model"].isin(rows["model"])]
    kernel = kernel_of(of_sweep(others, "layer"))
    if kernel is None:
        raise ValueError(
            f"layer_quantized needs a time of {' or '.join(ENGINE_KERNELS)} in sweep 'layer' to "
            "compare with"
        )
    plain = _layers(others, "layer_quantized", "layer").query("series == @kernel")
    dtype = plain["dtype"].iloc[0]
    both = pd.concat([plain, rows], ignore_index=True)
    found = ratios(both, ("layer", "layer_quantized"), kernel, TIME)
    found = found[found["ratio"].notna()].assign(
        series=lambda r: r["series"].replace(WORDS, regex=True)
    )
    spec = Spec(
        "layer_quantized",
        None,
        **LAYER,
        x="tokens",
        metric="ratio",
        level=1,
        level_label=f"{kernel} in {SHORT_DTYPES.get(dtype, dtype)}",
        log_y=False,
        y_label="layer time\n(× the 16-bit kernel's)"
        if dtype != "float32"
        else "layer time (× fp32)",
    )
    return lines.lines(found, spec, width=width)


def _layers(table: pd.DataFrame, figure: str, sweep: str) -> pd.DataFrame:
    """The rows of a sweep of layers, with tokens, and times in µs."""
    rows = rows_of(table, figure, sweep, ("series", "model", "batch", "layer_timing", TIME))
    timed = with_numbers(rows, figure, [TIME])["series"]
    return layer_rows(rows[rows["series"].isin(timed)])


def kernel_of(rows: pd.DataFrame) -> str | None:
    """The series of the engine's own kernel that has times."""
    timed = set(rows.loc[(rows["status"] == "ok") & rows[TIME].notna(), "series"])
    return next((name for name in ENGINE_KERNELS if name in timed), None)


@figure("roofline")
def roofline(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Achieved TFLOP/s over FLOP/byte, a panel per model: backends under the device's roof, some
    token counts noted.

    Axes of its own: the roof is a line of the panel, not of a series."""
    columns = ("intensity", "achieved_flops_per_s", "layer_flops", "floor_layer_s")
    needed = ("series", "model", "batch", "layer_timing", *columns)
    rows = rows_of(table, "roofline", "layer", needed)
    ok = with_numbers(rows, "roofline", columns)
    one_per_place(ok, "roofline", ("model", "series", "batch"))
    ok = ok.copy().assign(
        tokens=ok["batch"],
        tflops=ok["achieved_flops_per_s"].astype(float) / 1e12,
        roof_tflops=(ok["layer_flops"] / ok["floor_layer_s"]).astype(float) / 1e12,
    )
    slope, peak = roof(ok["intensity"].to_numpy(float), ok["roof_tflops"].to_numpy())
    models, looks = values_of(ok, "model"), markers.looks_of(values_of(rows, "series"))
    looks = {name: look for name, look in looks.items() if (ok["series"] == name).any()}
    spec = Spec("roofline", None, **LAYER, x="intensity", metric="tflops")
    rates = ok[["tflops", "roof_tflops"]].max().max()
    with style.paper_style(width):
        fig = Figure(figsize=panels.size(len(models), width), layout="constrained")
        axes = panels.grid_of_axes(fig, len(models), width, sharex=True, sharey=True)
        for ax, model in zip(axes, models, strict=True):
            own = ok[ok["model"] == model]
            lines.draw_lines(ax, own, spec, looks)
            _note_tokens(ax, own)
            ax.set_title(model)
        style.value_axis(axes, ok["intensity"].min(), ok["intensity"].max(), axis="x", log=True)
        style.value_axis(axes, ok["tflops"].min() / 1.5, rates, log=True)
        for ax in axes:
            ax.xaxis.set_major_locator(LogLocator(numticks=12))
            _roof(ax, slope, peak)
        fig.supxlabel("operations per byte moved (FLOP/byte)")
        fig.supylabel("achieved rate (TFLOP/s)")
        handles, labels = lines.notes_legend(ok, ok, spec)
        number = {"marker": "$64$", "markersize": 9, "markeredgewidth": 0, "color": style.GREY}
        handles.append(Line2D([], [], color="black", linewidth=1.0))
        handles.append(Line2D([], [], linestyle="none", **number))
        notes = (handles, [*labels, "roof (○ ridge)", "tokens"])
        layout.settle(fig, lines.series_legend(spec, looks), notes, handler_map=markers.HANDLERS)
        more = ["series", "tokens", "intensity", "roof_tflops", "layer_timing"]
        return fig, plotted(ok, ["tflops"], more)


def roof(intensity: np.ndarray, bound: np.ndarray) -> tuple[float, float]:
    """(bandwidth, peak) of the roof min(peak, bandwidth * intensity) that `bound` samples, in units
    of it; infinite for a part that no sample shows: all bounds one rate, or all of them on one
    slope."""
    slopes = bound / intensity
    flat = np.ptp(bound) <= SAME * bound.max()
    straight = np.ptp(slopes) <= SAME * slopes.max()
    return np.inf if flat else slopes.max(), np.inf if straight else bound.max()


def _roof(ax: Axes, slope: float, peak: float) -> None:
    """Its slope, its peak, and the ridge between them, as far as they are known."""
    known = np.isfinite([slope, peak])
    if not known.any():
        return
    left, right = ax.get_xlim()
    x = np.array([left, np.clip(peak / slope, left, right), right])
    y = np.minimum(peak, slope * x)
    look = {"color": "black", "zorder": 1.5}
    ax.plot(x, y, linewidth=1.0, marker="none", gid="roof", **look)
    if known.all():
        dot = {"marker": "o", "markerfacecolor": "white", "markersize": 3.5}
        ax.plot(x[1], y[1], linestyle="none", gid="ridge", **dot, **look)
    ax.set_xlim(left, right)


def _note_tokens(ax: Axes, rows: pd.DataFrame) -> None:
    """Token counts under the markers of the lowest line, which rises: to their right it is free."""
    last, look = np.inf, {"fontsize": 7, "color": style.GREY, "gid": "tokens"}
    for tokens, own in sorted(rows.groupby("tokens"), reverse=True, key=lambda group: group[0]):
        at = own["intensity"].iloc[0], own["tflops"].min()
        if at[0] * NOTE_GAP > last:
            continue
        where = {"ha": "left", "va": "top", "xytext": (2.5, -2), "textcoords": "offset points"}
        ax.annotate(f"{tokens}", at, **where, **look)
        last = at[0]


LAYER_VIEW = {"metric": "layer_time_us", "table": layer_rows}
OVER_LOOP = {"over": ("series", "expert loop")}
VIEWS = (
    View("one layer", "layer", "tokens", "series", "model", **LAYER_VIEW),
    View(
        "one layer, against the loop",
        "layer",
        "tokens",
        "series",
        "model",
        **LAYER_VIEW,
        **OVER_LOOP,
    ),
    View("one quantized layer", "layer_quantized", "tokens", "series", "model", **LAYER_VIEW),
    View("Fig 14: batch", "ladder_batch", "batch", "series", "model", **OVER_LOOP),
    View("Fig 14: length", "ladder_length", "input_tokens", "series", "model", **OVER_LOOP),
)
