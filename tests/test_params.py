"""Wrong parameters: all problems at once, each with file, key, value, what is allowed, the nearest name."""

from pathlib import Path

import pytest

from moebook import params, sections

BAD = Path(__file__).parent / "bad"
SECTION = sections.find("01")


def problems(name: str) -> dict[str, params.Problem]:
    with pytest.raises(params.ParameterError) as caught:
        params.load(SECTION.params, BAD / name)
    assert all(name in str(p) for p in caught.value.problems)
    return {p.key.split(".")[0]: p for p in caught.value.problems}


def test_every_problem_is_reported_at_once():
    found = problems("many_problems.yaml")
    assert {"ffn_dim", "repeats", "dry_run", "grid_batch", "lengths"} <= set(found)
    assert "nearest: 'ffn_dims'" in found["ffn_dim"].allowed
    assert found["repeats"].value == "3" and "without quotes" in found["repeats"].allowed
    assert "greater than 0" in found["grid_batch"].allowed


@pytest.mark.parametrize(("file", "key", "text"), [
    ("duplicate_key.yaml", "(file)", "stands twice"),
    ("not_a_mapping.yaml", "(file)", "mapping"),
    ("broken.yaml", "(file)", "not a valid YAML"),
    ("absent.yaml", "(file)", "no such file"),
    ("context_too_long.yaml", "grid_model", "positions"),
    ("all_active_exceed.yaml", "active_experts", "exceeds every expert count"),
    ("empty_grid.yaml", "ffn_dims", "at least 1 item"),
    ("negative_length.yaml", "grid_tokens", "greater than 0"),
    ("unknown_model.yaml", "grid_model", "Mixtral-8x7B-v0.1"),
    ("booleans_for_numbers.yaml", "repeats", "valid integer"),
])
def test_each_bad_file_names_its_key_and_what_is_allowed(file, key, text):
    assert text in problems(file)[key].allowed


def test_yaml_booleans_are_no_numbers():
    assert "kv_cache_gib" in problems("booleans_for_numbers.yaml")


def test_notebook_globals_take_the_same_check_and_headless_forbids_extras():
    names = {"profile": "cpu", "In": [], "_oh": {}, "ffn_dimz": [1], "result": 3}
    with pytest.raises(params.ParameterError, match="nearest: 'ffn_dims'") as caught:
        params.from_notebook(SECTION.params, names, "nb", headless=True)
    assert {p.key for p in caught.value.problems} == {"ffn_dimz", "result"}


def test_a_live_kernel_allows_names_of_the_users_own_but_not_misspelt_parameters():
    made = params.from_notebook(SECTION.params, {"profile": "cpu", "result": 3}, "nb", headless=False)
    assert made.profile == "cpu"
    with pytest.raises(params.ParameterError, match="ffn_dims"):
        params.from_notebook(SECTION.params, {"ffn_dimz": [1]}, "nb", headless=False)


def test_a_list_given_as_text_says_how_to_give_it():
    with pytest.raises(params.ParameterError, match="-y"):
        params.build(SECTION.params, {"ffn_dims": "[128, 256]"}, "nb")


def test_parameters_are_frozen():
    made = params.build(SECTION.params, {}, "defaults")
    with pytest.raises(ValueError, match="frozen"):
        made.repeats = 5


def test_unknown_device_names_the_known_ones():
    with pytest.raises(params.ParameterError, match="h100"):
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
