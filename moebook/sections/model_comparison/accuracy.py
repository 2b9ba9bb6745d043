"""Speed of models beside their accuracy: one row per model and suite, with the mean over tasks that
all of them have.

All models of a row's suite are in one number format: the one in which most of its models were
measured."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from moebook.predict.under_bound import of_those_under
from moebook.results.cells import of_sweep
from moebook.sections.model_comparison import accuracies
from moebook.sections.model_comparison.accuracies import MEASURED, Suite
from moebook.sections.model_comparison.pareto import front

SWEEPS = {"llm": "llms", "vlm": "vlms"}
FEWEST = {"published": 3, "measured": 2}  # models that make a comparison
COLUMN = "measured_accuracies"  # of a summary: path of the file of measured accuracies


def suites_of(summary: pd.DataFrame) -> list[Suite]:
    """The published suites, and the measured one where the summary names it."""
    found = list(accuracies.load().values())
    if COLUMN in summary and summary[COLUMN].notna().any():
        found.append(accuracies.read_measured(Path(summary[COLUMN].dropna().iloc[0])))
    return found


def accuracy_rows(summary: pd.DataFrame) -> pd.DataFrame:
    """Rows of the models of each suite that were measured, in one format, with `suite`, `title`,
    `kind`, `accuracy_pct`, `tasks`, `evidence` (published or measured), `alike` and `under_floor`.
    Suites with under FEWEST such models, or no common task, have none."""
    rows = summary[(summary["status"] == "ok") & summary["e2e_s"].notna()]
    rows = rows.assign(under_floor=of_those_under(summary)[rows.index])
    suites = [_of_suite(of_sweep(rows, SWEEPS[suite.kind]), suite) for suite in suites_of(summary)]
    found = [own for own in suites if own is not None]
    return (
        pd.concat(found, ignore_index=True)
        if found
        else rows.iloc[:0].assign(suite=None, accuracy_pct=None)
    )


def _of_suite(rows: pd.DataFrame, suite: Suite) -> pd.DataFrame | None:
    known = rows[[accuracies.published_name(m) in suite.values for m in rows["model"]]]
    if known.empty:
        return None
    own = known[known["series"] == common_format(known)].drop_duplicates("model")
    tasks, evidence = (
        suite.common_tasks(own["model"]),
        "measured" if suite.name == MEASURED else "published",
    )
    if len(own) < FEWEST[evidence] or not tasks:
        return None
    words = accuracies.TASKS[suite.kind]
    return own.assign(
        suite=suite.name,
        title=suite.title,
        kind=suite.kind,
        alike=suite.alike,
        evidence=evidence,
        tasks=", ".join(words[t] for t in tasks),
        accuracy_pct=[suite.mean_pct(m, tasks) for m in own["model"]],
    )


def on_front(rows: pd.DataFrame, metric: str, higher: bool) -> pd.Series:
    """Which rows of a suite are on the Pareto front of accuracy and speed; a model under its floor
    has no place there."""
    kept = rows[~rows["under_floor"]]
    best = pd.Series(front(kept["accuracy_pct"], kept[metric], second_higher=higher), kept.index)
    return best.reindex(rows.index, fill_value=False)


def common_format(rows: pd.DataFrame, models: Iterable[str] = ()) -> str:
    """The series in which most models have a row, of those in which all of `models` have one where
    there is such; the first of the table where several do."""
    by_series = rows.groupby("series", sort=False)["model"].agg(set)
    whole = by_series[[set(models) <= own for own in by_series]]
    return (by_series if whole.empty else whole).map(len).idxmax()
