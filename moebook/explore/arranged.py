"""What is drawn of a choice: rows with names and places, and how they are laid out.

Where several rows share a place, what tells them apart goes into the names of the lines; what is
left out to keep the picture readable is said in the notes. Never an error: every choice that
views.py lets through has rows."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from moebook.explore.views import COLUMNS, Choice, Pick, numbers, words
from moebook.plot import lines
from moebook.plot.figure import AXES, IDENTITY, METRICS, reading, values_of
from moebook.plot.length_axis import LENGTH
from moebook.plot.lines import Spec
from moebook.results.intervals import Values, estimate, log_ratio
from moebook.results.schema import KIND_WORDS, method_kind
from moebook.study.lengths import Length

COMPUTED = ("roofline", "composed", "computed")  # methods of rows that no engine ran
MOST_LINES = 10  # as many as have a colour and a marker of their own
MOST_PANELS = 12
MOST_NAMES = 30  # on an axis of words
NAME_CHARACTERS = 24
# besides what is drawn: what a point tells, and what its interval rests on
TOLD = ("key", "point_id", "notebook", "layer_timing", "decides", "note", "n_records", "n_hosts")
TOLD += ("starts", "draft", "device_kind", "engine_version", "started_at", "sweeps", "unstable")


def picture(
    rows: pd.DataFrame, choice: Choice, width: str = "page"
) -> tuple[Figure, pd.DataFrame, list[str]]:
    """(Figure in paper style, rows in it, notes on what was left out or added)."""
    rows, spec, notes = arranged(rows, choice)
    fig, drawn = lines.lines(rows, spec, width=width)
    return fig, drawn, notes


def arranged(rows: pd.DataFrame, choice: Choice) -> tuple[pd.DataFrame, Spec, list[str]]:
    """Rows with names and places, how they are laid out, and notes; ValueError without a number."""
    notes: list[str] = []
    if choice.only is not None:
        rows = rows[rows[choice.only[0]] == choice.only[1]]
    metric = choice.metric
    ends = ("", "_lo", "_hi")
    drawn = {f"{metric}{end}" for end in ends} | {
        f"predicted_{metric}{end}" for end in ("", "_lo95", "_hi95")
    }
    needed = {*COLUMNS, *IDENTITY, *TOLD, *drawn, limit_of(metric)}
    rows = rows[[c for c in rows if c in needed]].reset_index(drop=True)
    rows = _drawable(rows, metric, notes)
    rows = _with_place(rows, choice.x, notes)
    rows, added, in_row = _named(rows, choice, notes)
    is_ratio = choice.over is not None and _has_base(rows, choice, notes)
    if is_ratio:
        rows = _over(rows, choice, added, notes)
    rows = rows.assign(got=[_how(row) for row in rows.to_dict("records")])
    spec = Spec(
        "explorer",
        None,
        "panel_label",
        "line_label",
        "place",
        metric=metric,
        kind="got",
        **_scales(rows, choice, notes),
        floors=not rows["name"].any() and not is_ratio,
        panels_in_row=in_row,
        x_label=_x_label(rows, choice.x),
        y_label=f"{_short(metric)}, × that of {said(choice.over)}" if is_ratio else METRICS[metric],
        names=_names(rows),
        level=1.0 if is_ratio else None,
        level_label=said(choice.over) if is_ratio else None,
    )
    return rows, spec, notes


def limit_of(metric: str) -> str:
    """The column of the metric's physical limit."""
    return lines.FLOORS.get(metric, f"floor_{metric}")


def said(pick: Pick) -> str:
    return f"{words(pick[0])}: {reading(*pick)}"


def _short(metric: str) -> str:
    return METRICS[metric].split(" (")[0]


def _has_base(rows: pd.DataFrame, choice: Choice, notes: list[str]) -> bool:
    """Whether some row drawn is what ratios are taken to; else a note says so."""
    column, value = choice.over
    has = bool((numbers(rows, choice.metric)[column] == value).any())
    if not has:
        notes.append(f"No ratios: no row drawn has {said(choice.over)}.")
    return has


def _over(rows: pd.DataFrame, choice: Choice, added: list, notes: list[str]) -> pd.DataFrame:
    """The rows with the metric, and its interval, as ratio to the row at their place that has the
    value of `over`; those without one are left out. Failed rows stay."""
    column, value = choice.over
    metric = choice.metric
    same = ["panel_label", *added, "place" if column == choice.line else "line_label"]
    ok = numbers(rows, metric)
    keys = pd.MultiIndex.from_frame(ok[same].astype(str))
    base = {key: i for i, (key, v) in enumerate(zip(keys, ok[column], strict=True)) if v == value}
    pairs = [(i, base[key]) for i, key in enumerate(keys) if key in base]
    if gone := len(ok) - len(pairs):
        notes.append(f"Left out: {_rows(gone)} without a partner of {said(choice.over)}.")
    top, bottom = (np.array(pairs)[:, side] for side in (0, 1))
    found = _log_ratios(ok, metric, top, bottom)
    kept = rows[(rows["status"] != "ok") | rows.index.isin(ok.index[top])].copy()
    for end, of in zip(("", "_lo", "_hi"), found, strict=True):
        kept[f"{metric}{end}"] = pd.Series(np.exp(of), ok.index[top])
    return kept.drop(columns=[c for c in kept if c.startswith(f"predicted_{metric}")])


def _log_ratios(
    ok: pd.DataFrame, metric: str, top: np.ndarray, bottom: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logarithms of top over bottom, row numbers of `ok`, and the ends of their 95 % intervals; of
    a row over itself 0 without a width."""
    other = top != bottom
    found = np.zeros((3, len(top)))
    if other.any():
        pairs = np.column_stack([top, bottom])[other]
        one = estimate(Values.of(ok, metric), pairs, log_ratio)
        found[:, other] = (one.value, *one.ends())
    return tuple(found)


def _x_label(rows: pd.DataFrame, x: str) -> str:
    pairs = any(isinstance(value, Length) for value in rows[x])
    return AXES[LENGTH if pairs else x][0] if x in AXES else x


def _drawable(rows: pd.DataFrame, metric: str, notes: list[str]) -> pd.DataFrame:
    """Rows with a number of the metric, and those that failed to give one; ValueError without."""
    if numbers(rows, metric).empty:
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


def _named(
    rows: pd.DataFrame, choice: Choice, notes: list[str]
) -> tuple[pd.DataFrame, list[str], int]:
    """Rows with the names of their panel and line, in the order these are drawn; the columns that
    were added to tell lines apart; and how many panels stand in a row."""
    rows = rows.assign(panel_label=_labels(rows, [choice.panel] if choice.panel else []))
    filled = (rows["status"] == "ok").groupby(rows["panel_label"]).transform("any")
    if gone := rows.loc[~filled, "panel_label"].nunique():
        notes.append(f"Left out: {gone} panel{'s' if gone > 1 else ''} without a number.")
    rows = _largest(rows[filled], "panel_label", MOST_PANELS, "panels", notes)
    columns = [choice.line] if choice.line else []
    added = _telling(rows, [*columns, "panel_label", "place"])
    if added:
        told = " and ".join(map(words, added))
        notes.append(f"Several rows share one place: lines are told apart by {told}, too.")
    rows = _numbered(rows.assign(line_label=_labels(rows, [*columns, *added])))
    rows = rows.loc[_in_order(rows, [*([choice.panel] if choice.panel else []), *columns, *added])]
    rows = _largest(rows, "line_label", MOST_LINES, "lines", notes)
    words_on_x = rows.loc[rows["name"] != "", "place"].nunique()
    in_row = max(1, min(4, int(7 / (0.6 + 0.14 * words_on_x))))
    return rows, added, min(in_row, rows["panel_label"].nunique())


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
    y_holds = bool((numbers(rows, choice.metric)[drawn].astype(float) <= 0).any(axis=None))
    x_holds = bool((rows["place"] <= 0).any()) and not rows["name"].any()
    for axis, wished, holds in (("x", choice.log_x, x_holds), ("y", choice.log_y, y_holds)):
        if wished and holds:
            notes.append(f"The {axis} axis is linear: it holds zero or less.")
    return {"log_x": choice.log_x and not x_holds, "log_y": False if y_holds else choice.log_y}


def _how(row: dict) -> str:
    """How a row's number was got, as results/schema.py has it."""
    if row["method"] == "layer" and row.get("layer_timing") in KIND_WORDS:
        return row["layer_timing"]
    kind = method_kind(row["method"])
    return kind if kind in KIND_WORDS else "computed" if kind in COMPUTED else "measured"


def _rows(count: int) -> str:
    return "1 row" if count == 1 else f"{count} rows"
