"""Figures of section 1: throughput over one hyperparameter, the grid at once, and checks."""

import pandas as pd
from matplotlib.figure import Figure

from moebook.explore.views import View
from moebook.plot import checks
from moebook.plot.checks import predicted_vs_measured
from moebook.plot.figure import figure
from moebook.sections.hyperparameter_scaling.heatmaps import (
    grid_heatmap,
    grid_heatmap_over_floor,
    over_floor,
)
from moebook.sections.hyperparameter_scaling.scaling import (
    active_scaling,
    batch_length,
    batch_topk,
    expert_scaling,
    ffn_scaling,
)
from moebook.sections.hyperparameter_scaling.validation import validation_table

__all__ = [
    "active_scaling",
    "batch_length",
    "batch_topk",
    "expert_scaling",
    "ffn_scaling",
    "grid_heatmap",
    "grid_heatmap_over_floor",
    "method_validation",
    "over_floor",
    "predicted_vs_measured",
]


@figure("method_validation")
def method_validation(table: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """How far sampled and depth-extrapolated E2E are from full runs of the same points."""
    return checks.method_validation(validation_table(table), width=width)


VIEWS = (
    View("grid", "grid", "expert_ffn_dim", "top_k", "num_experts"),
    View("batch and active experts", "batch_topk", "batch", "top_k", "model"),
    View("batch and length", "batch_length", "batch", "input_tokens", "model"),
)
