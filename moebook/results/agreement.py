"""One's own results beside the reference's, point by point: does this machine agree?

A point's ratio is its own median over the reference's, of the time it is told by (E2E, or of a
single layer its own time). The interval of each side is that between engine starts (starts.py)."""

from dataclasses import dataclass

import pandas as pd

from moebook.results import loading
from moebook.results.table import TIMES
from moebook.study.params import NotebookParams
from moebook.study.plan import Plan

SHAPE = (
    "model",
    "series",
    "method",
    "num_layers",
    "expert_ffn_dim",
    "num_experts",
    "top_k",
    "batch",
    "input_tokens",
    "output_tokens",
)
NUMBERS = (
    "own_s",
    "own_lo_s",
    "own_hi_s",
    "reference_s",
    "reference_lo_s",
    "reference_hi_s",
    "ratio",
)
COLUMNS = ("notebook", "point_id", *SHAPE, "metric", *NUMBERS, "within")


@dataclass(frozen=True)
class Compared:
    """table: COLUMNS, a row per point that both have. text: what there is to say, or why there is
    nothing."""

    table: pd.DataFrame
    text: str


def compare(params: NotebookParams, plan: Plan, enrich: loading.Enrich) -> Compared:
    """Own over reference for each point of the plan that both measured. Points whose times are the
    reference's to the last digit are its own, copied, and say nothing: they are left out."""
    own = loading.own_results(params, plan, enrich)
    if own is None:
        return Compared(_empty(), f"{plan.notebook}: nothing of this plan was measured here")
    try:
        reference = loading.reference_results(params, plan, enrich)
    except loading.NoResults:
        return Compared(
            _empty(), f"{plan.notebook}: no reference results ship for profile {plan.profile!r}"
        )
    table = ratios(own.summary, reference.summary)
    where = f"{_device(own)} over the reference's {_device(reference)}"
    if table.empty:
        return Compared(table, f"{plan.notebook}: no point has a number on both sides ({where})")
    copied = table["own_s"] == table["reference_s"]
    table = table[~copied]
    if table.empty:
        return Compared(table, f"{plan.notebook}: its {len(copied)} points are the reference's own")
    middle, worst = table["ratio"].median(), table.loc[(table["ratio"] - 1).abs().idxmax(), "ratio"]
    return Compared(
        table,
        f"{plan.notebook}: {len(table)} points, {where}: median ratio {middle:.3f}, farthest "
        f"{worst:.3f}" + f"; {copied.sum()} more are the reference's own" * bool(copied.any()),
    )


def ratios(own: pd.DataFrame, reference: pd.DataFrame) -> pd.DataFrame:
    """COLUMNS, from two summaries of one plan. `within`: the intervals overlap."""
    both = own[own["status"] == "ok"].merge(
        reference[reference["status"] == "ok"], on="key", suffixes=("", "_reference")
    )
    rows = [_row(row) for row in both.to_dict("records")]
    return pd.DataFrame([row for row in rows if row is not None], columns=list(COLUMNS))


def _row(row: dict) -> dict | None:
    metric = next(
        (t for t in TIMES if _number(row.get(t)) and _number(row.get(f"{t}_reference"))), None
    )
    if metric is None:
        return None
    own = [row[f"{metric}{end}"] for end in ("", "_lo", "_hi")]
    reference = [row[f"{metric}{end}_reference"] for end in ("", "_lo", "_hi")]
    return {
        **{c: row[c] for c in ("notebook", "point_id", *SHAPE)},
        "metric": metric,
        **dict(zip(NUMBERS, (*own, *reference, own[0] / reference[0]), strict=True)),
        "within": own[1] <= reference[2] and reference[1] <= own[2],
    }


def _number(value) -> bool:
    return value is not None and not pd.isna(value)


def _device(res: loading.Results) -> str:
    return " / ".join(res.table["device"].dropna().unique())


def _empty() -> pd.DataFrame:
    return pd.DataFrame(columns=list(COLUMNS))


def lines(table: pd.DataFrame) -> list[str]:
    """The table for a terminal: a line per point."""
    out = []
    for row in table.to_dict("records"):
        shape = (
            f"{row['model']} {row['series'] or ''} L {row['num_layers']} FFN "
            f"{row['expert_ffn_dim']} E {row['num_experts']} K {row['top_k']} B {row['batch']} "
            f"{row['input_tokens']}+{row['output_tokens']}"
        )
        own, its = (
            _with_range(*(row[f"{side}{end}_s"] for end in ("", "_lo", "_hi")))
            for side in ("own", "reference")
        )
        out.append(
            f"  {row['ratio']:.3f}  {own} s, reference {its} s  {' '.join(shape.split())} "
            f"({row['method']})"
        )
    return out


def _with_range(middle: float, low: float, high: float) -> str:
    return f"{middle:.4g} [{low:.4g}, {high:.4g}]"
