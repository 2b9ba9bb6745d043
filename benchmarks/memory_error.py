"""Tokens of cache, as predicted, against what every engine start of the reference said it holds.

    python benchmarks/memory_error.py

The reserve's factors are fitted to starts of other skeletons than the one that is predicted. Prints
the median and the worst, and how far weights are from what the engine held."""

import numpy as np
import pandas as pd

from moebook import paths
from moebook.predict.fitting import fit_reserve, starts
from moebook.predict.memory import memory
from moebook.results.calibrating import read


def errors(points: pd.DataFrame) -> pd.DataFrame:
    """One row per engine start with `kv_pct` and `weights_pct`, signed."""
    rows = starts(points)
    found = []
    for _, own in rows.groupby("skeleton"):
        factors = fit_reserve(points[points["skeleton"] != own["skeleton"].iloc[0]])
        found += [_error(row, factors) for _, row in own.iterrows()]
    return pd.DataFrame(found)


def _error(row: pd.Series, factors: dict[str, float]) -> dict:
    case, card = row["case"], int(row["device_memory_bytes"])
    settings = case.settings
    told = memory(case.arch, settings, 1, 1, card, factors)
    kv, weights = row["kv_capacity_tokens"], row["weights_bytes"]
    return {
        "device": row["device_kind"],
        "model": case.arch.name,
        "format": row["format"],
        "ranks": f"TP {settings.tensor_parallel}, PP {settings.pipeline_parallel}",
        "kv_tokens": kv,
        "predicted": told.kv_tokens,
        "kv_pct": 100 * (told.kv_tokens / kv - 1),
        "weights_pct": np.nan if pd.isna(weights) else 100 * (told.weights_bytes / weights - 1),
    }


def main() -> None:
    found = errors(read(paths.reference()))
    for name in ("kv_pct", "weights_pct"):
        error = found[name].astype(float).dropna()
        size = error.abs()
        print(
            f"{name}: median {size.median():.2f} %, 90th percentile {size.quantile(0.9):.2f} %, "
            f"{len(size)} engine starts; worst:"
        )
        print(found.loc[size.sort_values().index[-8:]].to_string(), "\n")


if __name__ == "__main__":
    main()
