"""The shipped results as a notebook has them, and every profile and notebook that has some."""

from functools import cache
from pathlib import Path

from moebook import sections
from moebook.results import loading
from moebook.workbook import Run

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "outputs" / "reference"


def every() -> list[tuple[str, str]]:
    """(profile, notebook) of all shipped results, and of the overview, which needs none."""
    folders = sorted(file.parent for file in REFERENCE.glob("*/*/results.parquet"))
    found = [(folder.parent.name, folder.name) for folder in folders]
    return [("cpu", "00_overview"), *(pair for pair in found if pair[1] != "00_overview")]


@cache
def results(profile: str, stem: str) -> loading.Results:
    section = sections.find(stem)
    params, plan = sections.parameters_of(section, ROOT / "params" / profile / f"{stem}.yaml")
    if not plan.points:
        return Run(section, params).read()
    return loading.reference_results(params, plan, section.enrich)
