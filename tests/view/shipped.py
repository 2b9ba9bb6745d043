"""The shipped results as a notebook has them, the verdicts on them, and every profile and notebook
that has some; each is loaded once for all tests of a process."""

from functools import cache
from pathlib import Path
from unittest.mock import patch

from moebook import sections
from moebook.results import loading
from moebook.results.findings import Verdict
from moebook.sections import profile as whole_profile
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


def read(params, plan, enrich) -> loading.Results:
    """As loading.load where nothing is one's own."""
    return results(plan.profile, plan.notebook)


@cache
def verdicts(profile: str) -> tuple[list[Verdict], list[str]]:
    """As sections.profile.all_verdicts where nothing is one's own."""

    def judged(name: str, output_root, claims, checks: bool = True):
        return _judged(name, checks)

    with patch.object(whole_profile, "_of_profile", judged):
        return whole_profile.all_verdicts(profile)


@cache
def _judged(profile: str, checks: bool) -> tuple[list[Verdict], list[str]]:
    with patch.object(loading, "load", read):
        return _of_profile(profile, None, sections.claims(), checks)


_of_profile = whole_profile._of_profile
