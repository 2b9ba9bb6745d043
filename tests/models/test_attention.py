"""Groups of layers by what they attend to and keep: of families, and what sizes and costs make of
them."""

from dataclasses import replace

import pytest

from moebook.models import catalog, costs, sizes
from moebook.models.architecture import from_config
from moebook.models.attention import AttentionGroup, joined

MIXTRAL = catalog.load("tiny-mixtral")


@pytest.mark.parametrize("name", catalog.names())
def test_every_layer_of_a_model_is_in_one_group(name):
    arch = catalog.load(name)
    assert sum(g.layers for g in arch.attention_groups) == arch.num_layers


@pytest.mark.parametrize(
    "name, groups",
    [
        ("Mixtral-8x7B-v0.1", [AttentionGroup("full", 32, 32, 8, 128, 128, 2 * 8 * 128)]),
        (
            "DeepSeek-V3",
            [AttentionGroup("mla", 61, 128, 128, 192, 128, 512 + 64, latent=512)],
        ),
        ("deepseek-vl2-tiny-textonly", [AttentionGroup("full", 12, 10, 10, 128, 128, 2560)]),
        (
            "gpt-oss-20b",
            [
                AttentionGroup("full", 12, 64, 8, 64, 64, 1024),
                AttentionGroup("window", 12, 64, 8, 64, 64, 1024, window=128),
            ],
        ),
        (
            "Llama-4-Scout-17B-16E-Instruct",
            [
                AttentionGroup("full", 12, 40, 8, 128, 128, 2048),
                AttentionGroup("chunk", 36, 40, 8, 128, 128, 2048, window=8192),
            ],
        ),
    ],
)
def test_groups_of_families(name, groups):
    assert list(catalog.load(name).attention_groups) == groups


@pytest.mark.parametrize(
    "name, switch",
    [("Mixtral-8x7B-v0.1", {"sliding_window": 512}), ("Qwen3-30B-A3B", {"sliding_window": 512})],
)
def test_a_window_that_a_published_config_has_off(name, switch):
    arch = catalog.load(name)
    config = arch.hf_config() | switch
    if "use_sliding_window" in config:
        assert from_config(config, "x", "test").attention_groups == arch.attention_groups
        config["use_sliding_window"] = True
    (full,) = arch.attention_groups
    narrow = from_config(config, "x", "test")
    assert narrow.attention_groups == (replace(full, kind="window", window=512),)
    assert sizes.total_parameters(narrow) == sizes.total_parameters(arch)


def test_alike_groups_are_joined_and_empty_ones_left_out():
    full, narrow = AttentionGroup("full", 1), AttentionGroup("window", 1, window=4)
    both = joined([full, narrow, replace(full, layers=0), full, narrow, replace(narrow, window=8)])
    assert both == (
        replace(full, layers=2),
        replace(narrow, layers=2),
        replace(narrow, window=8),
    )
    assert joined([replace(full, layers=0)]) == ()


def with_linear(layers: int = 3):
    """tiny-mixtral with all layers but one linear: 10 values of a convolution, 100 of a state."""
    (full,) = MIXTRAL.attention_groups
    linear = AttentionGroup("linear", layers, heads=2, conv_values=10, state_values=100)
    return replace(MIXTRAL, attention_groups=(replace(full, layers=1), linear))


def test_a_state_is_held_per_sequence_and_only_attention_adds_to_the_cache():
    arch = with_linear()
    assert sizes.kv_bytes_per_token(arch) * 4 == sizes.kv_bytes_per_token(MIXTRAL)
    assert sizes.state_bytes_per_sequence(MIXTRAL) == 0
    assert sizes.state_bytes_per_sequence(arch) == 3 * 110 * 2
    full, linear = arch.attention_groups
    wide = replace(arch, attention_groups=(full, replace(linear, state_dtype="float32")))
    assert sizes.state_bytes_per_sequence(wide) == 3 * (10 * 2 + 100 * 4)


def test_a_step_reads_and_writes_the_state_whatever_the_context():
    arch = with_linear()
    short, long = (costs.decode_cost(arch, 2, context) for context in (100, 200))
    per_token = sizes.kv_bytes_per_token(arch)
    assert short.bytes["kv_cache"] == 2 * (101 * per_token + 2 * 3 * 110 * 2)
    assert long.bytes["kv_cache"] - short.bytes["kv_cache"] == 2 * 100 * per_token
    scores = costs.decode_cost(MIXTRAL, 2, 100).flops["attention_scores"]
    assert short.flops["attention_scores"] == scores / 4 + 2 * 2 * 3 * 2 * 100


def test_prefill_with_states_is_the_sum_of_its_positions():
    arch = with_linear()
    steps = sum(costs.decode_cost(arch, 1, c).flops["attention_scores"] for c in range(1, 51))
    assert costs.prefill_cost(arch, 1, 50).flops["attention_scores"] == steps
