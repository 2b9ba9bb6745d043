"""What fusing the MoE layer gains: single layers over tokens and against the roof, and whole
engines (Fig 14).

Each function: (summary, *, width) -> (Figure, plotted rows); ValueError says which sweep or columns
are missing."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator

from moebook.explore.views import View
from moebook.plot import layout, style
from moebook.plot import lines as panels
from moebook.plot.figure import figure
from moebook.plot.lines import Spec, lines
from moebook.plot.rows import (
    layer_rows,
    one_per_place,
    plotted,
    reading,
    rows_of,
    values_of,
    with_numbers,
)
from moebook.results.gains import ratios

ENGINE_KERNELS = (
    "fused Triton",
    "fused (engine's choice)",
)  # the first with a time is what others are held against
SHORT_DTYPES = {"bfloat16": "bf16", "float16": "fp16", "float32": "fp32"}
TIME = "layer_time_s"
LAYER = {
    "panel": "model",
    "line": "series",
    "x": "tokens",
    "kind": "layer_timing",
    "marker_scale": 0.7,
}
SPECS = {
    spec.name: spec
    for spec in (
        Spec(
            "layer_time", "layer", **LAYER, metric="layer_time_us", log_y=True, shared_floor="floor"
        ),
        Spec(
            "over_batch",
            "ladder_batch",
            panel="model",
            line="series",
            x="batch",
            shared_floor="floor",
        ),
        Spec(
            "over_length",
            "ladder_length",
            panel="model",
            line="series",
            x="input_tokens",
            shared_floor="floor",
        ),
    )
}
ROOF_LABELS = ("operations per byte moved (FLOP/byte)", "achieved rate (TFLOP/s)")
NOTE_GAP = 6.0  # least ratio of intensities from one annotated token count to the next
TUNED_COLOURS = {"default configuration": "0.72", "tuned here": style.OKABE_ITO[0]}
SAME = 1e-6  # relative difference under which two rates are one ceiling


@figure("fig14_batch")
def over_batch(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Fig 14: throughput of whole engines over batch, a line per step of the ladder."""
    return lines(summary, SPECS["over_batch"], width=width)


@figure("fig14_length")
def over_length(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Fig 14: throughput of whole engines over input = output length, a line per step of the
    ladder."""
    return lines(summary, SPECS["over_length"], width=width)


@figure("layer_time")
def layer_time(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Time of one layer over tokens (µs, log-log), a line per backend, a panel per model, with the
    floor."""
    return lines(_layer_rows(summary, "layer_time", "layer"), SPECS["layer_time"], width=width)


@figure("layer_speedup")
def layer_speedup(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Time of every other backend over that of the engine's fused kernel, over tokens; above 1 the
    kernel is faster."""
    rows = _layer_rows(summary, "layer_speedup", "layer")
    over = _kernel(rows)
    if over is None:
        raise ValueError(
            f"layer_speedup needs a time of {' or '.join(ENGINE_KERNELS)} in sweep 'layer'; with "
            f"times: "
            f"{', '.join(dict.fromkeys(with_numbers(rows, 'layer_speedup', [TIME])['series']))}"
        )
    looks = panels.looks_of(values_of(rows, "series"))
    spec = Spec(
        "layer_speedup",
        "layer",
        **LAYER,
        metric="ratio",
        level=1,
        level_label=over,
        y_label=f"layer time (× that of {over})",
    )
    one_per_place(rows, "layer_speedup", ("model", "series", "tokens"))
    return lines(ratios(rows, "layer", over, TIME), spec, width=width, looks=looks)


@figure("layer_quantized")
def layer_quantized(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Time of one quantized layer over tokens, with the engine's fused kernel in the plain dtype as
    reference (black)."""
    rows = _layer_rows(summary, "layer_quantized", "layer_quantized")
    plain = summary[["layer" in str(names).split(",") for names in summary["sweeps"]]]
    plain = plain[plain["model"].isin(rows["model"])]
    looks = panels.looks_of(values_of(rows, "series"))
    if kernel := _kernel(plain):
        plain = _layer_rows(plain, "layer_quantized", "layer")
        plain = plain[plain["series"] == kernel]
        name = f"{kernel}, {SHORT_DTYPES.get(plain['dtype'].iloc[0], plain['dtype'].iloc[0])}"
        rows = pd.concat(
            [plain.assign(series=name, floor_layer_us=np.nan), rows], ignore_index=True
        )
        looks = {name: ("black", style.MARKERS[len(looks) % len(style.MARKERS)])} | looks
    spec = Spec(
        "layer_quantized",
        None,
        **LAYER,
        metric="layer_time_us",
        log_y=True,
        shared_floor="floor, quantized",
    )
    return lines(rows, spec, width=width, looks=looks)


def _layer_rows(summary: pd.DataFrame, figure: str, sweep: str) -> pd.DataFrame:
    """The rows of a sweep of layers, with tokens, and times in µs."""
    rows = rows_of(summary, figure, sweep, ("series", "model", "batch", "layer_timing", TIME))
    with_numbers(rows, figure, [TIME])
    return layer_rows(rows)


def _kernel(rows: pd.DataFrame) -> str | None:
    timed = set(rows.loc[(rows["status"] == "ok") & rows[TIME].notna(), "series"])
    return next((name for name in ENGINE_KERNELS if name in timed), None)


@figure("roofline")
def roofline(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Achieved TFLOP/s over FLOP/byte, a panel per model: backends under the device's roof, some
    token counts noted."""
    columns = ("intensity", "achieved_flops_per_s", "layer_flops", "floor_layer_s")
    rows = rows_of(
        summary, "roofline", "layer", ("series", "model", "batch", "layer_timing", *columns)
    )
    ok = with_numbers(rows, "roofline", columns)
    one_per_place(ok, "roofline", ("model", "series", "batch"))
    rate = ok["achieved_flops_per_s"].astype(float) / 1e12
    ok = ok.assign(
        tokens=ok["batch"], tflops=rate, roof_tflops=ok["layer_flops"] / ok["floor_layer_s"] / 1e12
    )
    slope, peak = roof(ok["intensity"].to_numpy(float), ok["roof_tflops"].to_numpy(float))
    models, looks = values_of(ok, "model"), panels.looks_of(values_of(rows, "series"))
    looks = {name: looks[name] for name in looks if (ok["series"] == name).any()}
    with style.paper_style(width):
        fig = Figure(figsize=panels.panel_size(len(models), width), layout="constrained")
        axes = panels.grid_of_axes(fig, len(models), width, sharex=True, sharey=True)
        for ax, model in zip(axes, models, strict=True):
            _under_roof(ax, ok[ok["model"] == model], looks)
            ax.set_title(model)
        style.value_axis(axes, ok["intensity"].min(), ok["intensity"].max(), axis="x", log=True)
        style.value_axis(
            axes, rate.min(), max(rate.max(), ok["roof_tflops"].max()), log=True, marks=1
        )
        for ax in axes:
            ax.xaxis.set_major_locator(LogLocator(numticks=12))
            _roof(ax, slope, peak)
        fig.supxlabel(ROOF_LABELS[0])
        fig.supylabel(ROOF_LABELS[1])
        spec = SPECS["layer_time"]
        handles, labels = panels.notes_legend(ok, ok, spec)
        handles += [
            Line2D([], [], color="black", linewidth=1.0),
            Line2D(
                [],
                [],
                linestyle="none",
                marker="$64$",
                markersize=9,
                markeredgewidth=0,
                color=style.GREY,
            ),
        ]
        layout.settle(
            fig,
            panels.series_legend(spec, looks),
            (handles, [*labels, "roof (○ ridge)", "tokens"]),
            handler_map=panels.HANDLERS,
        )
        return fig, plotted(
            ok, ["tflops"], ["series", "tokens", "intensity", "roof_tflops", "layer_timing"]
        )


def roof(intensity: np.ndarray, bound: np.ndarray) -> tuple[float | None, float | None]:
    """(bandwidth, peak) of the roof min(peak, bandwidth * intensity) that `bound` samples, in units
    of it; None for a part that no sample shows: all bounds one rate, or all of them on one
    slope."""
    slopes = bound / intensity
    flat = np.ptp(bound) <= SAME * bound.max()
    straight = np.ptp(slopes) <= SAME * slopes.max()
    return None if flat else slopes.max(), None if straight else bound.max()


def _roof(ax: Axes, slope: float | None, peak: float | None) -> None:
    left, right = ax.get_xlim()
    look = {"color": "black", "linewidth": 1.0, "zorder": 1.5, "gid": "roof", "marker": "none"}
    ridge = min(peak / slope if slope and peak else left if peak else right, right)
    if slope:
        ax.plot([left, ridge], [slope * left, slope * ridge], **look)
    if peak:
        ax.plot([max(ridge, left), right], [peak, peak], **look)
    if slope and peak:
        ax.plot(
            [ridge],
            [peak],
            linestyle="none",
            marker="o",
            color="black",
            markerfacecolor="white",
            markersize=3.5,
            zorder=1.6,
            gid="ridge",
        )
    ax.set_xlim(left, right)


def _under_roof(ax: Axes, rows: pd.DataFrame, looks: panels.Looks) -> None:
    for name, (colour, marker) in looks.items():
        own = rows[rows["series"] == name].sort_values("tokens")
        x, y = own["intensity"].to_numpy(float), own["tflops"].to_numpy(float)
        ax.plot(x, y, color=colour, marker="none", linewidth=0.8, label=name, gid="series")
        panels.draw_points(
            ax, x, y, [str(t) for t in own["layer_timing"]], colour, marker, LAYER["marker_scale"]
        )
    last = np.inf
    for tokens in sorted(rows["tokens"].unique(), reverse=True):
        own = rows[rows["tokens"] == tokens]
        x = own["intensity"].iloc[0]
        if x * NOTE_GAP <= last:
            ha, right = ("right", 5) if last == np.inf else ("left", 2)
            last = x
            ax.annotate(
                f"{tokens}",
                (x, own["tflops"].min()),
                xytext=(right, -3),
                textcoords="offset points",
                ha=ha,
                va="top",
                fontsize=7,
                color=style.GREY,
                gid="tokens",
            )


@figure("tuning")
def tuning(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Time of one layer with the kernel's default configuration and with the one tuned here, both
    under captured graphs or both by plain calls: a panel per token count with its own scale from
    zero, the gain (%) in its title."""
    rows = rows_of(summary, "tuning", "layer_tuned", ("batch", "default_time_s", TIME))
    ok = with_numbers(rows, "tuning", ["default_time_s", TIME])
    one_per_place(rows, "tuning", ("batch",))
    ends = [c for c in (TIME, f"{TIME}_lo", f"{TIME}_hi") if c in rows]
    lost = (rows["status"] == "ok") & ~rows.index.isin(ok.index)
    rows = rows.assign(
        tokens=rows["batch"],
        status=rows["status"].mask(lost, "failed"),
        default_us=rows["default_time_s"].astype(float) * 1e6,
        **{c.replace(TIME, "tuned_us"): rows[c].astype(float) * 1e6 for c in ends},
    )
    rows = rows.assign(gain_pct=100 * (rows["default_us"] / rows["tuned_us"] - 1)).sort_values(
        "tokens"
    )
    columns = min(len(rows), 4)
    with style.paper_style(width) as inches:
        down = -(-len(rows) // columns)
        fig = Figure(figsize=(inches, down * 1.6 + 0.3), layout="constrained")
        axes = list(fig.subplots(down, columns, squeeze=False).flat)
        for ax in axes[len(rows) :]:
            ax.remove()
        for ax, (_, row) in zip(axes, rows.iterrows(), strict=False):
            _pair(ax, row)
        fig.supylabel("time of one layer (µs)")
        handles = [Patch(color=colour) for colour in TUNED_COLOURS.values()]
        layout.settle(fig, (handles, list(TUNED_COLOURS)))
        return fig, plotted(
            rows, ["tuned_us"], ["tokens", "default_us", "gain_pct", "configs_tried"]
        )


def _pair(ax: Axes, row: pd.Series) -> None:
    """Default and tuned side by side, each with its number; the word of its status where a row has
    none."""
    tokens = reading("tokens", int(row["tokens"]))
    ax.set_xticks([])
    ax.set_xlim(-0.6, 1.6)
    ax.grid(False, axis="x")
    if row["status"] != "ok":
        ax.set_title(f"{tokens}\n–")
        ax.set_yticks([])
        ax.text(
            0.5,
            0.5,
            style.MISSING[row["status"]][1],
            transform=ax.transAxes,
            ha="center",
            color=style.GREY,
        )
        return
    values = [row["default_us"], row["tuned_us"]]
    tops = [values[0], row.get("tuned_us_hi", values[1])]
    ax.bar([0, 1], values, width=0.62, color=list(TUNED_COLOURS.values()), gid="bars")
    if "tuned_us_lo" in row:
        bars = [[values[1] - row["tuned_us_lo"]], [tops[1] - values[1]]]
        ax.errorbar(
            [1], values[1:], yerr=bars, fmt="none", ecolor="black", elinewidth=0.8, capsize=1.5
        )
    for x, (value, top) in enumerate(zip(values, tops, strict=True)):
        ax.annotate(
            style.cell_number(value),
            (x, top),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=7,
        )
    style.value_axis([ax], 0.0, 1.12 * max(tops))
    ax.set_title(f"{tokens}\ngain {row['gain_pct']:+.1f} %")


layer = {"metric": "layer_time_us", "table": layer_rows}
VIEWS = (
    View("one layer", "layer", "tokens", "series", "model", **layer),
    View("one quantized layer", "layer_quantized", "tokens", "series", "model", **layer),
    View("engine over batch", "ladder_batch", "batch", "series", "model"),
    View("engine over length", "ladder_length", "input_tokens", "series", "model"),
)
