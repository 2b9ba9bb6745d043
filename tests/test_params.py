"""Wrong parameters: all problems at once, each with file, key, value, what is allowed, the nearest
name."""

import functools
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_up import write_checkpoint

from moebook import paths, sections
from moebook.problems import ParameterError, Problem
from moebook.study import params, values

BAD = Path(__file__).parent / "bad"
SECTION = sections.find("01")


def problems(name: str) -> dict[str, Problem]:
    with pytest.raises(ParameterError) as caught:
        params.load(SECTION.params, BAD / name)
    assert all(name in str(p) for p in caught.value.problems)
    return {p.key.split(".")[0]: p for p in caught.value.problems}


def test_every_problem_is_reported_at_once():
    found = problems("many_problems.yaml")
    assert {"ffn_dim", "repeats", "dry_run", "grid_batch", "lengths"} <= set(found)
    assert "nearest: 'ffn_dims'" in found["ffn_dim"].allowed
    assert found["repeats"].value == "3" and "without quotes" in found["repeats"].allowed
    assert "greater than 0" in found["grid_batch"].allowed


@pytest.mark.parametrize(
    ("file", "key", "text"),
    [
        ("duplicate_key.yaml", "(file)", "stands twice"),
        ("not_a_mapping.yaml", "(file)", "mapping"),
        ("broken.yaml", "(file)", "not a valid YAML"),
        ("absent.yaml", "(file)", "no such file"),
        ("context_too_long.yaml", "grid_model", "positions"),
        ("all_active_exceed.yaml", "active_experts", "exceeds every expert count"),
        ("negative_length.yaml", "grid_tokens", "whole numbers from 1 on"),
        ("unknown_model.yaml", "grid_model", "Mixtral-8x7B-v0.1"),
        ("booleans_for_numbers.yaml", "repeats", "valid integer"),
    ],
)
def test_each_bad_file_names_its_key_and_what_is_allowed(file, key, text):
    assert text in problems(file)[key].allowed


def test_yaml_booleans_are_no_numbers():
    assert "kv_cache_gib" in problems("booleans_for_numbers.yaml")


def test_notebook_globals_take_the_same_check_and_headless_forbids_extras():
    names = {"profile": "cpu", "In": [], "_oh": {}, "ffn_dimz": [1], "result": 3}
    with pytest.raises(ParameterError, match="nearest: 'ffn_dims'") as caught:
        params.from_notebook(SECTION.params, names, "nb", headless=True)
    assert {p.key for p in caught.value.problems} == {"ffn_dimz", "result"}


def test_a_live_kernel_allows_names_of_the_users_own_but_not_misspelt_parameters():
    made = params.from_notebook(
        SECTION.params, {"profile": "cpu", "result": 3}, "nb", headless=False
    )
    assert made.profile == "cpu"
    with pytest.raises(ParameterError, match="ffn_dims"):
        params.from_notebook(SECTION.params, {"ffn_dimz": [1]}, "nb", headless=False)


def test_a_list_given_as_text_says_how_to_give_it():
    with pytest.raises(ParameterError, match="-y"):
        params.build(SECTION.params, {"ffn_dims": "[128, 256]"}, "nb")


def test_parameters_are_frozen():
    made = params.build(SECTION.params, {}, "defaults")
    with pytest.raises(ValueError, match="frozen"):
        made.repeats = 5


def test_unknown_device_names_the_known_ones():
    with pytest.raises(ParameterError, match="h100"):
        params.build(SECTION.params, {"device": "h10"}, "x")


@pytest.mark.parametrize("file", sorted(Path("params").glob("*/*.yaml")), ids=str)
def test_every_shipped_parameter_file_is_valid(file):
    made = params.load(sections.find(str(file)).params, file)
    assert made.profile == file.parent.name


def test_section_by_number_stem_or_path_and_unknown_names_the_nearest():
    given = ("1", "01", "01_hyperparameter_scaling", "notebooks/01_hyperparameter_scaling.ipynb")
    stems = {sections.find(name).stem for name in given}
    assert stems == {"01_hyperparameter_scaling"}
    with pytest.raises(ValueError, match="nearest: 01_hyperparameter_scaling"):
        sections.find("hyperparameter_scalin")


def told(section: str, **given) -> dict[str, list[Problem]]:
    """The problems of a section's parameters by key."""
    with pytest.raises(ParameterError) as caught:
        params.build(sections.find(section).params, given, "nb")
    found: dict[str, list[Problem]] = {}
    for problem in caught.value.problems:
        assert (
            str(problem).startswith(f"nb: {problem.key}: given {problem.value!r}; ")
            and problem.allowed
        )
        found.setdefault(problem.key, []).append(problem)
    return found


@pytest.fixture
def checkpoint(tmp_path):
    """A folder that looks like a trained checkpoint with its tokenizer, and a text beside it."""
    (tmp_path / "text.txt").write_text("held out " * 400)
    return write_checkpoint(tmp_path / "checkpoint")


@pytest.mark.parametrize(
    ("section", "given", "key", "value", "allowed"),
    [
        (
            "02",
            {"formats": ["bf16", "fp8 per chanel"]},
            "formats",
            "fp8 per chanel",
            r"bf16, fp16.*nearest: 'fp8 per channel'",
        ),
        ("02", {"pair": ["bf16", "int8 expert"]}, "pair", "int8 expert", "nearest: 'int8 experts'"),
        ("02", {"uniform_routing": ["OLMoE"]}, "uniform_routing", "OLMoE", "allowed: tiny-mixtral"),
        ("02", {"pair": ["bf16"]}, "pair", ("bf16",), "two formats"),
        ("02", {"pair": ["bf16", "fp8", "fp16"]}, "pair", ("bf16", "fp8", "fp16"), "two formats"),
        ("02", {"models": ["Mixtral-8x7B"]}, "models", "Mixtral-8x7B", "Mixtral-8x7B-v0.1"),
        ("02", {"formats_model": "Qwen3-8B"}, "formats_model", "Qwen3-8B", "is a dense model"),
        (
            "02",
            {"lengths": [32, 4096]},
            "models",
            "tiny-mixtral",
            r"4096 input \+ 4096 output tokens .*exceed its \d+ positions",
        ),
        ("02", {"dtype": "bf16"}, "dtype", "bf16", "bfloat16, float16, float32"),
        ("02", {"tensor_parallel": 2}, "tensor_parallel", 2, "at most num_devices = 1"),
        ("02", {"reduced_layers": [8]}, "reduced_layers", [8], "two or more depths"),
        ("03", {"ratios_pct": [50.0, 100.0]}, "ratios_pct", 100.0, "over 0 and under 100"),
        ("03", {"ratios_pct": [0.0]}, "ratios_pct.0", 0.0, "greater than 0"),
        (
            "03",
            {"active_experts": [1, 8]},
            "active_experts",
            8,
            "at most the 4 that tiny-qwen2-moe was trained with",
        ),
        ("03", {"models": ["Qwen3-8B"]}, "models", "Qwen3-8B", "is a dense model"),
        (
            "06",
            {"layer_backends": ["tritn"]},
            "layer_backends",
            "tritn",
            "loop, grouped, auto, triton.*nearest: 'triton'",
        ),
        (
            "06",
            {"quantized_backends": ["marlinn"]},
            "quantized_backends",
            "marlinn",
            "emulation.*nearest: 'marlin'",
        ),
        (
            "06",
            {"quantized_formats": ["fp8 per channel"]},
            "quantized_formats",
            "fp8 per channel",
            "nearest: 'fp8_per_channel'",
        ),
        (
            "06",
            {"ladder": ["fused", "expert lop"]},
            "ladder",
            "expert lop",
            "fused, no graphs.*nearest: 'expert loop'",
        ),
        ("06", {"tuned_model": "tiny-mixtra"}, "tuned_model", "tiny-mixtra", "tiny-mixtral"),
        ("06", {"layer_models": ["Qwen3-8B"]}, "layer_models", "Qwen3-8B", "is a dense model"),
    ],
)
def test_bad_parameters_of_a_section_say_what_was_given_and_what_is_allowed(
    section, given, key, value, allowed
):
    found = told(section, **given)
    assert value in [p.value for p in found[key]]
    assert any(re.search(allowed, p.allowed) for p in found[key])
    assert set(found) <= {key, "formats_model" if key == "models" else key}


@pytest.mark.parametrize("option", ["-f", "--parameters_file=", "-y", "--parameters_yaml="])
def test_a_key_that_papermill_would_take_the_last_of_is_told(option, tmp_path):
    text = "repeats: 3\nrepeats: 4\n"
    (tmp_path / "mine.yaml").write_text(text)
    value = "mine.yaml" if "f" in option else text
    given = [f"{option}{value}"] if option.endswith("=") else [option, value]
    command = ["python", "-m", "papermill", "a.ipynb", "b.ipynb", "-p", "repeats", "3"]
    values.read_as_given([*command, "-f", "s3://bucket/x.yaml"], tmp_path)
    with pytest.raises(ParameterError, match="key 'repeats' stands twice"):
        values.read_as_given([*command, *given], tmp_path)


def test_a_kernel_that_papermill_does_not_run_has_no_papermill_command():
    assert values.papermills()[0] == []


def test_all_problems_of_a_section_come_at_once(tmp_path):
    found = told(
        "02",
        models=["tiny-mixtrl", "Qwen3-8B"],
        pair=["bf15"],
        formats=["fp8", "int2"],
        weights=str(tmp_path),
        device="h10",
        dtype="int8",
    )
    assert {k: len(v) for k, v in found.items()} == {
        "device": 1,
        "dtype": 1,
        "pair": 2,
        "formats": 1,
        "models": 2,
        "weights": 1,
        "quality_text": 1,
    }
    found = told(
        "06",
        layer_backends=["x"],
        quantized_backends=["y"],
        ladder=["z"],
        quantized_formats=["v"],
        layer_models=["w"],
        quantized_models=["w"],
        tuned_model="w",
        ladder_model="w",
    )
    assert set(found) == {
        "layer_backends",
        "quantized_backends",
        "ladder",
        "quantized_formats",
        "layer_models",
        "quantized_models",
        "tuned_model",
        "ladder_model",
    }


def test_active_experts_are_judged_beside_other_problems():
    assert set(told("03", ratios_pct=[100.0], active_experts=[1, 99])) == {
        "ratios_pct",
        "active_experts",
    }
    assert set(told("03", models=["tiny-qwen2-mo"], active_experts=[99])) == {"models"}


def test_a_checkpoint_needs_its_config_tokenizer_and_a_text(checkpoint, tmp_path):
    text = str(tmp_path / "text.txt")
    made = params.build(
        sections.find("02").params, {"weights": str(checkpoint), "quality_text": text}, "nb"
    )
    assert made.weights == str(checkpoint)
    assert (
        "config.json is missing"
        in told("02", weights=str(tmp_path / "no"), quality_text=text)["weights"][0].allowed
    )
    for missing in (None, str(tmp_path / "absent.txt"), str(tmp_path)):
        found = told("02", weights=str(checkpoint), quality_text=missing)
        assert list(found) == ["quality_text"] and found["quality_text"][0].value == missing
    (checkpoint / "tokenizer.json").unlink()
    found = told("02", weights=str(checkpoint))
    assert set(found) == {"weights", "quality_text"} and "tokenizer" in found["weights"][0].allowed


def test_dummy_weights_need_no_text():
    made = params.build(sections.find("02").params, {"weights": "dummy"}, "nb")
    assert made.quality_text is None and made.text() is None


def test_a_tiny_model_reads_its_familys_own_text_where_none_is_given():
    assert (
        params.build(sections.find("02").params, {"weights": "tiny:test/aux-0.1"}, "nb").text()
        == "tiny:test/heldout/all"
    )


def test_a_checkpoint_has_a_perplexity_planned_in_every_format(checkpoint, tmp_path):
    section, text = sections.find("02"), str(tmp_path / "text.txt")
    made = params.build(
        section.params,
        {"weights": str(checkpoint), "quality_text": text, "formats": ["bf16", "fp16"]},
        "nb",
    )
    points = [p for p in section.plan(made).points if p.method == "perplexity"]
    assert [(p.series, p.status, p.text, p.engine.weights) for p in points] == [
        (s, "ready", text, str(checkpoint)) for s in ("bf16", "fp16")
    ]
    (tmp_path / "another.txt").write_text("other words")
    other = made.model_copy(update={"quality_text": str(tmp_path / "another.txt")})
    assert not {p.key for p in points} & {p.key for p in section.plan(other).points}


class Unreadable(int):
    def __repr__(self) -> str:
        raise RuntimeError("no words")


def from_cell(**names):
    return params.from_notebook(SECTION.params, names, "nb", headless=True)


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (np.array([1, 2]), (1, 2)),
        (2 ** np.arange(2), (1, 2)),
        (range(1, 3), (1, 2)),
        ((1, 2), (1, 2)),
        ([np.int64(1), 2], (1, 2)),
        (pd.Series([1, 2]), (1, 2)),
    ],
)
def test_names_decide_and_values_of_any_kind_are_read(given, kept):
    assert from_cell(active_experts=given).active_experts == kept


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({1, 2}, "a set has no order"),
        (lambda: 1, "a function is no value"),
        ((k for k in "ab"), "a generator"),
        (memoryview(b"1"), "a memoryview"),
        (range(10**30), "at most 1000 in a list"),
        (np.zeros(10**6, int), "at most 1000 in a list"),
        (functools.reduce(lambda inner, _: [inner], range(5000), 1), "nested too deeply"),
        (10**50, "at most 40 digits"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(given, text):
    with pytest.raises(ParameterError, match=text) as caught:
        from_cell(active_experts=given)
    assert [p.key for p in caught.value.problems] == ["active_experts"]


def test_what_has_no_words_is_told_by_its_kind():
    with pytest.raises(ParameterError, match="seed: given a int; a number has at most 40 digits"):
        from_cell(seed=10**5000)
    with pytest.raises(ParameterError, match="seed: given a Unreadable; a Unreadable is no value"):
        from_cell(seed=Unreadable(3))


def test_one_edit_takes_all_of_another_profile():
    made = from_cell(profile="h200", ffn_dims=None, seed=np.int64(7))
    shipped = params.load(SECTION.params, "params/h200/01_hyperparameter_scaling.yaml")
    assert made.model_dump() == shipped.model_copy(update={"seed": 7}).model_dump()
    assert (
        made.origins["ffn_dims"] == "params/h200/01_hyperparameter_scaling.yaml"
        and made.origins["seed"] == "nb"
    )


def test_none_is_the_profiles_value_in_the_cell_and_no_value_where_papermill_or_a_file_says_so(
    tmp_path,
):
    names = {"profile": "h200", "capacity_limit_gb": None}
    assert from_cell(**names).capacity_limit_gb is not None
    assert (
        from_cell(**names, In=["", "# Parameters\ncapacity_limit_gb = None\n"]).capacity_limit_gb
        is None
    )
    assert from_cell(profile="h200", capacity_limit_gb="none").capacity_limit_gb is None
    file = tmp_path / "mine.yaml"
    file.write_text("profile: h200\ncapacity_limit_gb: null\n")
    assert params.load(SECTION.params, file).capacity_limit_gb is None


@pytest.mark.parametrize(
    "text",
    [
        "device: h200\ngrid_model: Mixtral-8x7B-v0.1\n",
        "profile: mine\ndevice: h200\ngrid_model: Mixtral-8x7B-v0.1\n",
    ],
)
def test_a_file_of_two_keys_gets_its_devices_values_for_the_rest(tmp_path, text):
    file = tmp_path / "01.yaml"
    file.write_text(text)
    made = params.load(SECTION.params, file)
    shipped = params.load(SECTION.params, "params/h200/01_hyperparameter_scaling.yaml")
    assert made.model_dump(exclude={"profile"}) == shipped.model_dump(exclude={"profile"})
    assert made.profile == ("mine" if "mine" in text else "h200")


def test_a_mistyped_profile_is_refused_and_a_new_name_is_ones_own():
    with pytest.raises(ParameterError, match="nearest: 'h200'"):
        from_cell(profile="h20")
    assert from_cell(profile="small").device == "cpu"


def test_a_file_is_for_the_notebook_it_names(tmp_path):
    file = tmp_path / "my_sweep.yaml"
    with pytest.raises(ValueError, match="say which notebook"):
        file.write_text("seed: 1\n")
        sections.of_file(file)
    assert sections.of_file(file, "02").stem == "02_quantization"
    file.write_text("notebook: 02_quantization\n")
    section = sections.of_file(file)
    assert section.stem == "02_quantization" and params.load(section.params, file).seed == 0
    with pytest.raises(ParameterError, match="notebook: given '02_quantization'"):
        params.load(SECTION.params, file)


@pytest.mark.parametrize(
    "root",
    [
        "outputs/reference",
        "outputs/reference/h200",
        "s3://b/x",
        "file:///tmp/x",
        "",
        "notebooks",
        ".",
        "$HOME/x",
        "C:\\x",
        "README.md",
        "~no-such-user/x",
    ],
)
def test_results_are_written_to_a_folder_of_ones_own(root):
    with pytest.raises(ParameterError, match="output_root"):
        from_cell(output_root=root)


def test_a_path_is_whole_whichever_folder_it_was_given_from(monkeypatch):
    monkeypatch.chdir("notebooks")
    made = params.build(
        sections.find("02").params, {"weights": "dummy", "quality_text": "docs/cluster.md"}, "nb"
    )
    assert made.quality_text == str(Path(__file__).parents[1] / "docs/cluster.md")


def test_no_profile_writes_among_the_results_that_ship():
    with pytest.raises(ParameterError, match="which nothing writes"):
        from_cell(profile="reference", device="cpu")


def test_home_is_expanded(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert paths.output_root(from_cell(output_root="~/mine").output_root) == tmp_path / "mine"


@pytest.mark.parametrize(
    "name", ["01", "1", "hyperparameter_scaling", "notebooks/01_hyperparameter_scaling.ipynb"]
)
def test_a_file_may_name_its_notebook_as_the_command_does(name):
    assert from_cell(notebook=name).notebook == SECTION.stem


def test_a_profile_and_a_device_that_disagree_are_refused():
    with pytest.raises(ParameterError, match="profile 'h200' is for device 'h200': leave `device`"):
        from_cell(profile="h200", device="cpu")
