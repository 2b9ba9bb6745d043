"""What transformers' config classes take for a key that a config leaves out, of the families that
have formulas.

defaults.json holds them, so that reading a config imports no transformers; `python -m
moebook.models.defaults` reads them from the classes again, and a test holds them to the installed
release."""

import json
from functools import cache
from pathlib import Path

SHIPPED = Path(__file__).parent / "defaults.json"
FAMILIES = (
    *("mixtral", "olmoe", "phimoe", "qwen2_moe", "qwen3_moe", "qwen3", "gpt_oss"),
    *("deepseek_v2", "deepseek_v3", "ernie4_5_moe", "llama4_text", "llama4_vision_model"),
)
NO_SHAPE = ("_token_id", "output_", "return_dict", "use_cache", "id2label", "label2id", "dtype")


@cache
def _shipped() -> dict[str, dict]:
    return json.loads(SHIPPED.read_text())


def complete(config: dict, family: str) -> dict:
    """The config with its class' defaults for what it leaves out; a key that the class knows by
    another name, under both."""
    known = _shipped().get(family)
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
    SHIPPED.write_text(json.dumps(read_classes(), indent=1, sort_keys=True) + "\n")
