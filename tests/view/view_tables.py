"""Synthetic summaries to draw. Tests only: no number here was measured."""

import itertools

import pandas as pd

METRICS = ("ttft_s", "tpot_s", "e2e_s", "throughput_tok_s")
FFN, EXPERTS, ACTIVE = (1792, 3584, 7168, 14336), (8, 16, 32, 64), (1, 2, 4, 8)


def row(
    sweep: str,
    model: str,
    i: int,
    e: int,
    k: int,
    batch: int,
    tokens: int,
    status="ok",
    method="full",
    layers=32,
) -> dict:
    shape = {
        "sweeps": sweep,
        "model": model,
        "method": method,
        "routing": "model",
        "status": status,
        "reason": None if status == "ok" else f"synthetic {status}",
        "num_layers": layers,
        "expert_ffn_dim": i,
        "num_experts": e,
        "top_k": k,
        "batch": batch,
        "input_tokens": tokens,
        "output_tokens": tokens,
        "device": "synthetic",
    }
    tpot = 1e-3 + 1e-9 * i * e * k**0.5 + 1e-5 * batch
    ttft = 1e-6 * batch * tokens * (1 + i * k / 14336)
    e2e = ttft + (tokens - 1) * tpot
    values = {
        "ttft_s": ttft,
        "tpot_s": tpot,
        "e2e_s": e2e,
        "throughput_tok_s": 2 * batch * tokens / e2e,
    }
    ok = status == "ok"
    for name, value in values.items():
        shape |= {
            name: value if ok else None,
            f"{name}_lo": 0.99 * value if ok else None,
            f"{name}_hi": 1.02 * value if ok else None,
        }
    floors = {
        f"floor_{n}": v * (1.4 if n == "throughput_tok_s" else 0.6) for n, v in values.items()
    }
    return {
        **shape,
        **floors,
        "predicted_e2e_s": 1.1 * e2e if ok else None,
        "predicted_how": "calibrated" if ok else None,
        "n_repeats": 3 if ok else 0,
        "spread_pct": 3.0 if ok else None,
    }


def grid(ffn=FFN, experts=EXPERTS, active=ACTIVE) -> pd.DataFrame:
    """The 64 cells: out of memory over i e > 300,000 (12 cells), depth-extrapolated over 200,000,
    sampled else."""

    def kind(i: int, e: int) -> dict:
        if i * e > 300_000:
            return {"status": "oom", "method": "sampled"}
        return {"method": "depth+sampled" if i * e > 200_000 else "sampled"}

    return pd.DataFrame(
        [
            row("grid", "synthetic-8x7B", i, e, k, 16, 2048, **kind(i, e))
            for i, e, k in itertools.product(ffn, experts, active)
        ]
    )


def tiny_grid() -> pd.DataFrame:
    """2 x 2 x 3 cells, all measured in full, but that K = 8 of E = 4 is infeasible."""
    return pd.DataFrame(
        [
            row(
                "grid",
                "synthetic-tiny",
                i,
                e,
                k,
                8,
                64,
                layers=4,
                status="infeasible" if k > e else "ok",
            )
            for i, e, k in itertools.product((128, 512), (4, 8), (1, 2, 8))
        ]
    )


def batches() -> pd.DataFrame:
    """Batch x top-k and batch x length of two models; the shortest length is measured in full."""
    models, sizes = ("synthetic-A", "synthetic-B"), (1, 16, 32, 64, 128)
    rows = [
        row("batch_topk", m, 1408, 64, k, b, 512, method="sampled")
        for m, k, b in itertools.product(models, (1, 2, 4, 8, 16, 32), sizes)
    ]
    rows += [
        row("batch_length", m, 1408, 64, 6, b, s, method="full" if s == 128 else "sampled")
        for m, s, b in itertools.product(models, (128, 512, 2048), sizes)
    ]
    return pd.DataFrame(rows)


def parameters() -> pd.DataFrame:
    parts = {
        "experts": (900, 100),
        "attention": (80, 80),
        "embedding": (15, 15),
        "router": (3, 1),
        "norms": (2, 1),
    }
    return pd.DataFrame(
        [
            {
                "model": m,
                "component": c,
                "total_parameters": n * t * 10**7,
                "active_parameters": n * a * 10**7,
            }
            for n, m in ((1, "synthetic-A"), (4, "synthetic-B"))
            for c, (t, a) in parts.items()
        ]
    )
