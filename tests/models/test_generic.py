"""Models that no formula covers: counts against transformers' own modules to the last parameter,
roles against the modules' classes, cache and state, and edits."""

from pathlib import Path

import pytest
import yaml

from moebook.models import catalog, costs, sizes
from moebook.models.architecture import UnknownModel, from_config
from moebook.models.edit import ImpossibleEdit, edit

TABLE = yaml.safe_load((Path(__file__).parent / "configs.yaml").read_text())
BY_FORMULA = ("Llama-4-Maverick-17B-128E-Instruct", "Qwen2-57B-A14B")
GENERIC = [name for name in TABLE if name not in BY_FORMULA]
# Several experts' projections lie in modules of other names.
PART_TYPE = {"step3p7": "step3p5", "qwen3_vl_moe": "qwen3_vl_moe_text"}
NO_EXPERT_CLASS = ("DBRX", "Aria", "JetMoE-8B", "Jamba-v0.1")


def load(name: str):
    return from_config(TABLE[name]["config"], name, TABLE[name]["source"])


@pytest.mark.parametrize("name", TABLE)
def test_counts_equal_the_modules_of_transformers(name, meta_parameters):
    arch = load(name)
    buffers = arch.counts.buffers if arch.counts else 0
    assert sizes.total_parameters(arch) == meta_parameters(arch.hf_config()) + buffers


@pytest.mark.parametrize("name", TABLE)
def test_counts_and_caches_are_those_of_the_table(name):
    arch, row = load(name), TABLE[name]["counts"]
    assert sizes.total_parameters(arch) / 1e9 == pytest.approx(row["total"], rel=0, abs=0.51e-3)
    assert sizes.active_parameters(arch) / 1e9 == pytest.approx(row["active"], rel=0, abs=0.51e-3)
    assert sizes.kv_bytes_per_token(arch) == row["kv"]
    assert sizes.state_bytes_per_sequence(arch) == row["state"]


@pytest.mark.parametrize("name", ["Step-3.7-Flash", "Qwen3-VL-30B-A3B-Instruct"])
def test_a_language_part_is_read_with_and_without_the_model_around_it(name):
    """Its keys at the top of the config, under the family's type and under the part's own."""
    arch, config = load(name), TABLE[name]["config"]
    kind, text = config["model_type"], dict(config["text_config"])
    for given in ({**text, "model_type": kind}, {**text, "model_type": PART_TYPE[kind]}):
        flat = from_config(given, name, "a test")
        assert flat.counts == arch.counts and flat.attention_groups == arch.attention_groups


@pytest.mark.parametrize(
    "kind, of_class, part, name",
    [
        ("kimi_vl", "KimiVLForConditionalGeneration", "text_config", "Moonlight-16B-A3B"),
        ("internvl_chat", "InternVLChatModel", "llm_config", "Qwen3-30B-A3B"),
        ("deepseek_vl_v2", "DeepseekOCRForCausalLM", "language_config", "DeepSeek-V2-Lite"),
    ],
)
def test_the_language_part_of_a_class_that_the_engine_alone_knows(kind, of_class, part, name):
    alone = catalog.load(name)
    config = {"architectures": [of_class], "model_type": kind, part: alone.hf_config()}
    whole = from_config({**config, "vision_config": {"width": {}}}, "whole", "a test")
    for told in (sizes.total_parameters, sizes.active_parameters, sizes.kv_bytes_per_token):
        assert told(whole) == told(alone)
    with pytest.raises(UnknownModel, match="knows neither model_type 'unheard'"):
        unheard = {"architectures": ["Unheard"], "model_type": "unheard"}
        from_config({**config, **unheard}, "unheard", "a test")


@pytest.mark.parametrize("of_class", ["MiniMaxText01ForCausalLM", "MiniMaxM1ForCausalLM"])
def test_minimaxs_first_configs_are_of_transformers_family(of_class):
    """config.json of MiniMaxAI/MiniMax-M1-40k: 456 billion parameters, of its 80 layers every
    eighth with softmax attention; 45.9 a token without embedding and head, by its model card."""
    config = {
        "architectures": [of_class],
        "model_type": "minimax_m1",
        "auto_map": {"AutoConfig": "configuration_minimax_m1.MiniMaxText01Config"},
        "attn_type_list": [0, 0, 0, 0, 0, 0, 0, 1] * 10,
        "head_dim": 128,
        "hidden_size": 6144,
        "intermediate_size": 9216,
        "num_attention_heads": 64,
        "num_experts_per_tok": 2,
        "num_hidden_layers": 80,
        "num_key_value_heads": 8,
        "num_local_experts": 32,
        "vocab_size": 200064,
        "tie_word_embeddings": False,
    }
    arch = from_config(config, "M1", "a test")
    active = sizes.active_parameters(arch) - 2 * 200064 * 6144
    assert sizes.total_parameters(arch) / 1e9 == pytest.approx(456.09, abs=0.01)
    assert active / 1e9 == pytest.approx(45.9, abs=0.1)
    assert sizes.kv_bytes_per_token(arch) == 10 * 2 * 8 * 128 * 2
    assert [g.layers for g in arch.attention_groups] == [70, 10]


def test_attention_to_smoothed_keys_keeps_them_and_the_convolutions():
    """Inkling's keys and values (heads of 128), and its two residual streams of H, pass through
    convolutions over 4 tokens; its layers attend to a window of 512 or to all."""
    given = {"num_hidden_layers": 2, "layer_types": ["hybrid_sliding", "hybrid"]}
    arch = from_config({"model_type": "inkling_text", **given}, "inkling", "a test")
    softmax = [g for g in arch.attention_groups if g.kv_values]
    assert [(g.kind, g.kv_heads, g.window) for g in softmax] == [
        ("window", 16, 512),
        ("full", 8, None),
    ]
    assert sizes.kv_bytes_per_token(arch) == 2 * 2 * 128 * (16 + 8)
    smoothed = 2 * 128 * (16 + 8) + 2 * 2 * arch.hidden_size
    assert sizes.state_bytes_per_sequence(arch) == 2 * 3 * smoothed


def test_a_size_that_the_class_does_not_read_is_told():
    """Step-3.7's class calls its experts otherwise; its default would be counted."""
    config = TABLE["Step-3.7-Flash"]["config"]
    wrong = {**config, "text_config": {**config["text_config"], "num_experts": 100}}
    with pytest.raises(UnknownModel, match="num_experts 100.* step3p7 builds 288"):
        from_config(wrong, "wrong", "a test")


def test_a_width_of_experts_that_the_class_does_not_read_is_told():
    """Aria's first config has both widths; its class takes the dense one's key for the experts'."""
    config = TABLE["Aria"]["config"]
    first = {"intermediate_size": 13568, "moe_intermediate_size": 1664}
    with pytest.raises(UnknownModel, match="moe_intermediate_size 1664, and .* builds 13568"):
        from_config({**config, "text_config": {**config["text_config"], **first}}, "x", "a test")


def test_a_dtype_may_be_written_as_torch_prints_it():
    config = TABLE["Nemotron-3-Nano-30B-A3B"]["config"]
    assert from_config({**config, "torch_dtype": "torch.float16"}, "x", "a test").dtype == "float16"


@pytest.mark.parametrize("name", [name for name in GENERIC if name not in NO_EXPERT_CLASS])
def test_the_experts_are_those_of_the_classes_that_hold_experts(name, meta_model):
    arch = load(name)
    held = [
        sum(p.numel() for p in module.parameters())
        for path, module in meta_model(arch.hf_config()).named_modules()
        if type(module).__name__.endswith("Experts")
        and "vision" not in path.partition(".layers.")[0]
    ]
    assert held, "no class of experts"
    assert sizes.parameter_counts(arch)["experts"] == sum(held)


@pytest.mark.parametrize("name", GENERIC)
def test_little_has_no_role(name):
    counts = sizes.parameter_counts(load(name))
    assert counts["other"] < 1e-5 * sum(counts.values())


@pytest.mark.parametrize(
    "name, published",  # billions, all and active, as their authors print them
    [
        ("DBRX", (132, 36)),
        ("dots.llm1.inst", (142, 14)),
        ("Jamba-v0.1", (52, 12)),
        ("LFM2-8B-A1B", (8.3, 1.5)),
        ("granite-4.0-h-small", (32, 9)),
        ("Kimi-Linear-48B-A3B", (48, 3)),
        ("Hunyuan-A13B-Instruct", (80, 13)),
        ("Nemotron-3-Nano-30B-A3B", (31.6, 3.6)),
        ("Solar-Open-100B", (102.6, 12)),
    ],
)
def test_published_counts(name, published):
    arch = load(name)
    counted = sizes.total_parameters(arch) / 1e9, sizes.active_parameters(arch) / 1e9
    assert counted[0] == pytest.approx(published[0], rel=0.03)
    assert counted[1] == pytest.approx(published[1], rel=0.17)  # some leave out the embedding


def test_qwen3_next_by_hand():
    """L=48 of which 12 attend; H=2048, E=512, K=10, I=512, one gated shared expert of 512."""
    counts = sizes.parameter_counts(catalog.load("Qwen3-Next-80B-A3B-Instruct"))
    linear = 2048 * (2 * 16 * 128 + 2 * 32 * 128 + 2 * 32) + 8192 * 4 + 2 * 32 + 4096 * 2048
    attention = 2048 * (2 * 16 * 256 + 2 * 2 * 256) + 16 * 256 * 2048
    assert counts == {
        **dict.fromkeys(sizes.COMPONENTS, 0),
        "embedding": 151936 * 2048,
        "lm_head": 151936 * 2048,
        "experts": 48 * 512 * 3 * 2048 * 512,
        "shared_experts": 48 * (3 * 2048 * 512 + 2048),
        "router": 48 * 512 * 2048,
        "linear_attention": 36 * linear,
        "attention": 12 * attention,
        "norms": 97 * 2048 + 36 * 128 + 12 * 2 * 256,
    }


ERNIE_VL = {  # as its authors write it: sizes of experts of text and of images
    **{
        "model_type": "ernie4_5_moe_vl",
        "architectures": ["Ernie4_5_VLMoeForConditionalGeneration"],
    },
    **{"auto_map": {"AutoConfig": "configuration_ernie4_5_vl.Ernie4_5_VLMoeConfig"}},
    **{"hidden_size": 2560, "intermediate_size": 12288, "num_hidden_layers": 28, "moe_k": 6},
    **{"num_attention_heads": 20, "num_key_value_heads": 4, "vocab_size": 103424},
    **{"moe_num_experts": [64, 64], "moe_intermediate_size": [1536, 512], "use_bias": False},
    **{"moe_layer_start_index": [1, 1], "moe_layer_end_index": [29, 28], "moe_layer_interval": 1},
    **{"moe_num_shared_experts": 2, "max_position_embeddings": 131072, "rope_3d": True},
    **{"tie_word_embeddings": True, "vision_config": {"depth": 32, "embed_dim": 1280}},
}


def test_experts_of_images_are_stored_and_no_token_of_a_text_uses_them():
    arch, spelled = load("ERNIE-4.5-VL-28B-A3B"), from_config(ERNIE_VL, "x", "a test")
    assert spelled.counts == arch.counts and spelled.attention_groups == arch.attention_groups
    one = 3 * 2560
    experts = 27 * 64 * one * (1536 + 512)
    counts, active = sizes.parameter_counts(arch), sizes.active_counts(arch)
    assert (counts["experts"], active["experts"]) == (experts, 27 * 6 * one * 1536)
    assert counts["router"] == 2 * active["router"] == 2 * 27 * 64 * (2560 + 1)
    assert (arch.num_experts, arch.expert_ffn_dim) == (64, 1536)
    step = costs.decode_cost(arch, 1, 1, "bfloat16")
    assert step.bytes["experts"] == pytest.approx(2 * active["experts"])
    assert step.flops["experts"] == 2 * active["experts"]


def test_experts_of_images_are_as_many_as_those_of_text():
    with pytest.raises(UnknownModel, match=r"of images are \[64, 32\]"):
        from_config({**ERNIE_VL, "moe_num_experts": [64, 32]}, "x", "a test")


def test_the_head_is_tied_as_a_whole_models_config_says():
    untied = from_config({**ERNIE_VL, "tie_word_embeddings": False}, "x", "a test")
    assert not untied.tie_embeddings
    assert sizes.parameter_counts(untied)["lm_head"] == 103424 * 2560


def test_kimi_k2_is_a_deepseek_v3_by_another_name():
    arch = catalog.load("Kimi-K2-Instruct")
    assert (arch.family, arch.config["model_type"]) == ("deepseek_v3", "kimi_k2")
    assert edit(arch, num_experts=64).hf_config()["model_type"] == "kimi_k2"


EDITS = [
    ("Nemotron-3-Nano-30B-A3B", {"ffn_dim": 256, "num_experts": 16, "num_layers": 9}),
    ("Qwen3-VL-30B-A3B-Instruct", {"ffn_dim": 256, "top_k": 4, "num_layers": 3}),
    ("DBRX", {"ffn_dim": 512, "num_experts": 4, "top_k": 2, "num_layers": 2}),
    ("Hunyuan-A13B-Instruct", {"num_experts": 8, "top_k": 2, "num_layers": 5}),
    ("MiMo-V2-Flash", {"ffn_dim": 64, "num_experts": 32, "num_layers": 10}),
    ("granite-4.0-h-small", {"ffn_dim": 64, "num_layers": 16}),
    ("gemma-4-26B-A4B", {"num_experts": 32, "num_layers": 12}),
    ("Aria", {"num_experts": 16, "top_k": 2, "num_layers": 2}),
]


@pytest.mark.parametrize("name, changes", EDITS)
def test_an_edit_is_written_in_the_config_s_own_spelling(name, changes, meta_parameters):
    arch = load(name)
    edited = edit(arch, **changes)
    field = {"ffn_dim": "expert_ffn_dim"}
    assert {k: getattr(edited, field.get(k, k)) for k in changes} == changes
    buffers = edited.counts.buffers
    assert sizes.total_parameters(edited) == meta_parameters(edited.hf_config()) + buffers
    back = {k: getattr(arch, field.get(k, k)) for k in changes}
    assert edit(edited, **back) is arch


def test_a_text_or_list_as_long_as_the_model_is_deep_is_left_alone():
    config = {
        **TABLE["granite-3.0-3b-a800m-instruct"]["config"],
        "num_hidden_layers": 4,
        "hidden_act": "silu",
        "eos_token_id": [0, 1, 2, 3],
    }
    edited = edit(from_config(config, "x", "test"), num_layers=2)
    assert edited.hf_config() == {**config, "num_hidden_layers": 2}


def test_an_edit_that_the_config_cannot_say_is_refused():
    with pytest.raises(ImpossibleEdit, match="does not say its number of experts, so no edit"):
        edit(load("Jamba-v0.1"), num_experts=4)


def test_what_transformers_does_not_know_is_refused_in_its_words():
    config = {"model_type": "kimi_k9", "architectures": ["KimiK9ForCausalLM"]}
    with pytest.raises(UnknownModel, match=r"transformers 5\.\d+.* 'kimi_k9' nor a class KimiK9"):
        from_config(config, "x", "test")
    own = {**config, "auto_map": {"AutoConfig": "configuration_kimi.KimiConfig"}}
    with pytest.raises(UnknownModel, match="is run only where it is trusted: --trust-remote-code"):
        from_config(own, "x", "test")


@pytest.mark.parametrize("family", ["bert", "t5", "clip", "mamba2", "whisper", "resnet"])
def test_what_is_no_decoder_is_refused_in_one_message(family):
    with pytest.raises(UnknownModel, match="^x: its config c(annot|ontradicts)") as refused:
        from_config({"model_type": family}, "x", "test")
    assert "\n" not in str(refused.value)


def test_the_class_decides_where_the_model_type_is_another_family_s():
    """MiniMax-M2's first config calls itself `minimax`, whose layers are half linear."""
    config = {**TABLE["MiniMax-M2.5"]["config"], "model_type": "minimax"}
    arch = from_config(config, "x", "test")
    assert [group.kind for group in arch.attention_groups] == ["full"]
    assert sizes.total_parameters(arch) == sizes.total_parameters(load("MiniMax-M2.5"))


def test_a_talker_is_no_part_of_the_text():
    qwen3 = catalog.load("Qwen3-30B-A3B")
    text = {**qwen3.hf_config(), "model_type": "qwen3_omni_moe_text"}
    thinker = {"model_type": "qwen3_omni_moe_thinker", "text_config": text}
    config = {"model_type": "qwen3_omni_moe", "thinker_config": thinker, "talker_config": {}}
    config["architectures"] = ["Qwen3OmniMoeForConditionalGeneration"]
    omni = from_config(config, "omni", "made")
    assert sizes.parameter_counts(omni) == sizes.parameter_counts(qwen3)
    assert sizes.active_parameters(omni) == sizes.active_parameters(qwen3)


def test_what_transformers_cannot_build_is_refused_in_its_words():
    with pytest.raises(UnknownModel, match="x: its config cannot be read: TypeError: "):
        from_config({"model_type": "dots1"}, "x", "test")


REMOTE = """
import torch
from transformers import PretrainedConfig, PreTrainedModel

class OwnConfig(PretrainedConfig):
    model_type = "own_moe"
    def __init__(self, hidden_size=64, num_experts=4, num_experts_per_tok=2, **rest):
        self.hidden_size, self.num_experts = hidden_size, num_experts
        self.num_experts_per_tok, self.num_attention_heads = num_experts_per_tok, 4
        self.vocab_size, self.num_key_value_heads = 100, 4
        super().__init__(**rest)

class OwnModel(PreTrainedModel):
    config_class = OwnConfig
    def __init__(self, config):
        super().__init__(config)
        h = config.hidden_size
        linear = lambda: torch.nn.Linear(h, h, bias=False)
        attention = torch.nn.ModuleDict({p: linear() for p in ("q_proj", "k_proj", "v_proj")})
        experts = torch.nn.ModuleList(
            torch.nn.ModuleDict({"up_proj": torch.nn.Linear(h, 128, bias=False)})
            for _ in range(config.num_experts)
        )
        gate = torch.nn.Linear(h, config.num_experts)
        mlp = torch.nn.ModuleDict({"gate": gate, "experts": experts})
        self.layers = torch.nn.ModuleList(
            [torch.nn.ModuleDict({"self_attn": attention, "mlp": mlp})]
        )
        self.embed_tokens = torch.nn.Embedding(100, h)
        self.post_init()
"""


def test_code_beside_a_config_is_run_only_where_it_is_trusted(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "own.py").write_text(REMOTE)
    (folder / "config.json").write_text(
        '{"model_type": "own_moe", "architectures": ["OwnModel"], "auto_map": '
        '{"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}}'
    )
    with pytest.raises(UnknownModel, match="trusted"):
        catalog.load(str(folder))
    arch = catalog.load(str(folder), trust_remote_code=True)
    assert arch.shape == (128, 4, 2, 1)
    assert sizes.parameter_counts(arch)["experts"] == 4 * 128 * 64
    assert sizes.active_counts(arch)["experts"] == 2 * 128 * 64
    monkeypatch.setenv(catalog.TRUST, "1")
    assert catalog.load(str(folder)) == arch
