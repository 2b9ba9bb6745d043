"""Published accuracies: each with a source, compared over one task set only; measured ones as
lm-eval gives them."""

import json
from pathlib import Path

import pytest
import yaml

from moebook.measure import lm_eval
from moebook.models import catalog
from moebook.sections.model_comparison import accuracies
from moebook.sections.model_comparison.accuracies import (
    LLM_TASKS,
    AccuracyError,
    file_problems,
    load,
    published_name,
    read_measured,
)

NINE = (
    "Mixtral-8x7B-v0.1",
    "Qwen1.5-MoE-A2.7B",
    "Qwen3-30B-A3B",
    "DeepSeek-V2-Lite",
    "Phi-3.5-MoE-instruct",
    "OLMoE-1B-7B-0125",
    "deepseek-vl2-tiny",
    "deepseek-vl2-small",
    "deepseek-vl2",
)


def measured(tmp_path, data) -> str:
    path = tmp_path / "measured.json"
    path.write_text(data if isinstance(data, str) else json.dumps(data))
    return path


def test_every_value_is_a_percentage_of_a_study_task_of_a_catalog_model_with_a_source():
    for suite in load().values():
        assert suite.protocol and suite.title and suite.values
        for model, own in suite.values.items():
            assert catalog.load(model) and own
            assert all(
                task in accuracies.TASKS[suite.kind]
                and 0 < a.value_pct <= 100
                and len(a.source) > 20
                for task, a in own.items()
            )


def test_each_of_the_nine_models_has_a_value_or_the_reason_why_not():
    known = {m for suite in load().values() for m in suite.values}
    assert all(m in known or m in accuracies.missing() for m in NINE)


def test_the_tasks_are_those_that_lm_eval_runs_for_the_study():
    assert tuple(LLM_TASKS) == lm_eval.TASKS


def test_means_are_those_that_the_report_prints():
    """PCoMoE's Table 1 prints the mean of its five tasks: the five were copied right."""
    suite = load()["zero-shot"]
    for model, mean in (
        ("Mixtral-8x7B-v0.1", 77.86),
        ("Qwen1.5-MoE-A2.7B", 67.90),
        ("DeepSeek-V2-Lite", 70.02),
    ):
        assert (
            round(
                suite.mean_pct(
                    model, ("arc_challenge", "arc_easy", "boolq", "hellaswag", "winogrande")
                ),
                2,
            )
            == mean
        )
    qwen = suite.mean_pct("Qwen3-30B-A3B", LLM_TASKS)  # REAP's Table A6 prints 0.721 for the eight
    assert round(qwen / 100, 3) == 0.721


def test_common_tasks_are_those_of_all_models_and_no_other():
    suite = load()["zero-shot"]
    assert "mmlu" in suite.common_tasks(["Mixtral-8x7B-v0.1", "Qwen3-30B-A3B"])
    assert "mmlu" not in suite.common_tasks(["Mixtral-8x7B-v0.1", "Qwen1.5-MoE-A2.7B"])
    assert (
        suite.common_tasks(["Mixtral-8x7B-v0.1", "OLMoE-1B-7B-0125"])
        == ()
        == suite.common_tasks([])
    )
    with pytest.raises(KeyError):
        suite.mean_pct("Qwen1.5-MoE-A2.7B", ("mmlu",))


def test_language_parts_go_by_the_name_their_model_was_published_under():
    assert published_name("deepseek-vl2-base-textonly") == "deepseek-vl2"
    assert published_name("deepseek-vl2-tiny-textonly") == "deepseek-vl2-tiny"
    assert published_name("OLMoE-1B-7B-0125") == "OLMoE-1B-7B-0125"


def test_measured_ones_are_normalised_accuracy_where_there_is_one(tmp_path):
    path = measured(
        tmp_path,
        {
            "m": {
                "arc_easy": {"acc,none": 0.5, "acc_norm,none": 0.6, "acc_stderr,none": 0.01},
                "boolq": {"acc,none": 0.25},
                "piqa": {"acc,none": 0.9},
            }
        },
    )
    assert file_problems(path) == []
    suite = read_measured(path)
    assert {t: a.value_pct for t, a in suite.values["m"].items()} == {
        "arc_easy": 60.0,
        "boolq": 25.0,
    }
    assert suite.common_tasks(["m"]) == ("arc_easy", "boolq")


@pytest.mark.parametrize(
    "data, told",
    [
        ("{", "is no JSON"),
        ([1], "not of the right shape; give a JSON object"),
        ({"arc_easy": {"acc,none": 0.5}}, "one model without its name"),
        (
            {"m": {"arc_easy": {"acc,none": 61.0}}},
            "m: arc_easy: no acc_norm,none or acc,none from 0 to 1",
        ),
        ({"m": {"arc_easy": {}}}, "m: arc_easy: no acc_norm"),
        ({"m": {"piqa": {"acc,none": 0.9}}}, "m: none of the study's tasks (arc_challenge"),
    ],
)
def test_a_file_of_measured_ones_that_is_wrong_says_what_it_should_be(tmp_path, data, told):
    (problem,) = file_problems(measured(tmp_path, data))
    assert told in problem
    with pytest.raises(AccuracyError, match="1 problem"):
        read_measured(tmp_path / "measured.json")


def test_a_file_that_is_not_there_is_told(tmp_path):
    (problem,) = file_problems(tmp_path / "none.json")
    assert problem.startswith("cannot be read: No such file")


def test_profiles_give_an_image_the_tokens_that_deepseek_vl2_makes_of_it():
    """A global view and one tile, each rows of `side` tokens, rows ended by a newline, a separator
    between (the processor of vLLM 0.32, deepseek_vl2.py, get_num_image_tokens)."""
    patch = catalog.load("deepseek-vl2-tiny").config["vision_config"]["patch_size"]
    side = -(-(384 // patch) // 2)
    for profile in ("h100", "h200", "4xh100"):
        given = yaml.safe_load(Path(f"params/{profile}/09_model_comparison.yaml").read_text())
        assert given["vlm_image_tokens"] == 2 * side * (side + 1) + 1 == 421
        assert given["vlm_text_tokens"] + given["vlm_image_tokens"] == given["tokens"]
