"""A page's pieces: at most three bullets, tables and pictures folded, verdicts by section."""

import base64

import pandas as pd
import pytest
import shipped
from matplotlib.figure import Figure

from moebook import paths, sections
from moebook.plot import length_axis
from moebook.results import cards, page
from moebook.results.findings import Verdict
from moebook.workbook import Run

TEXT = (
    "Gain of fp8, by batch:\n\n| model | 1 |\n| --- | ---: |\n| A | **+3 %** |\n\n"
    "Slower at 1.5 of 2. Not measured: int8 (needs a kernel). Third. Fourth one. "
)
PAGES = [pair for pair in shipped.every() if pair[0] == "h200" or pair[1][:2] == "07"]


def test_three_sentences_are_bullets_and_a_table_is_folded_under_the_one_that_announces_it():
    bullets, rest = page.said(TEXT)
    assert bullets == ["Slower at 1.5 of 2.", "Not measured: int8 (needs a kernel).", "Third."]
    assert '<summary style="cursor:pointer">Gain of fp8, by batch</summary>' in rest
    assert "<b>+3 %</b>" in rest and "Fourth one." in rest
    html = page.bullets(TEXT)
    assert html.index("<ul") < html.index("<details") and html.count("<li>") == 3


def test_a_list_is_folded_and_nothing_said_shows_nothing():
    assert "<li>here &lt;x&gt;</li>" in page.said("Read at:\n- here <x>\n- there\n")[1]
    assert page.bullets("") == ""


@pytest.mark.parametrize(("profile", "stem"), PAGES)
def test_every_commentary_has_one_to_three_bullets(profile, stem):
    section, res = sections.find(stem), shipped.results(profile, stem)
    for figure in section.figures.values():
        name = figure.__name__
        if not hasattr(section.commentary, name):
            continue
        bullets, _ = page.said(getattr(section.commentary, name)(res.shown))
        assert not any("<" in one or "|" in one for one in bullets), bullets
        assert 1 <= len(bullets) <= page.MOST_BULLETS, (name, bullets)


@pytest.mark.parametrize(("profile", "stem"), PAGES)
def test_a_box_has_two_to_four_numbers_and_none_of_nothing(profile, stem):
    section, table = sections.find(stem), shipped.results(profile, stem).shown
    if stem != "00_overview":
        numbers = section.commentary.numbers(table)
        assert 2 <= len(numbers) <= 4 and all(one.value and one.label for one in numbers)
        assert not any("nan" in one.value for one in numbers)
        assert section.commentary.numbers(table.head(0)) == ()


def test_a_figure_is_folded_under_its_answer_with_its_picture_and_kept_for_its_files():
    stem = "02_quantization"
    section = sections.find(stem)
    run = Run(section, sections.parameters_of(section, paths.params_file("h200", section.stem))[0])
    run._results = shipped.results("h200", stem)
    figures, commentary = section._part("figures"), section.commentary
    html = run.fold(figures.formats, commentary.quality).html
    first, second = html.split("<details")[1:3]
    assert "<b>Throughput (tokens/s) of one model in every format.</b> At batch 1" in first
    png = first.partition("base64,")[2].partition('"')[0]
    assert base64.b64decode(png).startswith(b"\x89PNG")
    assert "formats-page.csv" in run.drawn["formats-page"] and len(run.drawn) == 1
    assert "<img" not in second


def test_a_figure_without_rows_says_so_on_its_line():
    section = sections.find("02_quantization")
    run = Run(section, sections.parameters_of(section, paths.params_file("h200", section.stem))[0])
    run._results = shipped.results("h200", "02_quantization")
    run.__dict__["results"] = None
    of = section._part("figures").formats
    table = run._results.shown
    none = table.assign(status="not_run", reason="no card")
    run._results = type("R", (), {"shown": none})()
    html = run.fold(of).html
    assert "Not drawn" in html and "<img" not in html and run.drawn == {}


def test_what_a_plan_leaves_out_is_named_in_a_last_line_and_a_price_is_of_the_parameters():
    section = sections.find("02_quantization")
    params = sections.parameters_of(section, paths.params_file("h200", section.stem))[0]
    run = Run(section, params.model_copy(update={"device_hour_price": 3.0}))
    run._results = shipped.results("h200", "02_quantization")
    figures, commentary = section._part("figures"), section.commentary
    assert "A million tokens" in run.fold(commentary.price).text
    run.params = params
    assert run.fold(commentary.price).html == ""
    run._results = type("R", (), {"shown": run.table[run.table["method"] != "energy"]})()
    shown = run.fold(figures.energy, commentary.quality)
    assert shown.html.count("<details") == run.fold(commentary.quality).html.count("<details")
    assert shown.text.endswith("Not in this plan: energy.") and run.drawn == {}
    assert figures.energy(run) is None and run.say(commentary.energy).text.startswith("Not part")


def test_a_figure_of_layers_names_no_length_and_of_engines_its_own():
    rows = pd.DataFrame({"model": ["A"], "method": ["layer"], "input_tokens": [1]})
    rows = rows.assign(output_tokens=1)
    assert length_axis.conditions(Figure(), rows) == "A"
    assert length_axis.conditions(Figure(), rows.assign(method="full")) == "A; 1 in + out"


def test_cards_are_folded_by_section_with_their_counts():
    found = [Verdict(i, n, f"0{n}", "S.", w, reason="r") for i, n, w in
             [("a", 1, "untested"), ("b", 2, "mixed"), ("c", 2, "untested")]]  # fmt: skip
    html = cards.by_section(found).html
    assert "<b>Section 2:</b> 2 claims: 1 mixed, 1 untested" in html and "<b>c</b>" in html


def test_a_table_is_folded_with_numbers_to_the_right():
    shown = page.folded("Shapes", pd.DataFrame({"model": ["A"], "experts": [8]}))
    assert "Shapes</summary>" in shown.html and '<td style="text-align:right">8</td>' in shown.html
    assert shown.text.startswith("Shapes\n")
