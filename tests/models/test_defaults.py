"""What a config leaves out: the defaults of transformers' own class of its family."""

import json

import pytest

from moebook.models import catalog, families, generic, keys, sizes
from moebook.models.architecture import from_config
from moebook.models.edit import language_part

SCOUT = "Llama-4-Scout-17B-16E-Instruct"


def without(name: str, *keys: str) -> dict:
    return {k: v for k, v in catalog.load(name).hf_config().items() if k not in keys}


def total(config: dict) -> float:
    return sizes.total_parameters(from_config(config, "x", "test")) / 1e9


def test_the_shipped_defaults_are_those_of_the_installed_classes():
    pytest.importorskip("transformers")
    assert json.loads(keys.DEFAULTS.read_text()) == keys.read_classes()


def test_the_shipped_counts_are_those_of_the_installed_classes():
    pytest.importorskip("transformers")
    assert json.loads(generic.SHIPPED.read_text()) == generic.count_catalog()


@pytest.mark.parametrize(
    "name, key, billions",
    [
        ("DeepSeek-V3", "first_k_dense_replace", 671.026),
        ("ERNIE-4.5-21B-A3B-PT", "tie_word_embeddings", 21.825),
        ("ERNIE-4.5-21B-A3B-PT", "moe_layer_end_index", 21.825),
        ("Mixtral-8x7B-v0.1", "num_key_value_heads", 46.703),
    ],
)
def test_a_key_that_is_left_out(name, key, billions):
    assert total(without(name, key)) == pytest.approx(billions, rel=0, abs=0.51e-3)


@pytest.mark.parametrize("family", sorted(set(keys.FAMILIES) - {"llama4_vision_model"}))
def test_nothing_but_the_family(family, meta_parameters):
    """A config that says its family alone is the model that its class builds by default."""
    config = {"model_type": family}
    if family == "deepseek_v2":
        config["num_experts_per_tok"] = 6  # its class has no default
    arch = from_config(config, "x", "test")
    held = arch.num_moe_layers * arch.num_experts if family == "deepseek_v3" else 0
    assert sizes.total_parameters(arch) == meta_parameters(config) + held
    assert families.family_of(config) == family


def test_a_quantity_under_the_class_s_other_name(meta_parameters):
    config = {"model_type": "qwen3_moe", "num_local_experts": 8, "num_hidden_layers": 2}
    arch = from_config(config, "x", "test")
    assert arch.num_experts == 8
    assert sizes.total_parameters(arch) == meta_parameters(config)


ROPES = [
    {"rope_scaling": None},
    {"rope_parameters": {"rope_theta": 500000.0, "rope_type": "default"}},
    {
        "rope_parameters": {
            "factor": 16.0,
            "original_max_position_embeddings": 8192,
            "rope_theta": 500000.0,
            "rope_type": "llama3",
        }
    },
    {},
]


@pytest.mark.parametrize(
    "rope, positions",
    [(ROPES[0], 10485760), (ROPES[1], 10485760), (ROPES[2], 16 * 8192), (ROPES[3], 10485760)],
)
def test_the_text_part_of_llama_4_in_every_spelling_of_its_rope(rope, positions):
    config = catalog.load(SCOUT).hf_config()
    del config["text_config"]["rope_scaling"]
    config["text_config"] |= rope
    part = language_part(from_config(config, "x", "test"))
    assert (part.family, part.max_positions, part.window) == ("llama4_text", positions, 8192)
    assert part.shape == catalog.load(SCOUT).shape


def test_llama_4_without_a_vision_part_is_its_text_part(meta_parameters):
    config = catalog.load(SCOUT).hf_config()
    del config["vision_config"]
    arch = from_config(config, "x", "test")
    assert arch.vision_params == 0
    assert sizes.total_parameters(arch) == meta_parameters(config["text_config"])
