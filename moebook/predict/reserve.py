"""What measured engines kept free besides weights and cache: memory.py's reserve, fitted.

An engine's record has the tokens of cache that it said it holds; weights and a token's bytes are
known, so the rest of the memory it may use is its reserve."""

import numpy as np
import pandas as pd
from scipy.optimize import nnls

from moebook.models import sharding
from moebook.models.formats import cache_dtype
from moebook.models.sharding import Split
from moebook.predict.memory import reserve_terms


def fit_reserve(points: pd.DataFrame) -> dict[str, float]:
    """Factors of memory.RESERVE from the tokens of cache that measured engines said they hold."""
    terms, kept = [], []
    for _, row in starts(points).iterrows():
        terms.append(reserve_terms(row["case"].arch, row["case"].settings))
        kept.append(row["kept_bytes"])
    table = pd.DataFrame(terms)
    kept = np.array(kept)
    factors, _ = nnls(table.to_numpy() / kept[:, None], np.ones(len(kept)))
    return dict(zip(table.columns, map(float, factors), strict=True))


def starts(points: pd.DataFrame) -> pd.DataFrame:
    """One row per way an engine was started, with `kept_bytes`: what it left free of the memory it
    may use, besides weights and cache. Models whose cache is shared by layers of several kinds are
    left out: what one token takes there is not one number."""
    rows, seen = [], set()
    own_start = (
        points["calibrates"]
        & points["kv_capacity_tokens"].notna()
        & ~points["top_k_switched"].fillna(False).astype(bool)
    )
    for _, row in points[own_start].iterrows():
        arch, e = row["case"].arch, row["case"].settings
        key = (
            row["device_kind"],
            arch.name,
            e.quantization,
            e.kv_cache_dtype,
            row["format"],
            e.tensor_parallel,
            e.pipeline_parallel,
            e.expert_parallel,
            e.graphs,
        )
        if key in seen or len(arch.attention_groups) > 1:
            continue
        seen.add(key)
        split = Split(e.tensor_parallel, e.pipeline_parallel, e.expert_parallel)
        kept = cache_dtype(arch, e.dtype, e.quantization, e.kv_cache_dtype)
        usable = float(row["device_memory_bytes"]) * float(row["gpu_memory_utilization"])
        weights = sharding.weight_bytes(arch, split, e.dtype, e.quantization)
        cache = row["kv_capacity_tokens"] * sharding.kv_bytes_per_token(arch, split, kept)
        rows.append({**row, "kept_bytes": float(usable - weights - cache)})
    return pd.DataFrame(rows)
