"""A notebook's parameters: typed, frozen, extras forbidden, every problem reported at once.

They come from a YAML file (`load`), or from the notebook's own names after papermill or a user set them
(`from_notebook`). Both paths end in the same pydantic model, so the same input gives the same problems.
"""

import ast
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from moebook import devices


def as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Count = Annotated[int, Field(strict=True, gt=0)]
Flag = Annotated[bool, Field(strict=True)]
Fraction = Annotated[float, Field(strict=True, gt=0)]
Counts = Annotated[tuple[Count, ...], BeforeValidator(as_tuple), Field(min_length=1)]
Fractions = Annotated[tuple[Fraction, ...], BeforeValidator(as_tuple), Field(min_length=1)]
Names = Annotated[tuple[str, ...], BeforeValidator(as_tuple), Field(min_length=1)]
OptionalNames = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
NonNegatives = Annotated[tuple[Annotated[float, Field(strict=True, ge=0)], ...], BeforeValidator(as_tuple),
                         Field(min_length=1)]


class NotebookParams(BaseModel):
    """What every notebook takes. Units stand in the names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")] = "cpu"
    device: str = "cpu"
    num_devices: Count = 1
    output_root: str = "outputs"
    repeats: Annotated[int, Field(strict=True, ge=3, le=100)] = 3
    seed: Annotated[int, Field(strict=True, ge=0)] = 0
    point_limit_minutes: Fraction = 10.0
    dry_run: Flag = False

    def problems(self) -> list[tuple[str, Any, str]]:
        """(key, value, what is allowed) of everything that types alone cannot tell."""
        if self.device in devices.kinds():
            return []
        return [("device", self.device, choices(self.device, devices.kinds()))]


@dataclass(frozen=True)
class Problem:
    source: str
    key: str
    value: Any
    allowed: str

    def __str__(self) -> str:
        return f"{self.source}: {self.key}: given {self.value!r}; {self.allowed}"


class ParameterError(ValueError):
    """All that is wrong with a set of parameters; `problems` is the list."""

    def __init__(self, problems: list[Problem]):
        self.problems = tuple(problems)
        head = f"{len(problems)} problem{'s' * (len(problems) != 1)} in the parameters; nothing was started:"
        super().__init__("\n  ".join([head, *map(str, problems)]))

    def _render_traceback_(self) -> list[str]:
        """IPython shows this in place of a traceback."""
        return str(self).splitlines()


class _UniqueKeys(yaml.SafeLoader):
    def construct_mapping(self, node, deep=False):
        seen: set = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key {key!r} stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def choices(given: Any, allowed: list[str]) -> str:
    """`allowed: a, b; nearest: 'a'`"""
    near = difflib.get_close_matches(str(given), allowed, n=1, cutoff=0.5)
    return f"allowed: {', '.join(allowed)}" + (f"; nearest: {near[0]!r}" if near else "")


def read_yaml(path: str | Path) -> dict:
    """The mapping in a parameter file; ParameterError for a missing, unreadable or ambiguous one."""
    path = Path(path)
    def fail(value: Any, allowed: str) -> ParameterError:
        return ParameterError([Problem(str(path), "(file)", value, allowed)])

    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except FileNotFoundError:
        near = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.exists() else []
        raise fail(path.name, "no such file; " + (f"here are {', '.join(near)}" if near else "no such folder")) from None
    except OSError as error:
        raise fail(path.name, f"cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise fail(path.name, f"not a valid YAML mapping: {' '.join(str(error).split())}") from None
    if not isinstance(data, dict):
        raise fail(data, "a parameter file is a mapping `name: value`")
    return data


def build(model: type[NotebookParams], data: dict, source: str) -> NotebookParams:
    """Validated parameters, or ParameterError with every problem; `source` names the file or notebook in it."""
    fields = list(model.model_fields)
    try:
        params = model(**{str(k): v for k, v in data.items()})
    except ValidationError as error:
        raise ParameterError([_from_pydantic(e, data, source, fields) for e in error.errors()]) from None
    found = [Problem(source, *problem) for problem in params.problems()]
    if found:
        raise ParameterError(found)
    return params


def _from_pydantic(error: dict, data: dict, source: str, fields: list[str]) -> Problem:
    key = ".".join(str(part) for part in error["loc"])
    top = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return Problem(source, top, data.get(top), f"unknown parameter; {choices(top, fields)}")
    allowed = error["msg"][0].lower() + error["msg"][1:]
    if isinstance(error["input"], str) and ("tuple" in error["type"] or "int" in error["type"]):
        allowed += _hint_string(error["input"])
    return Problem(source, key, error["input"], allowed)


def _hint_string(text: str) -> str:
    """What to do when a list or number arrived as text, as papermill's -p and YAML's quotes give it."""
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return ""
    return f"; it arrived as text: write it without quotes, or with papermill `-y 'name: {text}'` in place of `-p`"


_NOTEBOOK_NAMES = frozenset({"In", "Out", "exit", "quit", "open"})


def from_notebook(model: type[NotebookParams], names: dict, notebook: str, headless: bool) -> NotebookParams:
    """Parameters from a notebook's globals, as its parameters cell or papermill's injected cell set them.

    Headless, every plain value that is no parameter is an unknown parameter; in a live kernel, where users make
    names of their own, only those that look like a misspelt parameter are.
    """
    plain = {k: v for k, v in names.items()
             if not k.startswith("_") and k not in _NOTEBOOK_NAMES
             and (v is None or isinstance(v, (bool, int, float, str, list, tuple, dict)))}
    fields = list(model.model_fields)
    given = {k: v for k, v in plain.items()
             if k in fields or headless or difflib.get_close_matches(k, fields, n=1, cutoff=0.8)}
    return build(model, given, notebook)


def load(model: type[NotebookParams], path: str | Path) -> NotebookParams:
    return build(model, read_yaml(path), str(path))

