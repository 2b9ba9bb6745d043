"""What is wrong with a config: sizes that are no sizes, and sizes that contradict each other.

Checked before anything is built of it, so that a slip is one message and not an error from within
a library, nor minutes of building what nobody meant."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

MOST = {"num_hidden_layers": 2000, "experts": 100_000, "": 2**31}  # far beyond any model
AT_LEAST_2 = ("max_position_embeddings", "max_seq_len")  # a token and the next one
AT_LEAST_1 = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("vocab_size", "intermediate_size", "moe_intermediate_size"),
    *("d_model", "n_heads", "n_layers", "kv_n_heads", "embedding_size"),
    *("intermediate_size_mlp", "ffn_hidden_size", "decoder_sparse_step", "moe_layer_freq"),
    *("moe_layer_interval", "interleave_moe_layer_step", "state_size"),
    *("attention_chunk_size", "q_lora_rank", "linear_num_key_heads", "linear_num_value_heads"),
    *("linear_key_head_dim", "linear_value_head_dim", "linear_conv_kernel_dim"),
    *("full_attention_interval", "mamba_num_heads", "mamba_head_dim", "ssm_state_size"),
    *("mamba_d_state", "mamba_d_conv", "mamba_expand", "conv_kernel", "index_head_dim"),
)
AT_LEAST_0 = (
    *("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"),
    *("num_experts_per_tok", "num_experts_per_token", "moe_k", "moe_topk", "moe_top_k"),
    *("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"),
    *("shared_expert_intermediate_size", "first_k_dense_replace", "qk_nope_head_dim"),
    *("qk_rope_head_dim", "v_head_dim", "kv_lora_rank", "moe_layer_start_index"),
    *("head_dim", "sliding_window", "n_group", "topk_group", "additional_vocab_size"),
)
LEAST = {
    key: least for least, keys in enumerate((AT_LEAST_0, AT_LEAST_1, AT_LEAST_2)) for key in keys
}
# Keys that may hold a list: an entry for each layer, or for each modality (ERNIE-4.5-VL).
LISTED = (
    *("moe_topk", "moe_intermediate_size", "moe_layer_freq", "num_experts", "sliding_window"),
    *("moe_num_experts", "moe_layer_start_index"),
)
SIZES = (  # of an Architecture
    *("num_layers", "hidden_size", "num_heads", "num_kv_heads", "head_dim", "vocab_size"),
    *("max_positions", "num_experts", "top_k", "expert_ffn_dim", "shared_ffn_dim"),
    *("dense_ffn_dim", "num_dense_layers", "extra_embeddings"),
)
YES_OR_NO = (
    *("tie_word_embeddings", "attention_bias", "qkv_bias", "use_bias", "lm_head_bias"),
    *("weight_tying", "mlp_bias", "use_qk_norm"),
)
DTYPES = (
    *("bfloat16", "float16", "float32", "float64", "half", "float", "double", "auto"),
    *("float8_e4m3fn", "float8_e5m2"),
)
# Types beside transformers' that vLLM 0.32 reads by config classes of its own.
ENGINE_TYPES = (
    *("kimi_k2", "kimi_k25", "kimi_k3", "kimi_linear", "kimi_vl", "deepseek_vl_v2", "deepseek_v32"),
    *("deepseek_v4", "deepseek_v41", "minimax_m3_vl", "step3_vl", "step3_text", "step3p5"),
    *("bailing_moe_v3_vl", "dots3_note", "hy_v4", "muse_glimmer", "ovis", "inkling_model"),
)
# Classes that have the tensors of a family of transformers, by other names.
OTHER_NAMES = dict.fromkeys(("MiniMaxText01ForCausalLM", "MiniMaxM1ForCausalLM"), "minimax")
# Multimodal classes of that registry that transformers does not know: their language part is read.
ENGINE_CLASSES = frozenset(
    {"KimiVLForConditionalGeneration", "InternVLChatModel", "SkyworkR1VChatModel"}
    | {"Ovis2_5", "Ovis2_6ForCausalLM", "Ovis2_6_MoeForCausalLM", "DeepseekOCRForCausalLM"}
    | {"Step3VLForConditionalGeneration", "InternS1ForConditionalGeneration"}
    | {"NemotronH_Nano_VL_V2", "NemotronH_Omni_Reasoning_V3"}
    | {"NemotronH_Nano_Omni_Reasoning_V3", "NemotronH_Super_Omni_Reasoning_V3"}
)
NOT_SIZES = ("quantization_config", "compression_config")  # read by quantization_config.py
LISTS = ("layer_types", "mlp_only_layers", "no_rope_layers", "moe_layers", "vit_layers")


def problems(config: Any) -> list[str]:
    """What is wrong with the types and bounds of a config's entries, its sub-configs included;
    empty where nothing is."""
    if not isinstance(config, dict):
        return [f"it is {_shown(config)}, and must be an object of keys and values"]
    found = _of_names(config)
    for key, value in config.items():
        if key in NOT_SIZES:
            continue
        if isinstance(value, dict) and key.endswith("_config"):
            found += [f"{key}: {problem}" for problem in problems(value)]
        elif key.endswith("_config") and value is not None:
            found.append(f"{key} is {_shown(value)}; give an object of keys and values")
        elif wrong := _wrong(key, value):
            found.append(wrong)
    return found


def unreadable_type(config: dict, known: Iterable[str]) -> str | None:
    """What is wrong with a `model_type` that is none of transformers' (`known`): neither it nor an
    engine reads such a config, unless code of its own lies beside it; None where they do."""
    kind = config.get("model_type")
    if kind in ENGINE_TYPES or config.get("auto_map"):
        return None
    if kind is None:
        return "it has no model_type, by which transformers and the engine read it"
    near = "".join(f"; nearest: {name!r}" for name in get_close_matches(kind, known, n=1))
    return f"model_type is {_shown(kind)}, which neither transformers nor the engine reads{near}"


def nulls(config: dict) -> list[str]:
    """Sizes that a config gives as null, those of its sub-configs included."""
    found = [key for key in LEAST if key in config and config[key] is None]
    for key, value in config.items():
        if isinstance(value, dict) and key.endswith("_config") and key not in NOT_SIZES:
            found += nulls(value)
    return found


def _of_names(config: dict) -> list[str]:
    found = []
    if not isinstance(config.get("model_type", ""), str):
        found.append(f"model_type is {_shown(config['model_type'])}; give a name")
    classes = config.get("architectures") or []
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        found.append(f"architectures is {_shown(classes)}; give a list of class names")
    for key in ("torch_dtype", "dtype"):
        given = config.get(key)
        named = isinstance(given, str) and given.removeprefix("torch.") in DTYPES
        if given is not None and not named:
            found.append(f"{key} is {_shown(given)}; give one of {', '.join(DTYPES)}")
    return found


def _wrong(key: str, value: Any) -> str | None:
    if value is None:
        return None
    if key in YES_OR_NO and not isinstance(value, bool):
        return f"{key} is {_shown(value)}; give true or false"
    if key in LISTS and not isinstance(value, list):
        return f"{key} is {_shown(value)}; give a list"
    least = LEAST.get(key)
    if least is None:
        return None
    listed = key in LISTED and isinstance(value, list) and value
    each = value if listed else [value]
    most = next(limit for word, limit in MOST.items() if word in key)
    for size in each:
        if isinstance(size, bool) or not isinstance(size, int):
            return f"{key} is {_shown(value)}; give a whole number"
        if not (0 if listed else least) <= size <= most:
            return f"{key} is {_shown(value)}; give a whole number from {least} to {most}"
    return None


def contradictions(shape: dict, config: dict) -> list[str]:
    """What of a shape (keyword arguments of an Architecture) cannot be together."""
    lacking = [key for key in SIZES if not isinstance(shape.get(key, 0), int)]
    if lacking:
        return [f"it gives no one {key.replace('_', ' ')}" for key in lacking]
    found = _of_experts(shape)
    heads, kv_heads, hidden = shape["num_heads"], shape["num_kv_heads"], shape["hidden_size"]
    latent = shape.get("kv_lora_rank") is not None
    if not latent and kv_heads and heads % kv_heads:
        found.append(f"{heads} attention heads do not share {kv_heads} KV heads evenly")
    if not latent and shape["head_dim"] == hidden // heads and hidden % heads:
        found.append(
            f"hidden size {hidden} does not divide into {heads} heads, and no head_dim is given"
        )
    if config.get("head_dim") == 0 and "qk_nope_head_dim" not in config:
        found.append("head_dim is 0; give a whole number from 1 on")
    if not latent and shape["head_dim"] % 2:
        found.append(f"head_dim {shape['head_dim']} is odd: positions turn pairs of its values")
    kinds = config.get("layer_types")
    if kinds and len(kinds) < shape["num_layers"]:
        found.append(f"layer_types names {len(kinds)} of {shape['num_layers']} layers")
    return found


def _of_experts(shape: dict) -> list[str]:
    experts, top_k = shape.get("num_experts", 0), shape.get("top_k", 0)
    if experts == top_k == 0 or 1 <= top_k <= experts:
        return []
    if not experts:
        by_formula = shape.get("counts") is None
        return [f"no expert, and {top_k} per token"] if by_formula else []
    return [f"{top_k} experts per token of {experts} experts: choose from 1 to all of them"]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
