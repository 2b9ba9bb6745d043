"""How points and lines look: a colour and a marker per series, filled or open by how a point was
got (`method_kind`)."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.legend_handler import HandlerTuple
from matplotlib.lines import Line2D

from moebook.plot import style
from moebook.results.schema import KIND_WORDS

FILLED = ("full", "graph", "measured")
DASHES = (0, (4, 3))
Looks = dict[object, tuple[str, str]]  # line -> (colour, marker)


def looks_of(values: list) -> Looks:
    """A colour and a marker per line."""
    looks = zip(style.colours(len(values)), style.markers(len(values)), strict=True)
    return dict(zip(values, looks, strict=True))


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
