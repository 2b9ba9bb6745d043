"""A section's figure: a pure function (table, *, width) -> (Figure, plotted rows), with a name; and
what figure functions ask of a table: rows of a sweep, columns that must be there, a value a place.

@figure("fig10_batch")
def over_batch(table, *, width="page"): ...

over_batch(run)            in a notebook: the picture; `run.save()` writes it in four formats
over_batch(run.table)      anywhere: (Figure, rows), for going on in matplotlib and pandas
"""

import re
from collections.abc import Callable, Iterable
from functools import update_wrapper
from importlib import resources
from types import ModuleType

import pandas as pd
import yaml
from matplotlib.figure import Figure

from moebook.results.cells import counted, of_sweep
from moebook.results.gains import METRIC, PLACE, gains
from moebook.study.lengths import Length

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


LABELS = yaml.safe_load(resources.files("moebook.plot").joinpath("labels.yaml").read_text("utf-8"))
# column -> (axis label with unit, how one value reads in a legend or panel title)
AXES = {name: (label, *reads, "{}")[:2] for name, (label, *reads) in LABELS["axes"].items()}
METRICS = LABELS["metrics"]  # column -> axis label with unit
# columns of words: their values stand in the order in which the table has them
AS_MET = ("series", "panel", "place", "kind", "component", "line_label", "panel_label")
IDENTITY = (
    "model",
    "method",
    "status",
    "reason",
    "num_layers",
    "expert_ffn_dim",
    "num_experts",
    "top_k",
    "batch",
    "input_tokens",
    "output_tokens",
    "n_repeats",
    "device",
)
NEEDED = ("series", "method", *PLACE)  # of gains


def rows_of(
    summary: pd.DataFrame, figure: str, sweep: str | None, columns: Iterable[str]
) -> pd.DataFrame:
    """Rows of `sweep` (all where None) that `figure` draws. ValueError says which sweep and columns
    are missing, or that no row of it has a number."""
    wanted = f"sweep {sweep!r}" if sweep else "a results summary"
    missing = [c for c in ("status", *columns, *(["sweeps"] if sweep else [])) if c not in summary]
    if missing:
        raise ValueError(
            f"{figure} needs {wanted}; columns missing from the table: {', '.join(missing)}"
        )
    rows = summary if sweep is None else of_sweep(summary, sweep)
    if rows.empty:
        have = sorted(
            {
                name
                for names in summary.get("sweeps", pd.Series(dtype=str)).dropna()
                for name in names.split(",")
            }
        )
        raise ValueError(
            f"{figure} needs {wanted}, of which the table has no row; sweeps in it: "
            f"{', '.join(have) or 'none'}"
        )
    return rows


def has_sweep(summary: pd.DataFrame, sweep: str) -> bool:
    """Whether the plan of the table has points of a sweep."""
    return "sweeps" in summary and not of_sweep(summary, sweep).empty


def with_numbers(rows: pd.DataFrame, figure: str, columns: Iterable[str]) -> pd.DataFrame:
    """Rows that are ok and have every one of `columns`. ValueError where none has."""
    columns = list(columns)
    kept = rows[(rows["status"] == "ok") & rows[columns].notna().all(axis=1)]
    if kept.empty:
        counts = counted(rows["status"])
        raise ValueError(
            f"{figure}: no row has {' and '.join(columns)} ({len(rows)} rows: {counts})"
        )
    return kept


def one_per_place(rows: pd.DataFrame, figure: str, places: Iterable[str]) -> None:
    """ValueError where several rows fall on one place of a figure, with the columns that tell them
    apart."""
    places = list(dict.fromkeys(places))
    double = rows[rows.duplicated(places, keep=False)]
    if double.empty:
        return
    first = double[(double[places] == double.iloc[0][places]).all(axis=1)]
    where = ", ".join(f"{c} {first.iloc[0][c]}" for c in places)
    telling = (*AXES, "device")
    differ = " and ".join(c for c in telling if c in first and first[c].nunique() > 1)
    raise ValueError(
        f"{figure}: {len(first)} rows share one place ({where}); give rows of one "
        f"{differ or 'measurement'}"
    )


def layer_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of layers with their tokens, and with times in µs."""
    times = ("layer_time_s", "layer_time_s_lo", "layer_time_s_hi", "floor_layer_s")
    scaled = {c.replace("_s", "_us"): rows[c].astype(float) * 1e6 for c in times if c in rows}
    return rows.copy().assign(tokens=rows["batch"], **scaled)


def plotted(rows: pd.DataFrame, metrics: Iterable[str], more: Iterable[str] = ()) -> pd.DataFrame:
    """The rows a figure shows, with their identity, values, spreads and floors: what goes into its
    CSV."""
    names = [*IDENTITY, *(f"{m}{end}" for m in metrics for end in ("", "_lo", "_hi")), *more]
    return rows[[n for n in dict.fromkeys(names) if n in rows]].reset_index(drop=True)


def values_of(rows: pd.DataFrame, column: str) -> list:
    """The values of a column, ascending; of a column of AS_MET in the order of the table."""
    found = rows[column].dropna().unique()
    return list(found) if column in AS_MET else sorted(found)


def reading(column: str, value: object) -> str:
    """One value of a shape column as a legend or title says it: `8 experts`."""
    if isinstance(value, Length):
        return value.words
    text = f"{value:g}" if isinstance(value, float) else value
    return AXES.get(column, (column, "{}"))[1].format(text)


def series_of(summary: pd.DataFrame, figure: str, sweep: str) -> list[str]:
    """The series of a sweep in the order of the table. ValueError where the sweep or what places
    need is missing."""
    return values_of(rows_of(summary, figure, sweep, NEEDED), "series")


def gain_rows(summary: pd.DataFrame, figure: str, sweep: str, over: str) -> pd.DataFrame:
    """`gains` of throughput over one series, for a figure: ValueError says which sweep, columns,
    series or numbers are missing."""
    rows = rows_of(summary, figure, sweep, (*NEEDED, METRIC))
    with_numbers(rows, figure, [METRIC])
    one_per_place(rows, figure, ("series", *PLACE))
    found = gains(rows, sweep, over)
    with_numbers(found, figure, ["gain_pct"])
    return found


def gain_label(over: str, of: str = "") -> str:
    """`throughput gain of fp8 over bf16 (%)`"""
    return f"throughput gain{f' of {of}' * bool(of)} over {over} (%)"
