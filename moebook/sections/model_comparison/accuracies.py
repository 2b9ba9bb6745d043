"""Accuracies of models on standard tasks: published ones of accuracies.yaml, each with its source,
and measured ones.

A *suite* is a set of values that may stand beside each other. Accuracies are compared within a
suite only, and as the mean over the tasks that every compared model has in it: the task set is the
same for all, and is named.

    >>> load()["zero-shot"].common_tasks(["Mixtral-8x7B-v0.1", "DeepSeek-V2-Lite"])
    ('arc_challenge', 'arc_easy', 'boolq', 'hellaswag', 'winogrande')

Measured ones come from `moebook quality CHECKPOINT`: a JSON object, model -> what that command
printed."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import yaml

FILE = Path(__file__).parent / "accuracies.yaml"
METRICS = ("acc_norm,none", "acc,none")  # of lm-eval; the first there is
MEASURED = "measured"
SHAPE = (
    'a JSON object {model: {task: {"acc,none": 0.5, ...}}}, each model with what `moebook quality` '
    "printed for it"
)


_PUBLISHED = yaml.safe_load(FILE.read_text(encoding="utf-8"))
TASKS = _PUBLISHED["tasks"]  # kind -> task -> what figures call it
LLM_TASKS = TASKS["llm"]


class AccuracyError(ValueError):
    """All that is wrong with a file of accuracies; `problems` is the list."""

    def __init__(self, path: str | Path, problems: list[str]):
        self.problems = tuple(problems)
        count = f"{path}: {len(problems)} problem{'s' * (len(problems) != 1)}:"
        super().__init__("\n  ".join([count, *problems]))


@dataclass(frozen=True)
class Accuracy:
    """Percent of a task solved, and where that was read."""

    value_pct: float
    source: str


@dataclass(frozen=True)
class Suite:
    """Values that may stand beside each other: model -> task -> Accuracy."""

    name: str
    title: str
    kind: str  # llm or vlm: whose tasks
    alike: bool  # one protocol gave all of it
    protocol: str
    values: dict[str, dict[str, Accuracy]] = field(repr=False)

    def common_tasks(self, models: Iterable[str]) -> tuple[str, ...]:
        """The tasks that every one of the models has a value of, in the study's order."""
        own = [self.values.get(published_name(m), {}) for m in models]
        return tuple(t for t in TASKS[self.kind] if own and all(t in values for values in own))

    def mean_pct(self, model: str, tasks: Iterable[str]) -> float:
        """Mean over exactly these tasks. KeyError where the model lacks one."""
        own = [self.values[published_name(model)][t].value_pct for t in tasks]
        return sum(own) / len(own)

    def sources(self, model: str) -> list[str]:
        """Where its values were read, each once."""
        own = self.values.get(published_name(model), {})
        return list(dict.fromkeys(accuracy.source for accuracy in own.values()))


def published_name(model: str) -> str:
    """The name a model was published under: its language part alone is deepseek-vl2-base-textonly
    here."""
    return model.removesuffix("-textonly").removesuffix("-base")


@cache
def load() -> dict[str, Suite]:
    """The published suites, by name."""
    return {
        name: Suite(
            name,
            item["title"],
            item["kind"],
            item["alike"],
            item["protocol"],
            {model: _of_model(own) for model, own in item["values"].items()},
        )
        for name, item in _PUBLISHED["suites"].items()
    }


def _of_model(given: dict) -> dict[str, Accuracy]:
    """task -> Accuracy, of [value, source] or {value, source, note}."""
    found = {}
    for task, one in given.items():
        one = one if isinstance(one, dict) else dict(zip(("value", "source"), one, strict=True))
        source = _PUBLISHED["sources"][one["source"]]
        found[task] = Accuracy(float(one["value"]), source)
    return found


def missing() -> dict[str, str]:
    """Models whose accuracies were looked for and not found, with the reason."""
    return _PUBLISHED["missing"]


def read_measured(path: Path) -> Suite:
    """A suite of measured accuracies. AccuracyError where the file is not what `file_problems`
    allows."""
    if problems := file_problems(path):
        raise AccuracyError(path, problems)
    data = json.loads(Path(path).read_text(encoding="utf-8"))
    values = {
        model: {
            task: Accuracy(100 * _fraction(metrics), str(path))
            for task, metrics in own.items()
            if task in LLM_TASKS
        }
        for model, own in data.items()
    }
    return Suite(MEASURED, "lm-eval", "llm", True, f"moebook quality, {Path(path).name}", values)


def file_problems(path: Path) -> list[str]:
    """What is wrong with a file of measured accuracies, each with what is allowed."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        return [f"cannot be read: {error.strerror or error}; give {SHAPE}"]
    except ValueError as error:
        return [f"is no JSON ({error}); give {SHAPE}"]
    if not isinstance(data, dict) or not all(isinstance(own, dict) for own in data.values()):
        return [f"is not of the right shape; give {SHAPE}"]
    if any(task in data for task in LLM_TASKS):
        return [f"holds the tasks of one model without its name; give {SHAPE}"]
    found = [
        f"{model}: {task}: no {' or '.join(METRICS)} from 0 to 1 in {metrics!r}"
        for model, own in data.items()
        for task, metrics in own.items()
        if task in LLM_TASKS and _fraction(metrics) is None
    ]
    return found + [
        f"{model}: none of the study's tasks ({', '.join(LLM_TASKS)}) in it"
        for model, own in data.items()
        if not set(own) & set(LLM_TASKS)
    ]


def _fraction(metrics: object) -> float | None:
    """Length-normalised accuracy where lm-eval gives it, else accuracy."""
    if not isinstance(metrics, dict):
        return None
    value = next((metrics[m] for m in METRICS if m in metrics), None)
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if number and 0 <= value <= 1 else None
