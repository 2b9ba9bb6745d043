"""README and docs say what is there: links lead somewhere, commands exist, and the verdicts printed
are those that `moebook claims` gives today. A verdict's row is

    ... | `claim-id` | profile | verdict | effect [low, high] | ...
"""

import json
import re
import tomllib
from pathlib import Path

import pytest
import shipped
import yaml
from typer.main import get_command

from moebook.cli import app
from moebook.results.verdicts import to_json

README = Path("README.md")
PAGES = [README, *sorted(Path("docs").rglob("*.md"))]
COMMANDS = get_command(app).commands
NUMBER = re.compile(r"[+−]?\d+(?:\.\d+)?")
ROW = re.compile(
    r"\| `([a-z0-9-]+)` \| (\w+) \| (supported|contradicted|mixed|undecided|untested) \| ([^|]+) \|"
)


def rows() -> list[tuple[str, str, str, str, str]]:
    """(page, claim, profile, verdict, effect) of every row that prints a verdict."""
    return [
        (str(page), *found)
        for page in PAGES
        for found in ROW.findall(page.read_text(encoding="utf-8"))
    ]


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").split()) < 1500


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    for link in (link for link in links if not link.startswith("http")):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_commands_and_their_options_exist(page):
    for line in re.findall(r"`moebook ([^`]+)`", page.read_text(encoding="utf-8")):
        name, *words = line.split()
        assert name in COMMANDS, line
        options = {option for param in COMMANDS[name].params for option in param.opts}
        assert {word for word in words if word.startswith("--")} <= options, line
        assert all(Path(word).exists() for word in words if word.startswith("params/")), line


@pytest.mark.parametrize("profile", sorted({profile for _, _, profile, _, _ in rows()}))
def test_verdicts_are_those_of_the_reference(profile):
    """An effect is as printed, rounded."""
    claims = {claim["id"]: claim for claim in json.loads(to_json(shipped.verdicts(profile)[0]))}
    for page, claim, of, verdict, effect in rows():
        if of != profile:
            continue
        given = claims[claim]
        assert verdict == given["verdict"], (page, claim)
        if given["effect"] is None:
            continue
        middle, _, interval = effect.partition("[")
        printed = [NUMBER.search(middle).group(), *NUMBER.findall(interval)]
        exact = [given["effect"], given["effect_lo"], given["effect_hi"]]
        assert [
            rounded(text, value) for text, value in zip(printed, exact, strict=True)
        ] == printed, (page, claim)


def rounded(text: str, value: float) -> str:
    """`value` with as many digits as `text`, and its sign of plus."""
    digits = f"{value:.{len(text.partition('.')[2])}f}".replace("-", "−")
    digits = digits.removeprefix("−") if float(digits.replace("−", "-")) == 0 else digits
    return "+" + digits if text.startswith("+") else digits


def test_the_citation_is_of_this_version():
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    citation = yaml.safe_load(Path("CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["cff-version"], citation["version"], citation["license"]) == (
        "1.2.0",
        project["version"],
        project["license"],
    )
