"""The report of the reference: whole, self-contained, and as small as promised."""

import re
from functools import cache
from html.parser import HTMLParser
from unittest.mock import patch

import pytest
import shipped
from typer.testing import CliRunner

from moebook import html_report
from moebook.cli import app
from moebook.results import loading
from moebook.sections import profile

LOADS = ("src", "href", "xlink:href", "data", "poster", "srcset")
PROFILE = "h100"
MOST_BYTES = 160_000  # a figure: some sixty, all sections', make 10 MB


@cache
def html() -> str:
    judged = shipped.verdicts(PROFILE)
    with (
        patch.object(loading, "load", shipped.read),
        patch.object(profile, "all_verdicts", lambda *_: judged),
    ):
        return html_report.build(PROFILE)


class Loads(HTMLParser):
    """What a browser would fetch: addresses in attributes, other than links to click."""

    def __init__(self):
        super().__init__()
        self.found, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.found += [v for k, v in attrs if k in LOADS and not (tag == "a" and k == "href")]


def test_nothing_is_loaded_from_elsewhere_and_no_script_runs():
    parser = Loads()
    parser.feed(html())
    assert "svg" in parser.tags and "style" in parser.tags
    assert not [v for v in parser.found if not v.startswith(("#", "data:"))]
    assert "script" not in parser.tags and "link" not in parser.tags
    assert not re.search(r"@import|url\((?!#)", html())


def test_it_is_small_and_for_light_and_dark():
    assert len(html().encode()) < MOST_BYTES * html().count("<figure id=")
    assert "prefers-color-scheme: dark" in html()


def test_every_figure_of_every_section_is_there_with_its_data_or_its_reason():
    for run in profile.runs(PROFILE):
        if f'<h2 id="{run.section.stem}">' not in html():  # without results, and told so
            assert not (shipped.REFERENCE / PROFILE / run.section.stem).exists()
            assert f"<li>{run.section.number}. " in html()
            continue
        for name in run.section.figures:
            drawn = f'<figure id="{run.section.stem}-{name}"><div><svg' in html()
            data = f'download="{run.section.stem}-{name}.csv" href="data:text/csv' in html()
            told = f"({name}): not drawn" in html() or f"<code>{name}</code>" in html()
            assert (drawn and data) or told, (run.section.stem, name)


@pytest.mark.parametrize(
    ("section", "first", "last"),
    [
        ("09_model_comparison", "fig03_llms", "fig01_parameter_breakdown"),
        ("04_speculative_decoding", "speedup", "acceptance"),
    ],
)
def test_figures_stand_in_the_order_of_the_notebook(section, first, last):
    of = f'<figure id="{section}-'
    assert 0 < html().index(f"{of}{first}") < html().index(f"{of}{last}")


def test_captions_say_what_a_reader_may_ask():
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html(), re.DOTALL)
    assert captions and not [
        one for one in captions if "axes" in one.lower() or "ValueError" in one
    ]


def test_the_verdicts_of_all_claims_come_first():
    shown = set(re.findall(r'<h2 id="(\w+)">', html()))
    found = [one for one in shipped.verdicts(PROFILE)[0] if one.notebook in shown]
    summary = html()[: html().index("<figure")]
    assert all(f"<b>{v.id}</b>" in summary and v.label in summary for v in found)
    assert summary.index("What was found") < summary.index("Trained without balancing")


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--profile", "h2000"], "h2000"),
        (["--output", "report.pdf"], "ends in .html"),
        (["--output", "moebook"], "ends in .html"),
    ],
)
def test_a_bad_input_is_told(args, told):
    done = CliRunner().invoke(app, ["report", *args])
    assert done.exit_code != 0 and told in str(done.exception)


def test_a_profile_without_results_has_no_report(tmp_path):
    with pytest.raises(ValueError, match="nothing to report of profile 'cpu'"):
        html_report.build("cpu", str(tmp_path))
