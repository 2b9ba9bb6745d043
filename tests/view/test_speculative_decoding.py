"""Figures of section 4 draw what the table has: both widths, what is missing, and the formulas in
their artists."""

import sys
from functools import cache
from pathlib import Path

import looks
import numpy as np
import pandas as pd
import pytest

from moebook import sections
from moebook.plot import figure_files
from moebook.predict.work import expected_tokens
from moebook.sections.speculative_decoding import drafts
from moebook.sections.speculative_decoding import figures as view
from moebook.sections.speculative_decoding.drafts import acceptance_for
from moebook.sections.speculative_decoding.plan import PLAIN

sys.path.insert(0, str(Path(__file__).parents[1] / "analysis"))
import speculation_tables as t  # noqa: E402

TABLES = {"gpu": t.gpu(), "cpu": t.cpu(), "part": t.gpu(gone=("Qwen3-8B",))}
COST = ("over_length", "over_draft_tokens", "over_batch", "speedup", "break_even")
TRAINED = ("acceptance", "by_position", "experts_hit")
FIGURES = (*COST, *TRAINED)


@cache
def draw(name, table="gpu", width="page"):
    return getattr(view, name)(TABLES[table], width=width)


def named(ax, gid):
    return [line for line in ax.lines if str(line.get_gid()).startswith(gid)]


def curves(ax):
    """Lines over all acceptances."""
    return [line for line in ax.lines if len(line.get_xdata()) == len(drafts.GRID)]


def words(fig):
    return [text.get_text() for legend in fig.legends for text in legend.get_texts()]


def test_every_figure_of_the_section_is_drawn_here():
    assert {f.__name__ for f in sections.find("04").figures.values()} == {
        *FIGURES,
        "energy",
        "predicted_vs_measured",
    }


@pytest.mark.parametrize("width", ["column", "page"])
@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("name", FIGURES)
def test_width_units_and_nothing_clipped_or_touching(name, table, width):
    before = TABLES[table].copy()
    fig, rows = draw(name, table, width)
    pd.testing.assert_frame_equal(before, TABLES[table])
    looks.assert_readable(fig, rows, width)


@pytest.mark.parametrize("name", FIGURES)
def test_what_is_missing_is_named(name):
    function, table = getattr(view, name), TABLES["gpu"]
    with pytest.raises(
        ValueError, match=rf"{name} needs sweep '\w+', of which .* no row; .*: other"
    ):
        function(table.assign(sweeps="other"))
    with pytest.raises(
        ValueError, match=rf"{name} needs sweep '\w+'; columns missing from the table: "
    ):
        function(table[["sweeps", "status"]])
    with pytest.raises(ValueError, match=rf"{name}: no row has .*\d+ oom"):
        function(table.assign(status="oom"))


@pytest.mark.parametrize("name", ["speedup", "break_even"])
def test_a_speed_up_needs_the_baseline(name):
    table = TABLES["gpu"]
    with pytest.raises(ValueError, match="gains over 'no speculation' need that series"):
        getattr(view, name)(table[table["series"] != PLAIN])
    plain_lost = table["series"] == PLAIN
    with pytest.raises(ValueError, match="no row has cost_ratio"):
        getattr(view, name)(
            table.assign(
                status=table["status"].mask(plain_lost, "failed"),
                tpot_s=table["tpot_s"].mask(plain_lost),
            )
        )


def test_the_baseline_is_a_black_line_in_each_throughput_figure():
    fig, rows = draw("over_length")
    rows = rows.sort_values("input_tokens")
    (line,) = [one for one in named(fig.axes[0], "series") if one.get_label() == PLAIN]
    own = rows[rows["series"] == PLAIN]["throughput_tok_s"].to_numpy(float)
    np.testing.assert_array_equal(line.get_ydata(), own)
    assert line.get_color() == "black" and len(named(fig.axes[0], "series")) == 5
    fig, rows = draw("over_batch")
    table = TABLES["gpu"].query("sweeps.str.contains('spec_batch')").set_index(["series", "batch"])
    for row in rows[rows["ratio"].notna()].itertuples():
        plain = table.loc[(PLAIN, row.batch), "throughput_tok_s"]
        assert row.ratio == pytest.approx(row.throughput_tok_s / plain)
    assert len(named(fig.axes[0], "series")) == 4 and len(named(fig.axes[0], "level")) == 1
    fig, rows = draw("over_draft_tokens")
    (level,) = named(fig.axes[0], "level")
    plain = rows[rows["series"] == PLAIN]
    assert level.get_ydata()[0] == plain["throughput_tok_s"].iloc[0] and plain[
        "draft_tokens"
    ].tolist() == [0]
    assert (
        len(named(fig.axes[0], "series")) == 4
        and PLAIN in words(fig)
        and fig.axes[0].get_ylim()[0] == 0
    )
    alone = TABLES["gpu"][TABLES["gpu"]["series"] != PLAIN]
    assert not named(view.over_draft_tokens(alone)[0].axes[0], "level")


def test_a_draft_keeps_its_colour_in_all_figures():
    def hues(name):
        return {
            x.get_label(): x.get_color()
            for x in named(draw(name)[0].axes[0], "series")
            if x.get_color() != "black"
        }

    first = hues("over_length")
    assert len(first) == 4 and all(
        hues(name) == first for name in ("over_draft_tokens", "over_batch", "break_even")
    )
    assert [curve.get_color() for curve in curves(draw("speedup")[0].axes[0])] == list(
        first.values()
    )


def test_curves_of_the_speed_up_are_the_formula_and_runs_lie_on_them():
    fig, rows = draw("speedup")
    assert [ax.get_title() for ax in fig.axes] == [
        "1 draft token",
        "2 draft tokens",
        "4 draft tokens",
        "8 draft tokens",
    ]
    curve = curves(fig.axes[2])[1]
    wanted = [
        expected_tokens(a, 4) / t.step_ratio(t.DRAFTS["Qwen3-1.7B"], 4, 16)
        for a in curve.get_xdata()
    ]
    np.testing.assert_allclose(curve.get_ydata(), wanted)
    run = named(fig.axes[2], "run")[1]
    assert run.get_xdata()[0] == 0.7
    assert run.get_ydata()[0] == pytest.approx(expected_tokens(0.7, 4) / t.step_ratio(0.19, 4, 16))
    assert (
        set(rows["acceptance"]) == set(drafts.GRID)
        and named(fig.axes[0], "level")[0].get_ydata()[0] == 1
    )
    (mark,) = named(fig.axes[0], "reached-n-gram")
    assert mark.get_xdata()[0] == pytest.approx(
        np.mean([0.42, 0.3, 0.1])
    ) and "n-gram reached 0.27" in words(fig)
    alone, _ = view.speedup(t.cost())
    assert not named(alone.axes[0], "reached") and len(alone.legends) == 1


def test_break_even_points_and_drafts_that_never_pay():
    fig, rows = draw("break_even")
    line = named(fig.axes[0], "series")[0]
    wanted = [acceptance_for(t.step_ratio(t.DRAFTS["Qwen3-0.6B"], k, 16), k) for k in (1, 2, 4, 8)]
    np.testing.assert_allclose(line.get_ydata(), wanted)
    assert [ax.get_title() for ax in fig.axes] == [
        "batch 16",
        "4 draft tokens",
    ] and view.NEVER not in words(fig)
    dear, rows = view.break_even(t.cost({"a": 0.1, "b": 2.0}))
    assert rows.loc[rows["series"] == "draft b", "never"].all() and view.NEVER in words(dear)
    never = named(dear.axes[0], "never")
    assert [line.get_xdata()[0] for line in never] == [1, 2, 4, 8]
    assert named(fig.axes[1], "level")[0].get_ydata()[0] == 0.7 and not named(
        draw("break_even", "cpu")[0].axes[1], "level"
    )


def test_tokens_per_step_stand_by_text_and_draft():
    fig, rows = draw("acceptance")
    assert [ax.get_title() for ax in fig.axes] == [
        "temperature 0",
        "temperature 0.5",
        "temperature 1",
    ]
    assert [label.get_text() for label in fig.axes[0].get_xticklabels()] == list(t.TEXTS)
    assert {*t.RATES, PLAIN} <= set(words(fig))
    small = named(fig.axes[0], "series")[0]
    own = rows[(rows["series"] == small.get_label()) & (rows["temperature"] == 0)]
    assert len(own) == 3
    np.testing.assert_array_equal(small.get_ydata(), own["tokens_per_step"].astype(float))
    assert named(fig.axes[0], "level")[0].get_ydata()[0] == 1


def test_shares_by_position_are_those_of_the_coldest_runs():
    fig, rows = draw("by_position")
    assert [ax.get_title() for ax in fig.axes] == [f"{text}, temperature 0" for text in t.TEXTS]
    (line,) = [x for x in named(fig.axes[1], "series") if x.get_label() == "n-gram"]
    np.testing.assert_allclose(line.get_ydata(), [0.3, 0.09, 0.027, 0.0081])
    assert list(line.get_xdata()) == [1, 2, 3, 4] and set(rows["temperature"]) == {0.0}
    assert PLAIN not in words(fig)


def test_experts_hit_stand_under_the_formula():
    fig, rows = draw("experts_hit")
    (plain,) = [x for x in named(fig.axes[0], "series") if x.get_label() == PLAIN]
    own = rows[rows["series"] == PLAIN]
    np.testing.assert_allclose(plain.get_ydata(), own["experts_per_step"].astype(float))
    formula = named(fig.axes[0], "predicted")[0]
    np.testing.assert_allclose(formula.get_ydata(), own["formula"])
    assert own["formula"].iloc[0] == pytest.approx(16 * (1 - (7 / 8) ** 8))
    assert "formula, uniform routing" in words(fig)


@pytest.mark.parametrize("name", ["speedup", "experts_hit"])
def test_a_second_drawing_is_the_same_bytes(name):
    first, second = (
        figure_files.render(getattr(view, name)(TABLES["gpu"], width="column")[0], "svg")
        for _ in range(2)
    )
    assert first == second
