"""Effects that decide claims of section 1: two models at equal workloads."""

from dataclasses import replace

import numpy as np
import pandas as pd

from moebook.results.cells import Cells, Untested, of_sweep, series_keys
from moebook.results.comparison import (
    Comparison,
    Effect,
    breakdown,
)
from moebook.results.conditions import of_model
from moebook.results.effects import joined


def _versus(cells: Cells, model: str, like: str, other: str, other_like: str) -> Comparison:
    """Cells of two models at equal batch and lengths: each as published, and at equal active
    experts; each under the graphs that its series is measured with."""
    mine, differs = of_model(cells, model, like)
    theirs, more = of_model(cells, other, other_like)
    names = [side.ok["model"].iloc[0] for side in (mine, theirs)]
    found = cells.once(("versus", *names), lambda: _pairs(cells.ok, *names))
    if not found:
        raise Untested(f"no batch and length at which both {names[0]} and {names[1]} were measured")
    first, second = np.array(found).T
    return Comparison(cells, first, second, (*differs, *more), f"{names[0]} against {names[1]}")


def _pairs(cells: pd.DataFrame, first: str, second: str) -> list[tuple[int, int]]:
    """Numbers of the rows of the two models at equal batch and lengths."""
    shape = ("graphs", "model", "num_layers", "hidden_size", "expert_ffn_dim", "num_experts")
    found: set[tuple[int, int]] = set()
    for sweep, without in (("batch_topk", shape), ("batch_length", (*shape, "top_k"))):
        rows = of_sweep(cells, sweep)
        keys = series_keys(rows, without)
        own, others = (
            dict(zip(keys[rows["model"] == name], rows.index[rows["model"] == name], strict=True))
            for name in (first, second)
        )
        found |= {(own[key], others[key]) for key in own if key in others}
    return sorted(found)


def model_gap(cells: Cells, model: str, like: str, other: str, other_like: str) -> Effect:
    """How much faster `model` is than `other` at equal workloads, %."""
    pairs = _versus(cells, model, like, other, other_like)
    found = pairs.effect()
    text = joined(
        pairs.text,
        f"from {found.values.min():+.1f} to {found.values.max():+.1f} %",
        breakdown(found.values, cells.ok.iloc[pairs.low], "batch", "%"),
    )
    return replace(found, text=text)
