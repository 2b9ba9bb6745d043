"""Accuracy on tasks: what is missing is told in words; lm-eval's answer becomes numbers by task."""

import importlib.machinery
import importlib.util
import sys
import types

import pytest

from moebook.measure import lm_eval as quality

CHECKPOINT = "config.json"


@pytest.fixture
def checkpoint(tmp_path):
    (tmp_path / CHECKPOINT).write_text("{}")
    return tmp_path


@pytest.fixture
def lm_eval(monkeypatch):
    """A double of lm-eval that knows two tasks and remembers what it was asked."""
    asked = []

    def simple_evaluate(**given):
        asked.append(given)
        return {
            "results": {
                t: {"alias": t, "acc,none": 0.5, "acc_stderr,none": 0.01} for t in given["tasks"]
            }
        }

    class TaskManager:
        def __init__(self, include_path=None):
            self.all_tasks = ["arc_easy", "boolq", *([include_path] if include_path else [])]

    package, tasks = types.ModuleType("lm_eval"), types.ModuleType("lm_eval.tasks")
    package.__spec__ = importlib.machinery.ModuleSpec("lm_eval", None)
    package.simple_evaluate, package.tasks, tasks.TaskManager = simple_evaluate, tasks, TaskManager
    monkeypatch.setitem(sys.modules, "lm_eval", package)
    monkeypatch.setitem(sys.modules, "lm_eval.tasks", tasks)
    return asked


def test_without_lm_eval_the_error_says_how_to_install_it(checkpoint, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(
        quality.QualityError, match=r"lm-eval is not installed.*pip install 'moebook\[quality\]'"
    ):
        quality.evaluate(checkpoint)


def test_a_folder_without_a_config_is_no_checkpoint(lm_eval, tmp_path):
    with pytest.raises(quality.QualityError, match="no checkpoint folder: config.json is missing"):
        quality.evaluate(tmp_path / "nothing")
    assert lm_eval == []


def test_unknown_tasks_are_named_with_those_of_the_study(lm_eval, checkpoint):
    with pytest.raises(
        quality.QualityError,
        match="no task hellaswagg; the study's are arc_challenge, .*winogrande",
    ):
        quality.evaluate(checkpoint, ("boolq", "hellaswagg"))
    assert lm_eval == []


def test_numbers_by_task_and_the_limit_that_was_asked_for(lm_eval, checkpoint):
    found = quality.evaluate(checkpoint, ("arc_easy", "boolq"), limit=5)
    assert found == {t: {"acc,none": 0.5, "acc_stderr,none": 0.01} for t in ("arc_easy", "boolq")}
    assert lm_eval[0]["limit"] == 5 and lm_eval[0]["model_args"]["pretrained"] == str(checkpoint)


def test_tasks_of_ones_own_folder(lm_eval, checkpoint):
    assert set(quality.evaluate(checkpoint, ("mine",), include_path="mine")) == {"mine"}


def test_the_study_has_eight_tasks():
    assert len(set(quality.TASKS)) == 8
