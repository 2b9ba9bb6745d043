"""FLOPs and bytes of one forward pass of an Architecture, per component.

Letters: B batch, S tokens, L layers, H hidden, I expert FFN dim, E experts, K experts per token.
Both are the least an engine has to move and do (a roofline bound): each weight is read once,
routing is uniform, or with `alike` all tokens of a step take the same K experts, activations stay
on the chip. A multiply-add counts as two FLOPs."""

from dataclasses import dataclass

import numpy as np

from moebook.models.architecture import Architecture
from moebook.models.formats import OWN, dtype_bytes
from moebook.models.sizes import (
    component_bytes,
    kv_bytes_per_token,
    matrix_counts,
    state_bytes_per_sequence,
)


@dataclass(frozen=True)
class Cost:
    """FLOPs and bytes of one forward pass, per component."""

    flops: dict[str, float]
    bytes: dict[str, float]

    @property
    def total_flops(self) -> float:
        return sum(self.flops.values())

    @property
    def total_bytes(self) -> float:
        return sum(self.bytes.values())


def distinct_experts(num_experts: int, top_k: int, tokens: float) -> float:
    """Expected number of experts of one layer that `tokens` tokens hit under uniform routing: E(1 -
    (1 - K/E)^tokens); 0 for a dense model. Raises ValueError where K exceeds E."""
    if num_experts == 0:
        return 0.0
    if not 0 <= top_k <= num_experts:
        allowed = "it must lie between 0 and the number of experts"
        raise ValueError(f"top_k {top_k} of {num_experts} experts: {allowed}")
    return num_experts * (1 - (1 - top_k / num_experts) ** tokens)


def decode_cost(
    arch: Architecture,
    batch: int,
    context: int | np.ndarray,
    dtype: str = "bfloat16",
    quantization: str | None = OWN,
    kv_dtype: str = "bfloat16",
    tokens_per_sequence: int = 1,
    alike: bool = False,
) -> Cost:
    """One decode step: B sequences gain one token, each attending to `context` tokens (its own
    included); of an array of contexts the scores and the cache are arrays, too.

    tokens_per_sequence: tokens of each sequence that one step verifies, the first attending to
    `context` tokens, each further one to one more; all are sampled from, and the sequence's cache
    is read once. MLA is in its absorbed form: the heads attend to the cached latent vectors.
    `kv_cache` has recurrent states too, read and written. Text only: no vision."""
    _check_positive(batch=batch, context=context, tokens_per_sequence=tokens_per_sequence)
    tokens, last = batch * tokens_per_sequence, context + tokens_per_sequence - 1
    scores = batch * sum(_step_flops(arch, context + n) for n in range(tokens_per_sequence))
    kv = _kv_moved(arch, last, tokens_per_sequence, dtype_bytes(kv_dtype))
    kept = batch * (kv + 2 * state_bytes_per_sequence(arch, dtype))
    return Cost(
        {**_linear_flops(arch, tokens, tokens), "attention_scores": scores},
        {**_weights_read(arch, tokens, dtype, quantization, alike), "kv_cache": kept},
    )


def prefill_cost(
    arch: Architecture,
    batch: int,
    input_tokens: int,
    dtype: str = "bfloat16",
    quantization: str | None = OWN,
    kv_dtype: str = "bfloat16",
    alike: bool = False,
) -> Cost:
    """Prefill of B sequences of S = `input_tokens` in one pass, causal attention, one token sampled
    from each.

    The KV cache is written once and read once, a recurrent state written. Longer batches that an
    engine prefills in chunks read weights again."""
    _check_positive(batch=batch, input_tokens=input_tokens)
    tokens = batch * input_tokens
    scores = batch * _causal_flops(arch, input_tokens)
    kv = 2 * tokens * kv_bytes_per_token(arch, kv_dtype)
    kept = kv + batch * state_bytes_per_sequence(arch, dtype)
    return Cost(
        {**_linear_flops(arch, tokens, batch), "attention_scores": scores},
        {**_weights_read(arch, tokens, dtype, quantization, alike), "kv_cache": kept},
    )


def _kv_moved(arch: Architecture, context: int, written: int, width: int) -> int:
    """Bytes of the KV cache that a sequence reads at a context and writes, all layers; an indexer
    reads its keys of all tokens."""
    moved = 0
    for g in arch.attention_groups:
        values = g.kv_values * width * (g.reach(context) + written)
        moved += g.layers * (values + g.index_bytes * (context + written))
    return moved


def _step_flops(arch: Architecture, context: int) -> int:
    """Query-key products and the weighted sum of values of one query token, all layers, MLA
    absorbed; update and reading of a recurrent state."""
    scores = sum(
        g.layers * g.reach(context) * g.score_width(absorbed=True) for g in arch.attention_groups
    )
    return 2 * (scores + _state_macs(arch))


def _causal_flops(arch: Architecture, tokens: int) -> int:
    """`_step_flops` summed over the positions 1..S of one sequence, MLA not absorbed."""
    scores = 0
    for g in arch.attention_groups:
        reach = g.reach(tokens)
        pairs = reach * (reach + 1) // 2 + (tokens - reach) * reach
        scores += g.layers * pairs * g.score_width(absorbed=False)
    return 2 * (scores + tokens * _state_macs(arch))


def _state_macs(arch: Architecture) -> int:
    """Multiply-adds of one token with the recurrent states: one to update a value, one to read
    it."""
    return sum(g.layers * 2 * g.state_values for g in arch.attention_groups)


def _linear_flops(arch: Architecture, tokens: int, sampled: int) -> dict[str, int]:
    """FLOPs of every matrix over `tokens`, and of the head over the `sampled` last positions."""
    matrices = matrix_counts(arch)
    experts = matrices["experts"] - _beside_text(arch)
    experts = experts * arch.top_k // arch.num_experts if arch.is_moe else 0
    whole = ("attention", "router", "shared_experts", "dense_ffn", "linear_attention", "other")
    flops = {component: 2 * tokens * matrices[component] for component in whole}
    head = 2 * sampled * arch.vocab_size * arch.hidden_size
    return {**flops, "experts": 2 * tokens * experts, "lm_head": head}


def _weights_read(
    arch: Architecture, tokens: int, dtype: str, quantization: str | None, alike: bool
) -> dict[str, float]:
    """Bytes of weights that a forward over `tokens` reads: the experts hit, one embedding row a
    token, all else."""
    read = component_bytes(arch, dtype, quantization)
    for elsewhere in ("vision", "mtp"):
        del read[elsewhere]
    plain = dtype_bytes(dtype)
    if arch.is_moe:
        hit = distinct_experts(arch.num_experts, arch.top_k, 1 if alike else tokens)
        every = matrix_counts(arch)["experts"]
        text = 1 - _beside_text(arch) / every if every else 0.0
        read["experts"] *= text * hit / arch.num_experts
    read["embedding"] = min(tokens, arch.vocab_size) * arch.hidden_size * plain
    if arch.tie_embeddings:
        read["lm_head"] = arch.vocab_size * arch.hidden_size * plain
    return read


def _beside_text(arch: Architecture) -> int:
    """Elements of experts that only tokens of images choose."""
    return dict(arch.counts.beside_text).get("experts", 0) if arch.counts else 0


def _check_positive(**sizes: int | np.ndarray) -> None:
    for name, value in sizes.items():
        if (value.min() if isinstance(value, np.ndarray) else value) < 1:
            raise ValueError(f"{name} is {value}; it must be at least 1")
