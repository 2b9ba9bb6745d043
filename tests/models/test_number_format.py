"""A checkpoint's own number format: read from every spelling of a config, named, sized; told
clearly where it cannot be read."""

import copy
import json
import random
import re
from pathlib import Path

import pytest
import yaml

from moebook.models import catalog, formats, own_format, sizes
from moebook.models.architecture import UnknownModel, from_config
from moebook.models.number_format import FP8_TENSOR, NVFP4, Patterns, fp8_blocks, integers
from moebook.models.quantization_config import read, without_quantization

TINY = catalog.load("tiny-mixtral").hf_config()
ACTIVATIONS = {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True}
GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True}


def compressed(bits, kind, strategy, activations=None, targets=("Linear",), **weights):
    """A compressed-tensors entry of one group; the router and the head are ignored."""
    own = {"num_bits": bits, "type": kind, "symmetric": True, "strategy": strategy, **weights}
    group = {"targets": list(targets), "weights": own, "input_activations": activations}
    return {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": group},
        "ignore": ["lm_head", "re:.*gate$"],
    }


def modelopt(algorithm, **more):
    """hf_quant_config.json as ModelOpt 0.29 writes it."""
    return {
        "producer": {"name": "modelopt", "version": "0.29.0"},
        "quantization": {"quant_algo": algorithm, "exclude_modules": ["lm_head"], **more},
    }


def arch_of(entry, config=TINY, key="quantization_config"):
    return from_config({**config, key: entry}, "made", "a test")


INT8_ATTENTION = compressed(8, "int", "channel", ACTIVATIONS, ["re:.*self_attn.*"])
FLOAT = {**ACTIVATIONS, "type": "float"}
NAMES = [
    ({"quant_method": "mxfp4"}, "MXFP4"),
    ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "FP8 blocks 128x128"),
    ({"quant_method": "fp8", "activation_scheme": "static"}, "FP8 per tensor"),
    ({"quant_method": "fbgemm_fp8"}, "FP8 per channel"),
    (compressed(8, "float", "channel", FLOAT), "FP8 per channel"),
    (compressed(8, "float", "tensor", FLOAT), "FP8 per tensor"),
    (
        compressed(8, "float", "block", FLOAT, block_structure=[128, 128]),
        "FP8 blocks 128x128",
    ),
    (compressed(8, "float", "channel"), "FP8 per channel, weights only"),
    (compressed(8, "float", "group", FLOAT, group_size=32), "MXFP8"),
    (compressed(8, "float", "group", FLOAT, group_size=128), "FP8 groups of 128"),
    (
        {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "fp4"},
        "bitsandbytes FP4",
    ),
    (compressed(4, "int", "group", group_size=128), "INT4 groups of 128"),
    (compressed(8, "int", "channel"), "INT8 per channel"),
    (compressed(8, "int", "channel", ACTIVATIONS), "INT8 per channel, INT8 activations"),
    (INT8_ATTENTION, "INT8 per channel, INT8 activations (attention only)"),
    (
        {**compressed(8, "int", "channel"), "ignore": ["lm_head", "re:.*block_sparse_moe.*"]},
        "INT8 per channel (attention only)",
    ),
    (
        {**compressed(4, "int", "group", group_size=32), "ignore": ["re:.*self_attn.*"]},
        "INT4 groups of 32",
    ),
    (
        {**compressed(4, "float", "tensor_group", FLOAT), "format": "nvfp4-pack-quantized"},
        "NVFP4",
    ),
    (GPTQ, "INT4 groups of 128"),
    ({**GPTQ, "group_size": -1, "bits": 8}, "INT8 per channel"),
    (
        {**GPTQ, "dynamic": {"+:.*attn.*": {"bits": 8, "group_size": 32}}},
        "INT4 groups of 128, INT8 groups of 32 attention",
    ),
    (
        compressed(8, "float", "block", FLOAT, block_structure="128x128"),
        "FP8 blocks 128x128",
    ),
    (AWQ, "INT4 groups of 128"),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bitsandbytes NF4"),
    ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bitsandbytes INT8"),
    (modelopt("NVFP4", group_size=16), "NVFP4"),
    (modelopt("FP8"), "FP8 per tensor"),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": ["lm_head"]}, "NVFP4"),
    (
        modelopt(
            "MIXED_PRECISION",
            quantized_layers={
                f"model.layers.{i}.{part}": {"quant_algo": algorithm}
                for i in range(TINY["num_hidden_layers"])
                for part, algorithm in (
                    ("block_sparse_moe.experts", "NVFP4"),
                    ("self_attn", "FP8"),
                )
            },
        ),
        "NVFP4, FP8 per tensor attention",
    ),
]


@pytest.mark.parametrize(("entry", "name"), NAMES)
def test_a_format_has_a_name_from_its_config(entry, name):
    assert own_format.number_format(arch_of(entry)) == name


def test_the_catalogs_own_formats():
    own = {name: catalog.load(name) for name in catalog.names()}
    assert {n: own_format.number_format(a) for n, a in own.items() if a.number_format} == {
        "DeepSeek-R1": "FP8 blocks 128x128",
        "DeepSeek-V3": "FP8 blocks 128x128",
        "GLM-4.5-Air-FP8": "FP8 per channel",
        "gpt-oss-20b": "MXFP4",
        "gpt-oss-120b": "MXFP4",
        "Kimi-K2-Instruct": "FP8 blocks 128x128",
        "Qwen3-235B-A22B-FP8": "FP8 blocks 128x128",
        "Qwen3-30B-A3B-FP8": "FP8 blocks 128x128",
        "Qwen3-Next-80B-A3B-Instruct-FP8": "FP8 blocks 128x128",
    }
    assert own_format.number_format(own["Mixtral-8x7B-v0.1"]) == "bfloat16"


def test_an_entry_is_read_and_taken_out_wherever_it_stands():
    scout = catalog.load("Llama-4-Scout-17B-16E-Instruct").hf_config()
    inside = {**scout, "text_config": {**scout["text_config"], "quantization_config": AWQ}}
    assert own_format.number_format(from_config(inside, "s", "a test")) == "INT4 groups of 128"
    assert without_quantization(inside) == scout
    by_other_key = arch_of(INT8_ATTENTION, key="compression_config")
    assert own_format.number_format(by_other_key).endswith("(attention only)")
    assert without_quantization(by_other_key.hf_config()) == TINY


def test_a_folder_of_modelopt_says_its_format_beside_the_config(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(modelopt("NVFP4", group_size=16)))
    assert own_format.number_format(catalog.load(str(tmp_path))) == "NVFP4"
    (tmp_path / "hf_quant_config.json").write_text("{")
    with pytest.raises(UnknownModel, match=r"hf_quant_config\.json is not valid JSON"):
        catalog.load(str(tmp_path))


@pytest.mark.parametrize("file, method", [("quantize_config", "gptq"), ("quant_config", "awq")])
def test_a_format_beside_the_config_that_the_engine_does_not_read_is_told(tmp_path, file, method):
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    (tmp_path / f"{file}.json").write_text(json.dumps({"bits": 4, "group_size": 128}))
    with pytest.raises(UnknownModel, match=f"{file}.json says .* quant_method '{method}'$"):
        catalog.load(str(tmp_path))


def test_mlx_says_its_format_under_a_key_of_its_own():
    for entry in ({"bits": 4, "group_size": 64}, {"bits": 8, "group_size": 32, "mode": "mxfp8"}):
        with pytest.raises(UnknownModel, match="MLX's .*which vLLM does not read"):
            arch_of(entry, key="quantization")


def test_gptq_may_name_the_only_modules_that_it_covers():
    only = [["self_attn.k_proj", "self_attn.v_proj"], ["self_attn.q_proj"]]
    arch = arch_of({**GPTQ, "modules_in_block_to_quantize": only})
    assert own_format.number_format(arch) == "INT4 groups of 128 (attention only)"
    h, kv = TINY["hidden_size"], TINY["num_key_value_heads"] * arch.head_dim
    packed = arch.num_layers * sum(4 / 8 * h * n + 2 * n * -(-h // 128) for n in (h, kv, kv))
    whole = sizes.component_bytes(arch, quantization=None)["attention"]
    saved = arch.num_layers * 2 * h * (h + 2 * kv) - packed
    assert sizes.component_bytes(arch)["attention"] == pytest.approx(whole - saved)


BAD = [
    ({"bits": 4}, r"without quant_method \(given \['bits'\]\); known: mxfp4, .*bitsandbytes"),
    ({"quant_method": "hqq"}, "quant_method: given 'hqq'; known: mxfp4, .*remove the entry"),
    ("fp8", "quantization_config: given 'fp8'; a mapping with quant_method"),
    (
        {"quant_method": "fp8", "weight_block_size": [128]},
        r"weight_block_size: given \[128\]; two whole numbers over 0, such as \[128, 128\]",
    ),
    ({"quant_method": "fp8", "weight_block_size": [0, 128]}, r"given \[0, 128\]; two whole"),
    (
        {"quant_method": "fp8", "activation_scheme": "lazy"},
        "activation_scheme: given 'lazy'; dynamic or static",
    ),
    (
        {"quant_method": "fp8", "modules_to_not_convert": "gate"},
        "modules_to_not_convert: given 'gate'; a list of module names",
    ),
    ({**GPTQ, "bits": 5}, "bits: given 5; 2 or 3 or 4 or 8"),
    ({**GPTQ, "bits": None}, "bits: given None; 2 or 3 or 4 or 8"),
    ({**GPTQ, "group_size": "all"}, "group_size: given 'all'; a whole number"),
    ({**GPTQ, "group_size": 0}, "group_size: given 0; -1 for a whole row, or 1 and more"),
    ({**GPTQ, "dynamic": {"+:((": {"bits": 8}}}, r"dynamic: 're:\(\(' is no regular expression"),
    ({**GPTQ, "dynamic": {"attn": 8}}, r"dynamic\.attn: given 8; a mapping of bits"),
    (
        {**compressed(8, "float", "channel", FLOAT), "kv_cache_scheme": {"num_bits": 8}},
        "kv_cache_scheme: given .*; num_bits 8, type float, and a strategy of tensor or attn_head",
    ),
    (compressed(8, "float", "block", FLOAT, block_structure="128"), "block_structure: given"),
    ({**GPTQ, "dynamic": ["-:x"]}, r"dynamic: given \['-:x'\]; a mapping of rules"),
    (
        {"quant_method": "compressed-tensors"},
        "config_groups: given None; a mapping of groups by name",
    ),
    (
        {"quant_method": "compressed-tensors", "config_groups": {"g": {"targets": ["Linear"]}}},
        "config_groups: no group has weights",
    ),
    (
        compressed(4, "int", "row"),
        r"config_groups\.group_0\.weights\.strategy: given 'row'; tensor, channel, group",
    ),
    (compressed(3, "int", "channel"), "num_bits: given 3; 4 or 8"),
    (compressed(8, "complex", "channel"), r"weights\.type: given 'complex'; int, float"),
    (
        {**compressed(8, "int", "channel"), "ignore": ["re:(gate"]},
        r"ignore: 're:\(gate' is no regular expression",
    ),
    (modelopt("NVFP2"), "quant_algo: given 'NVFP2'; known: FP8, .*NVFP4"),
    ({"quant_method": "modelopt"}, "quant_algo: given None; known: FP8"),
]


@pytest.mark.parametrize(("entry", "told"), BAD)
def test_what_cannot_be_read_is_told_in_one_message(entry, told):
    with pytest.raises(UnknownModel, match=f"^made: its number format cannot be read: .*{told}"):
        arch_of(entry)


def _places(entry: object, path: tuple = ()):
    """Every place in an entry: keys and indices from its top."""
    inside = entry.items() if isinstance(entry, dict) else enumerate(entry)
    for key, value in inside if isinstance(entry, dict | list) else ():
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from _places(value, (*path, key))


def test_a_wrong_value_anywhere_is_read_or_told():
    """A sample of all entries with one value of another kind: sizes, or the one message."""
    wrong = (None, [], {}, "x", -1, 0, 3.5, True, [1], {"a": 1}, ["re:("], [None])
    draw = random.Random(0)
    for _ in range(300):
        entry = copy.deepcopy(draw.choice(NAMES[:-1])[0])
        *way, last = draw.choice(list(_places(entry)))
        inner = entry
        for key in way:
            inner = inner[key]
        inner[last] = draw.choice(wrong)
        try:
            arch = arch_of(entry)
        except UnknownModel as error:
            assert "its number format cannot be read: " in str(error)
        else:
            assert own_format.number_format(arch) and sizes.weight_bytes(arch) > 0


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("model.layers.*.self_attn", "layers.3.self_attn.q_proj", True),
        ("model.layers.*.self_attn", "layers.3.mlp.experts.0.up_proj", False),
        ("gate", "layers.0.mlp.gate", True),
        ("gate", "layers.0.mlp.gate_proj", False),
        ("model.language_model.layers.0.mlp", "layers.0.mlp.up_proj", True),
        ("model.layers.1.mlp", "layers.11.mlp.up_proj", False),
        ("re:.*gate$", "layers.0.block_sparse_moe.gate", True),
        (r"re:model\.layers\.\d+\.self_attn.*", "layers.7.self_attn.o_proj", True),
    ],
)
def test_names_of_modules_match_as_configs_write_them(pattern, name, matches):
    assert Patterns((pattern,)).match(name) is matches


def test_bytes_of_a_matrix_have_its_scales():
    """7168 x 2048 in blocks of 128: 56 x 16 scales of 4 bytes; a last block may be cut."""
    assert fp8_blocks(128, 128).bytes(7168, 2048) == 7168 * 2048 + 4 * 56 * 16
    assert fp8_blocks(128, 128).bytes(130, 64) == 130 * 64 + 4 * 2
    assert FP8_TENSOR.bytes(10, 10) == 104
    assert integers(4, 128, zero=True).bytes(2, 256) == 2 * 256 / 2 + 4 * 2.5
    assert NVFP4.bytes(1, 32) == 16 + 2


@pytest.mark.parametrize(
    ("name", "own_gb", "bf16_gb"),
    [
        ("gpt-oss-20b", 13.8, 41.8),  # published: sources.yaml
        ("gpt-oss-120b", 65.2, 233.7),
        ("DeepSeek-V3", 673.2, 1342.1),
        ("Qwen3-30B-A3B-FP8", 31.2, 61.1),
    ],
)
def test_weights_in_the_own_format_and_in_bf16(name, own_gb, bf16_gb):
    arch = catalog.load(name)
    assert sizes.weight_bytes(arch) / 1e9 == pytest.approx(own_gb, abs=0.05)
    assert sizes.weight_bytes(arch, quantization=None) / 1e9 == pytest.approx(bf16_gb, abs=0.05)


def test_the_published_checkpoint_of_deepseek_v3_is_as_large():
    """641.30 GiB of safetensors (read from the hub's file list by
    https://flytomelight.github.io/llm-cal/models/deepseek-ai-deepseek-v3-h100/), which hold one
    layer more for multi-token prediction: experts, attention and shared expert in blocks, its
    projection of 2 H x H and its copies of embedding and head in bf16."""
    arch = catalog.load("DeepSeek-V3")
    counts, h = sizes.matrix_counts(arch), arch.hidden_size
    one = counts["experts"] / 58 + counts["shared_experts"] / 58 + counts["attention"] / 61
    layer = one * (1 + 4 / 128**2) + 2 * (2 * h * h + 2 * arch.vocab_size * h + 256 * h)
    assert (sizes.weight_bytes(arch) + layer) / 2**30 == pytest.approx(641.30, rel=2e-4)


def published(name):
    """A config of tests/models/configs.yaml."""
    return yaml.safe_load((Path(__file__).parent / "configs.yaml").read_text())[name]["config"]


def test_experts_of_deepseek_v4_are_stored_apart_from_its_other_matrices():
    """Its fp8 entry says nothing of them: `expert_dtype` does, fp4 where it is absent, and
    moe_quant_algo of NVIDIA's copy (aiconfigurator-core 0.12.0 model_configs)."""
    config = published("DeepSeek-V4-Flash")
    fp8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    asked = (
        ({}, fp8, "MXFP4, FP8 blocks 128x128 attention and shared experts", 155.6),
        ({"expert_dtype": "fp8"}, fp8, "FP8 blocks 128x128", 285.5),
        (
            {"expert_dtype": "fp4"},
            {**fp8, "moe_quant_algo": "NVFP4", "producer": {"name": "modelopt"}},
            "NVFP4, FP8 blocks 128x128 attention and shared experts",
            164.2,
        ),
    )
    for told, entry, name, gb in asked:
        arch = arch_of(entry, {**config, **told})
        assert own_format.number_format(arch) == name
        assert sizes.weight_bytes(arch) / 1e9 == pytest.approx(gb, abs=0.1)


def test_layers_that_a_mixed_checkpoint_names_are_found_where_they_lie():
    """Nemotron's Mamba, experts and attention lie between each other, in a `backbone`; NVIDIA's
    Lightning copy names each of their matrices."""
    config = published("Nemotron-3-Nano-30B-A3B")
    pattern = config["hybrid_override_pattern"]
    named = {"M": ("in_proj", "out_proj"), "E": ("experts.0.up_proj", "experts.0.down_proj")}
    algorithm = {"M": "FP8", "E": "W4A16_NVFP4"}
    layers = {
        f"backbone.layers.{i}.mixer.{matrix}": {"quant_algo": algorithm[kind]}
        for i, kind in enumerate(pattern)
        for matrix in named.get(kind, ())
    }
    arch = arch_of(modelopt("MIXED_PRECISION", quantized_layers=layers), config)
    assert own_format.number_format(arch) == (
        "NVFP4, weights only, FP8 per tensor linear attention"
    )
    held, counts = sizes.component_bytes(arch), sizes.matrix_counts(arch)
    assert held["experts"] == pytest.approx(counts["experts"] * 4.5 / 8)
    assert held["linear_attention"] < 1.01 * counts["linear_attention"]
    assert held["attention"] == 2 * counts["attention"]


def test_layers_of_llama_4_maverick_lie_where_its_config_says():
    """Every second layer is dense; what a list leaves out of one of them is a 24th of all."""
    config = published("Llama-4-Maverick-17B-128E-Instruct")
    parts = {}
    for layer in (0, 1):
        out = [f"language_model.model.layers.{layer}.feed_forward"]
        arch = arch_of({"quant_method": "fbgemm_fp8", "modules_to_not_convert": out}, config)
        parts[layer] = sizes.component_bytes(arch)
    whole = sizes.component_bytes(arch_of({"quant_method": "fbgemm_fp8"}, config))
    assert parts[0]["experts"] == whole["experts"] and parts[1]["dense_ffn"] == whole["dense_ffn"]
    assert parts[0]["dense_ffn"] / whole["dense_ffn"] == pytest.approx(25 / 24, rel=1e-3)
    assert parts[1]["experts"] / whole["experts"] == pytest.approx(25 / 24, rel=1e-3)


def test_a_modelopt_file_without_a_producer_is_one_all_the_same():
    entry = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}
    assert own_format.number_format(arch_of(entry)) == "FP8 per tensor"


def test_what_a_config_ignores_stays_in_the_models_dtype():
    plain = sizes.component_bytes(arch_of(None))
    attention, everything = (
        sizes.component_bytes(arch_of(entry))
        for entry in (INT8_ATTENTION, compressed(8, "int", "channel"))
    )
    assert attention["experts"] == plain["experts"]
    assert everything["experts"] < 0.51 * plain["experts"]
    assert attention["attention"] == everything["attention"] < 0.52 * plain["attention"]
    kept = ("embedding", "router", "norms", "lm_head")
    assert all(everything[c] == attention[c] == plain[c] for c in kept)


def test_layers_that_a_config_leaves_out_count_plainly():
    out = ["lm_head", *(f"model.layers.{i}.block_sparse_moe.gate" for i in range(4))]
    entry = {"quant_method": "fp8", "modules_to_not_convert": [*out, "model.layers.0"]}
    arch = arch_of(entry)
    some, plain = sizes.component_bytes(arch), sizes.component_bytes(arch_of(None))
    layers = TINY["num_hidden_layers"]
    share = (2 + (layers - 1)) / (2 * layers)
    assert some["experts"] / plain["experts"] == pytest.approx(share, rel=1e-3)
    assert own_format.covered(arch) == ("experts", "attention")
    assert own_format.covered(arch, wholly=True) == ()


@pytest.mark.parametrize(
    ("quantization", "trained", "capability", "told"),
    [
        ("own", False, 10.0, None),
        ("own", False, None, None),
        ("own", True, 9.0, r"NVFP4 is multiplied .* 10\.0 \(Blackwell\) on, this device has 9\.0"),
        ("own", False, 0.0, "a CPU has none of them: ask for another format"),
        (None, False, 9.0, None),
        ("fp8", False, 9.0, None),
        (None, True, 10.0, "stored in NVFP4, and plain weights are asked: ask for .*'own'"),
        ("fp8", True, 10.0, "stored in NVFP4, and fp8 is asked"),
    ],
)
def test_what_a_device_or_a_checkpoint_does_not_run(quantization, trained, capability, told):
    found = formats.refusal(arch_of(modelopt("NVFP4")), quantization, trained, capability)
    assert found is None if told is None else re.search(told, found)
    assert formats.refusal(catalog.load("tiny-mixtral"), quantization, True, 9.0) is None


def test_bitsandbytes_is_named_and_refused():
    arch = arch_of({"quant_method": "bitsandbytes", "load_in_4bit": True})
    assert "knows it no more" in formats.refusal(arch, "own", False, 9.0)
    assert formats.refusal(arch, "fp8", False, 9.0) is None


def test_dummy_weights_of_another_format_lose_their_own():
    oss = catalog.load("gpt-oss-20b")
    own = oss.hf_config()
    assert formats.with_format(own, "own") == own and "quantization_config" in own
    for quantization in (None, "fp8", "int8_experts"):
        assert "quantization_config" not in formats.with_format(own, quantization)
    int4 = formats.with_format(own, "int4")["quantization_config"]
    assert int4["quant_method"] == "compressed-tensors"


def test_a_series_is_called_by_the_format_that_it_stands_for():
    oss, mixtral = catalog.load("gpt-oss-20b"), catalog.load("Mixtral-8x7B-v0.1")
    assert [formats.series_name(a, "own") for a in (oss, mixtral)] == ["MXFP4", "bf16"]
    assert formats.series_name(oss, "fp8") == "fp8"
    assert formats.format_name(oss, "bfloat16", "own") == "MXFP4"
    assert formats.format_name(oss, "bfloat16", None) == "bfloat16"
    assert formats.format_name(oss, "bfloat16", "int8_experts") == "INT8 per channel (experts only)"


def test_matrix_rates_of_own_formats():
    """INT4 and MXFP4 weights are multiplied in 16 bits (vLLM on Hopper), FP8 in FP8."""
    rates = {n: formats.rate(catalog.load(n), "own") for n in ("gpt-oss-20b", "DeepSeek-V3")}
    assert rates == {"gpt-oss-20b": 1.0, "DeepSeek-V3": 2.0}
    assert formats.rate(catalog.load("Mixtral-8x7B-v0.1"), "own") == 1.0
    assert formats.rate(arch_of(AWQ), "own") == 1.0
    assert formats.rate(arch_of(AWQ), "awq") is None


def test_a_compressed_checkpoint_with_a_cache_scheme_is_planned_with_an_fp8_cache():
    scheme = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False}
    entry = compressed(8, "float", "channel", FLOAT)
    plain = read({"quantization_config": entry})
    found = read({"quantization_config": {**entry, "kv_cache_scheme": scheme}})
    assert (plain.kv_cache, found.kv_cache) == (None, "fp8")


def test_sparse_checkpoints_are_refused_as_the_engine_does():
    entry = compressed(8, "float", "channel", FLOAT)
    sparse = {**entry, "sparsity_config": {"format": "sparse-24-bitmask", "targets": ["Linear"]}}
    found = read({"quantization_config": sparse})
    assert "taken out sparse matrices" in found.problem(9.0)
