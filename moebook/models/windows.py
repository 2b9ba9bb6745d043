"""Attention groups of the families that have formulas: which layers attend to a window or a
chunk."""

from dataclasses import replace

from moebook.models.attention import AttentionGroup, joined, latent_group, softmax_groups


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
