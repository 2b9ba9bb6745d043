"""`moebook models`: what ships, one model in words and as JSON, and what it refuses."""

import json
import sys

import pytest
from typer.testing import CliRunner

from moebook import cli
from moebook.models import catalog, fitting, sharding, sizes
from moebook.models.sharding import Split

KEYS = {"total_parameters", "active_parameters", "by_role", "kv_bytes_per_token"}
KEYS |= {"state_bytes_per_sequence", "number_format", "weight_bytes", "fits"}


def called(*arguments: str) -> str:
    done = CliRunner().invoke(cli.app, ["models", *arguments], catch_exceptions=False)
    assert done.exit_code == 0
    return done.stdout


def test_the_list_has_every_model_of_the_catalog():
    *rows, _, hint = called().splitlines()[2:]
    assert hint.startswith("moebook models NAME shows one; any other: by its folder")
    assert [row.split()[0] for row in rows] == catalog.names()
    kimi = next(row for row in rows if row.startswith("Kimi-K2"))
    assert kimi.split()[1:3] == ["1026.41", "32.86"] and "FP8 blocks 128x128" in kimi
    listed = json.loads(called("--json"))
    assert [model["name"] for model in listed] == catalog.names()


@pytest.mark.parametrize("name", ["Qwen3-Next-80B-A3B-Instruct-FP8", "gpt-oss-20b", "Qwen3-8B"])
def test_one_as_json_has_what_the_library_counts(name):
    found, arch = json.loads(called(name, "--json")), catalog.load(name)
    assert found.keys() >= KEYS
    assert (
        found["total_parameters"] == sizes.total_parameters(arch) == sum(found["by_role"].values())
    )
    assert found["active_parameters"] == sum(found["active_by_role"].values())
    assert found["weight_bytes"] == sizes.weight_bytes(arch)
    assert found["kv_bytes_per_token"] == sizes.kv_bytes_per_token(arch)
    assert found["state_bytes_per_sequence"] == sizes.state_bytes_per_sequence(arch)


def test_one_in_words():
    text = called("qwen3-next-80b-a3b-instruct-fp8")
    for words in (
        "79.674 billion, 3.875 per token",
        "36 linear, 12 full (2 KV heads)",
        "FP8 blocks 128x128, weights 80.4 GB",
        "24,576 bytes per token and 39,518,208 per sequence",
        "experts                77,309,411,328      1,509,949,440",
        "TP 8 refused: ",
        "-: too little memory",
        "models: [qwen3-next-80b-a3b-instruct-fp8], or any",
        "moebook predict qwen3-next-80b-a3b-instruct-fp8 --device h200",
    ):
        assert words in text
    assert "dense" in called("Qwen3-8B") and "36 mla" not in text and "engine  " not in text


def test_a_folder_and_its_config_are_the_same_model(tmp_path):
    config = catalog.load("tiny-deepseek-v2").hf_config()
    (tmp_path / "config.json").write_text(json.dumps(config))
    of_folder = json.loads(called(str(tmp_path), "--json"))
    assert of_folder == json.loads(called(str(tmp_path / "config.json"), "--json"))
    assert of_folder["attention"] == [{"kind": "mla", "layers": 4, "kv_heads": 4, "window": None}]


def test_what_the_engine_does_not_read_with_dummy_weights_is_said(tmp_path):
    own = {"model_type": "own_moe", "auto_map": {"AutoConfig": "own.OwnConfig"}}
    config = {**catalog.load("Qwen3-30B-A3B").hf_config(), **own}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "does not come with dummy weights: give the checkpoint" in called(str(tmp_path))


def test_what_fits_is_the_most_that_the_sharding_rule_lets_in():
    arch = catalog.load("gpt-oss-120b")
    rows = {(row["device"], row["tensor_parallel"]): row for row in fitting.fits(arch)}
    assert rows["l4", 1]["sequences"] == 0 < rows["h200", 1]["sequences"]
    row = rows["h200", 2]
    split = Split(tensor=2)
    room = 150754820096 * 0.9 - row["weight_bytes"] - sizes.activation_bytes(arch, 8192) // 2
    held, more = (sharding.cache_bytes(arch, split, row["sequences"] + n, 4096) for n in (0, 1))
    assert held <= room < more
    refused = [row for row in fitting.fits(catalog.load("Phi-3.5-MoE-instruct")) if row["refused"]]
    assert all(row["weight_bytes"] is None and row["sequences"] == 0 for row in refused)


def refusal(monkeypatch, capsys, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["moebook", "models", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert capsys.readouterr().out == ""
    return ended.value.code


@pytest.mark.parametrize(
    "content, words",
    [
        ("", "not valid JSON"),
        ('{"model_type": "mixtral", "num_hidden_layers": -1}', "num_hidden_layers is -1; give a"),
        ('{"model_type": "mixtral", "num_local_experts": 1}', "2 experts per token of 1 experts"),
    ],
)
def test_a_bad_config_is_one_message(tmp_path, monkeypatch, capsys, content, words):
    (tmp_path / "config.json").write_text(content)
    told = refusal(monkeypatch, capsys, str(tmp_path / "config.json"), "--json")
    assert words in told and "\n" not in told


def test_an_unknown_name_is_told_with_the_nearest(monkeypatch, capsys):
    assert "nearest catalog names: Qwen3-30B-A3B" in refusal(monkeypatch, capsys, "qwen3-30b-a3")
