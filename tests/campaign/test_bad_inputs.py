"""Bad inputs of every kind, a few of each: what `moebook` says of them names key and value, and is
never a traceback or a success."""

import json
import os
from itertools import pairwise
from pathlib import Path

import inputs
import pytest
import yaml
from made_up import write_checkpoint

from moebook import cli, paths, sections
from moebook.models.architecture import UnknownModel, from_config
from moebook.problems import ParameterError
from moebook.sections.hyperparameter_scaling import plan
from moebook.study import points

FILES = {
    "a list as key": "[1, 2]: 3\n",
    "a mapping as key": "{a: 1}: 3\n",
    "deep nesting": "device: " + "[" * 3000 + "]" * 3000 + "\n",
    "a value that holds itself": "a: &a [*a]\n",
    "values by the billion": "a: &a [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghijkl")),
    "a key twice": "repeats: 3\nrepeats: 4\n",
    "two documents": "repeats: 3\n---\nrepeats: 4\n",
    "a list": "- 1\n",
    "keys of another mapping": "seed: 0\n<<: {repeats: 4}\n",
    "an octal number": "repeats: 010\n",
    "a number of base sixty": "point_limit_minutes: 1:30\n",
    "a set": "batches: !!set {1, 2}\n",
    "a number without end": f"batches: [{'9' * 6000}]\n",
    "a fraction without end": f"point_limit_minutes: 1.{'9' * 6000}\n",
}
PAIRS = [
    ("00", "profile", {"profile": "a" * 300}),
    ("01", "output_root", {"output_root": "x" * 5000}),
    ("01", "output_root", {"output_root": "a\nb"}),
    ("01", "point_limit_minutes", {"point_limit_minutes": 1e300}),
    ("02", "reduced_layers", {"reduced_layers": [4], "models": ["Mixtral-8x7B-v0.1"]}),
    ("02", "reduced_layers", {"reduced_layers": [4, 4], "models": ["Mixtral-8x7B-v0.1"]}),
    ("02", "reduced_layers", {"reduced_layers": [4, 99], "models": ["Mixtral-8x7B-v0.1"]}),
    ("01", "reduced_layers", {"reduced_layers": 32, "grid_model": "Mixtral-8x7B-v0.1"}),
    ("02", "quality_tokens", {"quality_tokens": 1}),
    ("03", "quality_sequences", {"quality_sequences": 2, "repeats": 3}),
    ("03", "quality_tokens", {"quality_tokens": 10**6}),
    ("03", "quality_ratios_pct", {"quality_ratios_pct": [99.0]}),
    ("03", "quality_target", {"quality_target": "tiny:cpu/loss-free"}),
    ("04", "checked_acceptance", {"checked_acceptance": 0.5, "device": "cpu"}),
    ("07", "capture_ways", {"capture_ways": ["engine"], "device": "cpu"}),
    ("07", "capture_tokens", {"capture_tokens": 10**6}),
    ("07", "skew_layer_backend", {"skew_layer_backend": "tritn"}),
    ("07", "skews", {"skews": [1.0, 1.0000001]}),
    ("08", "common_layers", {"common_layers": 99, "common_model": "tiny-mixtral"}),
    ("08", "endpoint", {"endpoint": "https://user:hush@host.example/v1"}),
    ("08", "endpoint", {"endpoint": "x" * 500}),
    ("01", "validation_tokens", {"validation_tokens": 4096}),
    ("01", "ffn_dims", {"ffn_dims": [10**30]}),
    ("01", "batches: given '1001 values'", {"batches": list(range(1, 1002))}),
    ("01", "seed", {"seed": 2**63}),
    ("02", "weights", {"weights": "x" * 5000}),
    ("02", "weights", {"weights": "tiny:cpu/aux-0.01/inter-100-norm"}),
    ("02", "notebook", {"notebook": 1}),
    ("04", "draft_tokens_fixed", {"draft_tokens_fixed": 99}),
    ("04", "trained_prompt_tokens", {"trained_prompt_tokens": 10**6}),
    ("07", "checkpoint_texts", {"checkpoint_texts": ["/no/such"]}),
    ("09", "vlm_image_tokens", {"vlm_image_tokens": 10**6}),
]
H100 = "moebook/predict/calibrations/h100.yaml"
OPTIONS = [
    (("measure", "params/cpu/00_overview.yaml", "--sweep", ","), "--sweep: given ','"),
    (("measure", "params/cpu/00_overview.yaml", "--retry", "failed, oom"), "'failed, oom'"),
    (("measure", "params/cpu/00_overview.yaml", "--shard", "1/100000000"), "'1/100000000'"),
    (("measure", "params/cpu/00_overview.yaml", "--stop-after-minutes", "8m"), "given '8m'"),
    (("quality", "x", "--limit=-1"), "given '-1'"),
    (("measure", "params/cpu/00_overview.yaml", "--records", "1000000000"), "'1000000000'"),
    (("train", "tiny", "--members", "aux-0.01, draft-small"), "'aux-0.01, draft-small'"),
    (("figures", "--formats", ""), "--formats: given ''"),
    (("results", "--profile", "no-such"), "--profile: given 'no-such'"),
    (("report", "--output", "outputs/reference/x.html"), "not below the results"),
    (("figures", "--output", "https://u:hush@h/x"), "is an address"),
    (("quality", "https://u:hush@h/x"), "https://…@h/x"),
    (("predict", "Mixtral-8x7B-v0.1", "--batch", "1,99999999999"), "--batch: given"),
    (("results", "--output-root", "/dev/null"), "is a file"),
    (("calibrate", "--outputs", "no-such"), "--outputs: given 'no-such'"),
    (("calibrate", "--outputs", "x" * 300), "--outputs: given"),
    (("calibrate", "--to", "outputs/reference/x"), "which nothing writes"),
    (("prune", "x", "y", "--seed=-1"), "given '-1'"),
    (("prune", "x", "outputs/reference/x"), "which nothing writes"),
    (("prune", "x", "moebook/x"), "moebook's own files"),
    (("prune", "x", "https://u:hush@h/x"), "is an address"),
    (("prune", "x", "README.md/x"), "README.md is a file"),
    (("calibrate", "--to", "/proc/x"), "--to: given '/proc/x'; /proc is of a file system"),
    (("results", "--output-root", "/proc/moebook"), "keeps no files"),
    (
        (*("predict", "Mixtral-8x7B-v0.1", "--device", "h200"), "--calibration", H100),
        "--device: given 'h200'",
    ),
]
CALIBRATIONS = [
    (("device_kind",), None),
    (("device_kind",), []),
    (("inputs", "attention"), [{}]),
    (("rates", "bytes_per_s"), 0),
    (("rates", "flops_per_s"), "x"),
    (("factors", "layer_s"), float("nan")),
    (("factors", "blocks"), -1),
    (("factors", "b_experts"), 1e300),
    (("factors", "moe_layer_s"), True),
    (("factors",), {}),
    (("formats", "FP8 per tensor", "factors"), {}),
    (("reserve", "start"), float("inf")),
    (("reserve",), []),
    (("intervals", "batch 1", "tpot"), {}),
    (("intervals", "batch 1", "tpot", 95), {}),
    (("intervals", "batch 1", "ttft", 80), 50.0),
    (("intervals", "batch 1", "ttft", "coverage", 80), 2.0),
    (("intervals",), {}),
    (("scores",), {"left out": {"16-bit": 3}}),
    (("range", "batch"), [1.0]),
    (("range",), None),
    (("more",), 1),
]
CONFIGS = {
    "num_hidden_layers": [0, -1, 1.5, True, "two", 10**9, 3],
    "num_local_experts": [0, -1, 1, 5, "4", 10**9],
    "num_experts_per_tok": [0, 5, "2"],
    "num_key_value_heads": [0, 3, -1],
    "head_dim": [0, -1, 17, "16"],
    "vocab_size": [0, -1, 100],
    "model_type": ["bert", "llama", 3, "mixtrall", None],
    "max_position_embeddings": [1],
    "torch_dtype": ["float8", 3],
}
WRONG = ("traceback", "silent", "shown", "unclear")
FORMATS = [
    ({"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 32}, "group_size"),
    (
        {
            "quant_method": "compressed-tensors",
            "config_groups": {
                "g": {"targets": ["re:.*nothing$"], "weights": {"num_bits": 8, "type": "int"}}
            },
        },
        "covers no matrix",
    ),
]


def refused(monkeypatch, capsys, *args) -> str:
    """What the command says on its way out, which is not a success."""
    monkeypatch.setattr("sys.argv", ["moebook", *map(str, args)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = "".join(capsys.readouterr())
    said += ended.value.code if isinstance(ended.value.code, str) else ""
    assert ended.value.code not in (None, 0) and "Traceback" not in said
    return said


@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_an_odd_file_is_told_with_its_name(text, tmp_path, monkeypatch, capsys):
    file = tmp_path / "01_hyperparameter_scaling.yaml"
    file.write_text(text)
    assert file.name in refused(monkeypatch, capsys, "plan", file)


@pytest.mark.parametrize("make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_never_ends_is_no_parameter_file(make, tmp_path, monkeypatch, capsys):
    file = tmp_path / "01_hyperparameter_scaling.yaml"
    make(file)
    assert "pipe or a device" in refused(monkeypatch, capsys, "plan", file)


@pytest.mark.parametrize("name", ["~no-such-user/model", "", " "])
def test_a_name_that_is_no_path_is_no_model(name, monkeypatch, capsys):
    assert repr(name) in refused(monkeypatch, capsys, "models", "--", name)


@pytest.mark.parametrize(
    "given, such", [("tiny-mixtral", "[tiny-mixtral]"), (3, "[3]"), ("[1]", "[1, 2]")]
)
def test_what_is_no_list_is_shown_as_one(given, such, tmp_path, monkeypatch, capsys):
    file = tmp_path / "02_quantization.yaml"
    file.write_text(yaml.safe_dump({"models": given}))
    assert f"a list, such as {such}" in refused(monkeypatch, capsys, "plan", file)


def test_a_folder_of_parameter_files_is_told_with_them(monkeypatch, capsys):
    said = refused(monkeypatch, capsys, "plan", "params/cpu")
    assert "this is a folder; files in it: 00_overview.yaml" in said


def test_a_word_for_trust_is_told(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("MOEBOOK_TRUST_REMOTE_CODE", "maybe")
    folder = write_checkpoint(tmp_path / "model")
    assert "MOEBOOK_TRUST_REMOTE_CODE: given 'maybe'" in refused(
        monkeypatch, capsys, "models", folder
    )


@pytest.mark.parametrize("number, key, given", PAIRS)
def test_parameters_that_do_not_go_together_are_told(
    number, key, given, tmp_path, monkeypatch, capsys
):
    file = tmp_path / f"{sections.find(number).stem}.yaml"
    file.write_text(yaml.safe_dump(given))
    said = refused(monkeypatch, capsys, "plan", file)
    assert f"{key}" in said and file.name in said and "hush" not in said


def test_a_plan_of_too_many_points_is_refused_before_all_are_made():
    section = sections.find("01")
    with points.at_most(5), pytest.raises(ParameterError, match="grid: given 'more points'"):
        plan.plan(section.params())
    assert len(section.plan(section.params()).points) > 5


def test_a_link_to_nothing_is_no_place_for_results(tmp_path, monkeypatch, capsys):
    (tmp_path / "link").symlink_to(tmp_path / "nothing")
    for place in ("link", "link/below"):
        said = refused(monkeypatch, capsys, "results", "--output-root", tmp_path / place)
        assert "--output-root: given" in said and "is a link to nothing" in said


@pytest.mark.parametrize("number", ["02", "03", "09"])
def test_a_model_of_the_catalog_is_one_in_any_case(number, tmp_path):
    key, section = "llms" if number == "09" else "models", sections.find(number)
    plans = []
    for name in ("tiny-mixtral", "TINY-Mixtral"):
        file = tmp_path / f"{section.stem}.yaml"
        file.write_text(yaml.safe_dump({key: [name]}))
        plans.append(inputs.call(["plan", file, "--json"]))
    assert plans[0] == plans[1] and plans[0].code == 0


@pytest.mark.parametrize("key, value", [(k, v) for k, each in CONFIGS.items() for v in each])
def test_a_config_that_its_weights_do_not_fit_is_told(key, value, tmp_path, monkeypatch, capsys):
    folder = write_checkpoint(tmp_path / "model", **{key: value})
    (tmp_path / "text.txt").write_text("words " * 2000)
    file = tmp_path / "02_quantization.yaml"
    file.write_text(
        yaml.safe_dump({"weights": str(folder), "quality_text": str(tmp_path / "text.txt")})
    )
    assert "weights: given" in refused(monkeypatch, capsys, "plan", file)


@pytest.mark.parametrize("args, said", OPTIONS)
def test_an_option_is_told_with_what_was_given(args, said, monkeypatch, capsys):
    words = refused(monkeypatch, capsys, *args)
    assert said in words and "hush" not in words


@pytest.mark.parametrize("at, value", CALIBRATIONS)
def test_a_calibration_that_no_card_has_is_told(at, value, tmp_path, monkeypatch, capsys):
    found = inner = yaml.load(Path(H100).read_text(), yaml.CSafeLoader)
    for key in at[:-1]:
        inner = inner[key]
    inner[at[-1]] = value
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(found))
    said = refused(monkeypatch, capsys, "predict", "OLMoE-1B-7B-0125", "--calibration", file)
    assert "own.yaml is no file of `moebook calibrate`" in said and str(at[0]) in said


def test_a_calibration_that_is_no_file_is_told(tmp_path, monkeypatch, capsys):
    (tmp_path / "deep").write_text("[" * 3000)
    os.mkfifo(tmp_path / "pipe")
    for name in ("deep", "pipe", ""):
        given = ("predict", "OLMoE-1B-7B-0125", "--calibration", tmp_path / name)
        assert "--calibration: " in refused(monkeypatch, capsys, *given)


@pytest.mark.parametrize(
    "name", ["relative", "/proc/x", "{file}", "{file}/below", "x" * 5000, "{shipped}/models"]
)
def test_a_folder_for_models_that_is_none_is_told(name, tmp_path, monkeypatch, capsys):
    (tmp_path / "text").write_text("words " * 60_000)
    monkeypatch.setenv(
        "MOEBOOK_CACHE", name.format(file=tmp_path / "text", shipped=paths.reference())
    )
    args = ("train", "tiny", "--members", "draft-small", "--text", tmp_path / "text")
    assert "MOEBOOK_CACHE" in refused(monkeypatch, capsys, *args)
    plan = ("plan", "params/cpu/07_load_balancing.yaml")
    assert "MOEBOOK_CACHE: given" in refused(monkeypatch, capsys, *plan)


def test_inputs_at_random_are_refused_by_name_or_taken_as_given(tmp_path):
    seen = list(inputs.answers(60, 0, inputs.prepared(tmp_path)))
    wrong = [inputs.told(case, answer) for _, found, case, answer in seen if found in WRONG]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("raw", ["", "{", "[]", "null", "3", "{}", b"\xe9"])
def test_a_config_that_is_none_is_told(raw, tmp_path, monkeypatch, capsys):
    folder = write_checkpoint(tmp_path / "model")
    (folder / "config.json").write_bytes(raw if isinstance(raw, bytes) else raw.encode())
    assert "model" in refused(monkeypatch, capsys, "models", folder)
    assert "config.json" in refused(monkeypatch, capsys, "prune", folder, tmp_path / "out")


@pytest.mark.parametrize("name, text", [("tokenizer.json", ""), ("tokenizer_config.json", "{}")])
def test_a_tokenizer_that_is_none_is_told(name, text, tmp_path, monkeypatch, capsys):
    folder = write_checkpoint(tmp_path / "model")
    (folder / "tokenizer.json").unlink()
    (folder / name).write_text(text)
    (tmp_path / "text.txt").write_text("words " * 2000)
    file = tmp_path / "02_quantization.yaml"
    file.write_text(
        yaml.safe_dump({"weights": str(folder), "quality_text": str(tmp_path / "text.txt")})
    )
    assert "with its tokenizer" in refused(monkeypatch, capsys, "plan", file)
    args = ("--text", tmp_path / "text.txt", "--criterion")
    prune = ("prune", folder, tmp_path / "out", *args)
    assert "no tokenizer" in refused(monkeypatch, capsys, *prune, "frequency")
    assert "reads no text" in refused(monkeypatch, capsys, *prune, "norm")


@pytest.mark.parametrize("entry, told", FORMATS)
def test_a_number_format_that_cannot_be_is_told(entry, told, tmp_path):
    config = json.loads((write_checkpoint(tmp_path) / "config.json").read_text())
    with pytest.raises(UnknownModel, match=told):
        from_config({**config, "quantization_config": entry}, "x", "test")


def test_every_section_has_a_schema_of_its_parameters():
    assert all(s.params.model_json_schema()["properties"] for s in sections.every())
