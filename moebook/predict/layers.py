"""One MoE layer against the device's ceilings: work, bytes, achieved rates, and where time turns
from reading to computing.

Letters: T tokens, H hidden, I expert FFN dim, E experts, K experts per token. A layer over T tokens

    computes   6 T K H I FLOPs (gate, up and down projections)
    moves      3 H I weights of each expert hit, and T (1 + K) H + 2 T K I activations, as with the
               activation unfused

The experts hit are counted, not assumed. `layer_time_s` is the time under a captured graph where
the backend could be captured, as an engine decodes, and the time of plain calls otherwise;
`layer_timing` says which. `default_time_s` is, for a tuned kernel, the time of its default
configuration in the same way."""

import numpy as np
import pandas as pd

from moebook.models.formats import FORMATS, dtype_bytes, matrix_bytes
from moebook.predict.roofline import Ceilings

COLUMNS = (
    "layer_time_s",
    "layer_time_s_lo",
    "layer_time_s_hi",
    "layer_timing",
    "layer_flops",
    "layer_bytes",
    "intensity",
    "achieved_flops_per_s",
    "achieved_bytes_per_s",
    "floor_layer_s",
    "default_time_s",
)
ALL_HIT = 0.9  # share of the experts hit from which a layer's weight bytes hardly grow any more


def add_layers(summary: pd.DataFrame, ceilings: Ceilings | None) -> pd.DataFrame:
    """A copy of a summary with COLUMNS for its layer rows; all null for other rows, rates null
    without ceilings."""
    found = pd.DataFrame(
        [_row(row, ceilings) for row in summary.to_dict("records")],
        index=summary.index,
        columns=list(COLUMNS),
    )
    kinds = {c: "float64" for c in COLUMNS if c != "layer_timing"}
    return summary.assign(**found.astype(kinds))


def _row(row: dict, ceilings: Ceilings | None) -> dict:
    if row.get("method") != "layer" or row["status"] != "ok":
        return {}
    timing = "layer_s" if pd.isna(row["layer_graph_s"]) else "layer_graph_s"
    seconds = row[timing]
    flops, moved = work(row)
    out = {
        "layer_time_s": seconds,
        "layer_time_s_lo": row[f"{timing}_lo"],
        "layer_time_s_hi": row[f"{timing}_hi"],
        "layer_timing": {"layer_s": "calls", "layer_graph_s": "graph"}[timing],
        "layer_flops": flops,
        "layer_bytes": moved,
        "intensity": flops / moved,
        "achieved_flops_per_s": flops / seconds,
        "achieved_bytes_per_s": moved / seconds,
        "default_time_s": row.get(f"default_{timing}"),
    }
    quantization = _quantization(row)
    if ceilings is not None and quantization in FORMATS:
        peak = ceilings.matmul_flops_per_s * FORMATS[quantization].rate
        out["floor_layer_s"] = max(moved / ceilings.copy_bytes_per_s, flops / peak)
    return out


def work(row: dict) -> tuple[float, float]:
    """(FLOPs, bytes) of a layer row, as the module says."""
    tokens, k, h, i = row["batch"], row["top_k"], row["hidden_size"], row["expert_ffn_dim"]
    plain = dtype_bytes(row["dtype"])
    width = matrix_bytes(plain, _quantization(row)).get("experts", plain)
    activations = tokens * ((1 + k) * h + 2 * k * i) * plain
    return 6.0 * tokens * k * h * i, 3.0 * row["experts_hit"] * h * i * width + activations


def _quantization(row: dict) -> str | None:
    return None if pd.isna(row["quantization"]) else row["quantization"]


def turning_points(summary: pd.DataFrame) -> pd.DataFrame:
    """Per model and series, the token count at which time turns from flat (reading all experts) to
    proportional (computing): where the time of the first point that hits nearly all experts meets
    the line of the largest point.

    Columns: model, series, plateau_s, per_token_s, turn_tokens, least_over_floor. Series without
    two such points, or whose largest point is no slower than twice the first, have no turn (null).
    """
    rows = summary[(summary["method"] == "layer") & (summary["status"] == "ok")]
    out = []
    for (model, series), own in rows.groupby(["model", "series"], sort=False):
        own = own.sort_values("batch")
        full = own[own["experts_hit"].astype(float) >= ALL_HIT * own["num_experts"]]
        found = {
            "model": model,
            "series": series,
            "plateau_s": np.nan,
            "per_token_s": np.nan,
            "turn_tokens": np.nan,
            "least_over_floor": (own["layer_time_s"] / own["floor_layer_s"]).min(),
        }
        if len(full) >= 2:
            first, last = full.iloc[0], full.iloc[-1]
            found |= {
                "plateau_s": first["layer_time_s"],
                "per_token_s": last["layer_time_s"] / last["batch"],
            }
            if last["layer_time_s"] > 2 * first["layer_time_s"]:
                found["turn_tokens"] = found["plateau_s"] / found["per_token_s"]
        out.append(found)
    return pd.DataFrame(
        out,
        columns=["model", "series", "plateau_s", "per_token_s", "turn_tokens", "least_over_floor"],
    )
