"""A notebook's parameters: typed, frozen, extras forbidden, every problem reported at once.

They come from a YAML file (`load`), or from the notebook's own names after papermill or a user set
them (`from_notebook`); what neither names is the profile's. Both ways end in the same pydantic
model, so the same input gives the same problems."""

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from moebook import devices, paths
from moebook.models import cache_folder, catalog, fitting
from moebook.problems import ParameterError, Problem, Wrong, choices
from moebook.study import values
from moebook.study.routing import Routing
from moebook.study.values import of_notebook, read_yaml

PROFILE = r"[a-z0-9][a-z0-9_-]{0,63}"  # the name of a folder


def as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def as_models(value: Any) -> Any:
    """A list of models; `fitting` and `fitting N` stand for one."""
    return (value,) if isinstance(value, str) and fitting.is_word(value) else as_tuple(value)


MOST = 2**31  # of anything that is counted; engines count in 32 bits
Count = Annotated[int, Field(strict=True, gt=0, le=MOST)]
WindowTokens = Annotated[
    int, Field(strict=True, ge=2, le=MOST)
]  # a text's first token is not predicted
Flag = Annotated[bool, Field(strict=True)]
Fraction = Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(strict=True, ge=0, allow_inf_nan=False)]
# Of a sweep: an empty list leaves it out.
Counts = Annotated[tuple[Count, ...], BeforeValidator(as_tuple)]
Fractions = Annotated[tuple[Fraction, ...], BeforeValidator(as_tuple)]
NonNegatives = Annotated[tuple[NonNegative, ...], BeforeValidator(as_tuple)]
Names = Annotated[tuple[str, ...], BeforeValidator(as_tuple)]
Routings = Annotated[tuple[Routing, ...], BeforeValidator(as_tuple)]
Models = Annotated[tuple[str, ...], BeforeValidator(as_models)]


def _two_depths(depths: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(depths)) < max(2, len(depths)):
        wanted = "two or more depths (layers), each once: a line through them is extrapolated"
        raise PydanticCustomError("depths", "{wanted}", {"wanted": wanted})
    return depths


Depths = Annotated[tuple[Count, ...], BeforeValidator(as_tuple), AfterValidator(_two_depths)]


class NotebookParams(BaseModel):
    """What every notebook takes. Units stand in the names."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    notebook: str = ""  # each section's own
    profile: Annotated[str, Field(pattern=f"^{PROFILE}$")] = "cpu"
    device: str = "cpu"
    num_devices: Count = 1
    output_root: str = "outputs"
    repeats: Annotated[int, Field(strict=True, ge=3, le=100)] = 3
    seed: Annotated[int, Field(strict=True, ge=0, lt=2**32)] = 0
    point_limit_minutes: Annotated[Fraction, Field(le=values.MOST_MINUTES)] = 10.0
    dry_run: Flag = False
    measures: ClassVar[bool] = True  # False: a notebook that only reads
    _origins: dict[str, str] = PrivateAttr(default_factory=dict)

    @property
    def origins(self) -> dict[str, str]:
        """Where each value came from; what is not named is the section's default."""
        return self._origins

    def problems(self) -> list[Wrong]:
        """Everything wrong that types alone cannot tell. Sections add theirs."""
        found = self.unknown("device", devices.allowed())
        if wrong := paths.output_root_problem(self.output_root, self.profile):
            found.append(self.wrong("output_root", wrong))
        if wrong := cache_folder.problem():
            found.append((cache_folder.VARIABLE, os.environ.get(cache_folder.VARIABLE), wrong))
        return found

    def wrong(self, key: str, allowed: str) -> Wrong:
        """That the value of a parameter is wrong, and what is allowed."""
        return key, getattr(self, key), allowed

    def unknown(self, key: str, allowed: list[str]) -> list[Wrong]:
        """A problem for each name of a parameter that is not allowed, with the nearest one that is.
        A parameter without a value has none."""
        given = getattr(self, key)
        names = given if isinstance(given, tuple) else () if given is None else (given,)
        return [(key, name, choices(name, allowed)) for name in names if name not in allowed]


def build(
    model: type[NotebookParams], data: dict, source: str, origins: dict[str, str] | None = None
) -> NotebookParams:
    """Validated parameters, or ParameterError with every problem; `source` names the file or
    notebook in it, `origins` where some of the values came from instead."""
    origins = origins or {}
    if long := [(key, value) for key, value in data.items() if _is_long(value)]:
        most = f"at most {values.MOST_LISTED} in a list"
        told = [(str(k), f"{len(v)} values", most) for k, v in long]
        raise ParameterError([Problem(_place(w[0], source, origins), *w) for w in told])
    data = {str(key): _as_meant(model, str(key), value) for key, value in data.items()}
    try:
        params = model(**data)
    except ValidationError as error:
        found = [values.wrong(one, data, model.model_fields) for one in error.errors()]
    else:
        found = params.problems()
    if found:
        raise ParameterError([Problem(_place(w[0], source, origins), *w) for w in found])
    params._origins.update(origins)
    return params


def _is_long(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > values.MOST_LISTED


def _place(key: str, source: str, origins: dict[str, str]) -> str:
    """`mine.yaml with params/cpu/…`: where the value was not given but taken from a profile."""
    origin = origins.get(key.split(".")[0], source)
    return source if origin == source else f"{source} with {origin}"


def _as_meant(model: type[NotebookParams], name: str, value: Any) -> Any:
    """`none` as no value where a parameter can have none; a path from wherever it was written; a
    model of the catalog as that spells it."""
    if isinstance(value, (list, tuple)):
        return [_as_meant(model, name, item) for item in value]
    if name == "notebook":
        return _notebook(value, model.model_fields[name].default)
    if not isinstance(value, str) or name == "output_root":
        return value
    field = model.model_fields.get(name)
    if value.lower() == "none" and field and type(None) in get_args(field.annotation):
        return None
    return paths.given(value) if "/" in value else catalog.own_spelling(value)


def _notebook(value: Any, own: str) -> Any:
    """The section's own notebook where it was named by number, name or file."""
    name = Path(str(value)).name.removesuffix(".ipynb")
    by_number = name.isdigit() and int(name) == int(own[:2])
    return own if by_number or name in (own, own[3:]) else value


def load(model: type[NotebookParams], path: str | Path) -> NotebookParams:
    """The parameters of a YAML file; what it does not name is its profile's."""
    return _resolve(model, read_yaml(path), str(path), Path(path))


def from_notebook(
    model: type[NotebookParams], names: dict, notebook: str, headless: bool
) -> NotebookParams:
    """Parameters from a notebook's globals, as its parameters cell or papermill's injected cell set
    them."""
    if headless:
        values.read_as_given(*values.papermills())
    given = of_notebook(names, model.model_fields, notebook, headless)
    return _resolve(model, given, notebook)


def _resolve(
    model: type[NotebookParams], given: dict, source: str, file: Path | None = None
) -> NotebookParams:
    """What was given, then the values of its profile, then those of its device's profile, then the
    class's."""
    stem = model.model_fields["notebook"].default
    found, origins = dict(given), dict.fromkeys(given, source)
    own = _profile_file(stem, given.get("profile"))
    if wrong := _wrong_profile(given, own, stem):
        raise ParameterError([Problem(source, *wrong)])

    def fill(path: Path | None) -> None:
        if path is not None and not (file is not None and path.samefile(file)):
            for name, value in read_yaml(path).items():
                if name not in found:
                    found[name], origins[name] = value, paths.shown(path)

    fill(own)
    device = str(found.get("device", "cpu"))
    fill(_profile_file(stem, device if device in paths.profiles(stem) else "gpu"))
    return build(model, found, source, origins)


def _profile_file(stem: str, profile: Any) -> Path | None:
    if not isinstance(profile, str) or not re.fullmatch(PROFILE, profile):
        return None  # told by the model's own check
    path = paths.params_file(profile, stem)
    return path if path.exists() else None


def _wrong_profile(given: dict, own: Path | None, stem: str) -> Wrong | None:
    """What is wrong with the profile that was given, or with a device that is not that profile's.
    own: the profile's file."""
    profile, device = given.get("profile"), given.get("device")
    if own is None:
        near = difflib.get_close_matches(str(profile), paths.profiles(stem), n=1, cutoff=0.6)
        if profile is None or device is not None or not near:
            return None
        absent = f"no params/{profile}/{stem}.yaml, and no `device` for results of your own"
        return "profile", profile, f"{absent}; {choices(profile, paths.profiles(stem))}"
    its = read_yaml(own).get("device", device)
    if device in (None, its):
        return None
    return (
        "device",
        device,
        f"profile {profile!r} is for device {its!r}: leave `device` out, or give results of "
        "another device another `profile` name",
    )
