"""All figures: pure functions (table, *, width) -> (Figure, plotted rows). No reading, no writing,
no globals.

scaling.py     throughput over one hyper-parameter (Figs 5-9)
grid.py        the whole grid at once: heat maps, measured over floor
checks.py      predictions and methods against measurements
parameters.py  where a model's parameters are (Fig 1)

Sections with figures of their own take them from their module: quantization.py (Fig 10), pruning.py
(Fig 11), fused_moe.py (Fig 14)."""

from moebook.plot.checks import method_validation, predicted_vs_measured
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
from moebook.sections.overview.figures import parameter_breakdown

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
    "parameter_breakdown",
    "predicted_vs_measured",
]
