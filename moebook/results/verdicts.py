"""The study's claims, and a verdict on each from a summary of results.

`evaluate(summary, claims)` gives a `Verdict` per claim:

    supported     the intervals of its cells lie where the source says
    contradicted  they lie elsewhere
    mixed         some cells or parts hold, others do not
    undecided     an interval straddles a threshold
    untested      the data cannot say; `reason` tells why

A verdict is of one condition. Where that is not the source's (other devices, lengths, shapes)
`scale` is "own", `label` says "on other conditions", and `conditions` names them."""

import json
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd

from moebook.predict.under_bound import of_those_under
from moebook.results.cells import METRIC, NEEDED, check_columns, of_sweep
from moebook.results.claims import Claim
from moebook.results.deciding import why_not
from moebook.results.findings import Verdict
from moebook.results.judge import Judge, untested
from moebook.results.robust import checked


def evaluate(
    summary: pd.DataFrame | None, claims: Iterable[Claim], *, checks: bool = True
) -> list[Verdict]:
    """A verdict per claim from a summary of one device; None or no rows: all untested. checks:
    whether each is checked for robustness. ValueError for several devices or missing columns."""
    if summary is None or summary.empty:
        return [untested(claim, claim.untested or "there are no results") for claim in claims]
    if "device" in summary and len(devices := summary["device"].dropna().unique()) > 1:
        raise ValueError(
            f"the table holds several devices ({', '.join(devices)}); give the rows of one"
        )
    check_columns(summary, NEEDED, METRIC)
    under = summary.loc[of_those_under(summary), ["sweeps", "model"]]
    judge, verdicts = Judge(_plain_types(summary[why_not(summary).isna()])), []
    for claim in claims:
        verdict = judge.by_regime(claim)
        if checks and verdict.verdict != "untested":
            verdict = checked(verdict, claim, judge)
        left_out = [] if claim.untested else sorted(of_sweep(under, claim.sweep)["model"].unique())
        if left_out:
            why = "measured under its physical limit, so its routing was not near uniform"
            reason = f"{verdict.reason}; without {', '.join(left_out)}: {why}"
            verdict = replace(verdict, reason=reason)
        verdicts.append(verdict)
    return verdicts


def _plain_types(summary: pd.DataFrame) -> pd.DataFrame:
    """The same in the types of numpy, which pandas takes rows of much faster than of its own."""
    plain = {"Int64": "float64", "boolean": object, "string": object}
    kinds = {c: plain[t.name] for c, t in summary.dtypes.items() if t.name in plain}
    kinds |= {c: object for c, t in summary.dtypes.items() if isinstance(t, pd.StringDtype)}
    return summary.astype(kinds).copy()


def to_json(verdicts: list[Verdict], path: str | Path | None = None) -> str:
    """A JSON list of the verdicts with their parts, also written to `path` where one is given."""
    told = [{**asdict(v), "label": v.label, "robust": v.robust} for v in verdicts]
    text = json.dumps(told, indent=1, allow_nan=False)
    if path is not None:
        Path(path).write_text(text + "\n", encoding="utf-8")
    return text
