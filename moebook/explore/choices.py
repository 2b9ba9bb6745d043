"""What the explorer draws: any metric of a view over any of its columns, always as a picture.

`offers` says what can be chosen, `first` and `settled` make of a wish a choice that can be drawn,
`picture` draws it. Where several rows share a place, what tells them apart goes into the names of
the lines; what is left out to keep the picture readable is said in its notes.
"""

from dataclasses import dataclass, replace

import pandas as pd
from matplotlib.figure import Figure

from moebook.explore.views import View, metrics_of
from moebook.plot import lines
from moebook.plot.length_axis import LENGTH
from moebook.plot.lines import Spec
from moebook.plot.rows import AXES, IDENTITY, reading, values_of
from moebook.study.lengths import Length

ROLES = ("x", "line", "panel")
COLUMNS = tuple(dict.fromkeys(("model", "series", "device_label", "source_kind", "text", *AXES)))
COMPUTED = ("roofline", "composed", "computed")  # methods of rows that no engine ran
MOST_LINES = 10  # as many as have a colour and a marker of their own
MOST_PANELS = 12
MOST_NAMES = 30  # on an axis of words
NAME_CHARACTERS = 24


@dataclass(frozen=True)
class Choice:
    """What a reader chose. None: one line, one panel, all rows; a scale that the values decide."""

    metric: str
    x: str
    line: str | None = None
    panel: str | None = None
    only: tuple[str, object] | None = None  # (column, value) that rows must have
    log_x: bool = True
    log_y: bool | None = None


@dataclass(frozen=True)
class Offers:
    """What can be chosen of a view's rows."""

    metrics: list[str]
    columns: list[str]
    only: list[tuple[str, object]]


def offers(rows: pd.DataFrame, view: View, metric: str) -> Offers:
    """Metrics with numbers; columns that vary, and the view's own; for `only` each value of a
    column that varies, of rows with a number of `metric`."""
    own = (view.x, view.line, view.panel)
    columns = [c for c in COLUMNS if c in rows and (c in own or rows[c].nunique(dropna=False) > 1)]
    numbers = _numbers(rows, metric)
    vary = [c for c in columns if numbers[c].nunique() > 1]
    only = [(c, value) for c in vary for value in values_of(numbers, c)]
    return Offers(metrics_of(rows), columns, only)


def first(rows: pd.DataFrame, view: View) -> Choice:
    """What a view opens with."""
    wish = Choice(view.metric, view.x, view.line, view.panel, None, view.log_x, view.log_y)
    return settled(rows, view, wish)


def settled(rows: pd.DataFrame, view: View, wish: Choice) -> Choice:
    """The wish, with what these rows cannot show replaced: another metric, the view's own x,
    no line, no panel, no filter."""
    metrics = metrics_of(rows)
    metric = wish.metric if wish.metric in metrics else metrics[0]
    found = offers(rows, view, metric)
    x = next(c for c in (wish.x, view.x, *found.columns, "model") if c in (*found.columns, "model"))
    line, panel = (c if c in found.columns and c != x else None for c in (wish.line, wish.panel))
    return replace(
        wish,
        metric=metric,
        x=x,
        line=line,
        panel=panel if panel != line else None,
        only=wish.only if wish.only in found.only else None,
    )


def moved(choice: Choice, role: str, column: str | None) -> Choice:
    """The choice with a column in another role; the role that had it takes what this one had.
    An x axis there must be."""
    before = getattr(choice, role)
    others = [other for other in ROLES if other != role]
    taken = [other for other in others if column is not None and getattr(choice, other) == column]
    if "x" in taken and before is None:
        return choice
    return replace(choice, **{role: column}, **dict.fromkeys(taken, before))


def picture(
    rows: pd.DataFrame, choice: Choice, width: str = "page"
) -> tuple[Figure, pd.DataFrame, list[str]]:
    """(Figure, rows in it, notes on what was left out or added); ValueError without a number."""
    rows, spec, notes = arranged(rows, choice)
    fig, drawn = lines.lines(rows, spec, width=width)
    return fig, drawn, notes


def arranged(rows: pd.DataFrame, choice: Choice) -> tuple[pd.DataFrame, Spec, list[str]]:
    """What `picture` draws: rows with names and places, how they are laid out, and the notes."""
    notes: list[str] = []
    if choice.only is not None:
        rows = rows[rows[choice.only[0]] == choice.only[1]]
    drawn = (f"{choice.metric}{end}" for end in ("", "_lo", "_hi"))
    needed = {*COLUMNS, *IDENTITY, "layer_timing", *drawn, lines.FLOORS.get(choice.metric)}
    rows = rows[[c for c in rows if c in needed]].reset_index(drop=True)
    rows = _drawable(rows, choice.metric, notes)
    rows = _with_place(rows, choice.x, notes)
    rows, in_row = _named(rows, choice, notes)
    rows = rows.assign(got=[_how(row) for row in rows.to_dict("records")])
    spec = Spec(
        "explorer",
        None,
        "panel_label",
        "line_label",
        "place",
        metric=choice.metric,
        kind="got",
        **_scales(rows, choice, notes),
        floors=not rows["name"].any(),
        panels_in_row=in_row,
        x_label=_x_label(rows, choice.x),
        names=_names(rows),
    )
    return rows, spec, notes


def _x_label(rows: pd.DataFrame, x: str) -> str:
    pairs = any(isinstance(value, Length) for value in rows[x])
    return AXES[LENGTH if pairs else x][0] if x in AXES else x


def _numbers(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    return rows[(rows["status"] == "ok") & rows[metric].notna()]


def _drawable(rows: pd.DataFrame, metric: str, notes: list[str]) -> pd.DataFrame:
    """Rows with a number of the metric, and those that failed to give one; ValueError without."""
    if _numbers(rows, metric).empty:
        raise ValueError(
            f"the explorer needs rows with a number of {metric}; these {len(rows)} have none"
        )
    kept = rows[(rows["status"] != "ok") | rows[metric].notna()]
    if gone := len(rows) - len(kept):
        notes.append(f"Left out: {_rows(gone)} without a number of this metric.")
    return kept


def _with_place(rows: pd.DataFrame, x: str, notes: list[str]) -> pd.DataFrame:
    """Rows with `place`, where they stand on the x axis, and `name`, the word there, if any."""
    values = rows[x]
    is_number = pd.api.types.is_numeric_dtype(values) and not pd.api.types.is_bool_dtype(values)
    if is_number and values[rows["status"] == "ok"].notna().any():
        kept = rows[values.notna()]
        if gone := len(rows) - len(kept):
            notes.append(f"Left out: {_rows(gone)} without a value on the x axis.")
        return kept.assign(place=kept[x].astype(float), name="")
    names = _labels(rows, [x])
    rows = _largest(rows.assign(name=names), "name", MOST_NAMES, "values on the x axis", notes)
    order = {name: i for i, name in enumerate(dict.fromkeys(names[_in_order(rows, [x])]))}
    return rows.assign(place=rows["name"].map(order).astype(float))


def _named(rows: pd.DataFrame, choice: Choice, notes: list[str]) -> tuple[pd.DataFrame, int]:
    """Rows with the names of their panel and line, in the order these are drawn; and how many
    panels stand in a row."""
    rows = rows.assign(panel_label=_labels(rows, [choice.panel] if choice.panel else []))
    rows = _largest(rows, "panel_label", MOST_PANELS, "panels", notes)
    columns = [choice.line] if choice.line else []
    added = _telling(rows, [*columns, "panel_label", "place"])
    if added:
        told = " and ".join(map(words, added))
        notes.append(f"Several rows share one place: lines are told apart by {told}, too.")
    rows = _numbered(rows.assign(line_label=_labels(rows, [*columns, *added])))
    rows = rows.loc[_in_order(rows, [*([choice.panel] if choice.panel else []), *columns, *added])]
    rows = _largest(rows, "line_label", MOST_LINES, "lines", notes)
    words_on_x = rows.loc[rows["name"] != "", "place"].nunique()
    return rows, max(1, min(4, int(7 / (0.6 + 0.14 * words_on_x))))


def _numbered(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows with numbered names of lines that stand at one place more than once: `fp8 (2)`."""
    again = rows.groupby(["panel_label", "line_label", "place"]).cumcount() + 1
    labels = rows["line_label"] + " (" + again.astype(str) + ")"
    return rows.assign(line_label=rows["line_label"].where(again == 1, labels.str.strip()))


def _telling(rows: pd.DataFrame, places: list[str]) -> list[str]:
    """As few columns as tell apart the rows that share a place, those that tell most first."""
    chosen: list[str] = []
    doubles = int(rows.duplicated(places).sum())
    vary = [c for c in COLUMNS if c in rows and rows[c].nunique(dropna=False) > 1]
    while doubles and vary:
        left = {c: int(rows.duplicated([*places, *chosen, c]).sum()) for c in vary}
        best = min(left, key=left.get)
        if left[best] == doubles:
            break
        chosen.append(best)
        doubles = left[best]
    return chosen


def _largest(
    rows: pd.DataFrame, label: str, most: int, what: str, notes: list[str]
) -> pd.DataFrame:
    """The rows of the `most` labels with the most numbers; a note says that others are not."""
    counts = (rows["status"] == "ok").groupby(rows[label], sort=False).sum()
    if len(counts) <= most:
        return rows
    notes.append(
        f"{most} of {len(counts)} {what} shown, those with the most numbers; “only” shows others."
    )
    kept = counts.sort_values(ascending=False, kind="stable").index[:most]
    return rows[rows[label].isin(kept)]


def _in_order(rows: pd.DataFrame, columns: list[str]) -> pd.Index:
    """The index of rows sorted by columns, each as `values_of` has it, missing values last."""
    ranks = {c: {v: i for i, v in enumerate(values_of(rows, c))} for c in columns}
    keys = pd.DataFrame({c: rows[c].map(ranks[c]) for c in columns}, index=rows.index)
    return keys.sort_values(columns, kind="stable").index if columns else rows.index


def _labels(rows: pd.DataFrame, columns: list[str]) -> pd.Series:
    """What each row is called by columns: `8 experts, batch 4`; nothing by none."""
    labels = pd.Series("", index=rows.index, dtype=object)
    for column in columns:
        said = [reading(column, v) if pd.notna(v) else f"no {words(column)}" for v in rows[column]]
        between = "" if column == columns[0] else ", "
        labels = labels + between + pd.Series(said, index=rows.index, dtype=object)
    return labels


def _names(rows: pd.DataFrame) -> tuple[str, ...]:
    """The names on an x axis of words, in their order, the middle of long ones left out."""
    if not rows["name"].any():
        return ()
    half = NAME_CHARACTERS // 2
    names = rows.drop_duplicates("place").sort_values("place")["name"]
    return tuple(n if len(n) <= NAME_CHARACTERS else f"{n[:half]}…{n[1 - half :]}" for n in names)


def _scales(rows: pd.DataFrame, choice: Choice, notes: list[str]) -> dict[str, bool | None]:
    """Which axes are logarithmic: none that holds zero or less, which it would drop."""
    drawn = [c for c in (choice.metric, f"{choice.metric}_lo") if c in rows]
    y_holds = bool((_numbers(rows, choice.metric)[drawn].astype(float) <= 0).any(axis=None))
    x_holds = bool((rows["place"] <= 0).any()) and not rows["name"].any()
    for axis, wished, holds in (("x", choice.log_x, x_holds), ("y", choice.log_y, y_holds)):
        if wished and holds:
            notes.append(f"The {axis} axis is linear: it holds zero or less.")
    return {"log_x": choice.log_x and not x_holds, "log_y": False if y_holds else choice.log_y}


def _how(row: dict) -> str:
    """How a row's number was got, as panels.METHODS has it."""
    if row["method"] == "layer" and row.get("layer_timing") in lines.METHODS:
        return row["layer_timing"]
    kind = lines.method_kind(row["method"])
    return kind if kind in lines.METHODS else "computed" if kind in COMPUTED else "measured"


def words(column: str) -> str:
    return AXES.get(column, (column,))[0].split(" (")[0]


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"
