"""The whole grid of one section at once: FFN dimension x experts x active experts.

Each function: (summary, *, width) -> (Figure, plotted rows); ValueError says which sweep or columns
are missing."""

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from moebook.plot import layout, lines, style
from moebook.plot.figure import figure
from moebook.plot.rows import (
    AXES,
    METRICS,
    one_per_place,
    plotted,
    reading,
    rows_of,
    values_of,
    with_numbers,
)

CELL = ("expert_ffn_dim", "num_experts", "top_k")
COLOUR_MAP = "cividis"
SHORT = {"oom": "OOM", "infeasible": "K>E", "failed": "fail", "timeout": "time", "not_run": "–"}
HATCH = {
    "oom": "////",
    "infeasible": "....",
    "failed": "xxxx",
    "timeout": "\\\\\\\\",
    "not_run": "",
}
RATIO_LABEL = {
    "ttft": "time to first token\nover floor (×)",
    "tpot": "time per output token\nover floor (×)",
}
LEAST_RANGE = 1.5  # largest over smallest value that the colours span at least
LEAST_HEIGHT_IN = 1.85  # what the colour bar's label takes
LOG_OVER = 12.0  # ratios whose largest exceeds the smallest by more than this get a log axis


@figure("grid_heatmap")
def grid_heatmap(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Throughput of every cell as number and colour, a panel per FFN dimension; cells without one
    hatched."""
    rows = _cells(summary, "grid_heatmap", ("throughput_tok_s",))
    values = rows["throughput_tok_s"].where(rows["status"] == "ok")
    fig = _heatmap(rows, values, METRICS["throughput_tok_s"].replace(" (", "|(", 1), width)
    return fig, plotted(rows, ["throughput_tok_s"])


@figure("grid_over_floor")
def grid_heatmap_over_floor(
    summary: pd.DataFrame, *, width: str = "page"
) -> tuple[Figure, pd.DataFrame]:
    """E2E latency of every cell as a multiple of its floor; 1 is the best the device allows."""
    rows = _cells(summary, "grid_heatmap_over_floor", ("e2e_s", "floor_e2e_s"))
    ratio = (rows["e2e_s"] / rows["floor_e2e_s"]).where(rows["status"] == "ok")
    rows = rows.assign(e2e_over_floor=ratio)
    fig = _heatmap(rows, ratio, "end-to-end latency|over floor (×)", width)
    return fig, plotted(rows, ["e2e_s"], ["floor_e2e_s", "e2e_over_floor"])


def _cells(summary: pd.DataFrame, figure: str, metrics: tuple[str, ...]) -> pd.DataFrame:
    rows = rows_of(summary, figure, "grid", (*CELL, "method", *metrics))
    with_numbers(rows, figure, metrics)
    one_per_place(rows, figure, CELL)
    broken = (rows["status"] == "ok") & rows[list(metrics)].isna().any(axis=1)
    return rows.assign(status=rows["status"].mask(broken, "failed"))


def _heatmap(rows: pd.DataFrame, values: pd.Series, label: str, width: str) -> Figure:
    ffns, experts, active = (values_of(rows, c) for c in CELL)
    norm = _norm(values)
    on_page = width == "page"
    columns = min(len(ffns), 4 if on_page else 2)
    deep = -(-len(ffns) // columns)
    figures = 3 if on_page or values.max() < 1000 else 2
    tall = deep * (0.27 * len(active) + 0.3) + (0.4 if on_page else 0.95)
    with style.paper_style(width) as inches:
        fig = Figure(figsize=(inches, max(tall, LEAST_HEIGHT_IN)), layout="constrained")
        axes = lines.grid_of_axes(fig, len(ffns), width)
        for ax, ffn in zip(axes, ffns, strict=True):
            own = rows["expert_ffn_dim"] == ffn
            _cells_of(ax, rows[own].assign(value=values[own]), experts, active, norm, figures)
            ax.set_title(reading("expert_ffn_dim", ffn))
        fig.supxlabel(AXES["num_experts"][0])
        fig.supylabel("active per token (count)")
        _colour_bar(fig, axes, norm, label, on_page, deep)
        return layout.settle(fig, _heatmap_legend(rows))


def _norm(values: pd.Series) -> Normalize:
    """Colours over at least LEAST_RANGE, so that noise between equal cells does not look like an
    effect."""
    low, high = values.min(), values.max()
    return LogNorm(low, high) if high > 4 * low else Normalize(min(low, high / LEAST_RANGE), high)


def _colour_bar(
    fig: Figure, axes: list[Axes], norm: Normalize, label: str, on_page: bool, deep: int
) -> None:
    where = (
        {"location": "right", "aspect": 12 * deep} if on_page else {"location": "top", "aspect": 40}
    )
    bar = fig.colorbar(ScalarMappable(norm, COLOUR_MAP), ax=axes, shrink=0.95, pad=0.02, **where)
    bar.set_label(label.replace("|", "\n" if on_page else " "))
    bar.outline.set_visible(False)
    one = bar.ax.yaxis if on_page else bar.ax.xaxis
    if isinstance(norm, LogNorm):
        one.set_major_locator(
            LogLocator(subs=(1.0, 2.0, 5.0) if norm.vmax < 50 * norm.vmin else (1.0,))
        )
        one.set_minor_formatter(NullFormatter())
    one.set_major_formatter(FuncFormatter(style.short_number))


def _heatmap_legend(rows: pd.DataFrame) -> tuple[list, list[str]]:
    missing = [s for s in HATCH if (rows["status"] == s).any()]
    handles: list = [
        Rectangle((0, 0), 1, 1, facecolor="white", edgecolor=style.GREY, hatch=HATCH[s])
        for s in missing
    ]
    labels = [f"{SHORT[s]}: {style.MISSING[s][1]}" for s in missing]
    if (rows.loc[rows["status"] == "ok", "method"].map(lines.method_kind) == "depth").any():
        handles.append(Line2D([], [], linestyle="none", marker="$*$", color="black", markersize=4))
        labels.append(lines.METHODS["depth"])
    return handles, labels


def _cells_of(
    ax: Axes, rows: pd.DataFrame, experts: list, active: list, norm: Normalize, figures: int
) -> None:
    for row in rows.itertuples():
        x, y = experts.index(row.num_experts), active.index(row.top_k)
        if row.status == "ok":
            colour = mpl.colormaps[COLOUR_MAP](norm(row.value))
            dark = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] < 0.5
            ax.add_patch(
                Rectangle((x, y), 1, 1, facecolor=colour, edgecolor="white", linewidth=0.8)
            )
            star = "*" if lines.method_kind(row.method) == "depth" else ""
            ax.text(
                x + 0.5,
                y + 0.5,
                style.cell_number(row.value, figures) + star,
                ha="center",
                va="center",
                fontsize=7,
                color="white" if dark else "black",
            )
        else:
            ax.add_patch(
                Rectangle(
                    (x, y),
                    1,
                    1,
                    facecolor="white",
                    edgecolor="0.75",
                    linewidth=0.4,
                    hatch=HATCH[row.status],
                    gid=f"missing-{row.status}",
                )
            )
            ax.text(
                x + 0.5,
                y + 0.5,
                SHORT[row.status],
                ha="center",
                va="center",
                fontsize=7,
                color="0.25",
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.6},
            )
    ax.set(xlim=(0, len(experts)), ylim=(0, len(active)))
    ax.set_xticks(np.arange(len(experts)) + 0.5, [str(e) for e in experts])
    ax.set_yticks(np.arange(len(active)) + 0.5, [str(k) for k in active])
    ax.grid(False)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)


@figure("over_floor")
def over_floor(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """TTFT and TPOT as multiples of their floors over FFN dimension: a line per active experts,
    panels by experts."""
    pairs = {"ttft": ("ttft_s", "floor_ttft_s"), "tpot": ("tpot_s", "floor_tpot_s")}
    rows = rows_of(
        summary,
        "over_floor",
        "grid",
        (*CELL, "method", *(c for pair in pairs.values() for c in pair)),
    )
    ok = with_numbers(rows, "over_floor", ["ttft_s", "floor_ttft_s"])
    one_per_place(rows, "over_floor", CELL)
    ok = ok.assign(
        **{f"{name}_over_floor": ok[value] / ok[floor] for name, (value, floor) in pairs.items()}
    )
    shown = [name for name in pairs if ok[f"{name}_over_floor"].notna().any()]
    experts, active = values_of(ok, "num_experts"), values_of(ok, "top_k")
    looks = dict(
        zip(
            active,
            zip(style.colours(len(active)), style.markers(len(active)), strict=True),
            strict=True,
        )
    )
    on_page = width == "page"
    shape = (len(shown), len(experts)) if on_page else (len(experts), len(shown))
    with style.paper_style(width) as inches:
        fig = Figure(
            figsize=(inches, shape[0] * (1.45 if on_page else 1.2) + 0.4), layout="constrained"
        )
        axes = fig.subplots(*shape, squeeze=False, sharex=True, sharey="row" if on_page else "col")
        axes = axes if on_page else axes.T
        for line, name in zip(axes, shown, strict=True):
            for ax, count in zip(line, experts, strict=True):
                own = ok[ok["num_experts"] == count]
                _ratios(ax, own, name, *pairs[name], looks)
                style.log2_axis(ax, values_of(ok, "expert_ffn_dim"))
            _ratio_scale(line, ok[f"{name}_over_floor"])
        _over_floor_labels(fig, axes, shown, experts, on_page)
        handles: list = [Line2D([], [], color=c, marker=m) for c, m in looks.values()]
        labels = [reading("top_k", k) for k in looks]
        more, texts = lines.method_handles([lines.method_kind(m) for m in ok["method"]])
        floor = Line2D([], [], color="black", linewidth=0.8, linestyle=(0, (4, 3)))
        layout.settle(
            fig, (handles, labels), ([*more, floor], [*texts, "floor"]), handler_map=lines.HANDLERS
        )
        ratios = [f"{name}_over_floor" for name in shown]
        return fig, plotted(ok, ["ttft_s", "tpot_s"], ["floor_ttft_s", "floor_tpot_s", *ratios])


def _ratios(ax: Axes, rows: pd.DataFrame, name: str, value: str, floor: str, looks: dict) -> None:
    for k, (colour, marker) in looks.items():
        own = rows[rows["top_k"] == k].sort_values("expert_ffn_dim")
        if own.empty:
            continue
        x, y = own["expert_ffn_dim"].to_numpy(), own[f"{name}_over_floor"].to_numpy(float)
        ax.plot(x, y, color=colour, marker="none", label=reading("top_k", k), gid="series")
        bars = style.error_bars(own, value, own[floor])
        if bars is not None:
            ax.errorbar(x, y, yerr=bars, fmt="none", ecolor=colour, elinewidth=0.8, capsize=1.5)
        lines.draw_points(ax, x, y, [lines.method_kind(m) for m in own["method"]], colour, marker)
    ax.axhline(1, color="black", linewidth=0.8, linestyle=(0, (4, 3)), gid="floor")


def _ratio_scale(line: np.ndarray, ratios: pd.Series) -> None:
    low, high = min(ratios.min(), 1.0), max(ratios.max(), 1.0)
    log = high > LOG_OVER * low
    style.value_axis(line, low if log else low - 0.1 * (high - low) - 0.02, high, log=log)


def _over_floor_labels(
    fig: Figure, axes: np.ndarray, shown: list[str], experts: list, on_page: bool
) -> None:
    fig.supxlabel(AXES["expert_ffn_dim"][0])
    for i, name in enumerate(shown):
        for j, count in enumerate(experts):
            ax, title = axes[i][j], reading("num_experts", count)
            if on_page:
                ax.set_title(title if i == 0 else "")
                ax.set_ylabel(RATIO_LABEL[name] if j == 0 else "")
            else:
                ax.set_title(f"{'TTFT' if name == 'ttft' else 'TPOT'}, {title}")
    if not on_page:
        fig.supylabel("measured over floor (×)")
