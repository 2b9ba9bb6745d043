"""Energy as a figure and in words, of the shipped points and of none."""

import matplotlib.pyplot as plt
import pytest
import shipped

from moebook.plot.shared import energy as drawn
from moebook.results.commentary import energy, predicted_vs_measured, price


@pytest.fixture(scope="module")
def table():
    return shipped.results("h200", "02_quantization").shown


def rows_of(table, series):
    rows = table[(table["method"] == "energy") & (table["status"] == "ok")]
    return rows[rows["series"] == series].set_index("batch").sort_index()


def test_a_line_per_format_with_its_batches_and_both_energies(table):
    fig, rows = drawn(table)
    (ax,) = fig.axes
    named = [line for line in ax.lines if not line.get_label().startswith("_")]
    assert [line.get_label() for line in named] == ["bf16", "fp8"]
    assert {line.get_gid() for line in ax.lines} == {None, "points-sampled"}
    assert sorted(text.get_text() for text in ax.texts) == sorted(2 * ["B 1", "B 16", "B 64"])
    assert (rows["energy_per_output_token_j"] > rows["energy_net_per_output_token_j"]).all()
    assert len(rows) == 6 and (ax.get_xscale(), ax.get_yscale()) == ("log", "log")
    plt.close(fig)


def test_what_a_format_saves_is_told_with_the_time_it_saves(table):
    text = energy(table)
    base, other = rows_of(table, "bf16"), rows_of(table, "fp8")
    column = "energy_per_output_token_j"
    saved = 100 * (other[column] / base[column] - 1)
    assert f"fp8 over bf16 at batch 64: energy {saved[64]:+.0f} %" in text
    assert f"fp8 over bf16 at batch 1: energy {saved[1]:+.0f} %" in text
    assert "energy is saved by time alone" in text.split("\n\n")[0]
    assert "the mean power changes by -17 %" in text.split("\n\n")[1]


def test_a_price_is_of_throughput_and_of_none_without_one(table):
    dear = rows_of(table, "bf16").loc[1]
    assert f"{1e6 * 3 / 3600 / dear['throughput_tok_s']:.3g} (Mixtral-8x7B-v0.1 bf16, batch 1)" in (
        price(table, 3.0)
    )
    assert price(table) == ""


def test_a_plan_without_points_of_energy_says_so(table):
    without = table[table["method"] != "energy"]
    assert energy(without) == price(without, 3.0) == "Not part of this plan: sweep `energy`."
    with pytest.raises(ValueError, match="energy"):
        drawn(without)


def test_one_value_is_no_range():
    table = shipped.results("h200", "09_model_comparison").shown
    text = energy(table[table["model"] == "OLMoE-1B-7B-0125"])
    assert "takes 700 W while decoding" in text and "0.123 J (OLMoE-1B-7B-0125 bf16)." in text


def test_one_point_has_no_percentiles():
    own = shipped.results("h100", "09_model_comparison").shown
    text = predicted_vs_measured(own)
    assert "One point predicted" in text and text.count("percentile") == 1
