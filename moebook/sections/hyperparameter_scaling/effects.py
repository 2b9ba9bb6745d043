"""Effects that decide claims of section 1: two models at equal workloads."""

import numpy as np

from moebook.results.cells import Cells, Untested, of_sweep, series_keys
from moebook.results.comparison import Comparison, Effect, breakdown, mean_of, of_model
from moebook.results.effects import joined


def _versus(cells: Cells, model: str, like: str, other: str, other_like: str) -> Comparison:
    """Cells of two models at equal batch and lengths: each as published, and at equal active
    experts."""
    shape = ("model", "num_layers", "hidden_size", "expert_ffn_dim", "num_experts")
    mine, differs = of_model(cells, model, like)
    theirs, more = of_model(cells, other, other_like)
    names = [side.ok["model"].iloc[0] for side in (mine, theirs)]
    found: set[tuple[int, int]] = set()
    for sweep, without in (("batch_topk", shape), ("batch_length", (*shape, "top_k"))):
        rows = of_sweep(cells.ok, sweep)
        keys = series_keys(rows, without)
        sides = [{keys[i]: i for i in rows.index[rows["model"] == name]} for name in names]
        found |= {(sides[0][k], sides[1][k]) for k in sides[0] if k in sides[1]}
    if not found:
        raise Untested(f"no batch and length at which both {names[0]} and {names[1]} were measured")
    first, second = np.array(sorted(found)).T
    return Comparison(cells, first, second, (*differs, *more), f"{names[0]} against {names[1]}")


def model_gap(cells: Cells, model: str, like: str, other: str, other_like: str) -> Effect:
    """How much faster `model` is than `other` at equal workloads, mean %."""
    pairs = _versus(cells, model, like, other, other_like)
    gap = 100 * (pairs.ratio() - 1)
    text = joined(
        pairs.text,
        f"from {gap[0].min():+.1f} to {gap[0].max():+.1f} %",
        breakdown(gap[0], cells.ok.iloc[pairs.low], "batch", "%"),
    )
    return mean_of(gap, cells, "%", pairs.used, pairs.differs, text)


def model_wins(cells: Cells, model: str, like: str, other: str, other_like: str) -> Effect:
    """Share of equal workloads at which `model` is the faster one, %."""
    pairs = _versus(cells, model, like, other, other_like)
    wins = 100.0 * (pairs.ratio() > 1)
    text = f"{int(wins[0].sum() / 100)} of {wins.shape[1]}"
    return mean_of(wins, cells, "% of workloads", pairs.used, pairs.differs, text)
