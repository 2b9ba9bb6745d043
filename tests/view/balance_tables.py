"""Synthetic summaries of section 7, with planted imbalance. Tests only: no number here was
measured."""

import json
from functools import cache

import numpy as np
import pandas as pd

from moebook.predict.layers import work
from moebook.results import balance
from moebook.sections.load_balancing.skew import expected_distinct, skewed

VARIANTS = {
    "no-balance": 0.9,
    "aux-0.001": 0.45,
    "aux-0.01": 0.15,
    "aux-0.1": 0.05,
    "loss-free": 0.12,
}
COST = {"no-balance": 1.0, "aux-0.001": 1.0, "aux-0.01": 1.01, "aux-0.1": 1.06, "loss-free": 1.002}
TEXTS = {"code": 5.2, "prose": 14.0, "numbers": 8.1}
GPU = {"layers": 8, "experts": 64, "top_k": 8, "sequences": 48, "tokens": 512}
CPU = {"layers": 4, "experts": 8, "top_k": 2, "sequences": 24, "tokens": 256}
BANDWIDTH, PEAK = 3e12, 6e14
LAYERS = {
    "synthetic-OL-1B-7B": (2048, 1024, 64, 8),
    "synthetic-Qu-30B-A3B": (2048, 768, 128, 8),
    "synthetic-Mixture-8x7B": (4096, 14336, 8, 2),
}
TINY = {"synthetic-tiny": (256, 512, 8, 2)}
SKEWS = (0.0, 0.5, 1.0, 1.5, 2.0)


def counts(spread: float, size: dict, seed: int, text: int = 0) -> np.ndarray:
    """(N, L, E) choices: experts ~ log-normal with `spread`, a third of it of the text's own."""
    layers, experts = size["layers"], size["experts"]
    common, own = (
        np.random.default_rng([7, s]).normal(size=(layers, experts))
        for s in (seed, 1000 + 10 * seed + text)
    )
    weight = np.exp(spread * (0.9 * common + 0.44 * own))
    rng = np.random.default_rng([seed, text])
    per_sequence = weight * np.exp(
        0.1 * spread * rng.normal(size=(size["sequences"], layers, experts))
    )
    share = per_sequence / per_sequence.sum(-1, keepdims=True)
    return rng.multinomial(size["tokens"] * size["top_k"], share)


def point(sweep: str, series: str, size: dict, method: str, **more) -> dict:
    return {
        "sweeps": sweep,
        "series": series,
        "model": f"tiny-{series}",
        "method": method,
        "status": "ok",
        "reason": None,
        "num_layers": size["layers"],
        "hidden_size": 256,
        "expert_ffn_dim": 128,
        "num_experts": size["experts"],
        "top_k": size["top_k"],
        "dtype": "float32",
        "quantization": None,
        "batch": size["sequences"],
        "input_tokens": size["tokens"],
        "output_tokens": 1,
        "device": "synthetic",
        "n_repeats": 1,
        "text": None,
        "skew": np.nan,
        "key": f"{sweep}/{series}/{more.get('text')}",
        **more,
    }


def training(size: dict, variants=tuple(VARIANTS)) -> list[dict]:
    steps = [0, 16, 31, 62, 125, 250, 500, 1000, 2000]
    rows = []
    for i, name in enumerate(variants):
        loads = [
            counts(VARIANTS[name] * (1 - np.exp(-s / 400)), {**size, "sequences": 4}, i)
            .sum(0)
            .tolist()
            for s in steps
        ]
        rng = np.random.default_rng(i)
        loss = [
            [s, 2.2 * COST[name] + 3 * np.exp(-s / 250) + 0.03 * rng.normal()]
            for s in range(0, 2001, 20)
        ]
        rows.append(
            point(
                "training",
                name,
                size,
                "training",
                perplexity=9.0 * COST[name],
                unigram_perplexity=120.0,
                parameters=4.2e6,
                train_steps=2000,
                train_tokens=3.3e7,
                train_seconds=410.0,
                **{f"perplexity_{t}": p * COST[name] for t, p in TEXTS.items()},
                loss_curve=json.dumps(loss),
                load_steps=json.dumps(steps),
                load_counts=json.dumps(loads),
            )
        )
    return rows


def captured(size: dict, variants=tuple(VARIANTS)) -> list[dict]:
    return [
        point(
            "balance",
            name,
            size,
            "routing",
            text=text,
            **balance.describe(counts(VARIANTS[name], size, i, t), resamples=200),
        )
        for i, name in enumerate(variants)
        for t, text in enumerate(TEXTS)
    ]


def real_batches(size: dict, batches=(4, 16)) -> list[dict]:
    """Three repeats of 16 steps at a planted place between the ends."""
    rows = []
    for series, place in {"code": 0.6, "random ids": 0.9, "one prompt for all": 0.0}.items():
        for batch in batches:
            k, e = size["top_k"], size["experts"]
            experts = k + place * (e * (1 - (1 - k / e) ** batch) - k)
            courses = json.dumps(np.full((3, 16), experts).tolist())
            told = {"batch": batch, "model": "tiny-no-balance", "experts_per_step": experts}
            told |= {"step_experts": courses, "key": f"real_batches/{series}/{batch}"}
            rows.append(point("real_batches", series, size, "step_experts", **told))
    return rows


def ablated(
    size: dict, variants=("no-balance", "aux-0.01", "loss-free"), rho: float = 0.2
) -> list[dict]:
    """Increases that follow frequency in no-balance, and hardly in the others."""
    rows = []
    for i, name in enumerate(variants):
        total = sum(counts(VARIANTS[name], size, i, t) for t in range(3)).sum(0).astype(float)
        noise = np.random.default_rng(i).normal(size=total.shape)
        z = (total - total.mean(1, keepdims=True)) / total.std(1, keepdims=True)
        weight = 0.9 if name == "no-balance" else rho
        rise = 0.008 * np.exp(0.8 * (weight * z + np.sqrt(1 - weight**2) * noise))
        base = 9.0 * COST[name]
        rows.append(
            point(
                "importance",
                name,
                size,
                "ablation",
                text="all",
                perplexity=base,
                ablation_perplexity=json.dumps((base * (1 + rise)).tolist()),
                expert_counts=json.dumps(total.astype(int).tolist()),
            )
        )
    return rows


def layer(model: str, tokens: int, skew: float, timing: str = "graph", floors: bool = True) -> dict:
    """A layer at 1.3 times its floor over 15 us, the experts hit as many as expected."""
    hidden, ffn, experts, k = (LAYERS | TINY)[model]
    row = point(
        "skew_layer",
        f"zipf {skew:g}",
        {"layers": 16, "experts": experts, "top_k": k, "sequences": tokens, "tokens": 1},
        "layer",
        skew=skew,
        model=model,
    )
    row |= {
        "hidden_size": hidden,
        "expert_ffn_dim": ffn,
        "dtype": "bfloat16",
        "key": f"layer/{model}/{tokens}/{skew}",
        "experts_hit": round(expected_distinct(skewed(experts, k, skew), tokens)),
    }
    flops, moved = work(row)
    floor = max(moved / BANDWIDTH, flops / PEAK)
    seconds = 15e-6 + 1.3 * floor
    return row | {
        "layer_timing": timing,
        "layer_flops": flops,
        "layer_bytes": moved,
        "floor_layer_s": floor if floors else np.nan,
        "layer_time_s": seconds,
        "layer_time_s_lo": 0.98 * seconds,
        "layer_time_s_hi": 1.03 * seconds,
    }


def engine(skew: float, batch: int, method: str = "full", status: str = "ok") -> dict:
    hit = expected_distinct(skewed(64, 8, skew), batch) / expected_distinct(skewed(64, 8, 0), batch)
    speed = 260 * batch**0.7 / (0.5 + 0.5 * hit)
    size = {"layers": 16, "experts": 64, "top_k": 8, "sequences": batch, "tokens": 512}
    row = point(
        "skew_engine",
        f"zipf {skew:g}",
        size,
        method,
        skew=skew,
        model="synthetic-OL-1B-7B",
        status=status,
        key=f"engine/{skew}/{batch}",
    )
    row["reason"] = None if status == "ok" else f"synthetic {status}"
    ok = status == "ok"
    told = {
        f"throughput_tok_s{end}": speed * f for end, f in (("", 1), ("_lo", 0.98), ("_hi", 1.01))
    }
    told |= {"tpot_s": batch / speed, "ttft_s": 0.01}
    return row | {name: value if ok else None for name, value in told.items()}


@cache
def gpu() -> pd.DataFrame:
    rows = [*training(GPU), *captured(GPU), *ablated(GPU), *real_batches(GPU)]
    rows += [
        layer(m, t, s) for m in LAYERS for t in (1, 16, 64, 256, 1024, 4096, 16384) for s in SKEWS
    ]
    rows += [
        engine(s, b, "sampled", "timeout" if (s, b) == (2.0, 64) else "ok")
        for s in SKEWS
        for b in (1, 16, 64)
    ]
    return pd.DataFrame(rows)


@cache
def cpu() -> pd.DataFrame:
    """Few layers and experts, two variants ablated, one small layer by plain calls and no
    ceilings."""
    rows = [*training(CPU), *captured(CPU), *ablated(CPU, ("no-balance", "aux-0.01"))]
    rows += real_batches(CPU)
    rows += [
        layer("synthetic-tiny", t, s, "calls", floors=False)
        for t in (16, 256)
        for s in (0.0, 1.0, 2.0)
    ]
    rows += [engine(s, b) for s in (0.0, 1.0, 2.0) for b in (4, 16)]
    return pd.DataFrame(rows)
