"""How each model family that has formulas writes its shapes into a Hugging Face config.

A config may come as published (`config.json`) or as `AutoConfig(...).to_dict()` of transformers 5
gives it; the two differ in defaults written out. What a config leaves out is its class' default
(keys.py). The formulas serve edits of shape, which read hundreds of configs a second; tests
hold them to what transformers builds, as generic.py counts it for every other family."""

from collections.abc import Iterable

from moebook.models import checks, keys, vision
from moebook.models.attention import by_formula
from moebook.models.keys import SPELLINGS, complete, present

# Families by model_type, and the sub-config that holds their language model.
FAMILIES: dict[str, str | None] = {
    **dict.fromkeys(("mixtral", "olmoe", "phimoe", "qwen2_moe", "qwen3_moe", "qwen3")),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "gpt_oss", "llama4_text", "molmo")),
    "ernie4_5_moe": None,
    "deepseek_vl_v2": "language_config",
    "llama4": "text_config",
}
DENSE = ("qwen3",)

# Model classes of these families: a config of one may have a model_type of its own.
CLASSES = {
    "DeepseekV2ForCausalLM": "deepseek_v2",
    "DeepseekV3ForCausalLM": "deepseek_v3",
    "MixtralForCausalLM": "mixtral",
    "OlmoeForCausalLM": "olmoe",
    "Qwen2MoeForCausalLM": "qwen2_moe",
    "Qwen3MoeForCausalLM": "qwen3_moe",
}


# Switches of biases and windows that the formulas leave out: where one is on, transformers builds
# the model instead.
NOT_COVERED = {
    "mixtral": ("sliding_window",),
    "qwen2_moe": ("use_sliding_window",),
    "qwen3": ("use_sliding_window",),
    "qwen3_moe": ("use_sliding_window",),
    "deepseek_v2": ("attention_bias", "mlp_bias"),
    "deepseek_v3": ("attention_bias",),
    "ernie4_5_moe": ("use_bias",),
}


def family_of(config: dict) -> str | None:
    """The family in FAMILIES that a config is of, by its model_type or, where that is not one of
    transformers' own, by its class (Kimi-K2 is a DeepseekV3ForCausalLM); None where no formula
    covers it."""
    kind = _spelled_as(config)
    return None if any(config.get(switch) for switch in NOT_COVERED.get(kind, ())) else kind


def _spelled_as(config: dict) -> str | None:
    """The family in FAMILIES whose spellings a config uses, covered by its formulas or not."""
    kind = config.get("model_type")
    if kind in FAMILIES:
        return kind
    return CLASSES.get(next(iter(config.get("architectures") or []), None))


def conflict(config: dict) -> str | None:
    """What is wrong where `model_type` is no family's or another's than that of `architectures`, or
    where the part that holds the language model is null."""
    kind, classes = config.get("model_type"), config.get("architectures") or []
    inside = FAMILIES.get(kind)
    if inside in config and config[inside] is None:
        return f"{inside} is null; it holds the language model of a {kind}"
    of_class = next((CLASSES[name] for name in classes if name in CLASSES), None)
    if of_class in (None, kind):
        return None
    known = [*FAMILIES, *_types_of_transformers()]
    if kind in known:
        return (
            f"model_type is {kind!r}, and architectures {classes} are of {of_class!r}; give those "
            "of one family"
        )
    return checks.unreadable_type(config, known)


def known_type(kind: str) -> bool:
    """Whether transformers has a config class of a type."""
    return kind in keys.FAMILIES or kind in _types_of_transformers()


def _types_of_transformers() -> Iterable[str]:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return CONFIG_MAPPING_NAMES


def language_config(config: dict) -> dict:
    """The part of the config (not a copy) that holds the language model."""
    family = _spelled_as(config)
    places = (FAMILIES[family],) if family else ("text_config", "language_config", "llm_config")
    for inside in filter(None, places):
        if isinstance(config.get(inside), dict):
            return config[inside]
    return config


def read_shape(config: dict) -> dict:
    """Keyword arguments of `architecture.Architecture` (without name, source, config).

    The config is of a family in FAMILIES. Raises KeyError naming a missing key.
    """
    kind = family_of(config)
    text = completed(language_config(config), kind)
    heads = text["num_attention_heads"]
    classes = set(config.get("architectures") or [])
    alone = kind not in vision.COUNTERS or bool(checks.ENGINE_CLASSES & classes)
    named = (part.get(key) for part in (text, config) for key in ("torch_dtype", "dtype"))
    dtype = next(filter(None, named), "bfloat16")
    shape = {
        "family": kind,
        "num_layers": _first(text, "layers"),
        "hidden_size": text["hidden_size"],
        "num_heads": heads,
        "num_kv_heads": text.get("num_key_value_heads") or heads,
        "head_dim": text.get("head_dim") or text["hidden_size"] // heads,
        "vocab_size": text["vocab_size"],
        "tie_embeddings": bool(text.get("tie_word_embeddings", False)),
        "max_positions": text["max_position_embeddings"],
        "dtype": str(dtype).removeprefix("torch."),
        "vision_params": 0 if alone else vision.count(config),
    }
    if kind not in DENSE:
        shape["num_experts"] = _first(text, "experts")
        shape["top_k"] = _first(text, "top_k")
        shape["expert_ffn_dim"] = _first(text, "ffn")
    else:
        shape["dense_ffn_dim"] = text["intermediate_size"]
        shape["num_dense_layers"] = text["num_hidden_layers"]
    shape |= _READERS[kind](text) if kind in _READERS else {}
    return {**shape, "attention_groups": by_formula(shape, text)}


def completed(text: dict, kind: str) -> dict:
    """The language part of a family's config with its class' defaults."""
    return complete(text, "llama4_text" if kind == "llama4" else kind)


def _first(text: dict, what: str):
    found = present(text, what)
    if not found:
        raise KeyError(" or ".join(SPELLINGS[what]))
    return text[found[0]]


def _biases(c: dict, key: str = "attention_bias", default: bool = False) -> dict:
    """One key for the biases of all of attention's projections."""
    bias = bool(c.get(key, default))
    return {"qkv_bias": bias, "o_bias": bias}


def _qwen_dense_layers(c: dict) -> dict:
    """Every `decoder_sparse_step`-th layer has experts, and none of `mlp_only_layers`."""
    step, dense_only = c.get("decoder_sparse_step") or 1, c.get("mlp_only_layers") or []
    dense = [i for i in range(c["num_hidden_layers"]) if (i + 1) % step or i in dense_only]
    return {"dense_ffn_dim": c["intermediate_size"], **_dense_at(dense)}


def _dense_at(layers: Iterable[int]) -> dict:
    """Of the layers without experts: how many, and where, unless they come first."""
    found = tuple(layers)
    first = found == tuple(range(len(found)))
    return {"num_dense_layers": len(found), "dense_at": () if first else found}


def _qwen2_moe(c: dict) -> dict:
    return {
        "num_shared_experts": 1,
        "shared_ffn_dim": c["shared_expert_intermediate_size"],
        "shared_expert_gate": True,
        "qkv_bias": bool(c.get("qkv_bias", True)),
        **_qwen_dense_layers(c),
    }


def _qwen3_moe(c: dict) -> dict:
    return {**_qwen3(c), **_qwen_dense_layers(c)}


def _qwen3(c: dict) -> dict:
    return {"qk_norm": "head", **_biases(c)}


def _olmoe(c: dict) -> dict:
    return {"qk_norm": "full", **_biases(c)}


def _phimoe(c: dict) -> dict:
    return {**_biases(c), "norm_bias": True, "lm_head_bias": bool(c.get("lm_head_bias", False))}


def _gpt_oss(c: dict) -> dict:
    return {
        **_biases(c, default=True),
        "attention_sinks": True,
        "router_bias": True,
        "expert_bias": True,
    }


def _shared_of_width(c: dict, shared: int) -> dict:
    """Shared experts as wide as routed ones."""
    return {"num_shared_experts": shared, "shared_ffn_dim": shared * c["moe_intermediate_size"]}


def _deepseek(c: dict) -> dict:
    first, every = c.get("first_k_dense_replace", 0), c.get("moe_layer_freq") or 1
    dense = [i for i in range(c["num_hidden_layers"]) if i < first or i % every]
    shape = {
        **_shared_of_width(c, c.get("n_shared_experts") or 0),
        "dense_ffn_dim": c["intermediate_size"],
        **_dense_at(dense),
        "router_bias": family_of(c) == "deepseek_v3" or c.get("topk_method") == "noaux_tc",
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
    moe = c.get("moe_layers") or range(step - 1, layers, step)
    return {
        "num_shared_experts": 1,
        "shared_ffn_dim": c["intermediate_size"],
        **_biases(c),
        "dense_ffn_dim": c["intermediate_size_mlp"],
        **_dense_at(i for i in range(layers) if i not in moe),
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
    within = range(first, layers if last == -1 else min(last + 1, layers))
    moe = [i for i in within if (i + 1) % step == 0]
    return {
        **_shared_of_width(c, c.get("moe_num_shared_experts") or 0),
        "dense_ffn_dim": c["intermediate_size"],
        **_dense_at(i for i in range(layers) if i not in moe),
        "router_bias": True,
        **_biases(c, "use_bias"),
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
