"""One module per notebook: its parameters and how they become a plan. `find` takes a stem, a number
or a file."""

import difflib
import importlib
from dataclasses import dataclass
from pathlib import Path

from moebook import paths
from moebook.problems import ParameterError, Problem, choices
from moebook.study.given import read_yaml
from moebook.study.params import NotebookParams, load

STEMS = (
    "00_overview",
    "01_hyperparameter_scaling",
    "02_quantization",
    "03_pruning",
    "04_speculative_decoding",
    "05_parallelism",
    "06_fused_moe",
    "07_load_balancing",
    "08_accelerator_comparison",
    "09_model_comparison",
)

MEASURE_NOTHING = ("00_overview",)


@dataclass(frozen=True)
class Section:
    stem: str
    params: type[NotebookParams]

    def plan(self, params: NotebookParams):
        """The points of the parameters. ParameterError where all sweeps of a section that measures
        are left out."""
        made = self._module.plan(params)
        if not made.points and self.stem not in MEASURE_NOTHING:
            raise ParameterError(
                [
                    Problem(
                        f"plan of {self.stem}",
                        "(all sweeps)",
                        "left out",
                        "no point is left to measure: give at least one sweep its models and "
                        "values",
                    )
                ]
            )
        return made

    @property
    def figures(self) -> dict:
        """stem of a figure -> function(summary, width=...) -> (Figure, rows)"""
        return self._module.figures()

    @property
    def views(self) -> tuple:
        """What the explorer offers (view/views.py), that it opens on first."""
        return self._module.views()

    @property
    def _module(self):
        return importlib.import_module(f"moebook.sections.{self.stem[3:]}.plan")

    @property
    def notebook(self) -> Path:
        return paths.notebook(self.stem)


def find(name: str) -> Section:
    """Section by stem (`01_hyperparameter_scaling`), number (`01`, `1`), or path of a notebook or
    parameter file."""
    wanted = Path(name).stem if name.endswith((".ipynb", ".yaml", ".yml")) else name
    stems = [
        s
        for s in STEMS
        if s == wanted or s[3:] == wanted or (wanted.isdigit() and int(s[:2]) == int(wanted))
    ]
    if not stems:
        near = difflib.get_close_matches(wanted, STEMS, n=1, cutoff=0.4)
        hint = f"; nearest: {near[0]}" if near else ""
        raise ValueError(f"no section {name!r}; sections: {', '.join(STEMS)}{hint}")
    module = importlib.import_module(f"moebook.sections.{stems[0][3:]}.plan")
    return Section(stems[0], module.Params)


def of_file(file: Path, notebook: str = "") -> Section:
    """The section of a parameter file of any name: `notebook` (the option --notebook), else what
    the file's key `notebook` says, else its name. ParameterError where none of them names a
    section."""
    wanted = notebook or read_yaml(file).get("notebook") or file.stem
    try:
        return find(str(wanted))
    except ValueError:
        key = "--notebook" if notebook else "notebook"
        raise ParameterError(
            [
                Problem(
                    str(file),
                    key,
                    wanted,
                    "say which notebook the file is for: `notebook: "
                    f"{STEMS[1]}` in it, or --notebook; {choices(wanted, STEMS)}",
                )
            ]
        ) from None


def parameters_of(section: Section, file: Path):
    """(parameters, plan) of a section's parameter file; ParameterError with all that is wrong."""
    params = load(section.params, file)
    return params, section.plan(params)
