"""One rank's shapes: what the ranks hold together is the model, and a rank's work is its share of
the model's."""

import pytest

from moebook.models import catalog, costs, sizes
from moebook.models.one_rank import (
    MODES,
    ImpossibleShard,
    impossible,
    rank_series,
    rounding,
    shard,
    stand_in,
)

MIXTRAL, OLMOE = "Mixtral-8x7B-v0.1", "OLMoE-1B-7B-0125"
SPLIT = ("attention", "experts", "embedding", "lm_head")


def parameters(arch) -> dict:
    return sizes.matrix_counts(arch)  # a bias of an output is on every rank


SHARDED = [MIXTRAL, OLMOE, "tiny-mixtral", "Qwen3-30B-A3B", "gpt-oss-20b", "Phi-3.5-MoE-instruct"]


@pytest.mark.parametrize("name", SHARDED)
@pytest.mark.parametrize("devices", [2, 4])
@pytest.mark.parametrize("mode", ["TP", "TP+EP"])
def test_ranks_hold_the_model_between_them(name, devices, mode):
    arch = catalog.load(name)
    rank = shard(arch, mode, devices)
    whole, part = parameters(arch), parameters(rank)
    assert [devices * part[c] for c in SPLIT] == [whole[c] for c in SPLIT]
    assert rank.head_dim == arch.head_dim and rank.hf_config()["head_dim"] == arch.head_dim
    assert (rank.num_layers, rank.hidden_size) == (arch.num_layers, arch.hidden_size)
    assert rank.name.split("[")[0] == arch.name and rank.source != arch.source


def test_tensor_parallel_splits_experts_and_expert_parallel_deals_them_out():
    arch = catalog.load(MIXTRAL)
    tp, ep = shard(arch, "TP", 4), shard(arch, "TP+EP", 4)
    assert (tp.num_experts, tp.top_k, tp.expert_ffn_dim) == (8, 2, 3584)
    assert (ep.num_experts, ep.top_k, ep.expert_ffn_dim) == (2, 1, 14336)
    assert (
        (tp.num_heads, tp.num_kv_heads, tp.vocab_size)
        == (ep.num_heads, ep.num_kv_heads, ep.vocab_size)
        == (8, 2, 8000)
    )


def test_kv_heads_are_repeated_where_there_are_fewer_than_ranks():
    rank = shard(catalog.load("Qwen3-30B-A3B"), "TP", 8)
    assert (rank.num_heads, rank.num_kv_heads) == (4, 1)


@pytest.mark.parametrize(("name", "devices"), [(MIXTRAL, 2), (OLMOE, 2), (OLMOE, 4)])
@pytest.mark.parametrize("tokens", [1, 16, 300])
def test_an_expert_parallel_rank_reads_its_share_of_the_experts_hit(name, devices, tokens):
    arch = catalog.load(name)
    rank = shard(arch, "TP+EP", devices)
    whole = costs.distinct_experts(arch.num_experts, arch.top_k, tokens)
    assert devices * costs.distinct_experts(rank.num_experts, rank.top_k, tokens) == pytest.approx(
        whole
    )


@pytest.mark.parametrize("mode", ["PP", "PP+EP"])
def test_a_stage_has_its_share_of_the_layers_and_nothing_else_changes(mode):
    arch = catalog.load(OLMOE)
    stage = shard(arch, mode, 4)
    assert stage.num_layers == 4 and stage.family == "olmoe"
    same = (
        "num_heads",
        "num_kv_heads",
        "num_experts",
        "top_k",
        "expert_ffn_dim",
        "vocab_size",
        "head_dim",
    )
    assert [getattr(stage, n) for n in same] == [getattr(arch, n) for n in same]


@pytest.mark.parametrize("mode", MODES)
def test_one_device_is_the_model_itself(mode):
    arch = catalog.load(OLMOE)
    assert shard(arch, mode, 1) is arch


def test_olmoe_stands_in_a_class_that_takes_the_head_dim():
    arch = catalog.load(OLMOE)
    whole = stand_in(arch)
    assert whole.family == "qwen3_moe" and whole.hf_config()["norm_topk_prob"] is False
    assert (
        whole.shape == arch.shape
        and whole.name == f"{OLMOE}[stand-in]"
        and whole.source != arch.source
    )
    without_norms = [
        {c: n for c, n in parameters(a).items() if c != "norms"} for a in (arch, whole)
    ]
    assert without_norms[0] == without_norms[1]
    assert shard(arch, "TP", 2).family == "qwen3_moe"
    assert stand_in(catalog.load(MIXTRAL)) is None


@pytest.mark.parametrize(
    ("name", "mode", "devices", "told"),
    [
        (MIXTRAL, "TP", 3, "8 KV heads neither split over 3 ranks nor repeat"),
        (MIXTRAL, "TP", 64, "32 heads do not split evenly over 64 ranks"),
        (OLMOE, "TP+EP", 128, "16 heads"),
        ("tiny-mixtral", "PP", 3, "4 layers do not split evenly over 3 stages"),
        ("Qwen3-30B-A3B", "TP", 6, "KV heads"),
        ("Qwen1.5-MoE-A2.7B", "TP", 2, "is not written as a model of its own for family qwen2_moe"),
        ("DeepSeek-V3", "TP+EP", 2, "1 shared experts do not split evenly over 2 ranks"),
        ("deepseek-vl2-tiny-textonly", "TP", 2, "for family deepseek_v2"),
    ],
)
def test_what_does_not_divide_says_why(name, mode, devices, told):
    arch = catalog.load(name)
    assert told in impossible(arch, mode, devices)
    with pytest.raises(ImpossibleShard, match=told.split(",")[0]):
        shard(arch, mode, devices)


def test_an_unknown_mode_names_those_there_are():
    with pytest.raises(ValueError, match="'DP' of parallelism; allowed: TP, TP[+]EP, PP, PP[+]EP"):
        shard(catalog.load(MIXTRAL), "DP", 2)


def test_a_rounded_share_of_choices_is_told():
    arch = catalog.load(MIXTRAL)
    assert "0.5 of a token's 2 expert choices" in rounding(
        arch, "TP+EP", 4
    ) and " 2 times " in rounding(arch, "TP+EP", 4)
    assert rounding(arch, "TP+EP", 2) is None and rounding(arch, "TP", 4) is None
    assert rounding(catalog.load(OLMOE), "TP+EP", 4) is None


def test_pipelines_with_and_without_experts_share_their_rank():
    assert rank_series("PP+EP", 4) == rank_series("PP", 4) == "rank of PP 4"
    assert rank_series("TP+EP", 2) == "rank of TP+EP 2"
