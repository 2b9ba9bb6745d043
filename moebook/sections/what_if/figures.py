"""Section 10 as paper figures: curves over batch with bands, limits and measured points; where a
step's time goes; memory against the card."""

import re
from itertools import cycle

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from moebook.plot import layout, style
from moebook.plot.figure import METRICS, Drawing, figure
from moebook.plot.layout import two_panels
from moebook.predict.what_if import BINDS
from moebook.sections.what_if.enrich import CURVES, MEMORY, NAMES, chosen

COLOURS = dict(zip(NAMES, style.colours(2), strict=True))
MARKERS = dict(zip(NAMES, style.markers(2), strict=True))
OPEN = {"markerfacecolor": "white", "markersize": 3}  # predicted
ENDS = ("lo", "hi")
HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----")  # bars differ in grey, too
PARTS = dict(zip(MEMORY, ("weights", "cache of the batch", "reserve"), strict=True))
LIMITS = {"usable_bytes": "the engine may use", "card_bytes": "the card"}


@figure("curves")
def curves(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Throughput (tokens/s) and time per output token (s) over batch: predicted lines with their
    95 % bands, the physical limit of decode steps dashed, measured points near them as marks."""
    with style.paper_style(width):
        fig, axes = two_panels(width)
        for ax, metric in zip(axes, CURVES, strict=True):
            for name in NAMES:
                _curve(ax, table[table["setup"] == name], metric, name)
            known = table[[metric, f"bound_{metric}", *(f"{metric}_{end}95" for end in ENDS)]]
            style.log2_axis(ax, sorted({2**n for n in range(0, 10, 3)}))
            ax.set_xlim(0.8, 1.25 * table["batch"].max())
            style.value_axis([ax], known.min(axis=None), known.max(axis=None), log=True)
            ax.set(xlabel="batch size (sequences)", ylabel=METRICS[metric].replace(" (", "\n(", 1))
        lines = [Line2D([], [], color=COLOURS[n], marker=MARKERS[n], **OPEN) for n in NAMES]
        seen = [n for n in NAMES if n in set(table.loc[table["got"] == "measured", "setup"])]
        marks = [Line2D([], [], color=COLOURS[n], marker=MARKERS[n], ls="none") for n in seen]
        limit = Line2D([], [], color=style.GREY, linestyle="--", linewidth=0.8)
        band = Patch(color=style.GREY, alpha=0.2)
        words = [*NAMES, *(f"{name}, measured nearby" for name in seen)]
        words += ["physical limit of decode steps", "95 % interval of the prediction"]
        layout.settle(fig, ([*lines, *marks, limit, band], words))
        layout.footer(fig, re.sub(r", batch \d+", "", _told(table)))
        return fig, table.drop(columns=[c for c in table if c.startswith("term_")])


def _curve(ax: Axes, own: pd.DataFrame, metric: str, name: str) -> None:
    line, points = (own[own["got"] == got] for got in ("predicted", "measured"))
    ends = (line[f"{metric}_{end}95"].to_numpy(float) for end in ENDS)
    ax.fill_between(line["batch"], *ends, color=COLOURS[name], alpha=0.18, linewidth=0)
    shape = {"color": COLOURS[name], "marker": MARKERS[name]}
    ax.plot(line["batch"], line[metric], **shape, **OPEN, gid="predicted")
    limit = {"color": COLOURS[name], "linestyle": "--", "linewidth": 0.6, "marker": "none"}
    ax.plot(line["batch"], line[f"bound_{metric}"], **limit)
    ax.plot(points["batch"], points[metric], **shape, linestyle="none", gid="measured")


@figure("step_parts")
def step_parts(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Where a decode step's time goes (ms) in the middle of the run; the host works beside it."""
    rows = chosen(table)
    words = terms(rows)
    marks = {"host, beside it": 1e3 * rows["term_host_s"]}
    bars = 1e3 * rows[list(words)]
    return _bars(bars, words, marks, "decode step (ms)", _told(table), width)


@figure("memory")
def memory(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Memory of the fullest card (GB): weights, cache of the batch at full length, reserve; the
    lines are what the engine may use, and the card."""
    rows = chosen(table)
    marks = {name: rows[column] / 1e9 for column, name in LIMITS.items()}
    bars = rows[list(PARTS)] / 1e9
    return _bars(bars, PARTS, marks, "memory of a card (GB)", _told(table), width)


def _told(table: pd.DataFrame) -> str:
    """What A and B are."""
    return "; ".join(f"{name}: {what}" for name, what in chosen(table)["what"].items())


def terms(rows: pd.DataFrame) -> dict[str, str]:
    """Columns of a decode step's terms on the GPU that take time, and what they are called."""
    found = {f"term_{term}_s": words for term, words in BINDS.items() if term != "host"}
    return {c: words for c, words in found.items() if c in rows and rows[c].max() > 0}


def hues_of(parts: dict) -> list[str]:
    """A colour for each part of a bar; none is black, which marks have."""
    return ["#737373" if hue in ("black", "#000000") else hue for hue in style.colours(len(parts))]


def _bars(
    rows: pd.DataFrame, parts: dict[str, str], marks: dict, label: str, told: str, width: str
) -> Drawing:
    """A bar per configuration of stacked parts, and marks on each. marks: name -> Series by
    configuration; told: what the configurations are."""
    with style.paper_style(width):
        fig = Figure(figsize=(style.width_in(width), 1.3), layout="constrained")
        ax = fig.subplots()
        left = pd.Series(0.0, rows.index)
        looks = [
            {"facecolor": hue, "hatch": hatch, "edgecolor": "white", "linewidth": 0.4}
            for hue, hatch in zip(hues_of(parts), cycle(HATCHES), strict=False)
        ]
        for column, look in zip(parts, looks, strict=True):
            ax.barh(rows.index, rows[column], left=left, height=0.6, **look)
            left = left + rows[column]
        handles: list = [Patch(**look) for look in looks]
        lines = dict(zip(marks, ("black", style.GREY), strict=False))
        for name, look in lines.items():
            for y, at in enumerate(marks[name]):
                ax.plot([at, at], [y - 0.38, y + 0.38], color=look, marker="none", linewidth=1.6)
        ax.set(xlabel=label, xlim=(0, 1.05 * max(left.max(), *(m.max() for m in marks.values()))))
        ax.invert_yaxis()
        ax.grid(axis="y", visible=False)
        handles += [Line2D([], [], color=look, marker="none") for look in lines.values()]
        layout.settle(fig, (handles, [*parts.values(), *marks]))
        layout.footer(fig, told)
        return fig, rows.assign(**marks).reset_index()
