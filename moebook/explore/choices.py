"""What can be chosen of a view: any metric over any column, always as a picture.

`offers` says what can be chosen, `first`, `settled` and `moved` make of a wish a choice that can be
drawn; arranged.py lays it out, chart.py and plot/lines.py draw it."""

from dataclasses import dataclass, replace

import pandas as pd

from moebook.explore.views import View, metrics_of
from moebook.plot.rows import AXES, values_of

ROLES = ("x", "line", "panel")
FIRST = ("profile", "model", "series", "device_label", "source_kind", "text", "routing")
COLUMNS = tuple(dict.fromkeys((*FIRST, *AXES)))
Pick = tuple[str, object]  # a column and one of its values


@dataclass(frozen=True)
class Choice:
    """What a reader chose. None: one line, one panel, all rows; a scale that the values decide;
    `over`: values as they are, else as ratios to the row that has this value of that column."""

    metric: str
    x: str
    line: str | None = None
    panel: str | None = None
    only: Pick | None = None
    over: Pick | None = None
    log_x: bool = True
    log_y: bool | None = None


@dataclass(frozen=True)
class Offers:
    """What can be chosen of a view's rows."""

    metrics: list[str]
    columns: list[str]
    only: list[Pick]
    over: list[Pick]


def offers(rows: pd.DataFrame, view: View, wish: Choice) -> Offers:
    """Metrics with numbers; columns that vary, and the view's own; for `only` each value of a
    column that varies, of rows with a number of the metric; for `over` those of the lines' column
    and of the x axis, where all numbers are above zero."""
    own = (view.x, view.line, view.panel)
    columns = [c for c in COLUMNS if c in rows and (c in own or rows[c].nunique(dropna=False) > 1)]
    ends = [c for c in (wish.metric, f"{wish.metric}_lo") if c in rows]
    found = numbers(rows[list({*columns, "status", *ends})], wish.metric)
    vary = [c for c in columns if found[c].nunique() > 1]
    only = [(c, value) for c in vary for value in values_of(found, c)]
    kept = _kept(found, wish.only)
    positive = not (kept[ends].astype(float) <= 0).any(axis=None)
    bases = [c for c in dict.fromkeys((wish.line, wish.x)) if positive and c in vary]
    over = [(c, value) for c in bases for value in values_of(kept, c)]
    return Offers(metrics_of(rows), columns, only, over)


def first(rows: pd.DataFrame, view: View) -> Choice:
    """What a view opens with."""
    axes = (view.metric, view.x, view.line, view.panel, None, view.over)
    return settled(rows, view, Choice(*axes, view.log_x, view.log_y))


def settled(rows: pd.DataFrame, view: View, wish: Choice) -> Choice:
    """The wish, with what these rows cannot show replaced: another metric, the view's own x,
    no line, no panel, no filter, no ratio."""
    metrics = metrics_of(rows)
    wish = replace(wish, metric=wish.metric if wish.metric in metrics else metrics[0])
    found = offers(rows, view, wish)
    x = next(c for c in (wish.x, view.x, *found.columns, "model") if c in (*found.columns, "model"))
    line, panel = (c if c in found.columns and c != x else None for c in (wish.line, wish.panel))
    wish = replace(
        wish,
        x=x,
        line=line,
        panel=panel if panel != line else None,
        only=wish.only if wish.only in found.only else None,
    )
    return replace(wish, over=wish.over if wish.over in offers(rows, view, wish).over else None)


def moved(choice: Choice, role: str, column: str | None) -> Choice:
    """The choice with a column in another role; the role that had it takes what this one had.
    An x axis there must be."""
    before = getattr(choice, role)
    others = [other for other in ROLES if other != role]
    taken = [other for other in others if column is not None and getattr(choice, other) == column]
    if "x" in taken and before is None:
        return choice
    return replace(choice, **{role: column}, **dict.fromkeys(taken, before))


def numbers(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    """The rows that have one."""
    return rows[(rows["status"] == "ok") & rows[metric].notna()]


def _kept(rows: pd.DataFrame, only: Pick | None) -> pd.DataFrame:
    return rows if only is None or only[0] not in rows else rows[rows[only[0]] == only[1]]


def words(column: str) -> str:
    return AXES.get(column, (column,))[0].split(" (")[0]
