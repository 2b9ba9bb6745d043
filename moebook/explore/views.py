"""What a section offers the explorer, and what can be chosen of it: any metric over any column,
always as a picture.

A `View` is rows with their first axes, the first of a section opens it; a `Source` the tables that
they are taken from: a notebook's own, and others that stand beside it. `offers` says what can be
chosen, `first`, `settled` and `moved` make of a wish a choice that can be drawn; arranged.py lays
it out, chart.py and plot/lines.py draw it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pandas as pd

from moebook import paths
from moebook.plot.figure import AXES, METRICS, values_of
from moebook.plot.length_axis import as_pairs
from moebook.problems import choices
from moebook.results import loading
from moebook.results.cells import of_sweep
from moebook.results.loading import TABLE, Results
from moebook.study.params import load

ROLES = ("x", "line", "panel")
FIRST = ("profile", "model", "series", "device_label", "source_kind", "text", "routing")
COLUMNS = tuple(dict.fromkeys((*FIRST, *AXES)))
Pick = tuple[str, object]  # a column and one of its values


@dataclass(frozen=True, eq=False)
class View:
    """Rows of a results table and where their columns go at first; the reader may move them."""

    name: str
    sweep: str | None  # None: all rows
    x: str
    line: str | None = None  # None: one line
    panel: str | None = None  # None: one panel
    metric: str = "throughput_tok_s"
    where: Mapping[str, object] = field(default_factory=dict)  # column -> value rows must have
    log_x: bool = True
    log_y: bool | None = None  # None: as the values ask
    over: tuple[str, object] | None = None  # ratios to the rows with this value of a column
    table: Callable[[pd.DataFrame], pd.DataFrame] | None = None  # makes what rows are taken from

    def rows(self, summary: pd.DataFrame) -> pd.DataFrame:
        """The view's rows of a results summary; none where it was not measured."""
        rows = summary if self.table is None else self.table(summary)
        if self.sweep is not None:
            rows = of_sweep(rows, self.sweep)
        for column, value in self.where.items():
            rows = rows[rows[column] == value]
        return as_pairs(_plain(rows))


def _plain(rows: pd.DataFrame) -> pd.DataFrame:
    """Without columns that hold nothing, words as Python's: pandas takes a tenth of the time on a
    table of few rows that it takes on Arrow's."""
    rows = rows[[c for c in rows if c == "status" or rows[c].notna().any()]]
    words = [c for c in rows if isinstance(rows[c].dtype, pd.StringDtype | pd.ArrowDtype)]
    return rows.astype(dict.fromkeys(words, object)).reset_index(drop=True)


def metrics_of(rows: pd.DataFrame) -> list[str]:
    """The metrics of which some row has a number."""
    own = [metric for metric in METRICS if metric in rows]
    has = rows.loc[rows["status"] == "ok", own].notna().any()
    return [metric for metric in own if has[metric]]


def with_rows(
    summary: pd.DataFrame, views: tuple[View, ...]
) -> tuple[dict[View, pd.DataFrame], dict[str, str]]:
    """The views that have something to draw, with their rows, in the order declared; and why the
    others have not."""
    found: dict[View, pd.DataFrame] = {}
    missing: dict[str, str] = {}
    for view in views:
        try:
            rows = view.rows(summary)
        except ValueError as error:
            missing[view.name] = str(error)
            continue
        if metrics_of(rows):
            found[view] = rows
        else:
            missing[view.name] = "no row has a number"
    return found, missing


@dataclass(frozen=True)
class Source:
    """Tables to explore, by name of their profile: the notebook's own, and others with the folder
    of their records, read when they are first chosen. out: where exports are written."""

    profile: str
    table: pd.DataFrame
    folder: Path | None = None
    others: Mapping[str, Callable[[], tuple[pd.DataFrame, Path]]] = field(default_factory=dict)
    out: Path | None = None
    read: dict[str, tuple[pd.DataFrame, Path]] = field(default_factory=dict)

    @classmethod
    def of(cls, run) -> "Source":
        """A notebook's run, with what others have beside it."""
        res = run.results
        out = res.folder / "explorer"
        return cls(run.params.profile, run.table, res.source_folder, others_of(run), out)

    def rows(self, profiles: tuple[str, ...]) -> pd.DataFrame:
        """The rows of these profiles, one below the other. ValueError names those there are."""
        known = (self.profile, *self.others)
        if unknown := [name for name in profiles if name not in known]:
            raise ValueError(
                f"no results of {unknown[0]!r} to explore; {choices(unknown[0], known)}"
            )
        tables = [self._of(name)[0].assign(profile=name) for name in profiles]
        return pd.concat(tables, ignore_index=True) if len(tables) > 1 else tables[0]

    def folder_of(self, profile: str) -> Path | None:
        return self._of(profile)[1]

    def _of(self, profile: str) -> tuple[pd.DataFrame, Path | None]:
        if profile == self.profile:
            return self.table, self.folder
        if profile not in self.read:
            self.read[profile] = self.others[profile]()
        return self.read[profile]


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


def others_of(run) -> dict[str, Callable[[], tuple[pd.DataFrame, Path]]]:
    """What stands beside a run's results: other profiles', one's own where there are any, else the
    reference's; and beside one's own the reference's. Each is read by a call: (table, folder)."""
    stem, own = run.section.stem, run.params.profile
    roots = paths.reference(), paths.output_root(run.params.output_root)
    ships, mine = (
        {p for p in paths.profiles(stem) if (root / p / stem / TABLE).exists()} for root in roots
    )
    found = {p: partial(_read, run, p, loading.load) for p in sorted((ships | mine) - {own})}
    if own in ships and not run.results.is_reference:
        found[f"{own} (reference)"] = partial(_read, run, own, loading.reference_results)
    return found


def _read(run, profile: str, how: Callable[..., Results]) -> tuple[pd.DataFrame, Path]:
    section = run.section
    params = load(section.params, paths.params_file(profile, section.stem))
    params = params.model_copy(update={"output_root": run.params.output_root})
    res = how(params, section.plan(params), section.enrich)
    return res.shown, res.source_folder
