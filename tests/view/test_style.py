import re
from io import BytesIO
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import view_tables as t
from matplotlib.figure import Figure
from PIL import Image

from moebook.plot import figure_files, layout, style
from moebook.plot.layout import name_points
from moebook.sections.hyperparameter_scaling import figures


def test_two_saves_give_the_same_bytes_also_from_a_second_drawing(tmp_path):
    for folder in ("a", "b"):
        fig, rows = figures.ffn_scaling(t.tiny_grid(), width="column")
        figure_files.save(fig, rows, tmp_path / folder, "x", width="column")
    figure_files.save(fig, rows, tmp_path / "b", "x", formats=("png", "svg", "pdf"), width="column")
    for suffix in ("pdf", "svg", "png", "csv"):
        assert (tmp_path / "a" / f"x.{suffix}").read_bytes() == (
            tmp_path / "b" / f"x.{suffix}"
        ).read_bytes()
    pdf, svg = ((tmp_path / "a" / f"x.{s}").read_bytes() for s in ("pdf", "svg"))
    assert (
        b"CreationDate" not in pdf
        and b"dc:date" not in svg
        and b"/Type3" not in pdf
        and b"/Type0" in pdf
    )


def test_an_svg_keeps_its_numbers_and_only_shortens_where_they_stand():
    fig = Figure(figsize=(3, 2))
    ax = fig.subplots()
    ax.plot([0.0, 0.123456], [0.0, 1 / 3])
    ax.set(xticks=[0.0625, 0.12345], title="0.98765 < 1.23456")
    svg = figure_files.render(fig, "svg").decode()
    assert all(text in svg for text in (">0.06250<", ">0.12345<", "0.98765 &lt; 1.23456"))
    assert not re.search(r'<path d="[^"]*\d\.\d{3}', svg) and ElementTree.fromstring(
        svg
    ).tag.endswith("svg")


def test_an_svg_has_no_indentation_and_a_png_the_pixels_of_its_dpi():
    fig, _ = figures.ffn_scaling(t.tiny_grid())
    assert b"\n <" not in figure_files.render(fig, "svg")
    widths = {
        dpi: Image.open(BytesIO(figure_files.render(fig, dpi=dpi))).width
        for dpi in (figure_files.PNG_DPI, figure_files.SCREEN_DPI)
    }
    assert widths == {200: 1400, 128: 896}


def test_save_writes_the_rows_beside_the_figure_and_leaves_nothing_else(tmp_path):
    fig, rows = figures.grid_heatmap(t.grid())
    files = figure_files.save(fig, rows, tmp_path / "new", "heat", formats=["svg"], width="page")
    assert files == [tmp_path / "new" / "heat.svg", tmp_path / "new" / "heat.csv"]
    assert sorted((tmp_path / "new").iterdir()) == sorted(files)
    again = pd.read_csv(files[-1])
    assert len(again) == 64 and again["throughput_tok_s"].isna().sum() == 12
    assert again["reason"].value_counts().to_dict() == {"synthetic oom": 12}


def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    fig, rows = figures.ffn_scaling(t.tiny_grid())
    old = figure_files.save(fig, rows, tmp_path, "x", formats=["svg"])[0].read_bytes()
    monkeypatch.setattr(
        figure_files, "render", lambda *_: (_ for _ in ()).throw(RuntimeError("no space"))
    )
    with pytest.raises(RuntimeError):
        figure_files.save(fig, rows, tmp_path, "x", formats=["svg"])
    assert (tmp_path / "x.svg").read_bytes() == old and len(list(tmp_path.iterdir())) == 2


def test_save_refuses_unknown_formats_and_wrong_widths(tmp_path):
    fig, rows = figures.ffn_scaling(t.tiny_grid(), width="column")
    with pytest.raises(ValueError, match=r"\['gif'\]; allowed: pdf, svg, png"):
        figure_files.save(fig, rows, tmp_path, "x", formats=("png", "gif"))
    with pytest.raises(ValueError, match="draw it with width='page'"):
        figure_files.save(fig, rows, tmp_path, "x", width="page")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="'slide'; allowed: column, page"):
        figures.ffn_scaling(t.tiny_grid(), width="slide")


def test_the_style_ends_with_its_context():
    before = dict(mpl.rcParams)
    with style.paper_style("column") as inches:
        assert (
            inches == 3.33 and mpl.rcParams["pdf.fonttype"] == 42 and mpl.rcParams["font.size"] == 8
        )
    figures.ffn_scaling(t.tiny_grid())
    assert dict(mpl.rcParams) == before


def test_log2_axis_has_plain_integers():
    ax = Figure().subplots()
    ax.plot([1, 32], [1, 2])
    style.log2_axis(ax)
    ax.figure.draw_without_rendering()
    assert {"1", "2", "4", "8", "16", "32"} <= {label.get_text() for label in ax.get_xticklabels()}
    style.log2_axis(ax, [1792, 14336])
    assert [label.get_text() for label in ax.get_xticklabels()] == ["1792", "14336"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (950, "950"),
        (1000, "1k"),
        (12500, "12.5k"),
        (3.4e6, "3.4M"),
        (999.9, "1k"),
    ],
)
def test_short_number(value, text):
    assert style.short_number(value) == text


@pytest.mark.parametrize(
    ("value", "figures_", "text"),
    [
        (1.5, 3, "1.50"),
        (12.34, 3, "12.3"),
        (707.4, 3, "707"),
        (2404, 3, "2.40k"),
        (2404, 2, "2.4k"),
        (707.4, 2, "707"),
        (999.7, 3, "1.00k"),
        (123456, 2, "123k"),
        (0.5, 3, "0.500"),
    ],
)
def test_cell_number_keeps_its_figures(value, figures_, text):
    assert style.cell_number(value, figures_) == text


def test_mark_missing_knows_each_status_once():
    ax = Figure().subplots()
    assert style.mark_missing(ax, [], "oom") is None
    lines = [style.mark_missing(ax, [1, 2], status) for status in style.MISSING]
    assert (
        len({line.get_marker() for line in lines}) == len({line.get_label() for line in lines}) == 5
    )
    assert (
        set(lines[0].get_ydata()) == {style.MARK_STEP / 2}
        and lines[0].get_transform() == ax.get_xaxis_transform()
    )
    with pytest.raises(ValueError, match="'lost' of a missing point; known: oom, infeasible"):
        style.mark_missing(ax, [1], "lost")


def test_missing_points_stand_in_a_band_under_the_scale():
    for log in (False, True):
        ax = Figure().subplots()
        style.value_axis([ax], 1.0, 10.0, log=log, marks=2)
        to_axes = ax.transData + ax.transAxes.inverted()
        assert to_axes.transform((0, 1.0))[1] >= 2 * style.MARK_STEP - 1e-9
        (band,) = [patch for patch in ax.patches if patch.get_gid() == "foot"]
        assert band.get_height() == 2 * style.MARK_STEP
        assert log or min(ax.get_yticks()) >= 1.0


def test_no_two_of_twenty_series_share_colour_and_marker():
    looks = list(zip(style.colours(20), style.markers(20), strict=True))
    assert len(set(looks)) == 20


def test_names_hide_neither_points_nor_one_another():
    fig = Figure(figsize=(3, 2))
    ax = fig.subplots()
    points = [(1.0, 1.0), (1.1, 1.1), (2.0, 1.0), (2.0, 1.2)]
    ax.plot(*zip(*points, strict=True), "o", markersize=4)
    ax.set(xlim=(0.5, 2.5), ylim=(0.5, 1.7))
    name_points(ax, points, ["first", "second", "third", "fourth"])
    boxes = [text.get_window_extent() for text in ax.texts]
    assert [text.get_text() for text in ax.texts] == ["first", "second", "third", "fourth"]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    at = ax.transData.transform(points)
    assert not any(box.contains(*point) for box in boxes for point in at)


def test_series_differ_in_colour_and_marker():
    for count in (1, 6, 7, 10):
        assert len(set(style.colours(count))) == len(set(style.markers(count))) == count


def test_error_bars_are_distances_and_never_negative():
    rows = pd.DataFrame({"e2e_s": [2.0, None], "e2e_s_lo": [1.5, None], "e2e_s_hi": [2.2, None]})
    np.testing.assert_allclose(style.error_bars(rows, "e2e_s"), [[0.5, 0], [0.2, 0]])
    assert style.error_bars(rows, "ttft_s") is None


SAYS = "reference results of moebook: NVIDIA H200, vllm 0.26.0"


@pytest.mark.parametrize("width", ["page", "column"])
@pytest.mark.parametrize("text", [SAYS, "; ".join([SAYS] * 3)])
def test_a_footer_takes_its_room_from_the_panels(width, text):
    fig, _ = figures.ffn_scaling(t.grid(), width=width)
    size, before = tuple(fig.get_size_inches()), fig.axes[0].get_position()
    layout.footer(fig, text)
    line = next(text for text in fig.texts if text.get_gid() == "footer")
    box = line.get_window_extent()
    assert tuple(fig.get_size_inches()) == size
    assert fig.axes[0].get_position().height < before.height
    assert line.get_text().split() == text.split() and 5.5 <= line.get_fontsize() <= 6
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= fig.bbox.width
    drawn = [fig._supxlabel, *(ax.title for ax in fig.axes)]
    assert all(other.get_window_extent().y0 > box.y1 for other in drawn)
    assert all(ax.get_tightbbox().y0 > box.y1 for ax in fig.axes)
    assert all(
        legend.get_window_extent().y0 >= max(ax.get_tightbbox().y1 for ax in fig.axes) - 1
        for legend in fig.legends
    )


def test_one_line_of_footer_on_a_page_and_more_where_it_is_long():
    counts = {}
    for width, times in (("page", 1), ("column", 1), ("column", 3)):
        fig, _ = figures.ffn_scaling(t.grid(), width=width)
        layout.footer(fig, "; ".join([SAYS] * times))
        counts[width, times] = fig.texts[-1].get_text().count("\n") + 1
    assert counts["page", 1] == counts["column", 1] == 1 and counts["column", 3] > 1


def test_without_words_there_is_no_footer_and_with_them_the_bytes_come_again():
    fig, _ = figures.ffn_scaling(t.grid())
    before = figure_files.render(fig, "svg")
    layout.footer(fig, "")
    assert figure_files.render(fig, "svg") == before
    drawn = []
    for _ in range(2):
        fig, _ = figures.ffn_scaling(t.grid())
        layout.footer(fig, SAYS)
        drawn.append(figure_files.render(fig, "svg"))
    assert drawn[0] == drawn[1] != before and SAYS.encode() in drawn[0]
