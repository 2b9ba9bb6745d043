"""Figures and prose of section 9: what is drawn and said is what the table has, missing and imposed
things included."""

import re
from functools import cache

import looks
import numpy as np
import pandas as pd
import pytest
from model_tables import LLMS, VLMS, everything, imposing, models, small, vision

from moebook import sections
from moebook.sections.model_comparison import commentary as r
from moebook.sections.model_comparison import figures as view
from moebook.sections.model_comparison.enrich import accuracy_rows

TABLES = {"gpu": everything(), "cpu": small()}
LATENCY, ACCURACY = ("llms", "vlms"), ("llm_accuracy", "vlm_accuracy")
DRAWN = [(n, d) for n in (*LATENCY, *ACCURACY) for d in TABLES if d == "gpu" or n in LATENCY]
READINGS = [
    ("llms",),
    ("vlms",),
    ("imposing",),
    ("headline",),
    ("sources",),
    ("llm_accuracy",),
    ("vlm_accuracy",),
]


@cache
def draw(name, device="gpu", width="page"):
    return getattr(view, name)(TABLES[device], width=width)


def named(ax, gid):
    return [line for line in ax.lines if line.get_gid() == gid]


def words(fig):
    return [text.get_text() for legend in fig.legends for text in legend.get_texts()]


def test_every_figure_of_the_section_is_drawn_here_or_elsewhere():
    assert sorted(sections.find("09").figures) == [
        "energy",
        "fig01_parameter_breakdown",
        "fig03_llms",
        "fig04_vlms",
        "fig17_llms",
        "fig18_vlms",
        "predicted_vs_measured",
    ]


@pytest.mark.parametrize("width", ["column", "page"])
@pytest.mark.parametrize(("name", "device"), DRAWN)
def test_width_units_and_nothing_clipped_or_touching(name, device, width):
    before = TABLES[device].copy()
    fig, rows = draw(name, device, width)
    pd.testing.assert_frame_equal(before, TABLES[device])
    looks.assert_readable(fig, rows, width)


def test_bars_are_the_measured_latencies_and_hatched_where_routing_is_imposed():
    fig, rows = draw("llms")
    ok = rows[rows["status"] == "ok"]
    assert [ax.get_xlabel().split(" (")[0] for ax in fig.axes] == [
        "time to first token",
        "time per output token",
        "end-to-end latency",
    ]
    for ax, metric in zip(fig.axes, view.LATENCIES, strict=True):
        bars = sorted(ax.patches, key=lambda bar: bar.get_width())
        np.testing.assert_allclose([b.get_width() for b in bars], sorted(ok[metric]))
        hatched = {round(b.get_width(), 9) for b in ax.patches if b.get_hatch()}
        assert hatched == {round(v, 9) for v in ok.loc[ok["model"] == "DeepSeek-V2-Lite", metric]}
        assert sorted(v for line in named(ax, "floor") for v in line.get_xdata()) == sorted(
            ok[f"floor_{metric}"]
        )
        assert sorted(v for line in named(ax, "predicted") for v in line.get_xdata()) == sorted(
            ok[f"predicted_{metric}"]
        )
    assert [t.get_text() for t in fig.axes[0].get_yticklabels()] == list(LLMS)


def test_what_does_not_fit_is_a_mark_and_a_word():
    fig, _ = draw("llms")
    assert all(sum(len(line.get_xdata()) for line in named(ax, "missing")) == 2 for ax in fig.axes)
    assert {
        "bf16",
        "fp8",
        "out of memory",
        "extrapolated",
        "sampled",
        "physical limit",
        "predicted",
        "routing imposed as uniform",
    } == set(words(fig))
    plain = words(draw("vlms")[0])
    assert "out of memory" not in plain and "bf16" in plain
    assert {"physical limit", "prediction"} & set(words(draw("llms", "cpu")[0])) == set()


def test_two_rows_of_one_model_and_format_are_refused():
    with pytest.raises(ValueError, match=r"llms\|newer: 2 rows share one place"):
        view.llms(pd.concat([models(), models().assign(key="again")], ignore_index=True))


SPEEDS = (("throughput_tok_s", False), ("e2e_s", True))


@pytest.mark.parametrize(
    ("name", "formats"),
    [
        ("llm_accuracy", {"zero-shot": ["fp8"], "chat": ["fp8"], "mmlu": ["fp8"]}),
        ("vlm_accuracy", {"vision": ["bf16"]}),
    ],
)
def test_points_and_fronts_against_accuracy(name, formats):
    fig, rows = draw(name)
    assert rows.groupby("suite")["series"].unique().map(list).to_dict() == formats
    panels = iter(fig.axes)
    for metric, rising in SPEEDS:
        limits = []
        for _, own in rows.groupby("suite", sort=False):
            ax = next(panels)
            limits.append(ax.get_ylim())
            assert own["tasks"].iloc[0] == ax.get_title().split("\n", 1)[1].replace("\n", " ")
            (line,) = named(ax, "front")
            steps = np.diff(line.get_ydata())
            assert (steps > 0).all() if rising else (steps < 0).all()
            assert set(line.get_ydata()) <= set(own[metric])
            assert (np.diff(line.get_xdata()) > 0).all()
            assert len([t for t in ax.texts if t.get_gid() == "name"]) == len(own)
        assert len(set(limits)) == 1, "suites of one metric share their scale"
    assert next(panels, None) is None


def test_a_model_beaten_in_both_is_not_on_the_front():
    fig, rows = draw("llm_accuracy")
    four = rows[rows["suite"] == "zero-shot"]
    best = four.loc[four["model"] != "Qwen1.5-MoE-A2.7B", "accuracy_pct"]
    assert set(named(fig.axes[0], "front")[0].get_xdata()) == set(best)


@pytest.mark.parametrize("name", ACCURACY)
def test_without_accuracies_the_figure_says_what_adds_them(name):
    with pytest.raises(ValueError, match="`accuracy_file` adds measured ones"):
        getattr(view, name)(TABLES["cpu"])
    other, sweep = (vision(), r"llms\|newer") if name == "llm_accuracy" else (models(), "vlms")
    with pytest.raises(ValueError, match=f"needs sweep '{sweep}', of which the table has no row"):
        getattr(view, name)(other)


def test_the_fastest_and_its_lead_are_told_format_by_format():
    text = r.headline(TABLES["gpu"].assign(routing="uniform"))
    assert (
        "in bf16 OLMoE-1B-7B-0125 is fastest" in text
        and "(4 models)" in text
        and "(6 models)" in text
    )
    assert (
        text.count("+82 % over DeepSeek-V2-Lite") == 2 and "5.0 times Phi-3.5-MoE-instruct" in text
    )


def test_models_that_are_not_routed_alike_have_no_fastest():
    table = TABLES["gpu"]
    text, labels = r.headline(table), [one.label for one in r.numbers(table)]
    assert text.count("not routed alike, so they do not compare") == 1 and "fastest" not in text
    assert len(labels) == 2 and all("not routed alike" in label for label in labels)


def test_latencies_run_from_the_least_to_the_largest_and_what_lacks_is_told():
    text = r.llms(models())
    assert "| fp8 | TTFT | 54.6 ms (OLMoE-1B-7B-0125) | 0.273 s (Phi-3.5-MoE-instruct) |" in text
    assert (
        "Not measured: Mixtral-8x7B-v0.1 in bf16, Phi-3.5-MoE-instruct in bf16: oom (synthetic "
        "oom)." in text
    )
    assert text.endswith("Routing is imposed as uniform on DeepSeek-V2-Lite.")


def test_a_model_under_its_floor_is_no_measure():
    table = models()
    qwen = (table["model"] == "Qwen3-30B-A3B") & (table["series"] == "fp8")
    table = table.assign(floor_tpot_s=table["floor_tpot_s"].mask(qwen, 2 * table["tpot_s"]))
    for text in (r.llms(table), r.llm_accuracy(table)):
        assert text.endswith("no measure of the model: Qwen3-30B-A3B in fp8.")
    assert "Faster than its physical limit" not in r.llms(models())
    fig, rows = view.llm_accuracy(table)
    for ax, (_, own) in zip(fig.axes, [*rows.groupby("suite", sort=False)] * 2, strict=True):
        under = own.loc[own["model"] == "Qwen3-30B-A3B", "accuracy_pct"]
        assert not set(under) & set(named(ax, "front")[0].get_xdata())
        told = [t.get_text() for t in ax.texts if t.get_gid() != "name"]
        assert told == ["under its limit"] * len(under)


def test_samples_a_second_are_batch_over_latency():
    table = vision()
    rate = 64 / table["e2e_s"].iloc[0]
    assert f"second: {VLMS[0]} {rate:.3g}," in r.vlms(table) and "2048 tokens in" in r.vlms(table)


def test_what_imposing_costs():
    assert "E2E +3.1 %. This" in r.imposing(imposing(1 / 1.031))
    assert "E2E +1.0 % (the intervals of both overlap)." in r.imposing(imposing(1 / 1.01))
    assert r.imposing(models()) == "Not part of this plan: sweep `imposing`."
    gone = imposing(1.0).assign(status="not_run")
    assert r.imposing(gone) == "What imposing a routing costs is not measured."


def test_who_stands_on_the_front_is_said_with_tasks_format_and_caution():
    text = r.llm_accuracy(models())
    tasks = "ARC-c, ARC-e, BoolQ, HellaSwag, WinoGrande"
    row = next(line for line in text.splitlines() if tasks in line)
    assert row.startswith(f"| zero-shot, published ({tasks}) | fp8 |")
    assert row.endswith("| Qwen1.5-MoE-A2.7B |"), "the one that is beaten in both"
    suites = accuracy_rows(models()).query("not alike")["title"].unique()
    assert f"no difference: {', '.join(suites)}." in text and len(suites) == 2
    assert "No accuracy is known of tiny-mixtral" in r.llm_accuracy(small())


def test_sources_name_each_report_and_what_was_not_found():
    text = r.sources(TABLES["gpu"])
    assert (
        text.startswith("Accuracies were read in ")
        and "arXiv 2401.04088" in text
        and "(Phi-3.5-MoE-instruct)" in text
    )
    assert "OLMoE-1B-7B-0125: no zero-shot values" in text
    assert "Nothing is published" in r.sources(small())


@pytest.mark.parametrize("reading", READINGS)
def test_partly_measured_tables_are_read_without_holes(reading):
    name, *arguments = reading
    table = TABLES["gpu"]
    rng = np.random.default_rng(0)
    for share in (0.2, 0.5, 0.8, 1.0):
        for _ in range(6):
            gone = (rng.random(len(table)) < share) & (table["status"] == "ok").to_numpy()
            lost = {
                c: table[c].where(~gone)
                for c in table
                if c.startswith(("throughput", "ttft", "tpot", "e2e"))
            }
            part = table.assign(
                **lost,
                status=table["status"].mask(gone, "not_run"),
                reason=table["reason"].astype(object).mask(gone, "not measured yet"),
            )
            text = getattr(r, name)(part, *arguments)
            assert text and not re.search(r"\bnan\b|NaT|None|<NA>|: ;|\(\)", text), text
