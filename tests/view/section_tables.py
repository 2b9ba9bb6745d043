"""Synthetic summaries of the quantization, pruning and fused-layer sections. Tests only: no number
here was measured."""

import itertools

import numpy as np
import pandas as pd

MODELS = tuple(
    f"synthetic-{name}"
    for name in (
        "Mixture-8x7B",
        "OL-1B-7B",
        "Qu-A2.7B",
        "Qu-30B-A3B",
        "Deep-Lite",
        "Fi-3.5-instruct",
    )
)
TINY = ("synthetic-tiny",)
BATCHES, LENGTHS = (1, 16, 32, 64), (128, 256, 512, 1024, 2048)
LADDER_OF_FORMATS = {
    "bf16": 1.0,
    "fp16": 0.99,
    "fp8": 1.24,
    "fp8 per channel": 1.2,
    "fp8 weights only": 1.1,
    "fp8 + fp8 KV": 1.35,
    "int8 experts": None,
    "int4 weights": 0.7,
}
WEIGHTS_GB = {
    "bf16": 94,
    "fp16": 94,
    "fp8": 48,
    "fp8 per channel": 48,
    "fp8 weights only": 48,
    "fp8 + fp8 KV": 48,
    "int8 experts": 49,
    "int4 weights": 26,
}
BACKENDS = {
    "expert loop": (900, 30.0, "calls"),
    "grouped GEMM": (110, 4.0, "graph"),
    "fused Triton": (40, 1.6, "graph"),
    "FlashInfer CUTLASS": (45, 1.3, "graph"),
}
TOKENS = tuple(2**n for n in range(14))
BANDWIDTH, PEAK = 4e12, 8e14
METRICS = ("ttft_s", "tpot_s", "e2e_s", "throughput_tok_s")


def point(
    sweeps: str,
    model: str,
    series: str,
    batch: int,
    tokens: int,
    speed: float | None,
    *,
    top_k: int = 2,
    status: str = "ok",
    method: str = "full",
    floors: bool = True,
    **more,
) -> dict:
    """One run of an engine that is `speed` times as fast as the synthetic base; no number where
    speed is None."""
    status = "infeasible" if speed is None and status == "ok" else status
    ok = status == "ok"
    base = {"ttft_s": 1e-6 * batch * tokens, "tpot_s": 4e-3 + 1e-3 * top_k + 1e-4 * batch}
    base["e2e_s"] = base["ttft_s"] + (tokens - 1) * base["tpot_s"]
    base["throughput_tok_s"] = 2 * batch * tokens / base["e2e_s"]
    out = {
        "sweeps": sweeps,
        "model": model,
        "series": series,
        "method": method,
        "status": status,
        "reason": None if ok else f"synthetic {status}",
        "num_layers": 32,
        "hidden_size": 4096,
        "expert_ffn_dim": 14336,
        "num_experts": 8,
        "top_k": top_k,
        "dtype": "bfloat16",
        "quantization": None,
        "batch": batch,
        "input_tokens": tokens,
        "output_tokens": tokens,
        "device": "synthetic",
        "n_repeats": 3 if ok else 0,
        **more,
    }
    for name, value in base.items():
        scaled = (value * speed if name == "throughput_tok_s" else value / speed) if ok else None
        out |= {
            name: scaled,
            f"{name}_lo": 0.99 * scaled if ok else None,
            f"{name}_hi": 1.02 * scaled if ok else None,
        }
        out[f"floor_{name}"] = (
            value * (1.9 if name == "throughput_tok_s" else 0.5) if floors else None
        )
    return out


def quantization(
    models=MODELS[:4], pair=("bf16", "fp8"), lengths=LENGTHS, formats=None
) -> pd.DataFrame:
    """Both formats over batch and length; the last of several models is depth-extrapolated in the
    first format."""
    rows = []
    for i, (model, series) in enumerate(itertools.product(models, pair)):
        speed, slope = 1.0 + 0.1 * (i // 2), 0.0
        if series == pair[1]:
            speed, slope = (1.16 + 0.02 * i) * speed, 1e-3
        kind = (
            "depth+sampled"
            if len(models) > 1 and model == models[-1] and series == pair[0]
            else "sampled"
        )
        rows += [
            point("quant_batch", model, series, b, 2048, speed * (1 + slope * b), method=kind)
            for b in BATCHES
        ]
        rows += [
            point(
                "quant_length",
                model,
                series,
                64,
                n,
                speed,
                method=kind,
                status="oom"
                if model == models[0] and n == max(lengths) and series == pair[0]
                else "ok",
            )
            for n in lengths
        ]
    for series, b in itertools.product(formats or LADDER_OF_FORMATS, (1, 16, 64)):
        speed = LADDER_OF_FORMATS.get(series, 1.0)
        known = (
            {
                "weights_bytes": WEIGHTS_GB.get(series, 9) * 10**9,
                "kv_capacity_tokens": 300_000 if "KV" not in series else 600_000,
            }
            if speed
            else {}
        )
        rows.append(point("formats", models[0], series, b, 512, speed, **known))
    return pd.DataFrame(rows)


def quality(table: pd.DataFrame, measured: bool = True) -> pd.DataFrame:
    """The table with perplexities of its formats, or with the rows that say why there are none."""
    rows = []
    for i, series in enumerate(table.loc[table["sweeps"] == "formats", "series"].unique()):
        row = point(
            "quality",
            MODELS[0],
            series,
            12,
            512,
            1.0,
            method="perplexity",
            status="ok" if measured and series != "int8 experts" else "infeasible",
        )
        rows.append({k: None if k.startswith(METRICS) else v for k, v in row.items()})
        if rows[-1]["status"] == "ok":
            rows[-1] |= {
                "perplexity": 6 + 0.02 * i,
                "perplexity_lo": 6 + 0.02 * i,
                "perplexity_hi": 6 + 0.02 * i,
                "weights_bytes": WEIGHTS_GB[series] * 10**9,
            }
        else:
            rows[-1]["reason"] = "dummy weights have no quality"
    return pd.concat([table, pd.DataFrame(rows)], ignore_index=True)


def pruning(models=MODELS[1:3], active=(1, 2, 4, 6, 8), floors: bool = True) -> pd.DataFrame:
    """Whole and pruned models over active experts; one ratio infeasible throughout for the last of
    several models."""
    series = {
        "baseline": (1.0, 1.0),
        **{f"inter {r:g} %": (1 + r / 400, 1.0) for r in (12.5, 25, 50)},
        **{f"intra {r:g} %": (1 + r / 200, 1.02) for r in (12.5, 25, 50)},
    }
    rows = []
    for model, (name, (speed, power)), k in itertools.product(models, series.items(), active):
        gone = len(models) > 1 and model == models[-1] and name == "inter 12.5 %"
        rows.append(
            point(
                "pruning",
                model,
                name,
                16,
                2048,
                None if gone else speed * power**k,
                top_k=k,
                method="sampled",
                floors=floors,
            )
        )
    return pd.DataFrame(rows)


def layer(
    sweep: str,
    model: str,
    series: str,
    tokens: int,
    base_us: float,
    per_token_us: float,
    timing: str,
    *,
    status: str = "ok",
    width: float = 2.0,
    size: float = 1.0,
    floors: bool = True,
) -> dict:
    """One layer: a flat part, and a part that grows with tokens."""
    ok = status == "ok"
    row = point(
        sweep,
        model,
        series,
        tokens,
        1,
        None,
        status="ok" if ok else status,
        method="layer",
        floors=False,
    )
    row |= {
        "status": status,
        "reason": None if ok else f"synthetic {status}",
        "n_repeats": 3 if ok else 0,
    }
    if not ok:
        return row
    hidden, ffn, experts, k = 2048, int(1024 * size), 64, 8
    hit = experts * (1 - (1 - k / experts) ** tokens)
    flops = 6.0 * tokens * k * hidden * ffn
    moved = 3.0 * hit * hidden * ffn * width + tokens * ((1 + k) * hidden + 2 * k * ffn) * 2
    floor = max(moved / BANDWIDTH, flops / (PEAK * 2 / width))
    seconds = 1e-6 * base_us + 1.2 * floor * per_token_us
    row |= {
        "layer_timing": timing,
        "layer_flops": flops,
        "layer_bytes": moved,
        "intensity": flops / moved,
        "achieved_flops_per_s": flops / seconds,
        "floor_layer_s": floor if floors else None,
        "experts_hit": round(hit),
        "relative_error": 0.004,
    }
    return row | {
        "layer_time_s": seconds,
        "layer_time_s_lo": 0.98 * seconds,
        "layer_time_s_hi": 1.03 * seconds,
    }


def layers(models=MODELS, tokens=TOKENS, backends=None, floors: bool = True) -> pd.DataFrame:
    """Layers of each model, quantized ones of the first half, and three tuned ones; the loop is too
    slow at the end."""
    backends, rows = BACKENDS if backends is None else backends, []
    for (i, model), (series, of), n in itertools.product(
        enumerate(models), backends.items(), tokens
    ):
        late = series == "expert loop" and n == max(tokens)
        status = "infeasible" if of is None else "timeout" if late else "ok"
        rows.append(
            layer(
                "layer",
                model,
                series,
                n,
                *(of or (0, 0, "")),
                status=status,
                size=1 + i / 2,
                floors=floors,
            )
        )
    for model, series, n in itertools.product(
        models[: -(-len(models) // 2)],
        ("fused Triton, fp8", "CUTLASS, fp8", "Marlin, fp8", "DeepGEMM, fp8"),
        tokens,
    ):
        base = {"f": 44, "C": 60, "M": 35, "D": 50}[series[0]]
        rows.append(
            layer(
                "layer_quantized",
                model,
                series,
                n,
                base,
                base / 30,
                "graph",
                width=1.0,
                status="infeasible" if series[0] == "D" and n < 128 else "ok",
            )
        )
    for n, gain in ((16, 1.22), (256, 1.031), (4096, 1.107)):
        row = layer("layer_tuned", models[0], "fused Triton, tuned here", n, 40, 1.6, "graph")
        rows.append(row | {"default_time_s": row["layer_time_s"] * gain, "configs_tried": 96})
    return pd.DataFrame(rows)


def cpu_layers() -> pd.DataFrame:
    """Three backends with times and one that a CPU lacks, all by plain calls, of one model, without
    ceilings."""
    own = {
        "expert loop": (300, 30.0, "calls"),
        "grouped GEMM": (150, 10.0, "calls"),
        "fused (engine's choice)": (60, 9.0, "calls"),
        "fused Triton": None,
    }
    return layers(TINY, (1, 4, 16, 64, 256, 1024), own, floors=False)


def ladder(
    models=MODELS[:1], series=("fused", "fused, no graphs", "grouped GEMM", "expert loop")
) -> pd.DataFrame:
    rows = []
    for model, (i, name) in itertools.product(models, enumerate(series)):
        rows += [
            point(
                "ladder_batch",
                model,
                name,
                b,
                512,
                0.5**i,
                method="sampled",
                status="timeout" if i == 3 and b == 64 else "ok",
            )
            for b in BATCHES
        ]
        rows += [
            point(
                "ladder_length",
                model,
                name,
                16,
                n,
                0.5**i,
                method="full" if n == 128 else "sampled",
            )
            for n in LENGTHS
        ]
    return pd.DataFrame(rows)


def floorless(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(**{c: np.nan for c in table if c.startswith("floor_")})
