"""A section's figure: a pure function (table, *, width) -> (Figure, plotted rows), with a name.

@figure("fig10_batch")
def over_batch(table, *, width="page"): ...

over_batch(run)            in a notebook: the picture; `run.save()` writes it in four formats
over_batch(run.table)      anywhere: (Figure, rows), for going on in matplotlib and pandas
"""

import re
from collections.abc import Callable
from functools import update_wrapper
from types import ModuleType

import pandas as pd
from matplotlib.figure import Figure

# of what a docstring says first: `Fig 8: throughput over E`, before its lines and panels
TITLE = re.compile(r".*?(?=[.;]\s|[.;]?\Z|[:,] an? |, both )")
Drawing = tuple[Figure, pd.DataFrame]


class SectionFigure:
    """A drawing function and the name that its files carry."""

    def __init__(self, name: str, draw: Callable[..., Drawing]):
        update_wrapper(self, draw)
        self.name, self._draw = name, draw
        said = " ".join((draw.__doc__ or "").split("\n\n")[0].split())
        self.title = TITLE.match(said)[0]

    def __call__(self, of, *, width: str = "page"):
        """Of a table (a row per point): (Figure, rows in it); of a notebook's run: the picture.

        ValueError, of a table, says which rows or columns are missing."""
        return self._draw(of, width=width) if isinstance(of, pd.DataFrame) else of.draw(self, width)


def figure(name: str) -> Callable[[Callable[..., Drawing]], SectionFigure]:
    """Make a drawing function the section's figure of this name."""
    return lambda draw: SectionFigure(name, draw)


def of_module(module: ModuleType) -> dict[str, SectionFigure]:
    """The figures that a module defines or imports, by name, in its order."""
    found = [value for value in vars(module).values() if isinstance(value, SectionFigure)]
    return {one.name: one for one in found}
