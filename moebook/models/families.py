"""How each model family writes its shapes into a Hugging Face config.

A config may come as published (`config.json`) or as `AutoConfig(...).to_dict()` of transformers 5
gives it; the two differ in defaults written out. Only keys whose class default is the same for
every model may be absent."""

from dataclasses import dataclass

from moebook.models import vision


class UnknownFamily(ValueError):
    """The config's model_type is none that moebook can count."""


@dataclass(frozen=True)
class Family:
    """Names of the keys that hold L, E, K and I (all that are present are kept in step), and where
    they lie."""

    experts: tuple[str, ...] = ()
    top_k: tuple[str, ...] = ("num_experts_per_tok",)
    ffn: tuple[str, ...] = ("intermediate_size",)
    layers: tuple[str, ...] = ("num_hidden_layers",)
    inside: str | None = None  # sub-config of the language model


_DEEPSEEK = Family(experts=("n_routed_experts",), ffn=("moe_intermediate_size",))
_DEEPSEEK_VL = Family(experts=_DEEPSEEK.experts, ffn=_DEEPSEEK.ffn, inside="language_config")
_LLAMA4 = Family(experts=("num_local_experts",))
_QWEN_MOE = Family(experts=("num_experts", "num_local_experts"), ffn=("moe_intermediate_size",))
FAMILIES = {
    "mixtral": Family(experts=("num_local_experts",)),
    "olmoe": Family(experts=("num_experts", "num_local_experts")),
    "phimoe": Family(experts=("num_local_experts",)),
    "qwen2_moe": _QWEN_MOE,
    "qwen3_moe": _QWEN_MOE,
    "deepseek_v2": _DEEPSEEK,
    "deepseek_v3": _DEEPSEEK,
    "deepseek_vl_v2": _DEEPSEEK_VL,
    "gpt_oss": Family(
        experts=("num_local_experts",), top_k=("num_experts_per_tok", "experts_per_token")
    ),
    "llama4": Family(experts=_LLAMA4.experts, inside="text_config"),
    "llama4_text": _LLAMA4,
    "molmo": Family(experts=("moe_num_experts",), top_k=("moe_top_k",)),
    "qwen3": Family(),
    "ernie4_5_moe": Family(
        experts=("moe_num_experts",), top_k=("moe_k",), ffn=("moe_intermediate_size",)
    ),
}


def family_of(config: dict) -> Family:
    kind = config.get("model_type")
    if kind not in FAMILIES:
        raise UnknownFamily(
            f"model_type {kind!r} is not supported; allowed: {', '.join(sorted(FAMILIES))}"
        )
    return FAMILIES[kind]


def language_config(config: dict) -> dict:
    """The part of the config (not a copy) that holds the language model."""
    inside = family_of(config).inside
    return config[inside] if inside else config


def first_of(config: dict, keys: tuple[str, ...]):
    for key in keys:
        if config.get(key) is not None:
            return config[key]
    raise KeyError(" or ".join(keys))


def read_shape(config: dict) -> dict:
    """Keyword arguments of `catalog.Architecture` (without name, source, config).

    Raises UnknownFamily, and KeyError naming the missing key.
    """
    family, kind = family_of(config), config["model_type"]
    text = language_config(config)
    reader = _READERS.get(kind, lambda c: {})
    shape = {
        **_common(text, family),
        **(_experts(text, family) if family.experts else _dense(text)),
        **reader(text),
    }
    quantization = (config.get("quantization_config") or {}).get("quant_method")
    dtype = first_of({**text, "fallback": "bfloat16"}, ("torch_dtype", "dtype", "fallback"))
    vision_params = vision.count(config) if kind in vision.COUNTERS else 0
    return {
        "family": kind,
        **shape,
        "dtype": str(dtype).removeprefix("torch."),
        "quantization": quantization,
        "vision_params": vision_params,
    }


def _common(c: dict, family: Family) -> dict:
    heads = c["num_attention_heads"]
    return {
        "num_layers": first_of(c, family.layers),
        "hidden_size": c["hidden_size"],
        "num_heads": heads,
        "num_kv_heads": c.get("num_key_value_heads") or heads,
        "head_dim": c.get("head_dim") or c["hidden_size"] // heads,
        "vocab_size": c["vocab_size"],
        "tie_embeddings": bool(c.get("tie_word_embeddings", False)),
        "max_positions": c["max_position_embeddings"],
    }


def _experts(c: dict, family: Family) -> dict:
    return {
        "num_experts": first_of(c, family.experts),
        "top_k": first_of(c, family.top_k),
        "expert_ffn_dim": first_of(c, family.ffn),
        "num_shared_experts": 0,
        "shared_ffn_dim": 0,
        "dense_ffn_dim": 0,
        "num_dense_layers": 0,
    }


def _dense(c: dict) -> dict:
    none = dict.fromkeys(
        ("num_experts", "top_k", "expert_ffn_dim", "num_shared_experts", "shared_ffn_dim"), 0
    )
    return {
        **none,
        "dense_ffn_dim": c["intermediate_size"],
        "num_dense_layers": c["num_hidden_layers"],
    }


def _layers_without_experts(c: dict) -> int:
    """Qwen: every `decoder_sparse_step`-th layer has experts, and none of `mlp_only_layers`."""
    step, dense_only = c.get("decoder_sparse_step") or 1, c.get("mlp_only_layers") or []
    return sum(1 for i in range(c["num_hidden_layers"]) if (i + 1) % step or i in dense_only)


def _qwen2_moe(c: dict) -> dict:
    return {
        "num_shared_experts": 1,
        "shared_ffn_dim": c["shared_expert_intermediate_size"],
        "shared_expert_gate": True,
        "qkv_bias": bool(c.get("qkv_bias", True)),
        "dense_ffn_dim": c["intermediate_size"],
        "num_dense_layers": _layers_without_experts(c),
    }


def _qwen3_moe(c: dict) -> dict:
    bias = bool(c.get("attention_bias", False))
    return {
        "qk_norm": "head",
        "qkv_bias": bias,
        "o_bias": bias,
        "dense_ffn_dim": c["intermediate_size"],
        "num_dense_layers": _layers_without_experts(c),
    }


def _qwen3(c: dict) -> dict:
    bias = bool(c.get("attention_bias", False))
    return {"qk_norm": "head", "qkv_bias": bias, "o_bias": bias}


def _olmoe(c: dict) -> dict:
    bias = bool(c.get("attention_bias", False))
    return {"qk_norm": "full", "qkv_bias": bias, "o_bias": bias}


def _phimoe(c: dict) -> dict:
    bias = bool(c.get("attention_bias", False))
    return {
        "qkv_bias": bias,
        "o_bias": bias,
        "norm_bias": True,
        "lm_head_bias": bool(c.get("lm_head_bias", False)),
    }


def _gpt_oss(c: dict) -> dict:
    layers = c["num_hidden_layers"]
    kinds = c.get("layer_types") or ["sliding_attention", "full_attention"] * layers
    bias = bool(c.get("attention_bias", True))
    return {
        "qkv_bias": bias,
        "o_bias": bias,
        "attention_sinks": True,
        "router_bias": True,
        "expert_bias": True,
        "window": c["sliding_window"],
        "num_windowed_layers": kinds[:layers].count("sliding_attention"),
    }


def _deepseek(c: dict) -> dict:
    layers, first, every = (
        c["num_hidden_layers"],
        c.get("first_k_dense_replace", 0),
        c.get("moe_layer_freq") or 1,
    )
    shared = c.get("n_shared_experts") or 0
    shape = {
        "num_shared_experts": shared,
        "shared_ffn_dim": shared * c["moe_intermediate_size"],
        "dense_ffn_dim": c["intermediate_size"],
        "num_dense_layers": sum(1 for i in range(layers) if i < first or i % every),
        "router_bias": c["model_type"] == "deepseek_v3" or c.get("topk_method") == "noaux_tc",
    }
    nope, rope = c["qk_nope_head_dim"], c["qk_rope_head_dim"]
    if nope + rope == 0:
        return {**shape, "head_dim": c["hidden_size"] // c["num_attention_heads"]}
    return {
        **shape,
        "head_dim": nope + rope,
        "q_lora_rank": c.get("q_lora_rank"),
        "kv_lora_rank": c["kv_lora_rank"],
        "qk_nope_head_dim": nope,
        "qk_rope_head_dim": rope,
        "v_head_dim": c["v_head_dim"],
    }


def _llama4(c: dict) -> dict:
    layers, step = c["num_hidden_layers"], c.get("interleave_moe_layer_step", 1)
    with_rope = c.get("no_rope_layers") or [(i + 1) % 4 != 0 for i in range(layers)]
    moe = c.get("moe_layers") or range(step - 1, layers, step)
    bias = bool(c.get("attention_bias", False))
    return {
        "num_shared_experts": 1,
        "shared_ffn_dim": c["intermediate_size"],
        "qkv_bias": bias,
        "o_bias": bias,
        "dense_ffn_dim": c["intermediate_size_mlp"],
        "num_dense_layers": layers - sum(i < layers for i in moe),
        "window": c.get("attention_chunk_size"),
        "num_windowed_layers": sum(map(bool, with_rope[:layers])),
    }


def _molmo(c: dict) -> dict:
    return {
        "qk_norm": "full",
        "vocab_size": c["embedding_size"],
        "extra_embeddings": c["additional_vocab_size"],
        "max_positions": c["max_sequence_length"],
        "tie_embeddings": c["weight_tying"],
    }


def _ernie(c: dict) -> dict:
    """Experts from the start layer to the end layer (-1: the last), in every
    `moe_layer_interval`-th layer."""
    layers, step = c["num_hidden_layers"], c.get("moe_layer_interval") or 1
    first, last = c.get("moe_layer_start_index", 1), c.get("moe_layer_end_index", -1)
    moe = [
        i
        for i in range(layers)
        if (i + 1) % step == 0 and first <= i <= (layers - 1 if last == -1 else last)
    ]
    shared, bias = c.get("moe_num_shared_experts") or 0, bool(c.get("use_bias", False))
    return {
        "num_shared_experts": shared,
        "shared_ffn_dim": shared * c["moe_intermediate_size"],
        "dense_ffn_dim": c["intermediate_size"],
        "num_dense_layers": layers - len(moe),
        "router_bias": True,
        "qkv_bias": bias,
        "o_bias": bias,
    }


_READERS = {
    "qwen2_moe": _qwen2_moe,
    "qwen3_moe": _qwen3_moe,
    "qwen3": _qwen3,
    "olmoe": _olmoe,
    "phimoe": _phimoe,
    "gpt_oss": _gpt_oss,
    "deepseek_v2": _deepseek,
    "deepseek_v3": _deepseek,
    "deepseek_vl_v2": _deepseek,
    "llama4": _llama4,
    "llama4_text": _llama4,
    "molmo": _molmo,
    "ernie4_5_moe": _ernie,
}
