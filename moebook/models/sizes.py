"""Parameters and bytes of an Architecture, per component.

Letters: S tokens, L layers, H hidden, I expert FFN dim, E experts, K experts per token.

    >>> from moebook.models.catalog import load
    >>> total_parameters(load("Mixtral-8x7B-v0.1"))
    46702792704
"""

from functools import lru_cache

from moebook.models.architecture import Architecture
from moebook.models.formats import OWN, dtype_bytes, matrix_bytes
from moebook.models.own_format import by_formula, bytes_per_element

COMPONENTS = (
    "embedding",
    "attention",
    "router",
    "experts",
    "shared_experts",
    "dense_ffn",
    "linear_attention",
    "norms",
    "lm_head",
    "vision",
    "mtp",
    "other",
)
LOGIT_ROWS = 256  # sequences whose logits vLLM holds at once by default


def parameter_counts(arch: Architecture) -> dict[str, int]:
    """Parameters per component of COMPONENTS. A tied head counts in `embedding` only."""
    matrices, vectors = matrix_counts(arch), vector_counts(arch)
    return {c: matrices[c] + vectors[c] for c in COMPONENTS}


def active_counts(arch: Architecture) -> dict[str, int]:
    """Parameters per component that serve one token of a text: K experts of each MoE layer, and
    the whole of all else.

    Embedding, head and vision tower count in full; published "active" figures leave out some of
    them."""
    counts = parameter_counts(arch)
    if arch.counts:
        counts["router"] -= dict(arch.counts.beside_text).get("router", 0)
        counts["experts"] = arch.counts.active_experts
    elif arch.is_moe:
        counts["experts"] = counts["experts"] // arch.num_experts * arch.top_k
    return counts


def total_parameters(arch: Architecture) -> int:
    return sum(parameter_counts(arch).values())


def active_parameters(arch: Architecture) -> int:
    return sum(active_counts(arch).values())


def matrix_counts(arch: Architecture) -> dict[str, int]:
    """Elements of the matrices per component; the vision part counts here as a whole."""
    return dict(_matrix_counts(arch))


@lru_cache(1 << 12)  # a grid has many points of one shape
def _matrix_counts(arch: Architecture) -> dict[str, int]:
    held = dict.fromkeys(COMPONENTS, 0)
    if arch.counts:
        return held | dict(arch.counts.matrices)
    for module in by_formula(arch):
        held[module.component] += module.elements
    h, moe = arch.hidden_size, arch.num_moe_layers
    held["shared_experts"] += moe * arch.shared_expert_gate * h
    return held | {
        "embedding": (arch.vocab_size + arch.extra_embeddings) * h,
        "router": moe * arch.num_experts * h,
        "lm_head": 0 if arch.tie_embeddings else arch.vocab_size * h,
        "vision": arch.vision_params,
    }


def vector_counts(arch: Architecture) -> dict[str, int]:
    """Elements of biases, attention sinks and norm weights per component."""
    if arch.counts:
        return {**dict.fromkeys(COMPONENTS, 0), **dict(arch.counts.vectors)}
    h, moe, experts = arch.hidden_size, arch.num_moe_layers, arch.num_experts
    qkv = (arch.num_heads + 2 * arch.num_kv_heads) * arch.head_dim
    attention = arch.qkv_bias * qkv + arch.o_bias * h + arch.attention_sinks * arch.num_heads
    norm = h * (1 + arch.norm_bias)
    norms = arch.num_layers * (2 * norm + _inner_norms(arch)) + norm
    return {
        **dict.fromkeys(COMPONENTS, 0),
        "attention": arch.num_layers * attention,
        "router": moe * experts * arch.router_bias,
        "experts": moe * experts * arch.expert_bias * (2 * arch.expert_ffn_dim + h),
        "norms": norms,
        "lm_head": arch.lm_head_bias * arch.vocab_size,
    }


def weight_bytes(
    arch: Architecture, dtype: str = "bfloat16", quantization: str | None = OWN
) -> int:
    """Bytes of all weights held in `dtype`, the matrices that `quantization` covers in its own
    width, scales included.

    quantization: `own` for the format that the model's config comes in, None for plain weights, or
    a key of formats.FORMATS. Router, embedding, norms, biases and vision stay in `dtype`."""
    return round(sum(component_bytes(arch, dtype, quantization).values()))


def component_bytes(
    arch: Architecture, dtype: str = "bfloat16", quantization: str | None = OWN
) -> dict[str, float]:
    """`weight_bytes` per component."""
    return dict(_component_bytes(arch, dtype, quantization))


@lru_cache(1 << 12)
def _component_bytes(arch: Architecture, dtype: str, quantization: str | None) -> dict[str, float]:
    plain = dtype_bytes(dtype)
    if quantization == OWN:
        width = {c: bytes_per_element(arch, c, plain) for c in COMPONENTS}
    else:
        width = matrix_bytes(plain, quantization)
    matrices, vectors = matrix_counts(arch), vector_counts(arch)
    return {c: matrices[c] * width.get(c, plain) + vectors[c] * plain for c in COMPONENTS}


def kv_bytes_per_token(arch: Architecture, kv_dtype: str = "bfloat16") -> int:
    """Bytes one token adds to the KV cache, summed over layers; windowed layers count like the
    others."""
    width = dtype_bytes(kv_dtype)
    return sum(g.layers * (g.kv_values * width + g.index_bytes) for g in arch.attention_groups)


def state_bytes_per_sequence(arch: Architecture, dtype: str = "bfloat16") -> int:
    """Bytes that layers of linear attention, SSM and convolutions keep of one sequence, whatever
    its length: inputs of convolutions in `dtype`, recurrent states in the dtype that the config
    asks for, else in `dtype`."""
    held = 0
    for g in arch.attention_groups:
        state = g.state_values * dtype_bytes(g.state_dtype or dtype)
        held += g.layers * (g.conv_values * dtype_bytes(dtype) + state)
    return held


def activation_bytes(arch: Architecture, tokens: int, dtype: str = "bfloat16") -> int:
    """Rough peak of one forward over `tokens`: residual, input and output of a layer, its widest
    part, the logits."""
    h, k = arch.hidden_size, arch.top_k
    qkv = (arch.num_heads + 2 * arch.num_kv_heads) * arch.head_dim
    moe = k * (max(2 * arch.expert_ffn_dim, h) + arch.expert_ffn_dim) + 2 * arch.shared_ffn_dim
    dense = 3 * arch.dense_ffn_dim * (arch.num_dense_layers > 0)
    widest = max(qkv + arch.num_heads * arch.head_dim, moe, dense)
    logits = 2 * min(tokens, LOGIT_ROWS) * arch.vocab_size * 4
    return tokens * (3 * h + widest) * dtype_bytes(dtype) + logits


def _inner_norms(arch: Architecture) -> int:
    """Norm weights inside one layer's attention."""
    if arch.is_mla:
        return arch.kv_lora_rank + (arch.q_lora_rank or 0)
    per_head = {"full": arch.num_heads + arch.num_kv_heads, "head": 2, None: 0}
    return per_head[arch.qk_norm] * arch.head_dim
