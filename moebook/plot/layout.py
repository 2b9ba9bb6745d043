"""Where things stand in a finished figure: legends on top, shared labels centred on their panels,
no clipped words.

matplotlib's constrained layout lets a legend outside the axes and a shared axis label fall on each
other, so legends get room of their own here; names beside points stand where they hide least."""

import re
from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.text import Annotation, Text
from matplotlib.ticker import FixedLocator, FuncFormatter
from matplotlib.transforms import Bbox

from moebook.plot import style

BREAKS = re.compile(r"(?<![\d+])\s+(?!\+)")  # where a line of a footer may end
FOOTER_PT = 5.5
FOOTER_PAD_IN = 0.02
HEIGHTS_IN = {"page": 2.3, "column": 3.6}
PLACES = {  # offset in points -> the side of the name that stands there
    (5, 3): ("left", "bottom"),
    (5, -3): ("left", "top"),
    (-5, 3): ("right", "bottom"),
    (-5, -3): ("right", "top"),
    (0, 5): ("center", "bottom"),
    (0, -5): ("center", "top"),
    (7, 0): ("left", "center"),
    (-7, 0): ("right", "center"),
    (0, 12): ("center", "bottom"),
    (0, -12): ("center", "top"),
    (-8, 9): ("right", "bottom"),
    (8, -9): ("left", "top"),
}
SAMPLE_STEP = 3.0  # pixels between two samples of a line; names have their weight in samples, too
NEAR, FAR = 8, 4  # the first PLACES touch the point; a farther one has to spare so many samples
NAMING_ROUNDS = 3  # over all names, each in turn moved to where the others leave most room
OUTSIDE = 500  # samples that a name may hide before it may leave the panel


def settle(
    fig: Figure, *legends: tuple[Sequence, Sequence[str]], handler_map: dict | None = None
) -> Figure:
    """Put legends (handles, labels) above all panels in a figure that grows by their height, lay it
    out once and keep that, so that each later drawing gives the same bytes. Labels without room are
    wrapped or left out."""
    made = [_legend(fig, handles, labels, handler_map) for handles, labels in legends if labels]
    heights = [legend.get_window_extent().height / fig.dpi for legend in made]
    panels = fig.get_figheight()
    fig.set_figheight(panels + sum(heights))
    for i, legend in enumerate(made):
        legend.set_bbox_to_anchor(
            (0.5, (panels + sum(heights[i:])) / fig.get_figheight()), fig.transFigure
        )
    fig.get_layout_engine().set(rect=(0, 0, 1, panels / fig.get_figheight()))
    fig.get_layout_engine().execute(fig)
    if _fit_labels(fig):
        fig.get_layout_engine().execute(fig)
    for ax in fig.axes:
        _thin_ticks(ax)
    fig.set_layout_engine(None)
    _center_labels(fig)
    return fig


def _legend(
    fig: Figure, handles: Sequence, labels: Sequence[str], handler_map: dict | None
) -> Legend:
    """A legend filled row by row, in as few rows as fit and columns that even them out."""
    for columns in dict.fromkeys(-(-len(labels) // rows) for rows in range(1, len(labels) + 1)):
        order = [i for c in range(columns) for i in range(c, len(labels), columns)]
        legend = fig.legend(
            [handles[i] for i in order],
            [labels[i] for i in order],
            loc="upper center",
            ncols=columns,
            handler_map=handler_map,
            borderaxespad=0,
            borderpad=0.25,
        )
        if legend.get_window_extent().width <= 0.99 * fig.get_figwidth() * fig.dpi or columns == 1:
            break
        legend.remove()
    legend.set_in_layout(False)
    return legend


def _panel_box(fig: Figure) -> Bbox:
    return Bbox.union([ax.get_position() for ax in fig.axes if ax.get_label() != "<colorbar>"])


def _fit_labels(fig: Figure) -> bool:
    """Break a shared axis label before its unit where it is longer than the panels it names;
    whether one was."""
    broken = False
    box = _panel_box(fig)
    for text, room in (
        (fig._supylabel, box.height * fig.get_figheight()),
        (fig._supxlabel, box.width * fig.get_figwidth()),
    ):
        if text is None:
            continue
        extent = text.get_window_extent()
        if max(extent.width, extent.height) > room * fig.dpi:
            text.set_text(text.get_text().replace(" (", "\n(", 1))
            broken = True
    return broken


def _thin_ticks(ax: Axes) -> None:
    """Drop tick labels of a log2 axis that would touch their neighbour to the right."""
    if not isinstance(ax.xaxis.get_major_locator(), FixedLocator):
        return
    ticks = [
        t for t in ax.xaxis.get_major_ticks() if t.label1.get_visible() and t.label1.get_text()
    ]
    edge, texts = np.inf, {}
    for tick in reversed(ticks):
        box = tick.label1.get_window_extent()
        texts[tick.get_loc()] = tick.label1.get_text() if box.x1 < edge - 2 else ""
        edge = box.x0 if texts[tick.get_loc()] else edge
    if "" in texts.values():
        ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: texts.get(value, "")))


def _center_labels(fig: Figure) -> None:
    box = _panel_box(fig)
    if fig._supylabel is not None:
        fig._supylabel.set_y((box.y0 + box.y1) / 2)
    if fig._supxlabel is not None:
        fig._supxlabel.set_x((box.x0 + box.x1) / 2)


def footer(fig: Figure, text: str) -> None:
    """A small grey line at the foot of a settled figure that says where its numbers come from, in
    as many lines as it needs. The figure keeps its size: its panels give the room. Nothing where
    there is nothing to say."""
    if not text:
        return
    with style.house_style():
        line = fig.text(
            0.005,
            0,
            text,
            fontsize=FOOTER_PT,
            color=style.GREY,
            va="bottom",
            ha="left",
            gid="footer",
        )
        _wrap(line, 0.99 * fig.get_figwidth() * fig.dpi)
        line.set_y(FOOTER_PAD_IN / fig.get_figheight())
        foot = line.get_window_extent().y1 / (fig.get_figheight() * fig.dpi)
        feet = [legend.get_window_extent().y0 for legend in fig.legends]
        top = min([fig.bbox.height, *feet]) / fig.bbox.height
        fig.set_layout_engine("constrained", rect=(0, foot, 1, top - foot))
        fig.get_layout_engine().execute(fig)
        fig.set_layout_engine(None)
        if fig._supxlabel is not None:  # the layout puts it at the figure's foot, not at rect's
            fig._supxlabel.set_y(fig._supxlabel.get_position()[1] + foot)
        _center_labels(fig)


def _wrap(text: Text, room: float) -> None:
    """Break a text between words so that no line of it is wider than `room` pixels; a number stays
    with what it counts."""
    lines = [""]
    for word in BREAKS.split(text.get_text()):
        longer = f"{lines[-1]} {word}".strip()
        text.set_text(longer)
        if lines[-1] and text.get_window_extent().width > room:
            lines.append(word)
        else:
            lines[-1] = longer
    text.set_text("\n".join(lines))


def two_panels(width: str, **share) -> tuple[Figure, list[Axes]]:
    """An empty figure of a named width and its two panels, in the style that is in force; `share`:
    sharex and sharey of `Figure.subplots`."""
    size = (style.width_in(width), HEIGHTS_IN[width])
    fig = Figure(figsize=size, layout="constrained")
    shape = (1, 2) if width == "page" else (2, 1)
    return fig, list(fig.subplots(*shape, **share).flat)


def name_points(ax: Axes, points, names: Iterable[str], size: float = 6.5) -> None:
    """Write a name beside each of `points`, (N, 2) in data, of a figure that is laid out; the panel
    makes no room for them."""
    pairs = zip(np.asarray(points, float), names, strict=True)
    texts = [_placed(ax, point, name, size) for point, name in pairs]
    boxes = [[text.get_window_extent().padded(1) for text in own] for own in texts]
    ink, best = _ink(ax), [0] * len(texts)
    for _ in range(NAMING_ROUNDS):
        for i, own in enumerate(boxes):
            others = [_grid(boxes[n][at].extents) for n, at in enumerate(best) if n != i]
            taken = np.vstack([ink, *others])
            costs = [_cost(box, taken, ax) for box in own]
            best[i] = int(np.argmin(costs + FAR * (np.arange(len(own)) >= NEAR)))
    for own, at in zip(texts, best, strict=True):
        for text in own[:at] + own[at + 1 :]:
            text.remove()


def _placed(ax: Axes, point: np.ndarray, name: str, size: float) -> list[Annotation]:
    """The name at each of PLACES."""
    look = {"textcoords": "offset points", "fontsize": size, "gid": "name", "in_layout": False}
    return [
        ax.annotate(name, point, offset, ha=side, va=level, **look)
        for offset, (side, level) in PLACES.items()
    ]


def _cost(box, ink: np.ndarray, ax: Axes) -> int:
    hidden = ((ink > box.min) & (ink < box.max)).all(axis=1).sum()
    room = ax.bbox.padded(4)
    inside = room.x0 <= box.x0 and box.x1 <= room.x1 and room.y0 <= box.y0 and box.y1 <= room.y1
    return int(hidden) + OUTSIDE * (not inside)


def _ink(ax: Axes) -> np.ndarray:
    """Pixels (N, 2) that lines, bars of errors and markers cover, sampled."""
    found = [np.empty((0, 2))]
    for line in ax.lines:
        path = line.get_transform().transform_path(line.get_path()).vertices
        path = path[np.isfinite(path).all(axis=1)]
        if line.get_linestyle() not in ("None", "none", " ", ""):
            found += [_between(*ends) for ends in zip(path[:-1], path[1:], strict=True)]
        if line.get_marker() not in ("None", "none", " ", "", None):
            found += [_grid((x - 4, y - 4, x + 4, y + 4)) for x, y in path]
    for bars in (c for c in ax.collections if isinstance(c, LineCollection)):
        ends = [bars.get_transform().transform(segment) for segment in bars.get_segments()]
        found += [_between(*pair) for pair in ends if len(pair) == 2]
    return np.vstack(found)


def _between(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    count = int(min(np.hypot(*(end - start)) / SAMPLE_STEP, 2000)) + 2
    return np.linspace(start, end, count)


def _grid(box) -> np.ndarray:
    left, low, right, high = box
    x, y = (
        np.arange(left, right + SAMPLE_STEP, SAMPLE_STEP),
        np.arange(low, high + SAMPLE_STEP, SAMPLE_STEP),
    )
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
