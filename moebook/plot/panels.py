"""How many panels a figure has, in which rows and columns, and how large it then is."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from moebook.plot import style

MOST_PANELS = 12  # three rows of a page: of more none can be read


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


def shown(values: list) -> list:
    """Those of the panels that are drawn: all, or MOST_PANELS from the first to the last."""
    if len(values) <= MOST_PANELS:
        return values
    return [values[i] for i in np.linspace(0, len(values) - 1, MOST_PANELS).round().astype(int)]


def note(drawn: list, every: list) -> tuple[list, list[str]]:
    """What the legend says where not all panels are drawn."""
    if len(drawn) == len(every):
        return [], []
    said = f"{len(drawn)} of {len(every)} panels, from the first to the last"
    return [Line2D([], [], linestyle="none")], [said]


def title(text: str, count: int, width: str, most: int = 4) -> str:
    """A title, in two lines at its comma where panels stand as close as they may."""
    return (
        text.replace(", ", "\n", 1)
        if shape_of(count, width, most)[1] == (4 if width == "page" else 2)
        else text
    )


def size(count: int, width: str, most: int = 4) -> tuple[float, float]:
    """Figure size in inches for `count` panels; legends add to the height."""
    rows, columns = shape_of(count, width, most)
    tall = {1: 2.3, 2: 2.1}.get(columns, 1.8) if width == "page" else {1: 1.9}.get(columns, 1.45)
    return style.width_in(width), rows * tall + 0.35
