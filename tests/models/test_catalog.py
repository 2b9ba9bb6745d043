"""Names, folders and ids; configs in and out; what the slide printed."""

import dataclasses
import json
import subprocess
import sys

import pytest

from moebook.models import catalog, families
from moebook.models.architecture import UnknownModel, from_config

TINY = {"tiny-mixtral": "mixtral", "tiny-qwen2-moe": "qwen2_moe", "tiny-deepseek-v2": "deepseek_v2"}


@pytest.mark.parametrize("name", catalog.names())
def test_every_config_loads_with_its_source(name):
    arch = catalog.load(name.upper())
    assert arch.name == name
    assert arch.source == catalog.sources()[name]["source"]
    assert arch.base is None
    assert arch is catalog.load(name)


def test_sources_and_configs_name_the_same_models():
    assert sorted(catalog.sources()) == sorted(catalog.names())
    keys = {"source", "confidence", "published", "slide"}
    for row in catalog.sources().values():
        assert keys <= row.keys() <= keys | {"note", "later"}
        assert row["slide"] is None or row["slide"].keys() == {
            "num_layers",
            "hidden",
            "ffn",
            "experts",
            "top_k",
        }


def test_the_slide_errs_in_six_rows():
    def published(arch):
        return {
            "num_layers": arch.num_layers,
            "hidden": arch.hidden_size,
            "ffn": arch.expert_ffn_dim,
            "experts": arch.num_experts,
            "top_k": arch.top_k,
        }

    wrong = {}
    for name, row in catalog.sources().items():
        shape = published(catalog.load(name))
        if row["slide"] and row["slide"] != shape:
            wrong[name] = {k for k in shape if shape[k] != row["slide"][k]}
    everything = {"num_layers", "hidden", "ffn", "experts", "top_k"}
    assert wrong == {
        "Qwen1.5-MoE-A2.7B": {"ffn"},
        "Qwen1.5-MoE-A2.7B-Chat": {"ffn"},
        "Qwen3-30B-A3B": {"hidden", "ffn"},
        "OLMoE-1B-7B-0125": {"ffn"},
        "OLMoE-1B-7B-0924": {"ffn"},
        "deepseek-vl2-tiny": everything,
        "deepseek-vl2-small": everything - {"hidden"},
        "deepseek-vl2": everything,
    }


@pytest.mark.parametrize(
    "name, shape",
    [
        ("Mixtral-8x7B-v0.1", (32, 4096, 32, 8, 128, 14336, 8, 2, 0, 0)),
        ("Qwen3-30B-A3B", (48, 2048, 32, 4, 128, 768, 128, 8, 0, 0)),
        ("Qwen1.5-MoE-A2.7B", (24, 2048, 16, 16, 128, 1408, 60, 4, 5632, 0)),
        ("DeepSeek-V2-Lite", (27, 2048, 16, 16, 192, 1408, 64, 6, 2816, 1)),
        ("DeepSeek-R1", (61, 7168, 128, 128, 192, 2048, 256, 8, 2048, 3)),
        ("deepseek-vl2-tiny", (12, 1280, 10, 10, 128, 896, 64, 6, 1792, 1)),
        ("MolmoE-1B-0924", (16, 2048, 16, 16, 128, 1024, 64, 8, 0, 0)),
        ("gpt-oss-120b", (36, 2880, 64, 8, 64, 2880, 128, 4, 0, 0)),
        ("Llama-4-Scout-17B-16E-Instruct", (48, 5120, 40, 8, 128, 8192, 16, 1, 8192, 0)),
        ("Qwen3-8B", (36, 4096, 32, 8, 128, 0, 0, 0, 0, 36)),
        ("tiny-mixtral", (4, 256, 8, 4, 32, 512, 8, 2, 0, 0)),
        ("tiny-qwen2-moe", (4, 256, 8, 8, 32, 128, 16, 4, 512, 0)),
        ("tiny-deepseek-v2", (4, 256, 4, 4, 128, 128, 16, 4, 256, 1)),
    ],
)
def test_shapes(name, shape):
    a = catalog.load(name)
    assert (
        a.num_layers,
        a.hidden_size,
        a.num_heads,
        a.num_kv_heads,
        a.head_dim,
        a.expert_ffn_dim,
        a.num_experts,
        a.top_k,
        a.shared_ffn_dim,
        a.num_dense_layers,
    ) == shape


@pytest.mark.parametrize(
    "name, positions",
    [
        ("OLMoE-1B-7B-0924", 4096),
        ("deepseek-vl2", 4096),
        ("Qwen1.5-MoE-A2.7B", 8192),
        ("MolmoE-1B-0924", 4096),
    ],
)
def test_positions(name, positions):
    assert catalog.load(name).max_positions == positions


def test_mla():
    mla = catalog.load("DeepSeek-V3")
    assert (
        mla.is_mla,
        mla.q_lora_rank,
        mla.kv_lora_rank,
        mla.qk_nope_head_dim,
        mla.qk_rope_head_dim,
        mla.v_head_dim,
    ) == (True, 1536, 512, 128, 64, 128)
    assert not catalog.load("deepseek-vl2-tiny-textonly").is_mla


@pytest.mark.parametrize("name, family", TINY.items())
def test_tiny_skeletons_are_ours_and_small(name, family):
    arch = catalog.load(name)
    assert arch.family == family
    assert arch.source == "moebook: scaled-down skeleton, not a published model"
    assert (arch.num_layers, arch.hidden_size, arch.vocab_size, arch.max_positions) == (
        4,
        256,
        4096,
        4096,
    )


def test_the_tiny_mla_has_the_one_cache_width_of_the_cpu_kernel():
    arch = catalog.load("tiny-deepseek-v2")
    assert (arch.kv_lora_rank, arch.qk_rope_head_dim) == (512, 64)


def test_an_architecture_is_frozen_hashable_and_guards_its_config():
    arch = catalog.load("tiny-mixtral")
    with pytest.raises(dataclasses.FrozenInstanceError):
        arch.top_k = 3
    assert hash(arch) == hash(dataclasses.replace(arch))
    arch.hf_config()["vocab_size"] = 7
    assert arch.hf_config()["vocab_size"] == 4096


def test_a_checkpoint_folder(tmp_path):
    config = catalog.load("OLMoE-1B-7B-0924").hf_config() | {"num_hidden_layers": 3}
    folder = tmp_path / "my-olmoe"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    arch = catalog.load(str(folder))
    assert (arch.name, arch.num_layers, arch.num_experts) == ("my-olmoe", 3, 64)
    assert str(folder) in arch.source
    assert arch.hf_config() == config


IN_TRANSFORMERS = [
    n for n in catalog.names() if catalog.load(n).family not in ("molmo", "deepseek_vl_v2")
]


@pytest.mark.parametrize("name", IN_TRANSFORMERS)
def test_a_config_that_went_through_transformers_gives_the_same_shapes(name):
    transformers = pytest.importorskip("transformers")
    arch = catalog.load(name)
    config = {k: v for k, v in arch.hf_config().items() if k != "auto_map"}
    if config["model_type"] not in transformers.CONFIG_MAPPING:
        config["model_type"] = families.family_of(config)
    again = from_config(transformers.AutoConfig.for_model(**config).to_dict(), name, arch.source)
    assert dataclasses.replace(again, config={}) == dataclasses.replace(arch, config={})


def hub(monkeypatch, answer) -> list[str]:
    """The names that are asked of Hugging Face from now on, each answered by `answer`."""
    from transformers.configuration_utils import PreTrainedConfig

    asked = []

    def fake(name):
        asked.append(name)
        return answer(), {}

    monkeypatch.setattr(PreTrainedConfig, "get_config_dict", fake)
    monkeypatch.setattr("transformers.utils.cached_file", lambda *name, **options: None)
    return asked


def test_a_hugging_face_id(monkeypatch):
    pytest.importorskip("transformers")
    config = catalog.load("tiny-mixtral").hf_config()
    asked = hub(monkeypatch, lambda: config)
    arch = catalog.load("owner/some-model")
    assert asked == ["owner/some-model"]
    assert arch.name == "owner/some-model"
    assert arch.shape == catalog.load("tiny-mixtral").shape
    assert arch.hf_config() == config


def test_a_hugging_face_id_out_of_reach(monkeypatch):
    pytest.importorskip("transformers")

    def fail():
        raise OSError("no route\nto host")

    hub(monkeypatch, fail)
    with pytest.raises(
        UnknownModel, match=r"could not be read from Hugging Face \(no route\); nearest.*Mixtral"
    ):
        catalog.load("mistralai/Mixtral-8x7B-v0.3")


def test_a_config_file_is_a_model_and_named_after_its_folder(tmp_path):
    folder = tmp_path / "my-moe"
    folder.mkdir()
    config = json.dumps(catalog.load("tiny-mixtral").hf_config())
    for name, called in (("config.json", "my-moe"), ("small.json", "small")):
        (folder / name).write_text(config)
        assert catalog.load(str(folder / name)).name == called
    assert catalog.load(str(folder)) == catalog.load(str(folder / "config.json"))


@pytest.mark.parametrize(
    "given, words",
    [
        ("mixtral-8x7b", "nearest catalog names: .*Mixtral-8x7B-v0.1"),
        ("qwen3-30b", "Qwen3-30B-A3B"),
        ("zzz", "no catalog name is near"),
    ],
)
def test_unknown_names_give_the_nearest_and_the_three_forms(given, words):
    with pytest.raises(UnknownModel, match=words) as unknown:
        catalog.load(given)
    for form in ("catalog name", "folder with config.json", "Hugging Face id"):
        assert form in str(unknown.value)


def test_a_name_longer_than_a_path():
    with pytest.raises(UnknownModel, match=r"model 'a{80}' cannot be read: File name too long"):
        catalog.load("a" * 5000)


@pytest.mark.parametrize("wrong", [None, "4", [], 1.5, -1])
def test_rows_beside_the_vocabulary_are_a_whole_number(wrong):
    config = {**catalog.load("MolmoE-1B-0924").hf_config(), "additional_vocab_size": wrong}
    with pytest.raises(UnknownModel, match="additional_vocab_size|extra embeddings"):
        from_config(config, "x", "test")


@pytest.mark.parametrize(
    "file, told",
    [
        ("adapter_config.json", "of an adapter: merge it into its base model"),
        ("model-q4.gguf", "of a GGUF file: name the model that it was converted from"),
        ("params.json", "params.json: take the folder in Hugging Face's layout"),
    ],
)
def test_what_a_folder_holds_in_place_of_a_config_is_told(file, told, tmp_path):
    (tmp_path / file).write_text("{}")
    with pytest.raises(UnknownModel, match=f"without config.json but .*{told}"):
        catalog.load(str(tmp_path))


def test_a_folder_without_config(tmp_path):
    with pytest.raises(UnknownModel, match="folder without config.json"):
        catalog.load(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000])
def test_a_broken_config_file(tmp_path, content):
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(UnknownModel, match="config.json is not valid JSON"):
        catalog.load(str(tmp_path))


@pytest.mark.parametrize(
    "config, words",
    [
        (
            {"model_type": "no_such"},
            "transformers .* knows neither model_type 'no_such' nor a class",
        ),
        ({}, "knows neither model_type None nor a class .none is named."),
        (
            {"model_type": "mixtral", "num_attention_heads": 0, "hidden_size": "64"},
            "num_attention_heads is 0; give a whole number from 1 .*hidden_size is '64'; give a",
        ),
        ({"model_type": "mixtral", "num_attention_heads": 12}, "12 .* do not share 8 KV heads"),
        (
            {"model_type": "mixtral", "num_attention_heads": 24, "num_key_value_heads": 8},
            "hidden size 4096 does not divide into 24 heads, and no head_dim is given",
        ),
        ({"model_type": "mixtral", "num_experts_per_tok": 9}, "9 experts per token of 8 experts"),
        ({"model_type": "mixtral", "num_hidden_layers": 10**6}, "num_hidden_layers is 1000000"),
        ({"model_type": "mixtral", "num_hidden_layers": True}, "is True; give a whole number"),
        ({"model_type": "mixtral", "tie_word_embeddings": "no"}, "'no'; give true or false"),
        ({"model_type": "mixtral", "quantization_config": "fp8"}, "its number format cannot be"),
        ({"model_type": ["mixtral"]}, r"model_type is \['mixtral'\]; give a name"),
        ({"model_type": "llama4", "text_config": 7}, "text_config is 7; give an object"),
        ({"model_type": "mixtral", "architectures": "MixtralForCausalLM"}, "give a list of class"),
        ([1, 2], r"it is \[1, 2\], and must be an object"),
        (
            {"model_type": "gpt_oss", "num_hidden_layers": 3, "layer_types": ["full_attention"]},
            "layer_types names 1 of 3 layers",
        ),
        ({"model_type": "deepseek_vl_v2"}, "has no 'num_attention_heads'"),
        ({"model_type": "mixtral", "torch_dtype": "float8"}, "torch_dtype is 'float8'; give one"),
        ({"model_type": "qwen3_next", "full_attention_interval": -1}, "interval is -1; give a"),
        ({"model_type": "qwen3_next", "linear_key_head_dim": 1.5}, "head_dim is 1.5; give a"),
        ({"model_type": "deepseek_v3", "first_k_dense_replace": None}, "null in it: first_k_dense"),
    ],
)
def test_unreadable_configs(config, words):
    with pytest.raises(UnknownModel, match=words):
        from_config(config, "x", "test")


def test_every_family_has_a_model():
    shipped = {families.family_of(catalog.load(n).config) for n in catalog.names()}
    assert shipped - {None} == set(families.FAMILIES) - {"llama4_text"}


def test_the_text_part_of_scout_can_stand_alone():
    whole = catalog.load("Llama-4-Scout-17B-16E-Instruct")
    text = from_config(whole.hf_config()["text_config"], "text", "test")
    assert text.shape == whole.shape
    assert text.vision_params == 0 < whole.vision_params


def test_loading_a_catalog_model_imports_no_heavy_package():
    heavy = ("torch", "transformers", "vllm", "pandas", "matplotlib", "numpy")
    code = (
        "import sys; from moebook.models import catalog, edit, sizes; "
        "catalog.load('mixtral-8x7b-v0.1'); "
        f"print([m for m in {heavy} if m in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        == "[]\n"
    )
