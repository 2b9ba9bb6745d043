"""Figures and readings of section 8: every number says whether it was measured, served or computed,
on which device."""

import re
import sys
from functools import cache
from pathlib import Path

import looks
import pytest
import shipped
from matplotlib.figure import Figure

sys.path.insert(0, str(Path(__file__).parents[1] / "analysis"))
import accelerator_tables as t  # noqa: E402

from moebook.sections.accelerator_comparison import commentary as readings  # noqa: E402
from moebook.sections.accelerator_comparison import figures as view  # noqa: E402

FIGURES = {
    "ceilings": view.peaks,
    "common": view.common,
    "against_ceiling": view.share_of_peaks,
    "fig16_latency": view.latency,
    "fig16_throughput": view.throughput,
    "reference": view.reference,
}
READINGS = (
    "headline",
    "peaks",
    "common",
    "share_of_peaks",
    "latency",
    "throughput",
    "rooflines",
    "reference",
    "knees",
)
LABEL = "CS-3, FP8"
MADE: dict = {}  # what the fixture made, for figures that several tests look at


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    def made(name, *given, **more):
        return t.results(*given[:1], tmp_path_factory.mktemp(name), *given[1:], **more).shown

    MADE.update(
        {
            "h100": made("h100", "h100", ("cpu", "h200"), knee=1024, endpoint=LABEL),
            "cpu": made("cpu", "cpu", ("h100", "h200")),
            "alone": made("alone", "cpu", rooflines=()),
        }
    )
    return MADE


@cache
def page(name: str, table: str) -> tuple[Figure, object]:
    return FIGURES[name](MADE[table], width="page")


def words(fig: Figure) -> list[str]:
    return [text.get_text() for legend in fig.legends for text in legend.get_texts()]


def drawn(ax, gid: str) -> list:
    return [line for line in ax.lines if str(line.get_gid()).startswith(gid)]


def test_every_figure_of_the_section_is_drawn_here():
    assert {f.name: f for f in t.SECTION.figures.values()} == FIGURES


@pytest.mark.parametrize("width", ["column", "page"])
@pytest.mark.parametrize("table", ["h100", "cpu"])
@pytest.mark.parametrize("name", FIGURES)
def test_width_units_and_nothing_clipped_or_touching(tables, name, table, width):
    before = tables[table].copy()
    fig, rows = page(name, table) if width == "page" else FIGURES[name](tables[table], width=width)
    assert before.equals(tables[table])
    looks.assert_readable(fig, rows, width)


def test_an_endpoints_line_of_fig_16_says_so_and_marks_say_how_the_others_were_measured(tables):
    fig, rows = page("fig16_latency", "h100")
    lines = [word for word in words(fig) if ", " in word and "input" not in word]
    known = {"H100, int4 weights", "H200, int4 weights", "H200, fp8", f"{LABEL}, endpoint"}
    assert known <= set(lines) and not any("measured" in line for line in lines)
    assert {"measured", "sampled"} & set(words(fig))


def test_latency_and_throughput_show_the_tables_numbers(tables):
    table = tables["h100"]
    for name, metric in (("fig16_latency", "e2e_s"), ("fig16_throughput", "throughput_tok_s")):
        fig, _ = page(name, "h100")
        own = table[
            (table["device_label"] == "H200")
            & (table["series"] == "fp8")
            & (table["batch"] == 1)
            & (table["source_kind"] == "measured")
            & (table["sweeps"] == "scout")
        ].sort_values("input_tokens")
        line = next(x for x in drawn(fig.axes[0], "series") if x.get_label() == "H200, fp8")
        assert line.get_ydata().tolist() == own[metric].tolist()


def test_a_device_keeps_its_colour(tables):
    def colour(fig, label):
        return next(
            x.get_color()
            for ax in fig.axes
            for x in drawn(ax, "series")
            if x.get_label().startswith(label)
        )

    figures = [
        page("common", "h100")[0],
        page("fig16_latency", "h100")[0],
        page("common", "cpu")[0],
    ]
    assert len({colour(fig, "H200") for fig in figures}) == 1
    assert colour(figures[0], "H200") != colour(figures[0], "H100")


def test_common_has_each_device_at_its_own_points(tables):
    fig, rows = page("common", "h100")
    assert set(rows["batch"]) == {1, 16}
    lengths = {line.get_label(): line.get_xdata().tolist() for line in drawn(fig.axes[0], "series")}
    assert lengths == {
        "H100": [16, 32, 64, 128, 256, 512, 1024],
        "H200": [16, 32, 64, 128, 256, 512, 1024],
    }, "a CPU is not on the axes of GPUs"


def test_shares_of_the_ceilings_are_floor_over_measured(tables):
    _, rows = page("against_ceiling", "h100")
    assert rows["share_pct"].between(0, 100 * t.EFFICIENCY + 1.5).all()  # as planted
    one = tables["h100"].iloc[0]
    told = rows[
        (rows["panel"] == "decode, batch 1")
        & (rows["input_tokens"] == 16)
        & (rows["device"] == one["device"])
    ]
    assert told["share_pct"].iloc[0] == pytest.approx(100 * one["floor_tpot_s"] / one["tpot_s"])


def test_ceilings_stand_beside_what_is_published(tables):
    _, rows = page("ceilings", "h100")
    rows = rows.set_index("device_label")
    assert (
        rows.loc["H100", "copy_bytes_per_s"]
        == t.RATES["h100"][0]
        < rows.loc["H100", "published_bytes_per_s"]
        == 3.35e12
    )
    assert "CPU" not in rows.index and rows["copy_bytes_per_s"].notna().all()
    of_cpu = page("ceilings", "cpu")[1].set_index("device_label").loc[["CPU"]]
    assert of_cpu[["published_bytes_per_s", "published_flops_per_s"]].isna().all(axis=None)


def test_other_profiles_models_stay_out_of_fig_16(tables):
    assert "tiny-mixtral" not in set(page("fig16_latency", "h100")[1]["model"])
    assert set(page("fig16_latency", "cpu")[1]["model"]) == {"tiny-mixtral"}


def test_a_figure_without_rows_says_what_is_missing(tables):
    with pytest.raises(ValueError, match="sweep 'reference', of which the table has no row"):
        view.reference(tables["alone"])
    with pytest.raises(ValueError, match="columns missing from the table: device_label"):
        view.latency(tables["alone"].drop(columns="device_label"))
    unmeasured = tables["alone"].assign(status="not_run")
    for figure in (view.common, view.latency):
        with pytest.raises(ValueError):
            figure(unmeasured)


@pytest.mark.parametrize("reading", READINGS)
@pytest.mark.parametrize("table", ["h100", "cpu", "alone"])
def test_readings_are_sentences(tables, reading, table):
    text = getattr(readings, reading)(tables[table])
    assert text.strip().endswith((".", "|"))
    assert "nan" not in text.lower() and "None" not in text


def test_readings_tell_the_tables_numbers(tables):
    table = tables["h100"]
    assert "1,024 tokens" in readings.headline(
        table
    ) and f"{LABEL} (endpoint)" in readings.headline(table)
    assert f"| 3 ({100 * 3e12 / 3.35e12:.0f} % of the published) |" in readings.peaks(table)
    assert "H100, fp8: oom (needs 110.1 GB" in readings.latency(table)
    assert re.search(r"H100 over CPU, .*\(3 points\)", readings.common(table))
    scout = table[(table["series"] == "int4 weights") & (table["source_kind"] == "measured")]
    wide = scout.pivot_table(
        index=["batch", "input_tokens"], columns="device_label", values="throughput_tok_s"
    )
    least = (wide["H200"] / wide["H100"]).min()
    both = "H200 over H100, Llama-4-Scout-17B-16E-Instruct in int4 weights"
    assert f"{both}: {least:.3g} to " in readings.throughput(table)
    assert "CS-3 ×3" in readings.rooflines(table)


def test_readings_say_what_is_not_there(tables):
    assert "No endpoint is set" in readings.headline(tables["cpu"])
    assert readings.rooflines(tables["alone"]) == "No roofline is drawn."
    assert readings.common(tables["alone"]).endswith("was measured on two devices.")
    assert readings.latency(
        tables["alone"].assign(status="not_run", reason="not measured yet")
    ).startswith("Nothing")


@pytest.mark.parametrize("name", ["latency", "throughput", "share_of_peaks", "reference"])
def test_lines_are_told_apart_in_grey(name):
    fig, _ = getattr(view, name)(shipped.results("h200", "08_accelerator_comparison").shown)
    named = [
        handle.get_marker()
        for legend in fig.legends
        for handle, text in zip(legend.legend_handles, legend.get_texts(), strict=True)
        if text.get_text().startswith(("H100", "H200"))
    ]
    assert len(named) > 1 and len(set(named)) == len(named)
