"""How far a method is from the measurement it stands in for: E2E of one point by several
methods."""

import pandas as pd

from moebook.study.routing import MODEL

SHAPE = ["model", "num_layers", "expert_ffn_dim", "num_experts", "top_k"]
POINT = [*SHAPE, "routing", "batch", "input_tokens", "output_tokens"]
BETTER = {"full": 0, "sampled": 1, "depth": 2, "depth+sampled": 3}


def validation_table(table: pd.DataFrame) -> pd.DataFrame:
    """One row per point of the sweep `validation` and method that is not its reference: label,
    method, reference, full_value and method_value (E2E, s), error_pct. The reference is the point's
    best method measured: full, else sampled. Empty where nothing was measured twice."""
    rows = table[table["sweeps"].str.contains("validation") & (table["status"] == "ok")]
    rows = rows.assign(
        point=rows.groupby(POINT, sort=False).ngroup(), rank=rows["method"].map(BETTER)
    ).sort_values(["point", "rank"])
    best = rows.groupby("point")[["method", "e2e_s"]].transform("first")
    ffn, experts, active = (rows[c].astype(str) for c in SHAPE[2:])
    imposed = (" " + rows["routing"]).where(rows["routing"] != MODEL, "")
    compared = pd.DataFrame(
        {
            "label": rows["model"] + " I=" + ffn + " E=" + experts + " K=" + active + imposed,
            "method": rows["method"],
            "reference": best["method"],
            "full_value": best["e2e_s"],
            "method_value": rows["e2e_s"],
            "error_pct": 100 * (rows["e2e_s"] / best["e2e_s"] - 1),
        }
    )
    return compared[rows["point"].duplicated()].reset_index(drop=True)
