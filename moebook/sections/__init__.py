"""The sections of the study, a folder each (moebook/section.py says what stands in one)."""

import difflib
import importlib
import pkgutil
from functools import cache
from pathlib import Path

from moebook import paths
from moebook.problems import ParameterError, Problem, choices
from moebook.section import Section
from moebook.study.params import NotebookParams, load
from moebook.study.plan import Plan
from moebook.study.values import read_yaml


@cache
def every() -> tuple[Section, ...]:
    """All sections, by the number of their notebook: the packages of this folder."""
    names = [m.name for m in pkgutil.iter_modules(__path__) if m.ispkg]
    found = [importlib.import_module(f"{__name__}.{name}").section for name in names]
    return tuple(sorted(found, key=lambda section: section.stem))


def stems() -> list[str]:
    return [section.stem for section in every()]


def claims() -> list:
    """What the source claims, of all sections in their order."""
    return [claim for section in every() for claim in section.claims]


def of_profile(profile: str) -> list[Section]:
    """The sections that a profile has a parameter file for."""
    return [s for s in every() if paths.params_file(profile, s.stem).exists()]


def find(name: str) -> Section:
    """Section by stem (`01_hyperparameter_scaling`), number (`01`, `1`), name, or path of a
    notebook or parameter file. ValueError names the nearest."""
    wanted = Path(name).stem if name.endswith((".ipynb", ".yaml", ".yml")) else name
    for section in every():
        same = wanted in (section.stem, section.name)
        if same or (wanted.isdigit() and int(wanted) == section.number):
            return section
    near = difflib.get_close_matches(wanted, stems(), n=1, cutoff=0.4)
    hint = f"; nearest: {near[0]}" if near else ""
    raise ValueError(f"no section {name!r}; sections: {', '.join(stems())}{hint}")


def of_file(file: Path, notebook: str = "") -> Section:
    """The section of a parameter file of any name: `notebook` (the option --notebook), else what
    the file's key `notebook` says, else its name. ParameterError where none of them names a
    section."""
    wanted = notebook or read_yaml(file).get("notebook") or file.stem
    try:
        section = find(str(wanted))
    except ValueError:
        key = "--notebook" if notebook else "notebook"
        allowed = (
            f"say which notebook the file is for: `notebook: {stems()[1]}` in it, or --notebook; "
            f"{choices(wanted, stems())}"
        )
        raise ParameterError([Problem(str(file), key, wanted, allowed)]) from None
    if file.stem in stems() and section.stem != file.stem and not notebook:
        allowed = "that of the file's name; or give the file another name"
        raise ParameterError([Problem(str(file), "notebook", wanted, allowed)])
    return section


def parameters_of(section: Section, file: Path) -> tuple[NotebookParams, Plan]:
    """(parameters, plan) of a section's parameter file; ParameterError with all that is wrong."""
    params = load(section.params, file)
    return params, section.plan(params)
