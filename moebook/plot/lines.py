"""Small multiples of lines: one panel per value of a column, one line per value of another.

Points are drawn by how they were got: filled where every step was run, open with a dot where decode
steps were sampled, open where the full depth was extrapolated; single layers filled under a
captured graph, open for plain calls. Points without a number are marked at the axis foot. Of more
than MOST_PANELS panels some are drawn, evenly spread, and the legend says so."""

from dataclasses import dataclass
from operator import add

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from moebook.plot import layout, length_axis, markers, panels, style
from moebook.plot.figure import (
    AXES,
    IDENTITY,
    METRICS,
    one_per_place,
    plotted,
    reading,
    rows_of,
    values_of,
    with_numbers,
)
from moebook.results.schema import method_kind

FLOORS = {"throughput_tok_s": "floor_throughput_tok_s", "layer_time_us": "floor_layer_us"}
FLOOR_LABEL = "physical limit"
MOST_FLOOR_LINES = 4  # per panel; with more, dashes and data cannot be told apart
# log axis? -> floors up to this multiple of the largest value are drawn
FLOOR_ROOM = {False: 1.6, True: 4.0}
MOST_TICKS = {"page": 7, "column": 4}  # of an x axis with more than seven values
LOG_OVER = 5.0  # largest over smallest value from which a y axis is logarithmic


@dataclass(frozen=True)
class Spec:
    """What goes where: columns of the table for panels, lines and the x axis, and which axes are
    logarithmic."""

    name: str
    sweep: str | None
    panel: str
    line: str
    x: str
    metric: str = "throughput_tok_s"
    log_x: bool = True
    log_y: bool | None = None  # None: where values span more than LOG_OVER
    floors: bool = True
    shared_floor: str | None = (
        None  # what the legend calls the one floor of a panel that all its lines share
    )
    level: float | None = None  # a line across at this value, which the y axis then takes in
    level_label: str | None = None
    y_label: str | None = None  # None: the metric's
    kind: str = "method"  # column that says how a point was got
    marker_scale: float = 1.0
    x_label: str | None = None  # None: the column's
    names: tuple[str, ...] = ()  # of an x axis of words: x is the place of a name among these
    panels_in_row: int = 4  # at most, on a page
    dashed: str | None = None  # a column drawn dashed beside each line, and what that is
    dashed_label: str | None = None


def lines(
    summary: pd.DataFrame,
    spec: Spec,
    *,
    width: str = "page",
    looks: markers.Looks | None = None,
) -> tuple[Figure, pd.DataFrame]:
    """Draw `spec` from a summary; the figure and the rows in it. `looks` are those of lines that
    other figures show, too. ValueError where rows or columns are missing, or several rows share one
    place."""
    style.width_in(width)
    rows = rows_of(
        summary, spec.name, spec.sweep, (spec.panel, spec.line, spec.x, spec.kind, spec.metric)
    )
    rows, spec = length_axis.placed(rows, spec)
    ok = with_numbers(rows, spec.name, [spec.metric])
    rows = rows.assign(
        status=rows["status"].mask((rows["status"] == "ok") & rows[spec.metric].isna(), "failed")
    )
    one_per_place(rows, spec.name, (spec.panel, spec.line, spec.x))
    every = _with_points(rows, ok, spec.panel)
    drawn = panels.shown(every)
    ok = ok[ok[spec.panel].isin(drawn)]
    series = _with_points(rows, ok, spec.line)
    rows = rows[rows[spec.panel].isin(drawn) & rows[spec.line].isin(series)]
    rows, ok = (frame[_drawn(frame, spec)] for frame in (rows, ok))
    wide = bool(ok[spec.metric].max() > LOG_OVER * ok[spec.metric].min())
    log_y = wide if spec.log_y is None else spec.log_y
    floor = _readable_floor(ok, spec, log_y)
    looks = markers.looks_of(series) if looks is None else looks
    looks = {value: look for value, look in looks.items() if value in series}
    with style.paper_style(width):
        fig = Figure(figsize=_size(len(drawn), width, spec), layout="constrained")
        axes = panels.grid_of_axes(
            fig, len(drawn), width, spec.panels_in_row, sharex=True, sharey=True
        )
        for ax, panel in zip(axes, drawn, strict=True):
            draw_lines(ax, rows[rows[spec.panel] == panel], spec, looks, floor)
            title = reading(spec.panel, panel)
            ax.set_title(panels.title(title, len(drawn), width, spec.panels_in_row))
        x_scale(axes, rows, spec, width)
        y_scale(axes, rows, ok, spec, log_y, floor)
        fig.supxlabel(spec.x_label or AXES[spec.x][0])
        fig.supylabel(spec.y_label or METRICS[spec.metric])
        layout.settle(
            fig,
            series_legend(spec, looks),
            tuple(map(add, notes_legend(rows, ok, spec, floor), panels.note(drawn, every))),
            handler_map=markers.HANDLERS,
        )
        shown = [
            length_axis.LENGTH if c == length_axis.PLACE else c
            for c in (spec.panel, spec.line, spec.x, spec.kind)
        ]
        return fig, plotted(rows, [spec.metric], [*shown, *FLOORS.values()])


def _with_points(rows: pd.DataFrame, ok: pd.DataFrame, column: str) -> list:
    """The values of a column that have a number: no panel stands empty, no line is in the legend
    alone."""
    return [value for value in values_of(rows, column) if (ok[column] == value).any()]


def _drawn(rows: pd.DataFrame, spec: Spec) -> list[str]:
    """The columns that are drawn or go into the figure's CSV; a summary has hundreds."""
    ends = (f"{spec.metric}_lo", f"{spec.metric}_hi")
    own = (spec.panel, spec.line, spec.x, spec.kind, spec.metric, *ends, spec.dashed)
    lengths = (length_axis.LENGTH, length_axis.PLACE)
    wanted = dict.fromkeys((*IDENTITY, *own, *lengths, *FLOORS.values()))
    return [column for column in wanted if column in rows]


def _size(count: int, width: str, spec: Spec) -> tuple[float, float]:
    """That of `count` panels, and room for names that stand upright."""
    inches, tall = panels.size(count, width, spec.panels_in_row)
    if _is_upright(spec, count, width):
        tall += 0.06 * max(map(len, spec.names))
    return inches, tall


def _is_upright(spec: Spec, count: int, width: str) -> bool:
    """Whether names under an axis have to stand upright, with so many panels of a page."""
    if not spec.names:
        return False
    columns = panels.shape_of(count, width, spec.panels_in_row)[1]
    return 0.065 * (max(map(len, spec.names)) + 1) * len(spec.names) > 6.4 / columns


def _readable_floor(ok: pd.DataFrame, spec: Spec, log_y: bool) -> str | None:
    """The column of the metric's floor, where there is one and it stays readable."""
    floor = FLOORS.get(spec.metric)
    if not spec.floors or floor not in ok or not ok[floor].notna().any():
        return None
    if spec.shared_floor is None and ok[spec.line].nunique() > MOST_FLOOR_LINES:
        return None
    return floor if ok[floor].max() <= FLOOR_ROOM[log_y] * ok[spec.metric].max() else None


def draw_lines(
    ax: Axes, rows: pd.DataFrame, spec: Spec, looks: markers.Looks, floor: str | None = None
) -> None:
    """One panel: its lines, their points and error bars, floors, and marks of points without a
    number."""
    if spec.level is not None:
        look = {"color": "black", "linestyle": markers.DASHES, "linewidth": 0.8}
        ax.axhline(spec.level, zorder=1.5, gid="level", **look)
    for value, (colour, marker) in looks.items():
        own = rows[rows[spec.line] == value].sort_values(spec.x)
        if own.empty:
            continue
        ok = own["status"] == "ok"
        y = own[spec.metric].where(ok).to_numpy(float)
        x = own[spec.x].to_numpy()
        bars = style.error_bars(own, spec.metric)
        look = {"color": colour, "marker": "none", "linestyle": "none" if spec.names else "-"}
        ax.plot(x, y, label=reading(spec.line, value), gid="series", **look)
        if bars is not None:
            ax.errorbar(x, y, yerr=bars, fmt="none", ecolor=colour, elinewidth=0.8, capsize=1.5)
        kinds = own[spec.kind].map(method_kind).where(ok, "")
        markers.draw_points(ax, x, y, kinds, colour, marker, spec.marker_scale)
        beside = {"color": colour, "linestyle": markers.DASHES}
        if floor and spec.shared_floor is None:
            limit = own[floor].where(ok).to_numpy(float)
            ax.plot(x, limit, linewidth=0.6, gid="floor", **beside)
        if spec.dashed:
            told = own[spec.dashed].to_numpy(float)
            ax.plot(x, told, linewidth=0.8, marker="none", zorder=1.8, gid="predicted", **beside)
    if floor and spec.shared_floor:
        shared = rows.loc[rows["status"] == "ok"].groupby(spec.x)[floor].first().dropna()
        look = {"color": "black", "linestyle": markers.DASHES, "linewidth": 0.8, "gid": "floor"}
        ax.plot(shared.index, shared.to_numpy(float), **look)
    _missing(ax, rows, spec, looks)


def _missing(ax: Axes, rows: pd.DataFrame, spec: Spec, looks: dict) -> None:
    """One grey cross where a status takes all lines of a place, else a cross per line in that
    line's colour."""
    for status in style.MISSING:
        gone = rows[rows["status"] == status]
        whole = [x for x, at in gone.groupby(spec.x) if len(at) == (rows[spec.x] == x).sum()]
        style.mark_missing(ax, whole, status)
        part = gone[~gone[spec.x].isin(whole)]
        for level, value in enumerate(values_of(part, spec.line)):
            style.mark_missing(
                ax, part.loc[part[spec.line] == value, spec.x], status, looks[value][0], level
            )


def x_scale(axes: list[Axes], rows: pd.DataFrame, spec: Spec, width: str) -> None:
    """A base-2 axis with a tick per value; of more than seven, evenly thinned. Pairs of lengths
    stand side by side, names upright where they must."""
    if spec.x == length_axis.PLACE:
        length_axis.ticks(axes, rows, MOST_TICKS[width])
        return
    if spec.names:
        turned = 90 * _is_upright(spec, len(axes), width)
        for ax in axes:
            ax.set_xticks(range(len(spec.names)), spec.names, rotation=turned)
            ax.set_xlim(-0.5, len(spec.names) - 0.5)
        return
    if not spec.log_x:
        for ax in axes:
            ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        return
    values = values_of(rows, spec.x)
    for ax in axes:
        style.log2_axis(ax, values)
        if len(values) > MOST_TICKS["page"]:
            ax.xaxis.set_major_locator(
                FixedLocator(values[:: -(-len(values) // MOST_TICKS[width])])
            )
        elif width == "column" and len(axes) > 1:
            ax.xaxis.set_major_locator(FixedLocator(style.apart(values)))
        if any(value != int(value) for value in values):
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def y_scale(
    axes: list[Axes],
    rows: pd.DataFrame,
    ok: pd.DataFrame,
    spec: Spec,
    log_y: bool,
    floor: str | None,
) -> None:
    """Limits that hold what is drawn, and room for the marks; with a level, it and values to either
    side of it."""
    drawn = (spec.metric, f"{spec.metric}_lo", f"{spec.metric}_hi", floor, spec.dashed)
    values = ok[[c for c in drawn if c in ok]].to_numpy(float)
    low, high = np.nanmin(values), np.nanmax(values)
    if spec.level is not None:
        low, high = min(low, spec.level), max(high, spec.level)
    if not log_y:
        low = min(0.0, low) if spec.level is None else low - 0.07 * (high - low)
        high = high if high > low else low + 1  # all values are zero
    style.value_axis(axes, low, high, log=log_y, marks=rows_of_marks(rows, spec))


def rows_of_marks(rows: pd.DataFrame, spec: Spec) -> int:
    """How many rows of marks stand above one another at the foot of a panel."""
    gone = rows[rows["status"].isin(style.MISSING)].groupby([spec.panel, spec.x]).size()
    partly = gone[gone < rows[spec.line].nunique()]
    return int(partly.max()) if len(partly) else int(len(gone) > 0)


def series_legend(spec: Spec, looks: markers.Looks) -> tuple[list, list[str]]:
    line = "none" if spec.names else "-"
    named = {value: look for value, look in looks.items() if value != ""}
    handles = [Line2D([], [], color=c, marker=m, linestyle=line) for c, m in named.values()]
    return handles, [reading(spec.line, value) for value in named]


def notes_legend(
    rows: pd.DataFrame, ok: pd.DataFrame, spec: Spec, floor: str | None = None
) -> tuple[list, list[str]]:
    """How points were got, what marks mean, and what the lines across are."""
    handles, labels = markers.method_handles([method_kind(m) for m in ok[spec.kind]])
    for status, (marker, label) in style.MISSING.items():
        if (rows["status"] == status).any():
            handles.append(Line2D([], [], linestyle="none", marker=marker, color=style.GREY))
            labels.append(label)
    for shown, label, colour in (
        (floor, spec.shared_floor or FLOOR_LABEL, "black" if spec.shared_floor else style.GREY),
        (spec.level_label, spec.level_label, "black"),
        (spec.dashed, spec.dashed_label, style.GREY),
    ):
        if shown:
            handles.append(Line2D([], [], color=colour, linestyle=markers.DASHES, linewidth=0.8))
            labels.append(label)
    return handles, labels
