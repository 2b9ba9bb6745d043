"""A notebook's parameters: typed, frozen, extras forbidden, every problem reported at once.

They come from a YAML file (`load`), or from the notebook's own names after papermill or a user set
them (`from_notebook`); what neither names is the profile's. Both ways end in the same pydantic
model, so the same input gives the same problems."""

import ast
import difflib
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError

from moebook import devices, paths
from moebook.models import fitting
from moebook.problems import ParameterError, Problem, choices
from moebook.study import limits
from moebook.study.given import of_notebook, read_yaml
from moebook.study.lengths import Length, Lengths

__all__ = [
    "PROFILE",
    "Count",
    "Counts",
    "Depths",
    "Flag",
    "Fraction",
    "Fractions",
    "Length",
    "Lengths",
    "Models",
    "Names",
    "NonNegative",
    "NonNegatives",
    "NotebookParams",
    "ParameterError",
    "Problem",
    "build",
    "choices",
    "from_notebook",
    "load",
    "read_yaml",
]
PROFILE = r"[a-z0-9][a-z0-9_-]*"


def as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def as_models(value: Any) -> Any:
    """A list of models; `fitting` and `fitting N` stand for one."""
    return (value,) if isinstance(value, str) and fitting.is_word(value) else as_tuple(value)


Count = Annotated[int, Field(strict=True, gt=0)]
Flag = Annotated[bool, Field(strict=True)]
Fraction = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
# Of a sweep: an empty list leaves it out.
Counts = Annotated[tuple[Count, ...], BeforeValidator(as_tuple)]
Fractions = Annotated[tuple[Fraction, ...], BeforeValidator(as_tuple)]
Names = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
Models = Annotated[tuple[str, ...], BeforeValidator(as_models)]
NonNegative = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
NonNegatives = Annotated[tuple[NonNegative, ...], BeforeValidator(as_tuple)]
# Depths that a model is extrapolated from: a line takes two.
Depths = Annotated[tuple[Count, ...], BeforeValidator(as_tuple), Field(min_length=2)]


class NotebookParams(BaseModel):
    """What every notebook takes. Units stand in the names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    notebook: str = ""  # each section's own
    profile: Annotated[str, Field(pattern=f"^{PROFILE}$")] = "cpu"
    device: str = "cpu"
    num_devices: Count = 1
    output_root: str = "outputs"
    repeats: Annotated[int, Field(strict=True, ge=3, le=100)] = 3
    seed: Annotated[int, Field(strict=True, ge=0)] = 0
    point_limit_minutes: Annotated[Fraction, Field(le=limits.MOST_MINUTES)] = 10.0
    dry_run: Flag = False
    measures: ClassVar[bool] = True  # False: a notebook that only reads
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def origins(self) -> dict[str, str]:
        """Where each value came from; what is not named is the section's default."""
        return self._origins

    def problems(self) -> list[tuple[str, Any, str]]:
        """(key, value, what is allowed) of everything that types alone cannot tell."""
        found, allowed = [], devices.allowed()
        if self.device not in allowed:
            found.append(("device", self.device, choices(self.device, allowed)))
        if wrong := paths.output_root_problem(self.output_root, self.profile):
            found.append(("output_root", self.output_root, wrong))
        return found


def build(
    model: type[NotebookParams], data: dict, source: str, origins: dict[str, str] | None = None
) -> NotebookParams:
    """Validated parameters, or ParameterError with every problem; `source` names the file or
    notebook in it, `origins` where some of the values came from instead."""
    fields, origins = list(model.model_fields), origins or {}
    data = {str(k): _as_meant(model, str(k), v) for k, v in data.items()}
    try:
        params = model(**data)
    except ValidationError as error:
        found = [_from_pydantic(e, data, source, fields) for e in error.errors()]
    else:
        found = [Problem(source, *problem) for problem in params.problems()]
    if found:
        raise ParameterError([_with_origin(p, source, origins) for p in found])
    params._origins.update(origins)
    return params


def _notebook(value: Any, own: str) -> Any:
    """The section's own notebook where it was named by number, name or file."""
    name = Path(str(value)).name.removesuffix(".ipynb")
    return (
        own
        if name == own[3:] or (name.isdigit() and int(name) == int(own[:2])) or name == own
        else value
    )


def _with_origin(problem: Problem, source: str, origins: dict[str, str]) -> Problem:
    """`mine.yaml with params/cpu/…`: where the value was not given but taken from a profile."""
    origin = origins.get(problem.key.split(".")[0], source)
    return problem if origin == source else replace(problem, source=f"{source} with {origin}")


def _as_meant(model: type[NotebookParams], name: str, value: Any) -> Any:
    """`none` as no value where a parameter can have none; a path from wherever it was written."""
    if isinstance(value, (list, tuple)):
        return [_as_meant(model, name, item) for item in value]
    if name == "notebook":
        return _notebook(value, model.model_fields[name].default)
    if not isinstance(value, str) or name == "output_root":
        return value
    optional = name in model.model_fields and type(None) in get_args(
        model.model_fields[name].annotation
    )
    if optional and value.lower() == "none":
        return None
    return paths.given(value) if "/" in value else value


def _from_pydantic(error: dict, data: dict, source: str, fields: list[str]) -> Problem:
    key = ".".join(str(part) for part in error["loc"])
    top = str(error["loc"][0])
    if error["type"] == "extra_forbidden":
        return Problem(source, top, data.get(top), f"unknown parameter; {choices(top, fields)}")
    allowed = (error["msg"][0].lower() + error["msg"][1:]).replace(
        "a valid tuple", "a list, such as [1, 2]"
    )
    whole = "int" in error["type"] or error["type"] == "length"
    if (whole or "float" in error["type"]) and (
        hint := limits.number_hint(error["input"], whole=whole)
    ):
        return Problem(source, key, error["input"], f"{allowed}; {hint}")
    if isinstance(error["input"], str) and any(
        kind in error["type"] for kind in ("tuple", "int", "length")
    ):
        allowed += _hint_string(error["input"])
    return Problem(source, key, error["input"], allowed)


def _hint_string(text: str) -> str:
    """What to do when a list or number arrived as text, as papermill's -p and YAML's quotes give
    it."""
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return ""
    return (
        f"; it arrived as text: write it without quotes, or with papermill `-y 'name: {text}'` in "
        f"place of `-p`"
    )


def load(model: type[NotebookParams], path: str | Path) -> NotebookParams:
    """The parameters of a YAML file; what it does not name is its profile's."""
    return _resolve(model, read_yaml(path), str(path), Path(path))


def from_notebook(
    model: type[NotebookParams], names: dict, notebook: str, headless: bool
) -> NotebookParams:
    """Parameters from a notebook's globals, as its parameters cell or papermill's injected cell set
    them."""
    given = of_notebook(names, model.model_fields, notebook, headless)
    return _resolve(model, given, notebook)


def _resolve(
    model: type[NotebookParams], given: dict, source: str, file: Path | None = None
) -> NotebookParams:
    """What was given, then the values of its profile, then those of its device's profile, then the
    class's."""
    stem = model.model_fields["notebook"].default
    values, origins = dict(given), dict.fromkeys(given, source)
    own = _profile_file(stem, given.get("profile"))
    if problems := _of_profile(given, own, stem, source):
        raise ParameterError(problems)

    def fill(path: Path | None) -> None:
        if path is not None and not (file is not None and path.samefile(file)):
            for name, value in read_yaml(path).items():
                if name not in values:
                    values[name], origins[name] = value, paths.shown(path)

    fill(own)
    fill(_profile_file(stem, _profile_of_device(values.get("device", "cpu"), stem)))
    return build(model, values, source, origins)


def _profile_file(stem: str, profile: Any) -> Path | None:
    if not isinstance(profile, str) or not re.fullmatch(PROFILE, profile):
        return None  # told by the model's own check
    path = paths.params_file(profile, stem)
    return path if path.exists() else None


def _profile_of_device(device: Any, stem: str) -> str:
    """The profile whose values a device takes where nobody says: its own, or that of any GPU."""
    own = str(device) in paths.profiles(stem)
    return str(device) if own else "gpu"


def _of_profile(given: dict, own: Path | None, stem: str, source: str) -> list[Problem]:
    """What is wrong with the profile that was given, and with a device that is not that
    profile's."""
    profile, device = given.get("profile"), given.get("device")
    if own is None:
        near = difflib.get_close_matches(str(profile), paths.profiles(stem), n=1, cutoff=0.6)
        if profile is None or device is not None or not near:
            return []
        return [
            Problem(
                source,
                "profile",
                profile,
                f"no params/{profile}/{stem}.yaml, and no `device` for results of "
                f"your own; {choices(profile, paths.profiles(stem))}",
            )
        ]
    its = read_yaml(own).get("device", device)
    if device in (None, its):
        return []
    return [
        Problem(
            source,
            "device",
            device,
            f"profile {profile!r} is for device {its!r}: leave `device` out, or give "
            f"results of another device another `profile` name",
        )
    ]
