"""Synthetic results tables with known answers. Tests only: no number here was measured."""

import itertools

import pandas as pd

FFN, EXPERTS, ACTIVE = (1792, 3584, 7168, 14336), (8, 16, 32, 64), (1, 2, 4, 8)
BATCHES, LENGTHS, TOP_K = (1, 16, 32, 64, 128), (128, 256, 512, 1024, 2048), (1, 2, 4, 8, 16, 32)
MIXTRAL, DSV2, QWEN = "Mixtral-8x7B-v0.1", "DeepSeek-V2-Lite", "Qwen1.5-MoE-A2.7B"
SPREAD = (0.999, 1.0, 1.001)
SHAPES = {
    MIXTRAL: (32, 4096, 14336, 8, 2),
    DSV2: (27, 2048, 1408, 64, 6),
    QWEN: (24, 2048, 1408, 60, 4),
    "tiny-mixtral": (4, 256, 512, 8, 2),
    "tiny-deepseek-v2": (4, 256, 128, 16, 4),
    "tiny-qwen2-moe": (4, 256, 128, 16, 4),
}


def row(
    sweep: str,
    model: str,
    throughput: float | None,
    *,
    batch: int,
    tokens: int,
    ffn=None,
    experts=None,
    active=None,
    status="ok",
    method="full",
    **more,
) -> dict:
    layers, hidden, i, e, k = SHAPES[model]
    shape = {"expert_ffn_dim": ffn or i, "num_experts": experts or e, "top_k": active or k}
    ident = "/".join(map(str, (model, method, *shape.values(), batch, tokens)))
    ok = status == "ok"
    return {
        "key": ident,
        "point_id": ident if ok else None,
        "sweeps": sweep,
        "model": model,
        "method": method,
        "status": status,
        "reason": None if ok else status,
        "num_layers": layers,
        "hidden_size": hidden,
        **shape,
        "dtype": "bfloat16",
        "quantization": None,
        "kv_cache_dtype": "auto",
        "tensor_parallel": 4,
        "pipeline_parallel": 1,
        "expert_parallel": False,
        "graphs": "light",
        "batch": batch,
        "input_tokens": tokens,
        "output_tokens": tokens,
        "device": "NVIDIA H100 80GB HBM3" if ok else None,
        "engine_version": "none 0" if ok else None,
        "throughput_tok_s": throughput if ok else None,
        "throughput_tok_s_lo": throughput * SPREAD[0] if ok else None,
        "throughput_tok_s_hi": throughput * SPREAD[2] if ok else None,
        "n_repeats": 3 if ok else 0,
        **more,
    }


def grid(
    f,
    model=MIXTRAL,
    ffn=FFN,
    experts=EXPERTS,
    active=ACTIVE,
    batch=16,
    tokens=2048,
    oom=lambda i, e, k: False,
    method=lambda i, e, k: "full",
) -> pd.DataFrame:
    """Summary of a grid with throughput f(I, E, K)."""
    return pd.DataFrame(
        [
            row(
                "grid",
                model,
                f(i, e, k),
                batch=batch,
                tokens=tokens,
                ffn=i,
                experts=e,
                active=k,
                status="oom" if oom(i, e, k) else "ok",
                method=method(i, e, k),
            )
            for i, e, k in itertools.product(ffn, experts, active)
        ]
    )


def topk(f, models=(DSV2, QWEN), batches=BATCHES, active=TOP_K, tokens=2048) -> pd.DataFrame:
    """Summary of the batch x top-k sweep with throughput f(model, B, K)."""
    return pd.DataFrame(
        [
            row("batch_topk", m, f(m, b, k), batch=b, tokens=tokens, active=k)
            for m, b, k in itertools.product(models, batches, active)
        ]
    )


def lengths(f, models=(DSV2, QWEN), batches=BATCHES, tokens=LENGTHS) -> pd.DataFrame:
    """Summary of the batch x length sweep with throughput f(model, B, S)."""
    return pd.DataFrame(
        [
            row("batch_length", m, f(m, b, s), batch=b, tokens=s)
            for m, b, s in itertools.product(models, batches, tokens)
        ]
    )


def per_repeat(summary: pd.DataFrame, factors=SPREAD) -> pd.DataFrame:
    """The results table a summary came from: a row per repeat; one with repeat <NA> for points
    without a number."""
    rows = []
    for record in summary.to_dict("records"):
        base = {
            k: v for k, v in record.items() if not k.endswith(("_lo", "_hi")) and k != "n_repeats"
        }
        if record["status"] != "ok":
            rows.append({**base, "repeat": None})
        else:
            rows += [
                {**base, "repeat": i, "throughput_tok_s": record["throughput_tok_s"] * f}
                for i, f in enumerate(factors)
            ]
    return pd.DataFrame(rows).astype({"repeat": "Int64"})
