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
are mixed, needs `kv_values` of every token; what a step reads ends at the window."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

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


def softmax_groups(
    layers: int, heads: int, kv_heads: int, head_dim: int, value_dim: int | None = None
) -> tuple[AttentionGroup, ...]:
    """One group of layers that attend to all tokens."""
    value_dim = head_dim if value_dim is None else value_dim
    held = kv_heads * (head_dim + value_dim)
    return (AttentionGroup("full", layers, heads, kv_heads, head_dim, value_dim, held),)


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
    (full,) = softmax_groups(layers, heads, shape["num_kv_heads"], shape["head_dim"])
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
