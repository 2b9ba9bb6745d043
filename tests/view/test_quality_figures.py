"""Figures of quality in sections 2 and 3: what is drawn is the table's, nothing is clipped, what is
missing is marked."""

from functools import cache

import looks
import numpy as np
import pandas as pd
import pytest
import quality_tables as q
import section_tables as t

from moebook.plot import figure_files, quality, style
from moebook.sections.pruning import figures as pruning
from moebook.sections.pruning.figures import CRITERION_LOOKS
from moebook.sections.quantization import figures

ONE = {key: values for key, values in q.INCREASES.items() if key[1] == 50}
LARGE = {key: tuple(9 * v for v in values) for key, values in q.INCREASES.items()}
HOLES = {**q.INCREASES, ("intra", 25): (33.0, None, 12.0, -5.0)}
TABLES = {
    "two ratios": q.pruning(),
    "one ratio": q.pruning(t.MODELS[1:2], increases=ONE),
    "large": q.pruning(t.MODELS[1:2], increases=LARGE),
    "holes": q.pruning(increases=HOLES),
}
DRAWN = [(pruning, name, table) for name in ("quality", "quality_and_speed") for table in TABLES]
TABLES |= {
    "formats": q.formats(),
    "few formats": q.formats({"bf16": 0.0, "fp8": None, "fp8 per channel": -0.4}),
}
DRAWN += [(figures, "quality_and_speed", table) for table in ("formats", "few formats")]
IDS = [f"{module.__name__.split('.')[-1]}-{name}-{table}" for module, name, table in DRAWN]


@cache
def draw(module, name, table, width="page"):
    return getattr(module, name)(TABLES[table], width=width)


def named(ax, gid):
    return [line for line in ax.lines if str(line.get_gid()).startswith(gid)]


def words(fig):
    return [text.get_text() for legend in fig.legends for text in legend.get_texts()]


def lines_of(ax):
    return {line.get_label(): line for line in named(ax, "points")}


def points(ax, gid="points"):
    return {line.get_label(): (line.get_xdata(), line.get_ydata()) for line in named(ax, gid)}


@pytest.mark.parametrize("width", ["column", "page"])
@pytest.mark.parametrize(("module", "name", "table"), DRAWN, ids=IDS)
def test_width_units_and_nothing_clipped(module, name, table, width):
    before = TABLES[table].copy()
    fig, rows = draw(module, name, table, width)
    pd.testing.assert_frame_equal(before, TABLES[table])
    looks.assert_readable(fig, rows, width)


@pytest.mark.parametrize("width", ["column", "page"])
@pytest.mark.parametrize(("module", "name", "table"), DRAWN, ids=IDS)
def test_numbers_are_within_the_axes(module, name, table, width):
    fig, _ = draw(module, name, table, width)
    for ax in fig.axes:
        for x, y in points(ax).values():
            assert (ax.get_xlim()[0] < x).all() and (x < ax.get_xlim()[1]).all()
            assert (ax.get_ylim()[0] < y).all() and (y < ax.get_ylim()[1]).all()


def test_a_panel_per_kind_a_mark_per_criterion_and_random_in_grey():
    fig, rows = draw(pruning, "quality", "two ratios")
    assert [ax.get_title() for ax in fig.axes] == ["inter-expert", "intra-expert"] and len(
        rows
    ) == 16
    for ax, kind in zip(fig.axes, ("inter", "intra"), strict=True):
        for i, (_, y) in enumerate(points(ax).values()):
            np.testing.assert_allclose(y, [q.INCREASES[kind, r][i] for r in (25, 50)])
        assert [text.get_text() for text in ax.get_xticklabels()] == ["25 %", "50 %"] and len(
            named(ax, "level")
        ) == 1
    assert named(fig.axes[0], "points")[0].get_color() == style.GREY
    assert words(fig)[:5] == [
        "random choice",
        "weight norm",
        "activation frequency",
        "routed activation",
        "whole model",
    ]
    assert quality.PARTS in words(fig)


def test_criteria_stand_side_by_side_at_a_single_ratio():
    fig, _ = draw(pruning, "quality", "one ratio")
    xs = [x.item() for x, _ in points(fig.axes[0]).values()]
    assert (
        len(set(np.round(np.diff(xs), 6))) == 1
        and np.mean(xs) == pytest.approx(0)
        and min(np.diff(xs)) > 0.1
    )


def test_small_increases_are_linear_and_large_ones_are_not():
    small = q.pruning(increases={("inter", 25): (9.0, 4.0, 3.0, -1.0)})
    assert pruning.quality(small)[0].axes[0].get_yscale() == "linear"
    ax = draw(pruning, "quality", "large")[0].axes[0]
    assert ax.get_yscale() == "function" and 0 in ax.get_yticks() and max(ax.get_yticks()) >= 500
    noise = q.pruning(increases={("inter", 25): (0.02, 0.01, 0.0, -0.01)})
    assert np.ptp(pruning.quality(noise)[0].axes[0].get_ylim()) >= quality.LEAST_SPAN


def test_a_missing_criterion_is_marked_where_it_would_stand():
    fig, rows = draw(pruning, "quality", "holes")
    marks = [line for line in fig.axes[1].lines if line.get_label() == "failed"]
    assert (
        len(marks) == 1 and "failed" in words(fig) and rows["status"].value_counts()["failed"] == 1
    )
    assert marks[0].get_color() == CRITERION_LOOKS["norm"][0]
    assert [len(y) for _, y in points(fig.axes[1]).values()] == [2, 1, 2, 2]
    speed, _ = draw(pruning, "quality_and_speed", "holes")
    assert "failed" in words(speed) and [
        line for line in speed.axes[2].lines if line.get_label() == "failed"
    ]


def test_the_gain_is_that_of_the_models_of_the_sweep_at_the_same_kind_and_ratio():
    fig, rows = draw(pruning, "quality_and_speed", "two ratios")
    assert [ax.get_title() for ax in fig.axes] == [
        f"{kind}, {m}" for kind in ("inter-expert", "intra-expert") for m in t.MODELS[1:3]
    ]
    assert fig._supylabel.get_text() == "perplexity increase of\nthe trained tiny model (%)"
    mean = np.mean([100 * (1.25 * 1.02**k - 1) for k in (1, 2, 4, 6, 8)])
    x, y = points(fig.axes[2])["intra 50 %, norm"]
    assert (x.item(), y.item()) == pytest.approx((mean, 38.0)) and len(rows) == 32
    x, y = points(fig.axes[0])["inter 25 %, random"]
    assert (x.item(), y.item()) == pytest.approx((6.25, 21.0))
    whole = named(fig.axes[0], "whole")[0]
    assert (whole.get_xdata()[0], whole.get_ydata()[0]) == (0, 0)


def test_more_pruned_is_larger_and_a_criterion_keeps_its_colour():
    fig, _ = draw(pruning, "quality_and_speed", "two ratios")
    look = {k: v for ax in fig.axes[::2] for k, v in lines_of(ax).items()}
    assert look["inter 25 %, norm"].get_markersize() < look["inter 50 %, norm"].get_markersize()
    assert look["inter 25 %, norm"].get_color() == look["intra 50 %, norm"].get_color()
    assert {"25 % pruned", "50 %", "better", "whole model"} <= set(words(fig))
    assert "50 % pruned" not in words(draw(pruning, "quality_and_speed", "one ratio")[0])


def test_a_ratio_without_speed_stays_in_the_rows_only():
    _, rows = pruning.quality_and_speed(
        q.pruning(increases={("inter", 40): (9.0, 4.0, 3.0, 1.0), **q.INCREASES})
    )
    gone = rows[rows["ratio_pct"] == 40]
    assert len(gone) == 8 and gone["gain_pct"].isna().all() and gone["increase_pct"].notna().all()
    with pytest.raises(ValueError, match="quality_and_speed: no row has increase_pct and gain_pct"):
        pruning.quality_and_speed(q.pruning(increases={("inter", 40): (9.0, 4.0, 3.0, 1.0)}))


def test_formats_are_drawn_over_the_first_with_its_speed_at_the_largest_batch():
    fig, rows = draw(figures, "quality_and_speed", "formats")
    found = points(fig.axes[0])
    assert {name: tuple(v.item() for v in xy) for name, xy in found.items()} == {
        name: pytest.approx((100 * (t.LADDER_OF_FORMATS[name] - 1), q.FORMATS[name]), abs=1e-9)
        for name in q.FORMATS
        if name not in ("int8 experts", "int4 weights")
    }
    assert (
        fig._supxlabel.get_text() == f"throughput gain of {t.MODELS[0]}\nover bf16 at batch 64 (%)"
    )
    assert {"int8 experts: no throughput", "int4 weights: failed", "better"} <= set(words(fig))
    (mark,) = [line for line in fig.axes[0].lines if line.get_label() == "failed"]
    assert mark.get_xdata() == pytest.approx([-30.0]) and len(rows) == 8


def test_formats_are_named_beside_their_marks_and_noise_stays_small():
    fig, rows = draw(figures, "quality_and_speed", "formats")
    drawn = rows.dropna(subset=["increase_pct", "gain_pct"]).query("status == 'ok'")
    assert {text.get_text() for text in fig.axes[0].texts} == set(drawn["series"])
    alike = q.formats({"bf16": 0.0, "fp8": 0.01, "fp8 per channel": 0.02})
    small, _ = figures.quality_and_speed(alike)
    assert np.ptp(small.axes[0].get_ylim()) < 0.5


@pytest.mark.parametrize(
    ("module", "table", "name"),
    [
        (pruning, "two ratios", "quality"),
        (pruning, "two ratios", "quality_and_speed"),
        (figures, "formats", "quality_and_speed"),
    ],
)
def test_what_is_missing_is_named(module, table, name):
    function, whole = getattr(module, name), TABLES[table]
    with pytest.raises(
        ValueError, match=rf"{name} needs sweep '\w+', of which .* no row; .*: other"
    ):
        function(whole.assign(sweeps="other"))
    with pytest.raises(
        ValueError, match=rf"{name} needs sweep '\w+'; columns missing from the table: "
    ):
        function(whole[["sweeps", "status"]])
    gone = whole.assign(
        status=whole["status"].mask(whole["sweeps"] == "quality", "oom"), reason="too large"
    )
    with pytest.raises(
        ValueError,
        match=rf"{name}: no (row has increase_pct .*16 oom|format has a perplexity: too large)",
    ):
        function(gone)


def test_a_second_drawing_is_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        fig, rows = pruning.quality_and_speed(TABLES["two ratios"], width="column")
        figure_files.save(fig, rows, tmp_path / folder, "x", formats=("svg",), width="column")
    for suffix in ("svg", "csv"):
        assert (tmp_path / "a" / f"x.{suffix}").read_bytes() == (
            tmp_path / "b" / f"x.{suffix}"
        ).read_bytes()
