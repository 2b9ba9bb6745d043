"""Small multiples of lines: one panel per value of a column, one line per value of another.

Points are drawn by how they were got: filled where every step was run, open with a dot where decode
steps were sampled, open where the full depth was extrapolated; single layers filled under a
captured graph, open for plain calls. Points without a number are marked at the axis foot. Of more
than MOST_PANELS panels some are drawn, evenly spread, and the legend says so."""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import add

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

from moebook.plot import layout, length_axis, style
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
from moebook.results.schema import KIND_WORDS, method_kind

FILLED = ("full", "graph", "measured")
FLOORS = {"throughput_tok_s": "floor_throughput_tok_s", "layer_time_us": "floor_layer_us"}
FLOOR_LABEL = "physical limit"
DASHES = (0, (4, 3))
MOST_FLOOR_LINES = 4  # per panel; with more, dashes and data cannot be told apart
FLOOR_ROOM = {
    False: 1.6,
    True: 4.0,
}  # log axis? -> floors up to this multiple of the largest value are drawn
MOST_PANELS = 12  # three rows of a page: of more none can be read
MOST_TICKS = {"page": 7, "column": 4}  # of an x axis with more than seven values
FADED = 0.3  # opacity of what is drawn and not to be read
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


Looks = dict[object, tuple[str, str]]  # line -> (colour, marker)


def looks_of(values: list) -> Looks:
    """A colour and a marker per line."""
    looks = zip(style.colours(len(values)), style.markers(len(values)), strict=True)
    return dict(zip(values, looks, strict=True))


def shape_of(count: int, width: str, most: int = 4) -> tuple[int, int]:
    """(rows, columns) of `count` panels: as few rows of at most `most` as can be (two in a column),
    evenly filled."""
    rows = -(-count // (most if width == "page" else min(most, 2)))
    return rows, -(-count // rows)


def grid_of_axes(fig: Figure, count: int, width: str, most: int = 4, **share) -> list[Axes]:
    """`count` panels, at most `most` in a row on a page and two in a column, without empty axes."""
    rows, columns = shape_of(count, width, most)
    axes = fig.subplots(rows, columns, squeeze=False, **share)
    for ax in axes.flat[count:]:
        ax.remove()
    for i, ax in enumerate(axes.flat[:count]):
        ax.tick_params(labelbottom=i + columns >= count, labelleft=i % columns == 0)
    return list(axes.flat[:count])


def panels_shown(values: list) -> list:
    """Those of the panels that are drawn: all, or MOST_PANELS from the first to the last."""
    if len(values) <= MOST_PANELS:
        return values
    return [values[i] for i in np.linspace(0, len(values) - 1, MOST_PANELS).round().astype(int)]


def panels_note(shown: list, every: list) -> tuple[list, list[str]]:
    """What the legend says where not all panels are drawn."""
    if len(shown) == len(every):
        return [], []
    said = f"{len(shown)} of {len(every)} panels, from the first to the last"
    return [Line2D([], [], linestyle="none")], [said]


def panel_title(text: str, count: int, width: str, most: int = 4) -> str:
    """A title, in two lines at its comma where panels stand as close as they may."""
    return (
        text.replace(", ", "\n", 1)
        if shape_of(count, width, most)[1] == (4 if width == "page" else 2)
        else text
    )


def panel_size(count: int, width: str, most: int = 4) -> tuple[float, float]:
    """Figure size in inches for `count` panels; legends add to the height."""
    rows, columns = shape_of(count, width, most)
    tall = {1: 2.3, 2: 2.1}.get(columns, 1.8) if width == "page" else {1: 1.9}.get(columns, 1.45)
    return style.width_in(width), rows * tall + 0.35


def are_upright(names: tuple[str, ...], columns: int) -> bool:
    """Whether names under an axis have to stand upright, with so many panels in a row of a page."""
    return 0.065 * (max(map(len, names)) + 1) * len(names) > 6.4 / columns


def draw_points(
    ax: Axes,
    x: np.ndarray,
    y: np.ndarray,
    kinds: list[str],
    colour: str,
    marker: str,
    scale: float = 1.0,
) -> None:
    """Markers of one series by method kind."""
    kinds = np.asarray(kinds)
    for kind in KIND_WORDS:
        at = kinds == kind
        if not at.any():
            continue
        for look in marker_look(kind, colour, marker):
            look["markersize"] *= scale
            ax.plot(x[at], y[at], linestyle="none", zorder=3, gid=f"points-{kind}", **look)


def marker_look(kind: str, colour: str, marker: str) -> list[dict]:
    """Line2D properties whose overlay is the marker of a method kind."""
    if kind == "predicted":
        return [{"marker": "o", "color": colour, "markersize": 2.0}]
    body = {
        "marker": marker,
        "color": colour,
        "markerfacecolor": colour if kind in FILLED else "white",
        "markersize": style.MARKER_SIZES.get(marker, style.RC["lines.markersize"]),
    }
    dot = {"marker": "o", "color": colour, "markersize": 1.4}
    return [body, dot] if kind == "sampled" else [body]


def method_handles(kinds: list[str]) -> tuple[list, list[str]]:
    """Legend entries for the method kinds present."""
    present = [k for k in KIND_WORDS if k in set(kinds)]
    handles = [
        tuple(Line2D([], [], linestyle="none", **look) for look in marker_look(k, style.GREY, "o"))
        for k in present
    ]
    return handles, [KIND_WORDS[k] for k in present]


HANDLERS = {tuple: HandlerTuple(ndivide=1, pad=0)}


def lines(
    summary: pd.DataFrame,
    spec: Spec,
    *,
    width: str = "page",
    looks: Looks | None = None,
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
    panels = panels_shown(every)
    ok = ok[ok[spec.panel].isin(panels)]
    series = _with_points(rows, ok, spec.line)
    rows = rows[rows[spec.panel].isin(panels) & rows[spec.line].isin(series)]
    rows, ok = (frame[_drawn(frame, spec)] for frame in (rows, ok))
    wide = bool(ok[spec.metric].max() > LOG_OVER * ok[spec.metric].min())
    log_y = wide if spec.log_y is None else spec.log_y
    floor = _readable_floor(ok, spec, log_y)
    looks = looks_of(series) if looks is None else looks
    looks = {value: look for value, look in looks.items() if value in series}
    with style.paper_style(width):
        fig = Figure(figsize=_size(len(panels), width, spec), layout="constrained")
        axes = grid_of_axes(fig, len(panels), width, spec.panels_in_row, sharex=True, sharey=True)
        for ax, panel in zip(axes, panels, strict=True):
            draw_lines(ax, rows[rows[spec.panel] == panel], spec, looks, floor)
            title = reading(spec.panel, panel)
            ax.set_title(panel_title(title, len(panels), width, spec.panels_in_row))
        x_scale(axes, rows, spec, width)
        y_scale(axes, rows, ok, spec, log_y, floor)
        fig.supxlabel(spec.x_label or AXES[spec.x][0])
        fig.supylabel(spec.y_label or METRICS[spec.metric])
        layout.settle(
            fig,
            series_legend(spec, looks),
            tuple(map(add, notes_legend(rows, ok, spec, floor), panels_note(panels, every))),
            handler_map=HANDLERS,
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


def grey_out(fig: Figure, panels: Iterable[str], why: str) -> None:
    """Fade the panels whose titles start with one of `panels`, and write `why` in them."""
    for ax in fig.axes:
        if any(ax.get_title().startswith(name) for name in panels):
            for artist in [*ax.lines, *ax.collections]:
                artist.set_alpha(FADED)
            where = {"transform": ax.transAxes, "ha": "center", "va": "center", "gid": "invalid"}
            box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
            ax.text(0.5, 0.5, why, fontsize=7, color="0.2", bbox=box, zorder=5, **where)


def _size(count: int, width: str, spec: Spec) -> tuple[float, float]:
    """That of `count` panels, and room for names that stand upright."""
    inches, tall = panel_size(count, width, spec.panels_in_row)
    if spec.names and are_upright(spec.names, shape_of(count, width, spec.panels_in_row)[1]):
        tall += 0.06 * max(map(len, spec.names))
    return inches, tall


def _readable_floor(ok: pd.DataFrame, spec: Spec, log_y: bool) -> str | None:
    """The column of the metric's floor, where there is one and it stays readable."""
    floor = FLOORS.get(spec.metric)
    if not spec.floors or floor not in ok or not ok[floor].notna().any():
        return None
    if spec.shared_floor is None and ok[spec.line].nunique() > MOST_FLOOR_LINES:
        return None
    return floor if ok[floor].max() <= FLOOR_ROOM[log_y] * ok[spec.metric].max() else None


def draw_lines(
    ax: Axes, rows: pd.DataFrame, spec: Spec, looks: Looks, floor: str | None = None
) -> None:
    """One panel: its lines, their points and error bars, floors, and marks of points without a
    number."""
    if spec.level is not None:
        look = {"color": "black", "linestyle": DASHES, "linewidth": 0.8}
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
        draw_points(ax, x, y, kinds, colour, marker, spec.marker_scale)
        beside = {"color": colour, "linestyle": DASHES}
        if floor and spec.shared_floor is None:
            limit = own[floor].where(ok).to_numpy(float)
            ax.plot(x, limit, linewidth=0.6, gid="floor", **beside)
        if spec.dashed:
            told = own[spec.dashed].to_numpy(float)
            ax.plot(x, told, linewidth=0.8, marker="none", zorder=1.8, gid="predicted", **beside)
    if floor and spec.shared_floor:
        shared = rows.loc[rows["status"] == "ok"].groupby(spec.x)[floor].first().dropna()
        look = {"color": "black", "linestyle": DASHES, "linewidth": 0.8, "gid": "floor"}
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
        upright = are_upright(spec.names, shape_of(len(axes), width, spec.panels_in_row)[1])
        for ax in axes:
            ax.set_xticks(range(len(spec.names)), spec.names, rotation=90 if upright else 0)
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
            ax.xaxis.set_major_locator(FixedLocator(_apart(values)))
        if any(value != int(value) for value in values):
            ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _apart(values: list[float]) -> list[float]:
    """Ascending values without those nearer than a sixth of the base-2 axis to one before them."""
    kept, least = values[:1], np.log2(values[-1] / values[0]) / 6
    for value in values[1:]:
        if np.log2(value / kept[-1]) >= least:
            kept = [*kept, value]
    return kept


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


def series_legend(spec: Spec, looks: Looks) -> tuple[list, list[str]]:
    line = "none" if spec.names else "-"
    named = {value: look for value, look in looks.items() if value != ""}
    handles = [Line2D([], [], color=c, marker=m, linestyle=line) for c, m in named.values()]
    return handles, [reading(spec.line, value) for value in named]


def notes_legend(
    rows: pd.DataFrame, ok: pd.DataFrame, spec: Spec, floor: str | None = None
) -> tuple[list, list[str]]:
    """How points were got, what marks mean, and what the lines across are."""
    handles, labels = method_handles([method_kind(m) for m in ok[spec.kind]])
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
            handles.append(Line2D([], [], color=colour, linestyle=DASHES, linewidth=0.8))
            labels.append(label)
    return handles, labels
