"""Synthetic summaries of section 4 with planted costs and acceptances. Tests only: no number here
was measured."""

import itertools

import pandas as pd

from moebook.models.costs import distinct_experts
from moebook.predict.work import expected_tokens
from moebook.sections.speculative_decoding.plan import NGRAM, PLAIN

TARGET, TRAINED = "Qwen3-30B-A3B", "tiny-aux-0.01"
DRAFTS = {
    "Qwen3-0.6B": 0.11,
    "Qwen3-1.7B": 0.19,
    "Qwen3-4B": 0.34,
    "Qwen3-8B": 0.55,
}  # a draft step over a plain step
TINY = {"tiny-draft-small": 0.3, "tiny-draft-large": 0.6}
RATES = {
    "draft tiny-draft-small": 0.45,
    "draft tiny-draft-medium": 0.6,
    "draft tiny-draft-large": 0.72,
    NGRAM: 0.3,
}
TEXTS = {"code": 0.12, "prose": 0.0, "numbers": -0.2}
COST = ("spec_length", "spec_tokens", "spec_batch")
SPREAD = (0.99, 1.02)


def plain_step_s(batch: int, tokens: int) -> float:
    return 6e-3 + 1e-4 * batch + 2e-6 * tokens


def step_ratio(draft_cost: float, k: int, batch: int) -> float:
    """Cost ratio that is planted: verifying costs more with k, drafting k draft steps."""
    return 1 + 0.04 * k * (1 + batch / 64) + k * draft_cost


def row(
    sweeps: str,
    series: str,
    k: int,
    batch: int,
    tokens: int,
    tpot_s: float | None,
    *,
    per_step: float | None = 1.0,
    model: str = TARGET,
    status: str | None = None,
    method: str = "sampled",
    draft: str | None = None,
    **more,
) -> dict:
    """A point of `tokens` in and out; without a number where tpot_s is None."""
    ok = tpot_s is not None
    out = {
        "key": "/".join(map(str, (sweeps, series, k, batch, tokens, *more.values()))),
        "sweeps": sweeps,
        "model": model,
        "series": series,
        "method": method,
        "status": status or ("ok" if ok else "oom"),
        "reason": None if ok else "synthetic: does not fit",
        "num_layers": 48,
        "hidden_size": 2048,
        "expert_ffn_dim": 768,
        "num_experts": 128,
        "top_k": 8,
        "dtype": "bfloat16",
        "quantization": None,
        "kv_cache_dtype": "auto",
        "tensor_parallel": 1,
        "pipeline_parallel": 1,
        "expert_parallel": False,
        "graphs": "compiled",
        "weights": "dummy",
        "speculative": None if k == 0 else "draft_model" if draft else "ngram",
        "draft": draft,
        "draft_tokens": k,
        "set_acceptance": None,
        "temperature": None,
        "text": None,
        "batch": batch,
        "input_tokens": tokens,
        "output_tokens": tokens,
        "device": "synthetic",
        "engine_version": "none 0",
        "device_kind": "h100",
        "n_repeats": 3 if ok else 0,
        "tokens_per_step": per_step if ok else None,
        **more,
    }
    ttft = 1e-6 * batch * tokens
    e2e = ttft + (tokens - 1) * (tpot_s or 0)
    told = {
        "ttft_s": ttft,
        "tpot_s": tpot_s,
        "e2e_s": e2e,
        "throughput_tok_s": 2 * batch * tokens / e2e if e2e else None,
    }
    for name, value in told.items():
        out |= {
            name: value if ok else None,
            f"{name}_lo": SPREAD[0] * value if ok else None,
            f"{name}_hi": SPREAD[1] * value if ok else None,
        }
    return out


def cost(
    drafts: dict | None = None,
    acceptance: float | None = 0.7,
    checked: float | None = 0.5,
    ks=(1, 2, 4, 8),
    fixed=4,
    lengths=(128, 512, 1024, 2048),
    batches=(1, 4, 16, 64),
    batch=16,
    tokens=512,
    model=TARGET,
    gone=(),
    own: dict | None = None,
) -> pd.DataFrame:
    """Target alone and with each draft; `own`: acceptance of each draft where none is set; gone:
    drafts that do not fit."""
    drafts = DRAFTS if drafts is None else drafts

    def cells(
        series: str, name: str | None, k: int, a: float | None, only: tuple[str, ...]
    ) -> list[dict]:
        places: dict[tuple[int, int], list[str]] = {}
        for sweep, b, n in [
            ("spec_tokens", batch, tokens),
            *(("spec_length", batch, n) for n in lengths),
            *(("spec_batch", b, tokens) for b in batches),
        ]:
            if sweep in only:
                places.setdefault((b, n), []).append(sweep)
        found = []
        for (b, n), sweeps in places.items():
            rate = (own or {}).get(name) if a is None else a
            gained = expected_tokens(rate, k) if k else 1.0
            step = plain_step_s(b, n) * (step_ratio(drafts[name], k, b) if name else 1.0)
            shares = {f"accepted_pos{i}": rate**i for i in range(1, k + 1)} if name else {}
            found.append(
                row(
                    ",".join(sweeps),
                    series,
                    k,
                    b,
                    n,
                    None if name in gone else step / gained,
                    per_step=gained,
                    model=model,
                    draft=name,
                    set_acceptance=a,
                    **shares,
                )
            )
        return found

    rows = cells(PLAIN, None, 0, None, COST)
    for name, k in itertools.product(drafts, ks):
        rows += cells(
            f"draft {name}", name, k, acceptance, COST if k == fixed else ("spec_tokens",)
        )
    if checked is not None:
        name = next(iter(drafts))
        rows += [
            {**r, "sweeps": "spec_check", "key": r["key"] + "/check"}
            for r in cells(f"draft {name}", name, fixed, checked, ("spec_tokens",))
        ]
    return pd.DataFrame(rows)


def trained(
    k=4, batch=8, temperatures=(0.0, 0.5, 1.0), texts=TEXTS, counted=True, rates=None, differ=0
) -> pd.DataFrame:
    """A trained target continuing texts; `differ`: sequences of each draft whose greedy tokens are
    not the plain ones'."""
    rates, rows = RATES if rates is None else rates, []
    for (series, rate), heat, text in itertools.product(
        {PLAIN: None, **rates}.items(), temperatures, texts
    ):
        drafted = 0 if rate is None else k
        a = None if rate is None else max(0.05, rate + TEXTS[text] - 0.1 * heat)
        gained = expected_tokens(a, k) if drafted else 1.0
        digests = [f"{text}{i}" for i in range(batch)]
        if drafted:
            digests[:differ] = [f"other{i}" for i in range(differ)]
        hit = distinct_experts(16, 2, batch * (drafted + 1)) * (0.9 if drafted else 0.95)
        facts = {f"accepted_pos{i}": a**i for i in range(1, k + 1)} if drafted else {}
        rows.append(
            row(
                "acceptance",
                series,
                drafted,
                batch,
                256,
                2e-3 / gained,
                per_step=gained,
                model=TRAINED,
                method="acceptance",
                draft=series.removeprefix("draft ") if "draft" in series else None,
                temperature=heat,
                text=text,
                **facts,
            )
        )
        rows[-1] |= {
            "output_tokens": 128,
            "num_experts": 16,
            "top_k": 2,
            "step_tokens": float(batch * (drafted + 1)),
            "experts_per_step": hit if counted else None,
            "output_digests": ",".join(digests * 3),
            "acceptance_rate": sum(facts.values()) / k if drafted else None,
            "weights": "tiny:gpu/aux-0.01",
        }
    return pd.DataFrame(rows)


def gpu(**given) -> pd.DataFrame:
    return pd.concat([cost(**given), trained()], ignore_index=True)


def cpu() -> pd.DataFrame:
    """The CPU profile's plan: no acceptance can be set, two lengths, two batches."""
    own = {"tiny-draft-small": 0.2, "tiny-draft-large": 0.35}
    table = cost(TINY, None, None, (1, 3), 3, (32, 64), (1, 4), 4, 32, TRAINED, own=own)
    table = table.assign(device_kind="cpu", weights="tiny:cpu/aux-0.01")
    return pd.concat([table, trained(3, 4, (0.0, 1.0))], ignore_index=True)
