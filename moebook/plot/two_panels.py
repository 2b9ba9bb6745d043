"""Two panels of one figure whose y axes differ: side by side on a page, stacked in a column."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moebook.plot import style

HEIGHTS_IN = {"page": 2.3, "column": 3.6}


def two_panels(width: str, **share) -> tuple[Figure, list[Axes]]:
    """An empty figure of a named width and its two panels, in the style that is in force; `share`:
    sharex and sharey of `Figure.subplots`."""
    size = (style.width_in(width), HEIGHTS_IN[width])
    fig = Figure(figsize=size, layout="constrained")
    shape = (1, 2) if width == "page" else (2, 1)
    return fig, list(fig.subplots(*shape, **share).flat)
