"""Lengths: numbers and pairs in parameters, in plans, in figures and in words."""

import importlib

import made_up
import matplotlib.pyplot as plt
import pytest
from pydantic import BaseModel, ValidationError

from moebook import sections
from moebook.problems import ParameterError
from moebook.results import cells, verdicts
from moebook.study.lengths import Length, Lengths, both, longest

PAIR = Length(1024, 256)
# section, its lengths as pairs (some of one input), (in, out) that its plan then has
EVERYWHERE = [
    (
        "01",
        {
            "grid_tokens": [12, 4],
            "routing_tokens": [24, 6],
            "comparison_tokens": [20, 5],
            "lengths": [16, [16, 4]],
            "validation_tokens": [64, 128],
        },
        {(12, 4), (24, 6), (20, 5), (16, 16), (16, 4), (64, 128)},
    ),
    (
        "02",
        {"batch_tokens": [12, 4], "lengths": [[16, 4], 16], "formats_tokens": [20, 5]},
        {(12, 4), (16, 4), (16, 16), (20, 5)},
    ),
    ("03", {"tokens": [12, 4]}, {(12, 4)}),
    ("04", {"tokens": [12, 4], "lengths": [[16, 4], 16]}, {(12, 4), (16, 4), (16, 16)}),
    ("05", {"tokens": [12, 4]}, {(12, 4)}),
    (
        "06",
        {"ladder_batch_tokens": [12, 4], "ladder_lengths": [[16, 4], 16]},
        {(12, 4), (16, 4), (16, 16)},
    ),
    ("07", {"skew_tokens": [12, 4]}, {(12, 4)}),
    (
        "08",
        {
            "common_lengths": [[16, 4], 16],
            "lengths": [[16, 4], 16, 32],
            "large_batch_lengths": [[20, 5]],
            "endpoint_lengths": [[24, 6]],
            "beside": [],
        },
        {(16, 4), (16, 16), (32, 32), (20, 5)},
    ),
    ("09", {"tokens": [12, 4]}, {(12, 4), (48, 4)}),
]


class Model(BaseModel):
    one: Length = Length(8, 8)
    many: Lengths = both(8)


@pytest.mark.parametrize(
    ("given", "length", "text", "words", "plain"),
    [
        (128, Length(128, 128), "128", "128 in + out", 128),
        ([1024, 256], PAIR, "1024 + 256", "1024 in + 256 out", [1024, 256]),
        ((1024, 256), PAIR, "1024 + 256", "1024 in + 256 out", [1024, 256]),
        ([128, 128], Length(128, 128), "128", "128 in + out", 128),
        (PAIR, PAIR, "1024 + 256", "1024 in + 256 out", [1024, 256]),
    ],
)
def test_a_length_is_a_number_or_a_pair_and_goes_back_to_what_yaml_says(
    given, length, text, words, plain
):
    made = Model(one=given)
    assert (made.one, str(made.one), made.one.words) == (length, text, words)
    assert made.model_dump(mode="json")["one"] == made.model_dump()["one"] == plain
    assert Model(**made.model_dump()) == made


def test_in_a_list_numbers_are_lengths_and_only_a_nested_list_is_a_pair():
    assert Model(many=[128, 256]).many == both(128, 256)
    assert Model(many=[[1024, 256]]).many == (PAIR,)
    assert Model(many=[256, [1024, 256], 128]).many == (
        Length(256, 256),
        PAIR,
        Length(128, 128),
    )  # order kept
    assert Model(many=[]).many == ()
    assert Model(many=[128, [1024, 256]]).model_dump(mode="json")["many"] == [128, [1024, 256]]


@pytest.mark.parametrize(
    "bad",
    [
        0,
        -1,
        True,
        1.5,
        "128",
        "[1024, 256]",
        [1024],
        [1024, 256, 1],
        [1024, 0],
        [1024, "256"],
        [1024, True],
        [[1, 2], 3],
        None,
        {},
    ],
)
def test_what_is_no_length_is_refused_with_what_is_allowed(bad):
    with pytest.raises(ValidationError, match=r"a number of tokens .* or a pair \[in, out\]"):
        Model(one=bad)


@pytest.mark.parametrize("bad", [8, "8", [8, 0], [[8, 8, 8]], None])
def test_what_is_no_list_of_lengths_is_refused(bad):
    with pytest.raises(ValidationError, match=r"a number of tokens .* or a pair \[in, out\]"):
        Model(many=bad)


@pytest.mark.parametrize("bad", [[8, 8], [8, 16, [8, 8]], [[8, 4], [8, 4]]])
def test_a_length_that_stands_twice_is_refused(bad):
    with pytest.raises(ValidationError, match="each length once; 8( . 4)? stands twice"):
        Model(many=bad)


def test_lengths_given_as_text_get_the_hint_of_papermill():
    with pytest.raises(
        ParameterError, match=r"lengths: given '\[128, 256\]'.*a list.*papermill `-y"
    ):
        made_up.build("02", lengths="[128, 256]")


def test_a_length_with_an_exponent_gets_the_hint_of_every_whole_number():
    with pytest.raises(ParameterError, match="grid_tokens: given '1e3'.*write 1000"):
        made_up.build("01", grid_tokens="1e3")


def test_the_longest_takes_most_positions_not_the_longest_input():
    assert longest([Length(100, 1), Length(60, 60), None]) == Length(60, 60)
    assert longest([]) is None and longest([None]) is None


def drawn(results) -> tuple[dict, dict[str, str]]:
    """(figure and rows) by name, and the reasons of those that are not drawn."""
    figures, reasons = {}, {}
    for name, draw in sections.find(results.plan.notebook).figures.items():
        try:
            figures[name] = draw(results.shown, width="page")
        except ValueError as error:
            reasons[name] = str(error)
    return figures, reasons


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.mark.parametrize(("stem", "changes", "wanted"), EVERYWHERE)
def test_every_section_takes_pairs_plans_them_and_shows_them(stem, changes, wanted):
    p, plan = made_up.build(stem, **changes)
    runs = [
        point
        for point in plan.points
        if point.method in ("full", "sampled", "depth", "depth+sampled")
    ]
    assert {(q.workload.input_tokens, q.workload.output_tokens) for q in runs} == wanted
    assert all(
        q.engine.max_model_len >= q.workload.input_tokens + q.workload.output_tokens for q in runs
    )
    results = made_up.measured(p, plan)
    assert not any("share one place" in reason for reason in drawn(results)[1].values())
    readings = importlib.import_module(
        f"moebook.sections.{sections.find(stem).stem[3:]}.commentary"
    )
    for call in made_up.said(sections.find(stem).stem):
        assert "nan" not in getattr(readings, call[0])(results.shown, *call[1:])
    assert all(v.verdict for v in verdicts.evaluate(results.summary, sections.find(stem).claims))


@pytest.mark.parametrize(
    "key", ["grid_tokens", "lengths", "comparison_tokens", "validation_tokens"]
)
def test_a_pair_that_exceeds_the_positions_is_refused_by_its_sum(key):
    fits, exceeds = [4000, 96], [4000, 97 + 128]
    fits = [3968, 128] if key == "validation_tokens" else fits
    made_up.build("01", **{key: [fits] if key == "lengths" else fits})
    with pytest.raises(
        ParameterError, match="4000 input . 225 output tokens .*exceed its 4096 positions"
    ):
        made_up.build("01", **{key: [exceeds] if key == "lengths" else exceeds})


def test_validation_needs_tokens_out_that_sampling_can_take():
    with pytest.raises(ParameterError, match="at least 128 tokens out"):
        made_up.build("01", validation_tokens=[1024, 64])


def test_a_run_is_sampled_by_its_output():
    _, plan = made_up.build(
        "02", sample_from_tokens=128, lengths=[[512, 64], [64, 128]], batch_tokens=None
    )
    methods = {
        (p.workload.input_tokens, p.method) for p in plan.points if "quant_length" in p.sweeps
    }
    assert methods == {(512, "full"), (64, "sampled")}


def test_with_drafts_a_run_is_sampled_only_where_its_steps_have_room():
    _, plan = made_up.build(
        "04", sample_from_tokens=128, lengths=[[256, 128], 512], tokens=128, draft_tokens_fixed=3
    )
    methods = {
        (p.workload.input_tokens, bool(p.engine.speculation), p.method)
        for p in plan.points
        if "spec_length" in p.sweeps
    }
    assert methods == {
        (256, False, "sampled"),
        (256, True, "sampled"),
        (512, False, "sampled"),
        (512, True, "sampled"),
    }
    _, plan = made_up.build(
        "04", sample_from_tokens=128, lengths=[[256, 128]], tokens=128, draft_tokens_fixed=3
    )
    methods = {
        (bool(p.engine.speculation), p.method) for p in plan.points if "spec_length" in p.sweeps
    }
    assert methods == {(False, "sampled"), (True, "full")}


def test_a_pair_of_equal_numbers_is_the_point_that_the_number_is():
    keys = [
        [p.key for p in made_up.build("02", lengths=lengths, batch_tokens=tokens)[1].points]
        for lengths, tokens in (([8, 16], 16), ([[8, 8], [16, 16]], [16, 16]))
    ]
    assert keys[0] == keys[1]


def test_without_the_batch_sweep_lengths_run_at_the_largest_batch_and_without_batches_at_one():
    for changes, batch in (({"batch_tokens": None}, 16), ({"batches": []}, 1)):
        _, plan = made_up.build("02", **changes)
        assert {p.workload.batch for p in plan.points if "quant_length" in p.sweeps} == {batch}


def figure(stem: str, name: str, **changes):
    figures, reasons = drawn(made_up.measured(*made_up.build(stem, **changes)))
    assert name in figures, reasons
    return figures[name]


def test_an_axis_says_input_equals_output_only_where_that_holds():
    alike, _ = figure("02", "fig10_length", lengths=[8, 16])
    assert alike._supxlabel.get_text() == "input = output length (tokens)"
    pairs, rows = figure("02", "fig10_length", lengths=[[16, 4], 8, [16, 8]])
    assert pairs._supxlabel.get_text().startswith("input length (tokens)")
    assert [t.get_text() for t in pairs.axes[0].get_xticklabels()] == [
        "8\n+ 8",
        "16\n+ 4",
        "16\n+ 8",
    ]
    line = next(x for x in pairs.axes[0].lines if x.get_gid() == "series")
    assert list(line.get_xdata()) == [0, 1, 2]
    assert {str(n) for n in rows["length"]} == {
        "16 + 4",
        "8",
        "16 + 8",
    } and "length_place" not in rows


def test_a_legend_says_the_output_of_each_length():
    fig, _ = figure("01", "fig06_batch_length", lengths=[8, [16, 4], [16, 8]])
    legends = [text.get_text() for legend in fig.legends for text in legend.get_texts()]
    assert {"8 in + out", "16 in + 4 out", "16 in + 8 out"} <= set(legends)
    fig, _ = figure("01", "fig06_batch_length", lengths=[8, 16])
    legends = [text.get_text() for legend in fig.legends for text in legend.get_texts()]
    assert {"8 in + out", "16 in + out"} <= set(legends)


def test_a_title_says_the_pair_that_a_side_of_the_gain_holds():
    fig, _ = figure("02", "gain", batch_tokens=[12, 4], lengths=[[16, 4], [16, 8]])
    assert [ax.get_title() for ax in fig.axes] == [
        "over batch\n12 in + 4 out",
        "over length\nbatch 16",
    ]
    fig, _ = figure("02", "gain", batch_tokens=None)
    assert [ax.get_title() for ax in fig.axes] == ["over length\nbatch 16"]


def test_words_say_pairs_and_the_table_of_results_both_columns():
    p, plan = made_up.build("02", lengths=[8, [16, 4]])
    results = made_up.measured(p, plan)
    from moebook.results.report import results_frame
    from moebook.sections.quantization import commentary

    assert "by length:\n\n| model | 8 | 16 + 4 |" in commentary.over_length(results.summary)
    frame, _ = results_frame(results.summary)
    assert {("16", "4"), ("8", "8")} <= set(zip(frame["in"], frame["out"], strict=True))


def test_claims_of_lengths_take_cells_with_as_many_tokens_in_as_out():
    p, plan = made_up.build("02", lengths=[8, [16, 4]])
    found = cells.Cells.of(made_up.measured(p, plan).summary, "quant_length")
    assert found.ok["length"].dropna().unique().tolist() == [8]
    assert found.ok.loc[found.ok["output_tokens"] == 4, "length"].isna().all()


def test_the_explorer_names_pairs_on_its_axis_and_opens_on_a_picture():
    from moebook.explore import arranged
    from moebook.explore import views as choosing
    from moebook.explore.views import with_rows

    for lengths, label in (
        ([8, 16], "input = output length (tokens)"),
        ([8, [16, 4], [16, 8]], "input length (tokens)"),
    ):
        results = made_up.measured(*made_up.build("02", lengths=lengths))
        found, _ = with_rows(results.shown, sections.find("02").views)
        view = next(v for v in found if v.name == "Fig 10: gain over length")
        fig, rows, notes = arranged.picture(found[view], choosing.first(found[view], view))
        assert fig._supxlabel.get_text() == label and not notes
    names = [text.get_text() for ax in fig.axes for text in ax.get_xticklabels()]
    assert {"8 in + out", "16 in + 4 out", "16 in + 8 out"} <= set(names)
    results = made_up.measured(*made_up.build("01", lengths=[8, [16, 4], [16, 8]]))
    found, _ = with_rows(results.shown, sections.find("01").views)
    for view, own in found.items():
        arranged.picture(own, choosing.first(own, view))
