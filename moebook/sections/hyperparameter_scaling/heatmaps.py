"""The whole grid of section 1 at once: FFN dimension I x experts E x active experts K."""

from operator import add

import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from moebook.plot import layout, panels, style
from moebook.plot.figure import (
    AXES,
    IDENTITY,
    METRICS,
    Drawing,
    figure,
    one_per_place,
    plotted,
    reading,
    rows_of,
    values_of,
    with_numbers,
)
from moebook.results.schema import KIND_WORDS, method_kind

CELL = ("expert_ffn_dim", "num_experts", "top_k")
COLOUR_MAP = "cividis"
# status -> (word in the cell, its hatch)
WITHOUT = {
    "oom": ("OOM", "////"),
    "infeasible": ("K>E", "...."),
    "failed": ("fail", "xxxx"),
    "timeout": ("time", "\\\\\\\\"),
    "not_run": ("–", ""),
}
LEAST_RANGE = 1.5  # largest over smallest value that the colours span at least
LEAST_HEIGHT_IN = 1.85  # what the colour bar's label takes


@figure("grid_heatmap")
def grid_heatmap(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Throughput (tokens/s) of every cell as number and colour, a panel per FFN dimension; cells
    without one hatched."""
    rows = _cells(table, "grid_heatmap", "throughput_tok_s")
    label = METRICS["throughput_tok_s"].replace(" (", "|(", 1)
    return _heat_maps(rows, rows["throughput_tok_s"], label, width), plotted(
        rows, ["throughput_tok_s"]
    )


@figure("grid_over_floor")
def grid_over_floor(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """E2E latency of every cell as a multiple of its physical limit; 1 is the best the device
    allows."""
    rows = _cells(table, "grid_over_floor", "e2e_s", "floor_e2e_s")
    ratio = (rows["e2e_s"] / rows["floor_e2e_s"]).where(rows["status"] == "ok")
    fig = _heat_maps(rows, ratio, "end-to-end latency|over physical limit (×)", width)
    rows = rows.assign(e2e_over_floor=ratio)
    return fig, plotted(rows, ["e2e_s"], ["floor_e2e_s", "e2e_over_floor"])


def _cells(table: pd.DataFrame, name: str, *metrics: str) -> pd.DataFrame:
    rows = rows_of(table, name, "grid", (*CELL, "method", *metrics))
    with_numbers(rows, name, metrics)
    one_per_place(rows, name, CELL)
    ends = [f"{metric}{end}" for metric in metrics for end in ("_lo", "_hi")]
    wanted = dict.fromkeys((*IDENTITY, *CELL, *metrics, *ends))
    rows = rows[[column for column in wanted if column in rows]]
    broken = (rows["status"] == "ok") & rows[list(metrics)].isna().any(axis=1)
    return rows.assign(status=rows["status"].mask(broken, "failed"))


def _heat_maps(rows: pd.DataFrame, values: pd.Series, label: str, width: str) -> Figure:
    """Axes of its own: `lines` draws no heat maps, and their colour bar is one for all panels."""
    every, on_page = values_of(rows, "expert_ffn_dim"), width == "page"
    ffns = panels.shown(every)
    values = values.where(rows["status"] == "ok").astype(float)
    norm = _norm(values)
    figures = 3 if on_page or values.max() < 1000 else 2
    stars = rows["method"].map(method_kind).map({"depth": "*"}).fillna("")
    texts = values.map(lambda value: style.cell_number(value, figures), na_action="ignore") + stars
    rows = rows.assign(value=values, text=texts)
    deep, _ = panels.shape_of(len(ffns), width)
    tall = deep * (0.27 * rows["top_k"].nunique() + 0.3) + (0.4 if on_page else 0.95)
    with style.paper_style(width) as inches:
        fig = Figure(figsize=(inches, max(tall, LEAST_HEIGHT_IN)), layout="constrained")
        axes = panels.grid_of_axes(fig, len(ffns), width)
        for ax, ffn in zip(axes, ffns, strict=True):
            _panel(ax, rows, ffn, norm)
        fig.supxlabel(AXES["num_experts"][0])
        fig.supylabel("active per token (count)")
        where = {"location": "top", "aspect": 40}
        if on_page:
            where = {"location": "right", "aspect": 12 * deep}
        bar = fig.colorbar(
            ScalarMappable(norm, COLOUR_MAP), ax=axes, shrink=0.95, pad=0.02, **where
        )
        bar.set_label(label.replace("|", "\n" if on_page else " "))
        bar.outline.set_visible(False)
        if isinstance(norm, LogNorm):
            subs = (1.0, 2.0, 5.0) if norm.vmax < 50 * norm.vmin else (1.0,)
            bar.long_axis.set_major_locator(LogLocator(subs=subs))
            bar.long_axis.set_minor_formatter(NullFormatter())
        bar.long_axis.set_major_formatter(FuncFormatter(style.short_number))
        note = panels.note(ffns, every)
        return layout.settle(fig, tuple(map(add, _legend(rows), note)))


def _norm(values: pd.Series) -> Normalize:
    """Colours over at least LEAST_RANGE, so that noise between equal cells does not look like an
    effect."""
    low, high = values.min(), values.max()
    return LogNorm(low, high) if high > 4 * low else Normalize(min(low, high / LEAST_RANGE), high)


def _panel(ax: Axes, rows: pd.DataFrame, ffn: int, norm: Normalize) -> None:
    experts, active = values_of(rows, "num_experts"), values_of(rows, "top_k")
    own = rows[rows["expert_ffn_dim"] == ffn]
    wide = own.pivot(index="top_k", columns="num_experts", values=["value", "text"])
    numbers, texts = (
        wide[name].reindex(index=active, columns=experts) for name in ("value", "text")
    )
    look = {"norm": norm, "cmap": COLOUR_MAP, "linewidths": 0.8, "linecolor": "white"}
    words = {"annot": texts, "fmt": "", "annot_kws": {"fontsize": 7}}
    seaborn.heatmap(numbers.astype(float), ax=ax, cbar=False, **look, **words)
    for row in own[own["status"] != "ok"].itertuples():
        x, y = experts.index(row.num_experts), active.index(row.top_k)
        word, hatch = WITHOUT[row.status]
        look = {"facecolor": "white", "edgecolor": "0.75", "linewidth": 0.4, "hatch": hatch}
        ax.add_patch(Rectangle((x, y), 1, 1, gid=f"missing-{row.status}", **look))
        box = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}
        ax.annotate(
            word, (x + 0.5, y + 0.5), ha="center", va="center", fontsize=7, color="0.25", bbox=box
        )
    ax.invert_yaxis()
    ax.set(title=reading("expert_ffn_dim", ffn), xlabel="", ylabel="")
    ax.tick_params(length=0, rotation=0)


def _legend(rows: pd.DataFrame) -> tuple[list, list[str]]:
    missing = [status for status in WITHOUT if (rows["status"] == status).any()]
    handles: list = [
        Rectangle((0, 0), 1, 1, facecolor="white", edgecolor=style.GREY, hatch=WITHOUT[status][1])
        for status in missing
    ]
    labels = [f"{WITHOUT[status][0]}: {style.MISSING[status][1]}" for status in missing]
    if rows["text"].str.endswith("*").any():
        handles.append(Line2D([], [], linestyle="none", marker="$*$", color="black", markersize=4))
        labels.append(KIND_WORDS["depth"])
    return handles, labels
