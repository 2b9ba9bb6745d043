"""What the layers of a model attend to, and what they keep for it: groups of layers of one kind.

    kind     keeps per token                    keeps per sequence
    full     keys and values of every token     -
    window   the same, of the last `window`     -
    chunk    the same, of the current chunk     -
    mla      one latent vector and rotary keys  -
    linear   -                                  a recurrent state (linear attention, SSM,
                                                convolutions), the same at every length
    none     -                                  - (a layer of FFN alone)

A cache that holds all tokens of windowed layers, as vLLM's does by default for models whose layers
are mixed, needs `kv_values` of every token; what a step reads ends at the window.

`by_formula` has the groups of families with formulas, `attention_groups` those that tensors and
config of any other model tell."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

from moebook.models.keys import find
from moebook.models.tensors import Layer, Tensor

Kind = Literal["full", "window", "chunk", "mla", "linear", "none"]


@dataclass(frozen=True)
class AttentionGroup:
    """Layers that attend alike. Sizes count elements, for one layer; 0 means "has none"."""

    kind: Kind
    layers: int
    heads: int = 0  # of queries; of a linear layer, those of its state
    kv_heads: int = 0  # as many as `heads` with MLA
    head_dim: int = 0  # of queries and keys
    value_dim: int = 0  # of values
    kv_values: int = 0  # that the cache holds per token
    latent: int = 0  # the part of them that is MLA's compressed keys and values
    index_bytes: int = 0  # per token, of the keys by which an indexer picks tokens (DeepSeek-V3.2)
    window: int | None = None  # tokens of a window or chunk, or that an indexer picks
    conv_values: int = 0  # inputs of the last tokens that a convolution keeps, per sequence
    state_values: int = 0  # recurrent state, per sequence
    state_dtype: str | None = None  # that the config asks for; None: the cache's

    def reach(self, context):
        """Tokens that one query attends to at a context, or at each of an array of them; a chunk is
        taken as a window, its greatest reach."""
        if not self.kv_values:
            return 0 * context
        if self.window is None:
            return context
        if hasattr(context, "clip"):  # an array
            return context.clip(max=self.window)
        return min(context, self.window)

    def score_width(self, absorbed: bool) -> int:
        """Multiply-adds per query token and attended token. absorbed: MLA's heads attend to the
        cached latent vectors."""
        if self.kind == "mla" and absorbed:
            return self.heads * (self.kv_values + self.latent)
        return self.heads * (self.head_dim + self.value_dim)


def latent_group(
    layers: int, heads: int, nope: int, rope: int, value_dim: int, latent: int
) -> AttentionGroup:
    """Multi-head latent attention: `latent` values and `rope` keys of a token serve all heads."""
    return AttentionGroup(
        "mla", layers, heads, heads, nope + rope, value_dim, latent + rope, latent=latent
    )


def joined(groups: Iterable[AttentionGroup]) -> tuple[AttentionGroup, ...]:
    """Groups that are alike as one, in the order of their first layers; those of no layer left
    out."""
    layers: dict[AttentionGroup, int] = {}
    for group in groups:
        alike = replace(group, layers=0)
        layers[alike] = layers.get(alike, 0) + group.layers
    return tuple(replace(alike, layers=n) for alike, n in layers.items() if n)


def by_formula(shape: dict, text: dict) -> tuple[AttentionGroup, ...]:
    """Groups of layers by what they attend to. shape: keyword arguments of an Architecture; text:
    the language part of its config."""
    layers, heads = shape["num_layers"], shape["num_heads"]
    if shape.get("kv_lora_rank"):
        sizes = (text[key] for key in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"))
        return (latent_group(layers, heads, *sizes, shape["kv_lora_rank"]),)
    kv_heads, dim = shape["num_kv_heads"], shape["head_dim"]
    full = AttentionGroup("full", layers, heads, kv_heads, dim, dim, 2 * kv_heads * dim)
    windowed = _WINDOWED[shape["family"]](text) if shape["family"] in _WINDOWED else None
    if windowed is None or not windowed[1]:
        return (full,)
    kind, window, count = windowed
    narrow = replace(full, kind=kind, layers=count, window=window)
    return joined([replace(full, layers=layers - count), narrow])


def _sliding(c: dict) -> tuple[str, int | None, int]:
    """Kind, window and number of layers that attend to a window; gpt-oss' are every other one."""
    layers = c["num_hidden_layers"]
    kinds = c.get("layer_types") or ["sliding_attention", "full_attention"] * layers
    return "window", c["sliding_window"], kinds[:layers].count("sliding_attention")


def _chunked(c: dict) -> tuple[str, int | None, int]:
    """Llama 4's layers with rotary positions attend within chunks."""
    layers, every = c["num_hidden_layers"], c.get("no_rope_layer_interval") or 4
    with_rope = c.get("no_rope_layers") or [(i + 1) % every != 0 for i in range(layers)]
    return "chunk", c.get("attention_chunk_size"), sum(map(bool, with_rope[:layers]))


_WINDOWED = {"gpt_oss": _sliding, "llama4": _chunked, "llama4_text": _chunked}


KINDS: dict[str, Kind] = {
    "sliding_attention": "window",
    "hybrid_sliding": "window",
    "chunked_attention": "chunk",
}
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
    group = AttentionGroup(kind, 1, heads, kv_heads, head_dim, value_dim, kv_values, window=window)
    if index := _rows(layer.tensors, "indexer.k_proj"):  # MiniMax-M3 keeps them in bf16
        picked = config.index_topk_blocks * config.index_block_size
        return [replace(group, window=picked, index_bytes=2 * index)]
    return [group]


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
    own = layer.tensors.items()
    convolutions = [t.shape for p, t in own if "conv" in p and len(t.shape) == 3]
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
