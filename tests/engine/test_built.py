"""Sizes of models that the engine alone knows, by its own classes: against the catalog, whose
counts are formulas' or transformers', against what their authors publish, and by hand."""

import pytest

from moebook.models import cache_folder, catalog, checks, engine_built, sizes
from moebook.models.architecture import UnknownModel, from_config
from moebook.models.edit import edit

pytestmark = pytest.mark.engine

OWN_CODE = {"auto_map": {"AutoConfig": "configuration_own.OwnConfig"}}
PLAIN = {
    **OWN_CODE,
    **{"hidden_act": "silu", "rms_norm_eps": 1e-6, "rope_theta": 10000.0, "rope_scaling": None},
    **{"tie_word_embeddings": False, "max_position_embeddings": 4096},
}
LING = {
    **PLAIN,
    **{
        "model_type": "bailing_moe",
        "hidden_size": 2048,
        "head_dim": 128,
        "num_attention_heads": 16,
        "use_rmsnorm": True,
    },
    **{"num_key_value_heads": 4, "use_bias": False, "use_qkv_bias": False, "norm_topk_prob": True},
    **{"embedding_dropout": 0.0, "output_dropout": 0.0},
}
LING_MINI_2 = {
    **LING,
    **{"architectures": ["BailingMoeV2ForCausalLM"], "intermediate_size": 5120},
    **{"num_experts": 256, "num_experts_per_tok": 8, "moe_intermediate_size": 512},
    **{"num_shared_experts": 1, "first_k_dense_replace": 1, "vocab_size": 157184},
    **{"num_hidden_layers": 20, "use_qk_norm": True, "n_group": 8, "topk_group": 4},
    **{"moe_router_enable_expert_bias": True, "score_function": "sigmoid"},
}
STEP3 = {
    **{"model_type": "step3_text", "architectures": ["Step3TextForCausalLM"]},
    **{"hidden_size": 7168, "intermediate_size": 18432, "num_attention_heads": 64},
    **{"num_attention_groups": 1, "num_hidden_layers": 61, "vocab_size": 128815, "head_dim": 256},
    **{"moe_intermediate_size": 5120, "moe_num_experts": 48, "moe_top_k": 3, "share_q_dim": 2048},
    **{"share_expert_dim": 5120, "moe_layers_enum": ",".join(map(str, range(4, 60)))},
}
# With billions of parameters, in all and per token, as their authors print them; what they leave
# out: (embedding and head).
PUBLISHED = {
    "deepseek-moe-16b": (
        (16.4, 2.8),
        {
            **{**PLAIN, "architectures": ["DeepseekForCausalLM"], "model_type": "deepseek"},
            **{"hidden_size": 2048, "intermediate_size": 10944, "moe_intermediate_size": 1408},
            **{"num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 16},
            **{"n_shared_experts": 2, "n_routed_experts": 64, "num_experts_per_tok": 6},
            **{"moe_layer_freq": 1, "first_k_dense_replace": 1, "norm_topk_prob": False},
            **{"vocab_size": 102400, "attention_bias": False},
        },
    ),
    "Ling-lite": (
        (16.8, 2.75),
        {
            **{**LING, "architectures": ["BailingMoeForCausalLM"], "num_hidden_layers": 28},
            **{"intermediate_size": 5632, "moe_intermediate_size": 1408, "num_experts": 64},
            **{"num_experts_per_tok": 6, "num_shared_experts": 2, "first_k_dense_replace": 0},
            "vocab_size": 126464,
        },
    ),
    "Step3, its language part": (
        (316, 38),
        {
            **{"model_type": "step3_vl", "architectures": ["Step3VLForConditionalGeneration"]},
            **{"text_config": STEP3, "vision_config": {"width": 1792}},
        },
    ),
    "Ring-2.5-1T": (
        (1000, 63),
        {
            **{**LING, "architectures": ["BailingMoeV2_5ForCausalLM"], "num_hidden_layers": 80},
            **{"model_type": "bailing_hybrid", "hidden_size": 8192, "intermediate_size": 18432},
            **{"num_attention_heads": 64, "num_key_value_heads": 64, "vocab_size": 157184},
            **{"num_experts": 256, "num_experts_per_tok": 8, "num_shared_experts": 1},
            **{"moe_intermediate_size": 2048, "moe_shared_expert_intermediate_size": 2048},
            **{"first_k_dense_replace": 4, "layer_group_size": 8, "kv_lora_rank": 512},
            **{"q_lora_rank": 1536, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64},
            **{"v_head_dim": 128, "use_qk_norm": True, "group_norm_size": 8},
        },
    ),
    "moondream3": (
        (9, 2),
        {"architectures": ["Moondream3ForCausalLM"], "model_type": "moondream3", "config": {}},
    ),
}


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    pytest.importorskip("vllm")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(cache_folder.VARIABLE, str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.parametrize(
    "name", ["Qwen1.5-MoE-A2.7B", "DeepSeek-V2-Lite", "Qwen3-Next-80B-A3B-Instruct", "gpt-oss-20b"]
)
def test_the_engine_s_classes_hold_what_the_catalog_counts(name):
    arch = catalog.load(name)
    tensors, _, groups = engine_built.build(arch.hf_config())
    assert sum(t.count for t in tensors) == sizes.total_parameters(arch)
    own = [(g.kind, g.layers, g.kv_values, g.conv_values, g.state_values) for g in groups]
    kept = [
        (g.kind, g.layers, g.kv_values, g.conv_values, g.state_values)
        for g in arch.attention_groups
    ]
    assert sorted(own) == sorted(kept)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name):
    (total, active), config = PUBLISHED[name]
    arch = from_config(config, name, "a test")
    assert sizes.total_parameters(arch) / 1e9 == pytest.approx(total, rel=0.025)
    found = sizes.active_counts(arch)
    inner = sum(found.values()) - found["embedding"]  # some leave out the embedding
    assert inner / 1e9 <= active * 1.02 and sum(found.values()) / 1e9 >= active * 0.87
    assert sizes.parameter_counts(arch)["other"] < 1e-5 * total * 1e9


def test_ling_by_hand():
    """L=20 of which 19 have experts; H=2048, E=256, I=512, a shared expert; its authors publish
    16.26 billion. A second time, and edited, it is not waited for."""
    arch = from_config(LING_MINI_2, "Ling-mini-2.0", "a test")
    assert {c: n for c, n in sizes.parameter_counts(arch).items() if n} == {
        "embedding": 157184 * 2048,
        "lm_head": 157184 * 2048,
        "attention": 20 * (24 * 128 * 2048 + 2048 * 2048),
        "experts": 19 * 256 * 3 * 2048 * 512,
        "shared_experts": 19 * 3 * 2048 * 512,
        "dense_ffn": 3 * 2048 * 5120,
        "router": 19 * 256 * (2048 + 1),
        "norms": 41 * 2048 + 20 * 2 * 128,
    }
    assert sizes.kv_bytes_per_token(arch) == 20 * 2 * 4 * 128 * 2
    assert edit(arch, num_experts=64, top_k=4).shape == (512, 64, 4, 20)


def test_what_each_layer_attends_to():
    step3 = from_config(STEP3, "Step3", "a test")
    assert [(g.kind, g.layers, g.kv_heads) for g in step3.attention_groups] == [("full", 61, 1)]
    assert sizes.kv_bytes_per_token(step3) == 61 * 2 * 256 * 2
    assert (step3.num_moe_layers, step3.shared_ffn_dim) == (56, 5120)
    ring = from_config(PUBLISHED["Ring-2.5-1T"][1], "Ring", "a test")
    kinds = [(g.kind, g.layers, g.kv_values, g.state_values) for g in ring.attention_groups]
    assert kinds == [("linear", 70, 0, 64 * 128 * 128), ("mla", 10, 576, 0)]
    linear = sizes.matrix_counts(ring)["linear_attention"]
    assert linear == 70 * 8192 * (3 * 8192 + 2 * 8192)  # queries, keys, values; gate, output


@pytest.mark.parametrize(
    "config, words",
    [
        (
            {"model_type": "own", "architectures": ["ArcticForCausalLM"]},
            r"knows neither model_type 'own' nor a class ArcticForCausalLM; vLLM [\d.]+ has no "
            "class ArcticForCausalLM, and had one until 0.28.0$",
        ),
        (
            {**LING, "architectures": ["BailingMoeForCausalLM"], "vocab_size": 100},
            r"vLLM [\d.]+ has a class BailingMoeForCausalLM and cannot build it here: it reads "
            "'[a-z_]+', which the config does not have",
        ),
        (
            {"model_type": "kimi_k3", "architectures": ["KimiK3ForConditionalGeneration"]},
            "has a class KimiK3For.* it needs the package 'cutlass', which is not installed here",
        ),
        ({"model_type": "own"}, r"; vLLM [\d.]+ was asked of no class, for none is named$"),
    ],
)
def test_what_neither_knows_or_can_build_is_told_in_both_their_words(config, words):
    with pytest.raises(UnknownModel, match=words):
        from_config(config, "x", "a test")


def test_classes_whose_language_part_is_read_are_the_engine_s():
    assert {name for name in checks.ENGINE_CLASSES if not engine_built.knows(name)} == set()


@pytest.mark.parametrize("content", ["", "7", "{}", '{"tensors": ['])
def test_a_damaged_answer_is_asked_again(content):
    whole = from_config(LING_MINI_2, "x", "a test")
    for file in (cache_folder.root() / "counted").glob("*.json"):
        file.write_text(content)
    tensors, _, _ = engine_built.build(LING_MINI_2)
    assert sum(t.count for t in tensors) == sizes.total_parameters(whole)


def test_what_a_program_that_ends_says(monkeypatch):
    """The next question starts another."""
    monkeypatch.setattr(engine_built, "PROGRAM", "no.such.program")
    monkeypatch.setattr(engine_built, "_running", [])
    with pytest.raises(engine_built.EngineCannot, match=r"cannot be asked \(it ended with 1\)"):
        engine_built.build({"architectures": ["MixtralForCausalLM"], "hidden_size": 1})
