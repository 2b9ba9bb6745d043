"""How configs spell a quantity (of several spellings the first that is there counts), and what
transformers' config classes take for a key that a config leaves out.

defaults.json holds those defaults of the families that have formulas, so that reading a config
imports no transformers; `python -m moebook.models.keys` reads them from the classes again, and a
test holds them to the installed release."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

SPELLINGS = {
    "experts": (
        "num_experts",
        "num_local_experts",
        "n_routed_experts",
        "moe_num_experts",
        "ffn_config.moe_num_experts",
    ),
    "top_k": (
        "num_experts_per_tok",
        "num_experts_per_token",
        "experts_per_token",
        "moe_topk",
        "moe_k",
        "moe_top_k",
        "top_k_experts",
        "num_selected_experts",
        "ffn_config.moe_top_k",
    ),
    "ffn": (
        "moe_intermediate_size",
        "expert_ffn_hidden_size",
        "ffn_config.ffn_hidden_size",
        "intermediate_size",
    ),
    "layers": ("num_hidden_layers", "num_layers", "n_layers"),
    "heads": ("num_attention_heads", "n_heads"),
    "kv_heads": ("num_key_value_heads", "attn_config.kv_n_heads", "num_attention_heads"),
    "positions": ("max_position_embeddings", "max_seq_len", "model_max_length"),
    "shared": ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts"),
    "window": ("sliding_window", "sliding_window_size"),
    "ssm_state": ("ssm_state_size", "mamba_d_state", "state_size"),
    "ssm_head_dim": ("mamba_head_dim", "mamba_d_head", "mamba_headdim"),
    "linear_heads": ("linear_num_value_heads", "linear_num_heads"),
    "linear_key_dim": ("linear_key_head_dim", "linear_head_dim"),
    "linear_value_dim": ("linear_value_head_dim", "linear_head_dim"),
    "state_dtype": ("mamba_ssm_dtype", "mamba_ssm_cache_dtype"),
}


def find(config: Any, what: str) -> Any:
    """The value of a quantity in a transformers config object; None where no spelling has one."""
    for path in SPELLINGS[what]:
        value = config
        for part in path.split("."):
            value = getattr(value, part, None)
        if value is not None:
            return value
    return None


def present(text: dict, what: str) -> list[str]:
    """Spellings of a quantity that a config's language part has a value for; dotted where they lie
    in a part of it."""
    return [path for path in SPELLINGS[what] if value(text, path) is not None]


def value(text: dict, path: str) -> Any:
    """What a config's language part has under a spelling; None without it."""
    *inside, key = path.split(".")
    holder = text.get(inside[0]) if inside else text
    return holder.get(key) if isinstance(holder, dict) else None


def write(text: dict, path: str, value: int) -> None:
    """Put a value under a spelling; where the config has one for each layer, for each."""
    *inside, key = path.split(".")
    holder = text[inside[0]] if inside else text
    old = holder.get(key)
    holder[key] = [value] * len(old) if isinstance(old, list) else value


# Names of keys that may have an entry for each layer; no other list or text is one, however long.
BY_LAYER = re.compile(
    "layer|types|type_list|freq|pattern|topk|intermediate_size|expert|heads|window|ratios"
)


def resize(text: dict, old: int, new: int) -> None:
    """Fit what a config says of each of its `old` layers to `new` ones: lists and patterns are
    repeated or cut, lists of layers that have something lose those beyond."""
    for key, value in text.items():
        if isinstance(value, dict):
            resize(value, old, new)
        elif not BY_LAYER.search(key) or not isinstance(value, str | list):
            continue
        elif len(value) == old:
            longer = [value[i % old] for i in range(new)]
            text[key] = "".join(longer) if isinstance(value, str) else longer
        elif isinstance(value, list) and key.endswith("_layers"):
            text[key] = [i for i in value if not isinstance(i, int) or i <= new]


DEFAULTS = Path(__file__).parent / "defaults.json"
FAMILIES = (
    *("mixtral", "olmoe", "phimoe", "qwen2_moe", "qwen3_moe", "qwen3", "gpt_oss"),
    *("deepseek_v2", "deepseek_v3", "ernie4_5_moe", "llama4_text", "llama4_vision_model"),
)
NO_SHAPE = ("_token_id", "output_", "return_dict", "use_cache", "id2label", "label2id", "dtype")


@cache
def _defaults() -> dict[str, dict]:
    return json.loads(DEFAULTS.read_text())


def complete(config: dict, family: str) -> dict:
    """The config with its class' defaults for what it leaves out; a key that the class knows by
    another name, under both."""
    known = _defaults().get(family)
    if known is None:
        return config
    given = dict(config)
    for one, other in known["aliases"].items():
        for name, alias in ((one, other), (other, one)):
            if name in config:
                given.setdefault(alias, config[name])
    return {**known["fields"], **given}


def read_classes() -> dict[str, dict]:
    """What defaults.json is to hold: by family the plain defaults of its class' fields, and the
    other names that it takes for some."""
    from dataclasses import fields

    from transformers import CONFIG_MAPPING, Llama4VisionConfig

    found = {}
    for family in FAMILIES:
        vision = family == Llama4VisionConfig.model_type
        made = Llama4VisionConfig if vision else CONFIG_MAPPING[family]
        plain = {
            field.name: field.default
            for field in fields(made)
            if isinstance(field.default, int | float | None)
            and not any(word in field.name for word in NO_SHAPE)
        }
        found[family] = {"aliases": dict(made.attribute_map), "fields": plain}
    return found


if __name__ == "__main__":
    DEFAULTS.write_text(json.dumps(read_classes(), indent=1, sort_keys=True) + "\n")
