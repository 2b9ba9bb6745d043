"""A section is one folder: what it takes to add one, and that the core names none."""

import ast
import re
import sys
import textwrap
from pathlib import Path

import pytest

from moebook import paths, sections

ROOT = Path(__file__).parents[1]
CORE = [
    file
    for file in sorted((ROOT / "moebook").rglob("*.py"))
    if file.relative_to(ROOT / "moebook").parts[0] not in ("sections", "cli")  # cli: examples
]
NAMES = [section.name for section in sections.every()]

FILES = {
    "__init__.py": """
        from moebook.section import Section

        section = Section("42_answer")
        """,
    "params.py": """
        from typing import Literal

        from moebook.study.params import Count
        from moebook.study.points import EngineParams


        class Params(EngineParams):
            notebook: Literal["42_answer"] = "42_answer"
            batch: Count = 1
        """,
    "plan.py": """
        from moebook.models import catalog
        from moebook.study import points
        from moebook.study.lengths import Length


        def plan(p):
            length = Length(8, 8)
            engine = points.settings(p, [p.batch], length.total)
            arch = catalog.load("tiny-mixtral")
            point = points.point(p, arch, engine, p.batch, length, "answer")
            return points.plan_of(p, [point])
        """,
    "figures.py": """
        from matplotlib.figure import Figure

        from moebook.explore.views import View
        from moebook.plot.figure import figure


        @figure("answer")
        def answer(table, *, width="page"):
            return Figure(), table


        VIEWS = (View("answer", "answer", "batch"),)
        """,
}


@pytest.fixture
def added(tmp_path, monkeypatch):
    """A checkout with a further section: a folder, a parameter file, and no line elsewhere."""
    folder = tmp_path / "more" / "answer"
    folder.mkdir(parents=True)
    for name, text in FILES.items():
        (folder / name).write_text(textwrap.dedent(text).lstrip())
    (tmp_path / "params" / "cpu").mkdir(parents=True)
    (tmp_path / "params" / "cpu" / "42_answer.yaml").write_text("batch: 3\n")
    monkeypatch.setattr(sections, "__path__", [*sections.__path__, str(tmp_path / "more")])
    monkeypatch.setattr(paths, "root", lambda: tmp_path)
    sections.every.cache_clear()
    yield tmp_path
    sections.every.cache_clear()
    for name in [m for m in sys.modules if m.startswith("moebook.sections.answer")]:
        del sys.modules[name]


def test_a_new_section_is_one_folder_and_a_file_a_profile(added):
    found = sections.find("42")
    assert found.stem in sections.stems() and found in sections.of_profile("cpu")
    params, plan = sections.parameters_of(found, added / "params" / "cpu" / "42_answer.yaml")
    assert params.batch == 3 and [p.workload.batch for p in plan.points] == [3]
    assert list(found.figures) == ["answer"] and found.views[0].name == "answer"
    assert found.claims == ()


def test_a_notebook_of_a_section_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(ValueError, match="no section '42'; sections: 00_overview, 01_hyper"):
        sections.find("42")


def test_every_section_has_a_notebook_and_every_notebook_a_section():
    notebooks = sorted(file.stem for file in (ROOT / "notebooks").glob("*.ipynb"))
    assert sections.stems() == notebooks


@pytest.mark.parametrize("file", CORE, ids=lambda file: file.relative_to(ROOT).as_posix())
def test_the_core_names_no_section(file):
    """Neither by import (the layers of import-linter), nor in a string, name or docstring."""
    text = file.read_text()
    stems = rf"\b(\d\d_({'|'.join(NAMES)})|sections\.({'|'.join(NAMES)}))\b"
    found = {match.group(0) for match in re.finditer(stems, _code(text))}
    assert not found, f"{file}: {found}"


def _code(text: str) -> str:
    """The text without docstrings and comments, which may give a section as an example."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
    return ast.unparse(tree)
