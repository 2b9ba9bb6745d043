"""What the commands share: their common options, checked before a command does anything, and how a
file or a profile is found."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from moebook import paths, sections
from moebook.problems import choices
from moebook.section import Section
from moebook.study import params as parameters
from moebook.study import values
from moebook.study.params import NotebookParams


def _checked(problem: Callable[[Any], str | None]) -> Callable:
    """A callback for an option: ValueError with its name and what `problem` says of its value."""

    def check(param: typer.CallbackParam, value):
        if value is not None and (wrong := problem(value)):
            raise ValueError(f"{param.opts[0]}: given {str(value)!r}; {wrong}")
        return value

    return check


def listed(option: str, given: str, allowed: Iterable[str], names: Iterable[str] = ()) -> list[str]:
    """The names that an option lists between commas (or `names`, where it lists them otherwise); []
    where it is not given. ValueError where one is none of those allowed."""
    allowed, found = list(allowed), list(names or given.split(",")) if given else []
    for name in found:
        if name not in allowed:
            raise ValueError(f"{option}: given {given!r}; no {name!r}; {choices(name, allowed)}")
    return found


check_minutes = _checked(values.minutes_problem)
check_percent = _checked(values.percent_problem)
check_folder = _checked(lambda path: paths.output_root_problem(paths.from_here(str(path))))

ParamsFile = Annotated[
    Path, typer.Argument(help="a parameter file of any name, e.g. params/cpu/02_quantization.yaml")
]
Notebook = Annotated[
    str,
    typer.Option(
        help="the notebook a parameter file is for, where neither its name nor its key "
        "`notebook` says so: 02_quantization or 02"
    ),
]
Profile = Annotated[str, typer.Option(help="folder of params/ to use, e.g. cpu, gpu, h200, 2xh200")]
OutputRoot = Annotated[
    str | None,
    typer.Option(callback=check_folder, help="outputs folder, in place of the parameter file's"),
]
AllowFailed = Annotated[
    bool,
    typer.Option(
        "--allow-failed",
        help="exit 0 also where points failed, ran out of time or memory, or were not run",
    ),
]
Only = Annotated[str | None, typer.Option(help="only this notebook")]
AsJson = Annotated[bool, typer.Option("--json")]


def opened(
    path: Path, output_root: str | None = None, notebook: str = ""
) -> tuple[Section, NotebookParams]:
    """The section and parameters of a file; `output_root`, where given, in place of the file's."""
    path = Path(paths.given(str(path)))
    section = sections.of_file(path, notebook)
    params = parameters.load(section.params, path)
    if output_root is not None:
        params = params.model_copy(update={"output_root": whole(output_root)})
    return section, params


def whole(output_root: str | None) -> str | None:
    """--output-root as it is handed on: it lies where the command was called."""
    return None if output_root is None else paths.from_here(output_root)


def file_of(profile: str, stem: str) -> Path:
    if not re.fullmatch(parameters.PROFILE, profile):
        allowed = f"the name of a folder of params/: {', '.join(paths.profiles())}"
        raise ValueError(f"--profile: given {profile!r}; {allowed}")
    return paths.params_file(profile, stem)


def in_profile(profile: str, section: str | None = None) -> list[Section]:
    """The sections that a profile has parameters for; the one where it is named. ValueError where
    there is none."""
    if section is not None:
        found = sections.find(section)
        if not file_of(profile, found.stem).exists():
            raise ValueError(
                f"--profile: given {profile!r}, which has no {found.stem}; "
                f"{choices(profile, paths.profiles(found.stem))}"
            )
        return [found]
    every = [s for s in sections.every() if file_of(profile, s.stem).exists()]
    if not every:
        raise ValueError(f"--profile: given {profile!r}; {choices(profile, paths.profiles())}")
    return every
