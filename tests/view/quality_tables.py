"""Synthetic perplexities of a trained tiny model, pruned and in formats. Tests only: no number here
was measured."""

import itertools

import pandas as pd
import section_tables as t

WHOLE, EASY_HARD = (
    6.0,
    (0.7, 1.4),
)  # of the whole model; of its easiest and hardest part, over the median
CRITERIA = ("random", "norm", "frequency", "routed_activation")
# percent of increase by kind and ratio, in the order of CRITERIA
INCREASES = {
    ("inter", 25): (21.0, 14.0, 4.5, 3.2),
    ("inter", 50): (92.0, 61.0, 31.0, 24.0),
    ("intra", 25): (33.0, 6.0, 12.0, 5.0),
    ("intra", 50): (148.0, 38.0, 57.0, 33.0),
}
FORMATS = {
    "bf16": 0.0,
    "fp16": -0.02,
    "fp8": 0.61,
    "fp8 per channel": 0.34,
    "fp8 weights only": 0.29,
    "fp8 + fp8 KV": 0.74,
    "int8 experts": 0.05,
    "int4 weights": None,
}
TARGET = "tiny:gpu/aux-0.01"


def row(
    series: str, weights: str, increase_pct: float | None, part_pct: float = 0.0, **more
) -> dict:
    """A model that is `increase_pct` worse than the whole one, and on its hardest part `part_pct`
    more than that."""
    ok = increase_pct is not None
    found = {
        "sweeps": "quality",
        "model": "tiny-aux-0.01",
        "series": series,
        "weights": weights,
        "method": "perplexity",
        "status": "ok" if ok else "failed",
        "reason": None if ok else "synthetic failure",
        "batch": 48,
        "input_tokens": 512,
        "output_tokens": 1,
        "num_experts": 16,
        "device": "synthetic",
        "n_repeats": 3 if ok else 0,
    }
    low, high = (
        (WHOLE * end * (1 + (increase_pct + part) / 100) if ok else None)
        for end, part in zip(EASY_HARD, (0, part_pct), strict=True)
    )
    middle = WHOLE * (1 + increase_pct / 100) if ok else None
    return found | {"perplexity": middle, "perplexity_lo": low, "perplexity_hi": high, **more}


def pruning_rows(increases=INCREASES, criteria=CRITERIA) -> pd.DataFrame:
    rows = [row("baseline", TARGET, 0.0)]
    for ((kind, ratio), values), (i, criterion) in itertools.product(
        increases.items(), enumerate(criteria)
    ):
        rows.append(
            row(
                f"{kind} {ratio:g} %",
                f"{TARGET}/{kind}-{ratio:g}-{criterion}",
                values[i],
                part_pct=2.0,
            )
        )
    return pd.DataFrame(rows)


def pruning(models=t.MODELS[1:3], **given) -> pd.DataFrame:
    """Speed of synthetic models and perplexity of the tiny one."""
    return pd.concat([t.pruning(models), pruning_rows(**given)], ignore_index=True)


def formats(increases=FORMATS, models=t.MODELS[:2]) -> pd.DataFrame:
    rows = [
        row(
            series,
            TARGET,
            value,
            part_pct=0.1 if value else 0.0,
            weights_bytes=33 * 10**6 if "16" in series else 17 * 10**6,
        )
        for series, value in increases.items()
    ]
    return pd.concat([t.quantization(models), pd.DataFrame(rows)], ignore_index=True)
