"""How far a method is from the measurement it stands in for: E2E of one point by several
methods."""

import pandas as pd

SAME = [
    "model",
    "num_layers",
    "expert_ffn_dim",
    "num_experts",
    "top_k",
    "batch",
    "input_tokens",
    "output_tokens",
]
BETTER = {"full": 0, "sampled": 1, "depth": 2, "depth+sampled": 3}


def validation_table(summary: pd.DataFrame) -> pd.DataFrame:
    """One row per point of the sweep `validation` and method that is not its reference: label,
    method, reference, full_value and method_value (E2E, s), error_pct. The reference is the point's
    best method measured: full, else sampled. Empty where nothing was measured twice."""
    rows = summary[summary["sweeps"].str.contains("validation") & (summary["status"] == "ok")]
    out = []
    for _, same in rows.groupby(SAME, sort=False):
        ordered = same.sort_values("method", key=lambda m: m.map(BETTER))
        best = ordered.iloc[0]
        label = f"{best.model} I={best.expert_ffn_dim} E={best.num_experts} K={best.top_k}"
        out += [
            {
                "label": label,
                "method": other.method,
                "reference": best.method,
                "full_value": best.e2e_s,
                "method_value": other.e2e_s,
                "error_pct": 100 * (other.e2e_s / best.e2e_s - 1),
            }
            for other in ordered.iloc[1:].itertuples()
        ]
    return pd.DataFrame(
        out, columns=["label", "method", "reference", "full_value", "method_value", "error_pct"]
    )
