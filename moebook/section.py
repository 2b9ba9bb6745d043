"""A section of the study, by the conventions of its folder `moebook/sections/<name>/`:

    params.py       Params, what its notebook and parameter files may say
    plan.py         plan(params) -> Plan; none of a section that measures nothing
    figures.py      functions marked @figure, and VIEWS, what the explorer offers
    commentary.py   functions marked @commentary
    claims.py       CLAIMS, what the source states of it, with the rules that decide
    enrich.py       where its results need more than all have: see `results.loading.Enrich`

The core knows sections as objects of this class and names none of them. Parts are imported when
they are first asked for, so that planning needs no matplotlib."""

import importlib
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from moebook import paths
from moebook.problems import ParameterError, Problem
from moebook.study import points
from moebook.study.params import NotebookParams
from moebook.study.plan import Plan


@dataclass(frozen=True)
class Section:
    """stem: of its notebook and parameter files, as `02_quantization`; the folder is the name."""

    stem: str

    @property
    def name(self) -> str:
        return self.stem.partition("_")[2]

    @property
    def number(self) -> int:
        return int(self.stem.partition("_")[0])

    @property
    def notebook(self) -> Path:
        return paths.notebook(self.stem)

    @cached_property
    def params(self) -> type[NotebookParams]:
        return self._part("params").Params

    @property
    def figures(self) -> dict:
        """name -> figure: (table, width=...) -> (Figure, rows)"""
        from moebook.plot.figure import of_module

        return of_module(self._part("figures"))

    @property
    def commentary(self) -> ModuleType:
        """Functions (table) -> text, of the figures' names, `headline` and `numbers`."""
        return self._part("commentary")

    @property
    def views(self) -> tuple:
        """What the explorer offers (explore/views.py), that it opens on first; none of some."""
        return getattr(self._part("figures"), "VIEWS", ())

    @property
    def claims(self) -> tuple:
        """What the source states of this section (results/claims.py); none of some sections."""
        if not self._has("claims"):
            return ()
        from moebook.results import claims

        file = Path(self._part("claims").__file__).with_name("history.yaml")
        past = claims.read_history(file.read_text(encoding="utf-8")) if file.exists() else {}
        return tuple(
            replace(c, notebook=self.stem, history=past.get(c.id, ()))
            for c in self._part("claims").CLAIMS
        )

    @property
    def enrich(self):
        """What it makes of its results beyond what all have (results.loading.Enrich)."""
        from moebook.results.loading import Enrich

        return Enrich.of(self._part("enrich")) if self._has("enrich") else Enrich()

    def plan(self, params: NotebookParams) -> Plan:
        """The points of the parameters, of a section that measures nothing none. ParameterError
        where all sweeps are left out, or there are more points than any engine measures."""
        if not self.params.measures:
            return Plan(self.stem, params.profile, params.device, ())
        with points.at_most():
            made = self._part("plan").plan(params)
        if not made.points:
            where, wanted = f"plan of {self.stem}", "give at least one sweep its models and values"
            left = f"no point is left to measure: {wanted}"
            raise ParameterError([Problem(where, "(all sweeps)", "left out", left)])
        return made

    def open(self, names: dict):
        """A notebook's run, of the names of its parameters cell: `section.open(globals())`."""
        from moebook import workbook

        given = {name: value for name, value in names.items() if value is not self}
        return workbook.open_run(self, given)

    def _part(self, name: str) -> ModuleType:
        return importlib.import_module(f"moebook.sections.{self.name}.{name}")

    def _has(self, name: str) -> bool:
        return find_spec(f"moebook.sections.{self.name}.{name}") is not None
