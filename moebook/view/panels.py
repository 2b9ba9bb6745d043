"""Small multiples of lines: one panel per value of a column, one line per value of another.

Points are drawn by how they were got: filled where every step was run, open with a dot where decode steps were
sampled, open where the full depth was extrapolated. Points without a number are marked at the axis foot.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D

from moebook.view import layout, style
from moebook.view.tables import AXES, METRICS, one_per_place, plotted, reading, rows_of, values_of, with_numbers

METHODS = {"full": "measured (full)", "sampled": "sampled", "depth": "depth-extrapolated"}
FLOOR = "floor_throughput_tok_s"
FLOOR_LABEL = "floor"
MOST_FLOOR_LINES = {"page": 4, "column": 2}     # per panel; with more, dashes and data cannot be told apart
FLOOR_ROOM = {False: 1.6, True: 4.0}            # log axis? -> floors up to this multiple of the largest value are drawn
LOG_OVER = 5.0                # largest over smallest value from which a y axis is logarithmic


@dataclass(frozen=True)
class Spec:
    """What goes where: columns of the table for panels, lines and the x axis, and which axes are logarithmic."""

    name: str
    sweep: str | None
    panel: str
    line: str
    x: str
    metric: str = "throughput_tok_s"
    log_x: bool = True
    log_y: bool | None = None          # None: where values span more than LOG_OVER
    floors: bool = True


def method_kind(method: str) -> str:
    """The drawn kind of a method: everything extrapolated over depth is `depth`."""
    return "depth" if str(method).startswith("depth") else str(method)


def grid_of_axes(fig: Figure, count: int, width: str, **share) -> list[Axes]:
    """`count` panels, at most four in a row on a page and two in a column, without empty axes."""
    columns = min(count, 4 if width == "page" else 2)
    rows = -(-count // columns)
    axes = fig.subplots(rows, columns, squeeze=False, **share)
    for ax in axes.flat[count:]:
        ax.remove()
    for i, ax in enumerate(axes.flat[:count]):
        ax.tick_params(labelbottom=i + columns >= count, labelleft=i % columns == 0)
    return list(axes.flat[:count])


def panel_size(count: int, width: str) -> tuple[float, float]:
    """Figure size in inches for `count` panels; legends add to the height."""
    columns = min(count, 4 if width == "page" else 2)
    rows = -(-count // columns)
    tall = {1: 2.3, 2: 2.1}.get(columns, 1.8) if width == "page" else {1: 1.9}.get(columns, 1.45)
    return style.width_in(width), rows * tall + 0.35


def draw_points(ax: Axes, x: np.ndarray, y: np.ndarray, kinds: list[str], colour: str, marker: str) -> None:
    """Markers of one series by method kind."""
    kinds = np.asarray(kinds)
    for kind in METHODS:
        at = kinds == kind
        if not at.any():
            continue
        for look in marker_look(kind, colour, marker):
            ax.plot(x[at], y[at], linestyle="none", zorder=3, gid=f"points-{kind}", **look)


def marker_look(kind: str, colour: str, marker: str) -> list[dict]:
    """Line2D properties whose overlay is the marker of a method kind."""
    body = {"marker": marker, "color": colour, "markerfacecolor": colour if kind == "full" else "white",
            "markersize": style.MARKER_SIZES.get(marker, style.RC["lines.markersize"])}
    dot = {"marker": "o", "color": colour, "markersize": 1.4}
    return [body, dot] if kind == "sampled" else [body]


def method_handles(kinds: list[str]) -> tuple[list, list[str]]:
    """Legend entries for the method kinds present."""
    present = [k for k in METHODS if k in set(kinds)]
    handles = [tuple(Line2D([], [], linestyle="none", **look) for look in marker_look(k, style.GREY, "o"))
               for k in present]
    return handles, [METHODS[k] for k in present]


HANDLERS = {tuple: HandlerTuple(ndivide=1, pad=0)}


def lines(summary: pd.DataFrame, spec: Spec, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Draw `spec` from a summary; the figure and the rows in it. ValueError where rows or columns are missing, or
    several rows share one place."""
    style.width_in(width)
    rows = rows_of(summary, spec.name, spec.sweep, (spec.panel, spec.line, spec.x, "method", spec.metric))
    ok = with_numbers(rows, spec.name, [spec.metric])
    rows = rows.assign(status=rows["status"].mask((rows["status"] == "ok") & rows[spec.metric].isna(), "failed"))
    one_per_place(rows, spec.name, (spec.panel, spec.line, spec.x))
    panels, series = values_of(rows, spec.panel), values_of(rows, spec.line)
    log_y = bool(ok[spec.metric].max() > LOG_OVER * ok[spec.metric].min()) if spec.log_y is None else spec.log_y
    floors = spec.floors and spec.metric == "throughput_tok_s" and _readable(ok, spec, log_y, width)
    looks = dict(zip(series, zip(style.colours(len(series)), style.markers(len(series)), strict=True), strict=True))
    with style.paper_style(width):
        fig = Figure(figsize=panel_size(len(panels), width), layout="constrained")
        axes = grid_of_axes(fig, len(panels), width, sharex=True, sharey=True)
        for ax, panel in zip(axes, panels, strict=True):
            _panel(ax, rows[rows[spec.panel] == panel], spec, looks, floors)
            ax.set_title(reading(spec.panel, panel))
        _scales(axes, rows, ok, spec, log_y, floors)
        fig.supxlabel(AXES[spec.x][0])
        fig.supylabel(METRICS[spec.metric])
        layout.settle(fig, _series_legend(spec, looks), _notes_legend(rows, ok, floors), handler_map=HANDLERS)
        return fig, plotted(rows, [spec.metric], [FLOOR])


def _readable(ok: pd.DataFrame, spec: Spec, log_y: bool, width: str) -> bool:
    if FLOOR not in ok or not ok[FLOOR].notna().any() or ok[spec.line].nunique() > MOST_FLOOR_LINES[width]:
        return False
    return ok[FLOOR].max() <= FLOOR_ROOM[log_y] * ok[spec.metric].max()


def _panel(ax: Axes, rows: pd.DataFrame, spec: Spec, looks: dict, floors: bool) -> None:
    for value, (colour, marker) in looks.items():
        own = rows[rows[spec.line] == value].sort_values(spec.x)
        if own.empty:
            continue
        ok = own["status"] == "ok"
        y = own[spec.metric].where(ok).to_numpy(float)
        x = own[spec.x].to_numpy()
        bars = style.error_bars(own, spec.metric)
        ax.plot(x, y, color=colour, marker="none", label=reading(spec.line, value), gid="series")
        if bars is not None:
            ax.errorbar(x, y, yerr=bars, fmt="none", ecolor=colour, elinewidth=0.8, capsize=1.5)
        draw_points(ax, x, y, [method_kind(m) if good else "" for m, good in zip(own["method"], ok, strict=True)],
                    colour, marker)
        if floors:
            ax.plot(x, own[FLOOR].where(ok).to_numpy(float), color=colour, linestyle=(0, (4, 3)), linewidth=0.6,
                    gid="floor")
    _missing(ax, rows, spec, looks)


def _missing(ax: Axes, rows: pd.DataFrame, spec: Spec, looks: dict) -> None:
    """One grey cross where a status takes all lines of a place, else a cross per line in that line's colour."""
    for status in style.MISSING:
        gone = rows[rows["status"] == status]
        whole = [x for x, at in gone.groupby(spec.x) if len(at) == (rows[spec.x] == x).sum()]
        style.mark_missing(ax, whole, status)
        part = gone[~gone[spec.x].isin(whole)]
        for level, value in enumerate(values_of(part, spec.line)):
            style.mark_missing(ax, part.loc[part[spec.line] == value, spec.x], status, looks[value][0], level)


def _scales(axes: list[Axes], rows: pd.DataFrame, ok: pd.DataFrame, spec: Spec, log_y: bool, floors: bool) -> None:
    if spec.log_x:
        for ax in axes:
            style.log2_axis(ax, values_of(rows, spec.x))
    drawn = [spec.metric, f"{spec.metric}_lo", f"{spec.metric}_hi", *([FLOOR] if floors else [])]
    values = ok[[c for c in drawn if c in ok]].to_numpy(float)
    gone = rows[rows["status"] != "ok"].groupby([spec.panel, spec.x]).size()
    partly = gone[gone < rows[spec.line].nunique()]
    marks = int(partly.max()) if len(partly) else int(len(gone) > 0)
    style.value_axis(axes, np.nanmin(values) if log_y else 0.0, np.nanmax(values), log=log_y, marks=marks)


def _series_legend(spec: Spec, looks: dict) -> tuple[list, list[str]]:
    return ([Line2D([], [], color=colour, marker=marker) for colour, marker in looks.values()],
            [reading(spec.line, value) for value in looks])


def _notes_legend(rows: pd.DataFrame, ok: pd.DataFrame, floors: bool) -> tuple[list, list[str]]:
    handles, labels = method_handles([method_kind(m) for m in ok["method"]])
    for status, (marker, label) in style.MISSING.items():
        if (rows["status"] == status).any():
            handles.append(Line2D([], [], linestyle="none", marker=marker, color=style.GREY))
            labels.append(label)
    if floors:
        handles.append(Line2D([], [], color=style.GREY, linestyle=(0, (4, 3)), linewidth=0.8))
        labels.append(FLOOR_LABEL)
    return handles, labels
