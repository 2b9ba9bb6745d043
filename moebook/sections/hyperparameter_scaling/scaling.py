"""Throughput against one hyper-parameter at a time: the paper's Figs 5 to 9.

Each function: (summary, *, width) -> (Figure, plotted rows); ValueError says which sweep or columns
are missing."""

import pandas as pd
from matplotlib.figure import Figure

from moebook.plot.figure import figure
from moebook.plot.lines import Spec, lines

SPECS = {
    spec.name: spec
    for spec in (
        Spec("batch_topk", "batch_topk", panel="model", line="top_k", x="batch", log_y=True),
        Spec(
            "batch_length",
            "batch_length",
            panel="model",
            line="input_tokens",
            x="batch",
            log_y=True,
        ),
        Spec("ffn_scaling", "grid", panel="num_experts", line="top_k", x="expert_ffn_dim"),
        Spec("expert_scaling", "grid", panel="expert_ffn_dim", line="top_k", x="num_experts"),
        Spec("active_scaling", "grid", panel="expert_ffn_dim", line="num_experts", x="top_k"),
    )
}


@figure("fig05_batch_topk")
def batch_topk(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Fig 5: throughput over batch, a line per top-k, a panel per model (tokens/s, log-log)."""
    return lines(summary, SPECS["batch_topk"], width=width)


@figure("fig06_batch_length")
def batch_length(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Fig 6: throughput over batch, a line per input = output length, a panel per model (tokens/s,
    log-log)."""
    return lines(summary, SPECS["batch_length"], width=width)


@figure("fig07_ffn_scaling")
def ffn_scaling(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Fig 7: throughput over FFN dimension, a line per active experts, a panel per expert count."""
    return lines(summary, SPECS["ffn_scaling"], width=width)


@figure("fig08_expert_scaling")
def expert_scaling(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Fig 8: throughput over expert count, a line per active experts, a panel per FFN dimension."""
    return lines(summary, SPECS["expert_scaling"], width=width)


@figure("fig09_active_scaling")
def active_scaling(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Fig 9: throughput over active experts, a line per expert count, a panel per FFN dimension."""
    return lines(summary, SPECS["active_scaling"], width=width)
