"""Attention groups of a model that no formula covers, from its tensors and its config."""

import re
from dataclasses import replace
from typing import Any

from moebook.models.attention import AttentionGroup, Kind, joined, latent_group
from moebook.models.counts import Layer
from moebook.models.keys import find
from moebook.models.meta import Tensor

KINDS: dict[str, Kind] = {"sliding_attention": "window", "chunked_attention": "chunk"}
FUSED = ("Wqkv", "qkv_proj", "query_key_value", "c_attn")  # queries, keys and values
INDEX_SCALE = 4  # bytes of the scale that vLLM keeps with every 128 index keys in FP8


def attention_groups(layers: list[Layer], config: Any) -> tuple[AttentionGroup, ...]:
    """What each layer attends to and keeps; a layer of attention and state has a group of each."""
    types = list(getattr(config, "layer_types", None) or [])[: len(layers)]
    if len(types) != len(layers):
        types = [None] * len(layers)
    mixed = getattr(config, "is_heterogeneous", False)  # a config of its own for each layer
    each = config.per_layer_config if mixed else [config] * len(layers)
    found = []
    for i, (layer, kind) in enumerate(zip(layers, types, strict=True)):
        own = [*_softmax(layer, each[i], kind), *_linear(layer, each[i])]
        found += own or [AttentionGroup("none", 1)]
    return joined(found)


def _softmax(layer: Layer, config: Any, layer_type: str | None) -> list[AttentionGroup]:
    """The softmax attentions of a layer: none, one, or several (LongCat has two)."""
    own = {p: t for p, t in layer.of("attention", "experts").items() if "index" not in p}
    latent = [p for p in own if "kv_a_proj" in p and p.endswith("weight")]
    if latent:
        return [_latent(layer, config, layer_type)] * len(latent)
    keys = _rows(own, "k_proj", "kv_proj", "key")
    if not keys and not _rows(own, *FUSED):
        return []
    head_dim = _head_dim(layer, config)
    heads = find(config, "heads")
    kv_values, value_dim = _kept(own, config, head_dim)
    kind, window = _reach(config, layer_type)
    kv_heads = max(1, kv_values // (head_dim + value_dim))
    if out := _output(own):
        heads = out // value_dim
    if rate := (getattr(config, "compress_rates", None) or {}).get(layer_type):
        return [_compressed(config, heads, head_dim, rate)]
    return [AttentionGroup(kind, 1, heads, kv_heads, head_dim, value_dim, kv_values, window=window)]


def _latent(layer: Layer, config: Any, layer_type: str | None) -> AttentionGroup:
    nope, rope = config.qk_nope_head_dim, config.qk_rope_head_dim
    group = latent_group(
        1, find(config, "heads"), nope, rope, config.v_head_dim, config.kv_lora_rank
    )
    if layer_type == "indexed_attention":  # a layer may use the picks of one before it
        group = replace(group, window=config.index_topk)
    if not any("indexer" in path for path in layer.tensors):
        return group
    width = config.index_head_dim
    return replace(group, index_bytes=width + INDEX_SCALE * -(-width // 128))


def _compressed(config: Any, heads: int, width: int, rate: int) -> AttentionGroup:
    """DeepSeek-V4: one vector is key and value of all heads; every `rate` tokens share one, and
    those of the last window are kept apart."""
    return AttentionGroup(
        "full", 1, heads, 1, width, width, width // rate, conv_values=config.sliding_window * width
    )


def _kept(own: dict[str, Tensor], config: Any, head_dim: int) -> tuple[int, int]:
    """Values that the cache holds per token, and the width of a head's values."""
    both = _rows(own, "kv_proj")
    if both:
        return both, head_dim
    keys, values = _rows(own, "k_proj", "key"), _rows(own, "v_proj", "value")
    if not keys:
        kv_heads = find(config, "kv_heads")
        return 2 * kv_heads * head_dim, head_dim
    values = values or keys  # keys that serve as values are kept twice
    return keys + values, head_dim * values // keys


def _rows(own: dict[str, Tensor], *modules: str) -> int:
    """Output channels of the matrices of the first of these modules that is there."""
    for module in modules:
        found = [
            t.shape[0]
            for path, t in own.items()
            if len(t.shape) == 2 and re.search(rf"(^|\.){module}(_\w+)?\.weight$", path)
        ]
        if found:
            return sum(found)
    return 0


def _output(own: dict[str, Tensor]) -> int | None:
    """Input channels of the output projection."""
    for path, tensor in own.items():
        if len(tensor.shape) == 2 and re.search(r"\.(o_proj|out_proj)\.weight$", path):
            return tensor.shape[1]
    return None


def _head_dim(layer: Layer, config: Any) -> int:
    """By the norm over one head where there is one, else as the config says."""
    said = getattr(config, "head_dim", None)
    said = said or config.hidden_size // find(config, "heads")
    for path, tensor in layer.of("norms").items():
        one_head = re.search(r"(q|k|query|key)_(layer)?norm\.weight$", path)
        if one_head and tensor.shape[0] < 2 * said:
            return tensor.shape[0]
    return said


def _reach(config: Any, layer_type: str | None) -> tuple[Kind, int | None]:
    kind = KINDS.get(layer_type or "", "full")
    if kind == "chunk":
        return kind, getattr(config, "attention_chunk_size", None)
    window = find(config, "window")
    everywhere = layer_type is None and getattr(config, "use_sliding_window", True)
    if window and (kind == "window" or everywhere):
        return "window", window
    return "full", None


def _linear(layer: Layer, config: Any) -> list[AttentionGroup]:
    """The recurrent part of a layer: convolutions keep the inputs of all but the newest token."""
    own = {**layer.of("linear_attention"), **layer.of("attention")}
    convolutions = [t.shape for p, t in own.items() if "conv" in p and len(t.shape) == 3]
    conv_values = sum(channels * (width - 1) for channels, _, width in convolutions)
    linear = layer.of("linear_attention")
    heads, state = _state(linear, config)
    if not conv_values and not state:
        return []
    in_single = any("forget_gate" in path for path in linear)  # KDA, as vLLM keeps it
    dtype = "float32" if in_single else find(config, "state_dtype")
    return [
        AttentionGroup(
            "linear",
            1,
            heads=heads,
            conv_values=conv_values,
            state_values=state,
            state_dtype=dtype if state else None,
        )
    ]


def _state(own: dict[str, Tensor], config: Any) -> tuple[int, int]:
    """Heads and values of a recurrent state: of gated delta nets and their like by the config, of
    SSMs by their A, of lightning attention a square for each head."""
    decays = [t for path, t in own.items() if path.endswith("A_log")]
    if (heads := find(config, "linear_heads")) and decays:
        keys, values = find(config, "linear_key_dim"), find(config, "linear_value_dim")
        return heads, heads * keys * values
    if decays:
        (a, *_) = decays
        if len(a.shape) == 2:
            return a.shape[0], a.count
        return a.shape[0], a.count * find(config, "ssm_head_dim") * find(config, "ssm_state")
    if any("slope_rate" in path for path in own):
        heads = find(config, "heads")
        dim = getattr(config, "head_dim", None) or config.hidden_size // heads
        return heads, heads * dim * dim
    return 0, 0
