"""Speed of models and their accuracy: who stands on the Pareto front. The table names the file of
measured accuracies where the parameters give one; of it one row per model and suite of accuracies,
with the mean over tasks that all of the suite's models have.

All models of a suite are in one number format: the one in which most of them were measured."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from moebook.predict.columns import of_those_under
from moebook.results.cells import of_sweep
from moebook.results.loading import Results
from moebook.sections.model_comparison import accuracies
from moebook.sections.model_comparison.accuracies import MEASURED, Suite
from moebook.sections.model_comparison.params import ALL_LLMS

SWEEPS = {"llm": ALL_LLMS, "vlm": "vlms"}
FEWEST = {"published": 3, "measured": 2}  # models that make a comparison
COLUMN = "measured_accuracies"  # of a table: path of the file of measured accuracies


def suites_of(table: pd.DataFrame) -> list[Suite]:
    """The published suites, and the measured one where the table names it."""
    files = table[COLUMN].dropna() if COLUMN in table else ()
    measured = [accuracies.read_measured(Path(file)) for file in files[:1]]
    return [*accuracies.load().values(), *measured]


def accuracy_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of the models of each suite that were measured, in one format, with `suite`, `title`,
    `kind`, `accuracy_pct`, `tasks`, `evidence` (published or measured), `alike` and `under_floor`.
    Suites with under FEWEST such models, or no common task, have none."""
    rows = table[(table["status"] == "ok") & table["e2e_s"].notna()]
    rows = rows.assign(under_floor=of_those_under(table)[rows.index])
    found = [_of_suite(of_sweep(rows, SWEEPS[suite.kind]), suite) for suite in suites_of(table)]
    found = [own for own in found if not own.empty]
    if not found:
        return rows.iloc[:0].assign(suite=None, accuracy_pct=None)
    return pd.concat(found, ignore_index=True)


def _of_suite(rows: pd.DataFrame, suite: Suite) -> pd.DataFrame:
    known = rows[rows["model"].map(accuracies.published_name).isin(suite.values)]
    if known.empty:
        return known
    own = known[known["series"] == common_format(known)].drop_duplicates("model")
    tasks = suite.common_tasks(own["model"])
    evidence = "measured" if suite.name == MEASURED else "published"
    if len(own) < FEWEST[evidence] or not tasks:
        return own.iloc[:0]
    words = accuracies.TASKS[suite.kind]
    return own.assign(
        suite=suite.name,
        title=suite.title,
        kind=suite.kind,
        alike=suite.alike,
        evidence=evidence,
        tasks=", ".join(words[task] for task in tasks),
        accuracy_pct=[suite.mean_pct(model, tasks) for model in own["model"]],
    )


def common_format(rows: pd.DataFrame, models: Iterable[str] = ()) -> str:
    """The series in which most models have a row, of those in which all of `models` have one where
    there is such; the first of the table where several do."""
    by_series = rows.groupby("series", sort=False)["model"].agg(set)
    whole = by_series[[set(models) <= own for own in by_series]]
    return (by_series if whole.empty else whole).map(len).idxmax()


def on_front(rows: pd.DataFrame, metric: str, higher: bool) -> pd.Series:
    """Which rows of a suite are on the front of accuracy and speed (`higher`: more is better). A
    model under its roofline bound has no place there."""
    kept = rows[~rows["under_floor"]]
    best = pd.Series(front(kept["accuracy_pct"], kept[metric], second_higher=higher), kept.index)
    return best.reindex(rows.index, fill_value=False)


def front(first, second, *, second_higher: bool = True) -> np.ndarray:
    """Which points are on the front of two measures: those that no other point matches in one and
    beats in the other. ValueError where the measures differ in length or are not all finite.

    >>> front([70.0, 60.0, 50.0], [1.0, 3.0, 2.0])  # the third is beaten by the second
    array([ True,  True, False])
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(
            f"two measures of one length each, one value a point; given shapes {a.shape} and "
            f"{b.shape}"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a point without both measures has no place on a front: leave it out")
    b = b if second_higher else -b
    matches = (a[:, None] >= a) & (b[:, None] >= b)  # [i, j]: i matches j in both
    beats = (a[:, None] > a) | (b[:, None] > b)  # [i, j]: i beats j in one
    return ~(matches & beats).any(axis=0)


def summary(res: Results) -> pd.DataFrame:
    file = res.params.accuracy_file
    return res.summary if file is None else res.summary.assign(**{COLUMN: file})
