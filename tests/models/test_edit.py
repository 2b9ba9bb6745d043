"""Edits: identity, refusals with their reasons, and that the edited config is the model that was
counted."""

import pytest

from moebook.models import catalog, sizes
from moebook.models.edit import ImpossibleEdit, edit

MIXTRAL = catalog.load("Mixtral-8x7B-v0.1")
EDITS = [
    ("Mixtral-8x7B-v0.1", {"ffn_dim": 7168, "num_experts": 16, "top_k": 4, "num_layers": 8}),
    ("OLMoE-1B-7B-0924", {"ffn_dim": 512, "num_experts": 32, "top_k": 16, "num_layers": 4}),
    ("Phi-3.5-MoE-instruct", {"ffn_dim": 3200, "num_experts": 8, "num_layers": 3}),
    ("Qwen1.5-MoE-A2.7B", {"ffn_dim": 704, "num_experts": 30, "top_k": 32 - 4, "num_layers": 6}),
    ("Qwen3-30B-A3B", {"ffn_dim": 384, "num_experts": 64, "top_k": 1, "num_layers": 60}),
    ("DeepSeek-V2-Lite", {"ffn_dim": 704, "num_experts": 48, "top_k": 32, "num_layers": 2}),
    ("DeepSeek-V3", {"ffn_dim": 1024, "num_experts": 128, "top_k": 4, "num_layers": 5}),
    ("gpt-oss-20b", {"ffn_dim": 1440, "num_experts": 16, "top_k": 2, "num_layers": 7}),
    ("Llama-4-Scout-17B-16E-Instruct", {"ffn_dim": 4096, "num_experts": 8, "num_layers": 6}),
    ("Qwen3-0.6B", {"num_layers": 5}),
]


def windowed(arch) -> int:
    """Layers that attend to a window or a chunk."""
    return sum(group.layers for group in arch.attention_groups if group.window)


@pytest.mark.parametrize("name, changes", EDITS)
def test_edited_config_builds_the_model_that_was_counted(name, changes, meta_parameters):
    edited = edit(catalog.load(name), **changes)
    biases = edited.num_moe_layers * edited.num_experts if edited.family == "deepseek_v3" else 0
    assert sizes.total_parameters(edited) == meta_parameters(edited.hf_config()) + biases


@pytest.mark.parametrize("name, changes", EDITS)
def test_edit_changes_what_was_asked_and_can_be_undone(name, changes):
    arch = catalog.load(name)
    edited = edit(arch, **changes)
    field = {"ffn_dim": "expert_ffn_dim"}
    assert {k: getattr(edited, field.get(k, k)) for k in changes} == changes
    assert edited.name != arch.name
    assert edit(edited) is edited
    assert edit(edited, **{k: getattr(arch, field.get(k, k)) for k in changes}) is arch


@pytest.mark.parametrize("name", catalog.names())
def test_edit_to_its_own_values_is_the_identity(name):
    arch = catalog.load(name)
    i, e, k, layers = arch.shape
    assert edit(arch) is arch
    assert edit(arch, ffn_dim=i, num_experts=e, top_k=k, num_layers=layers) is arch


def test_names_record_the_difference_from_the_published_model():
    edited = edit(MIXTRAL, ffn_dim=7168, num_experts=16, top_k=4, num_layers=8)
    assert edited.name == "Mixtral-8x7B-v0.1[I=7168,E=16,K=4,L=8]"
    assert edit(edit(MIXTRAL, top_k=1), num_layers=4).name == "Mixtral-8x7B-v0.1[K=1,L=4]"
    assert edit(edit(MIXTRAL, top_k=1), top_k=4).name == "Mixtral-8x7B-v0.1[K=4]"
    assert edit(MIXTRAL, top_k=1).source == MIXTRAL.source


def test_the_order_of_edits_does_not_matter():
    arch = catalog.load("gpt-oss-20b")
    direct = edit(arch, top_k=2, num_layers=10)
    assert edit(edit(edit(arch, num_layers=1), top_k=2), num_layers=10) == direct
    assert windowed(direct) == 5


def test_edit_leaves_the_original_alone():
    before = MIXTRAL.hf_config()
    edit(MIXTRAL, num_layers=2).hf_config()["vocab_size"] = 1
    assert MIXTRAL.hf_config() == before
    assert edit(MIXTRAL, num_layers=2).vocab_size == 32000


def test_shared_experts_follow_only_where_the_config_ties_them():
    deepseek, qwen = catalog.load("DeepSeek-V2-Lite"), catalog.load("Qwen1.5-MoE-A2.7B")
    assert edit(deepseek, ffn_dim=704).shared_ffn_dim == 2 * 704
    assert edit(qwen, ffn_dim=704).shared_ffn_dim == 5632


def test_windowed_layers_follow_the_depth():
    assert windowed(edit(catalog.load("gpt-oss-20b"), num_layers=7)) == 4
    scout = catalog.load("Llama-4-Scout-17B-16E-Instruct")
    assert windowed(edit(scout, num_layers=7)) == 6


def test_the_study_grid_is_possible():
    grid = {
        (i, e, k) for i in (1792, 3584, 7168, 14336) for e in (8, 16, 32, 64) for k in (1, 2, 4, 8)
    }
    shapes_of = {edit(MIXTRAL, ffn_dim=i, num_experts=e, top_k=k).shape[:3] for i, e, k in grid}
    assert shapes_of == grid


@pytest.mark.parametrize(
    "name, changes, words",
    [
        ("Mixtral-8x7B-v0.1", {"top_k": 9}, "top_k 9 exceeds num_experts 8"),
        ("tiny-mixtral", {"num_experts": 1}, "top_k 2 exceeds num_experts 1"),
        ("Mixtral-8x7B-v0.1", {"top_k": 0}, "top_k is 0; it must be at least 1"),
        ("Mixtral-8x7B-v0.1", {"num_experts": -8}, "num_experts is -8; it must be at least 1"),
        ("Mixtral-8x7B-v0.1", {"ffn_dim": 0}, "ffn_dim is 0; it must be at least 1"),
        ("Qwen3-0.6B", {"num_layers": 0}, "num_layers is 0; it must be at least 1"),
        ("Mixtral-8x7B-v0.1", {"num_layers": 4.0}, "num_layers is 4.0; give a whole number"),
        ("Mixtral-8x7B-v0.1", {"top_k": True}, "top_k is True; give a whole number"),
        (
            "Mixtral-8x7B-v0.1",
            {"ffn_dim": 1800},
            "ffn_dim 1800 is no multiple of 16.*nearest: 1792",
        ),
        ("Mixtral-8x7B-v0.1", {"ffn_dim": 3}, "nearest: 16"),
        ("Qwen3-8B", {"num_experts": 8}, "is a dense model"),
        ("Qwen3-8B", {"top_k": 2}, "is a dense model"),
        ("Qwen3-8B", {"ffn_dim": 1024}, "is a dense model"),
        (
            "DeepSeek-V2-Lite",
            {"num_layers": 1},
            "no layer with experts, for the first 1 are dense; use at least 2",
        ),
        ("DeepSeek-V3", {"num_layers": 3}, "use at least 4"),
        (
            "DeepSeek-V3",
            {"num_experts": 100},
            "num_experts 100 cannot be split into its 8 router groups.*from 16 on",
        ),
        ("DeepSeek-V3", {"num_experts": 8, "top_k": 1}, "cannot be split into its 8 router groups"),
        (
            "DeepSeek-V3",
            {"num_experts": 16, "top_k": 16},
            "top_k 16 exceeds the 8 experts of the 4 router groups",
        ),
        ("Llama-4-Scout-17B-16E-Instruct", {"top_k": 2}, "allows for top_k 1 only"),
        ("MolmoE-1B-0924", {"top_k": 4}, "edit OLMoE-1B-7B-0924"),
    ],
)
def test_refused_edits_say_why(name, changes, words):
    with pytest.raises(ImpossibleEdit, match=words) as refused:
        edit(catalog.load(name), **changes)
    assert name in str(refused.value)


def test_an_impossible_edit_is_a_value_error():
    assert issubclass(ImpossibleEdit, ValueError)
