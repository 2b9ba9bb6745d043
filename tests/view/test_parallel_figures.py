"""Section 5's figures and prose: what is drawn are the planted numbers, and what was composed is
never drawn as run."""

import inspect
import random
import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import shipped

from moebook import sections
from moebook.predict.communication import Links
from moebook.sections.parallelism import commentary as r
from moebook.sections.parallelism import enrich
from moebook.sections.parallelism import figures as f

sys.path.insert(0, str(Path(__file__).parents[1] / "analysis"))
import parallel_tables as t  # noqa: E402

READINGS = [
    g
    for n, g in vars(r).items()
    if inspect.isfunction(g) and g.__module__ == r.__name__ and not n.startswith(("_", "numbers"))
]
MIXTRAL, OLMOE = "Mixtral-8x7B-v0.1", "OLMoE-1B-7B-0125"


def table(profile: str, without: str = ""):
    return _table(profile, without).copy()


@cache
def _table(profile: str, without: str):
    kind = "cpu" if profile == "cpu" else "h100"
    return t.composed(profile, Links(kind), ("synthetic", kind), without)


@pytest.fixture(scope="module", params=["h100", "2xh100", "4xh100", "cpu"])
def drawn(request):
    return request.param, table(request.param)


def artists(fig, gid: str, panel: int = 0) -> list:
    ax = fig.axes[panel]
    return [a for a in [*ax.lines, *ax.collections, *ax.patches] if a.get_gid() == gid]


@pytest.mark.parametrize("width", ["page", "column"])
@pytest.mark.parametrize("stem", ["fig13_parallelism", "step_parts"])
def test_every_profile_has_its_figures_at_both_widths(drawn, stem, width):
    fig, rows = sections.find("05").figures[stem](drawn[1], width=width)
    assert len(rows) and len(fig.axes) == rows["model"].nunique()
    texts = [x.get_window_extent() for ax in fig.axes for x in [ax.title]]
    assert all(not a.overlaps(b) for i, a in enumerate(texts) for b in texts[:i])


def test_one_device_profile_draws_compositions_and_no_run():
    fig, rows = f.over_devices(table("h100"))
    assert (
        not artists(fig, "run")
        and len(artists(fig, "composed")) == 4
        and len(artists(fig, "band")) == 1
    )
    line = artists(fig, "composed", 1)[0]
    own = rows[(rows["model"] == OLMOE) & rows["series"].isin(["TP", "one device"])].sort_values(
        "devices"
    )
    assert np.allclose(line.get_ydata(), own["throughput_tok_s"]) and list(own["devices"]) == [
        1,
        2,
        4,
    ]


def test_runs_are_drawn_solid_beside_dashed_compositions():
    fig, _ = f.over_devices(table("4xh100"))
    assert {line.get_linestyle() for line in artists(fig, "run")} == {"-"}
    assert {line.get_linestyle() for line in artists(fig, "composed")} == {"--"}
    assert len(artists(fig, "run")) == len(artists(fig, "composed")) == 4


def test_ideal_scaling_is_g_times_one_device_and_stays_in_view():
    fig, rows = f.over_devices(table("h100"))
    for i, model in enumerate((MIXTRAL, OLMOE)):
        one = rows[
            (rows["model"] == model) & (rows["series"] == "one device") & (rows["status"] == "ok")
        ]
        (ideal,) = artists(fig, "ideal", i)
        assert np.allclose(ideal.get_ydata(), one["throughput_tok_s"].iloc[0] * np.array([1, 2, 4]))
        assert fig.axes[i].get_ylim()[1] >= ideal.get_ydata().max()
    assert {s for s in rows.loc[rows["status"] != "ok", "status"]} == {"oom"}


def test_efficiency_of_one_device_is_all_of_it():
    rows = enrich.over_devices(table("4xh100"))
    ones = rows[(rows["series"] == "one device") & (rows["status"] == "ok")]
    assert np.allclose(ones["efficiency_pct"], 100)
    assert rows.loc[rows["series"] == "TP", "efficiency_pct"].between(1, 101).all()


def test_parts_stack_to_the_composed_step_and_markers_are_runs():
    made = table("4xh100")
    fig, rows = f.step_parts(made)
    own = rows[rows["model"] == MIXTRAL]
    compute, comm = artists(fig, "compute"), artists(fig, "communication")
    split = (own["series"] != "one device").to_numpy()
    ends = 1e3 * own["tpot_s"].to_numpy(float)
    got = np.array([a.get_width() + b.get_width() for a, b in zip(compute, comm, strict=True)])
    assert np.allclose(got, ends) and split.sum() == 8
    assert np.allclose(
        artists(fig, "run")[0].get_xdata()[split],
        1e3 * own["measured_tpot_s"].to_numpy(float)[split],
    )
    assert own.loc[own["series"] == "one device", "measured_tpot_s"].isna().all()


def test_parts_without_links_show_compute_alone():
    fig, rows = f.step_parts(table("cpu"))
    assert rows["comm_tpot_s"].isna().all() and all(
        bar.get_width() == 0 for bar in artists(fig, "communication")
    )
    assert all(bar.get_width() > 0 for bar in artists(fig, "compute"))


def test_errors_are_drawn_where_both_are_there_and_refused_elsewhere():
    fig, rows = f.composed_vs_measured(table("4xh100"))
    assert np.allclose(artists(fig, "error-e2e_s")[0].get_xdata(), rows["error_pct"])
    with pytest.raises(ValueError, match="no mode was both run over several devices and composed"):
        f.composed_vs_measured(table("h100"))


def test_figures_of_nothing_say_what_they_need():
    bare = t.summary("h100", without="rank of")
    nothing = bare[bare["sweeps"] == "support"]
    with pytest.raises(ValueError, match="needs sweep 'modes'"):
        f.over_devices(nothing)
    with pytest.raises(ValueError, match="needs sweep 'composed'"):
        f.step_parts(bare)


@pytest.mark.parametrize("reading", READINGS, ids=lambda g: g.__name__)
def test_a_part_of_a_table_is_read_without_holes(drawn, reading):
    profile, whole = drawn
    series = sorted(set(t.summary(profile)["series"]))
    for seed in range(4):
        lost = random.Random(seed).choice(series)
        text = reading(table(profile, without=lost))
        assert not re.search(r"\bnan\b|NaT|None|<NA>", text), text
        assert not re.search(r"^\W*\.|: ?\.|: ?;|; ?\.|\(\)", text), text


def test_the_headline_says_run_or_composed():
    assert "(composed)" in r.headline(table("h100")) and "(run)" not in r.headline(table("h100"))
    assert "(run)" in r.headline(table("4xh100")) and "(composed)" not in r.headline(
        table("4xh100")
    )


def test_what_was_composed_is_not_told_of_a_model_that_was_run():
    """Of OLMoE on four cards PP+EP failed, and its composed row is no best and no worst."""
    found = shipped.results("4xh200", "05_parallelism").shown
    assert "(composed)" not in r.headline(found) and "PP+EP" not in r.numbers(found)[2].label
    assert "on 4 devices over one (run): 0.97× (PP) to 1.68× (TP)" in r.over_devices(found)
    alone = found[(found["series"] == "TP") | (found["series"] == "one device")]
    assert r.headline(alone).count("times one device") == 2 == len(r.numbers(alone))


def test_readings_have_the_tables_numbers():
    made = table("4xh100")
    rows = enrich.over_devices(made)
    own = rows[
        (rows["series"] == "TP")
        & (rows["devices"] == 4)
        & (rows["model"] == OLMOE)
        & (rows["method"] == "sampled")
    ]
    times = f"{own['efficiency_pct'].iloc[0] * 4 / 100:.2f} (run) |\n"
    assert times in r.over_devices(made) and "| 2 devices | 4 devices |" in r.over_devices(made)
    error = enrich.errors(made)["error_pct"].abs().mean()
    assert f"error of composed E2E is {error:.1f} %" in r.composed_vs_measured(made)
    assert "stand-in against its own model class" in r.composed_vs_measured(made)
    assert "extrapolated from engines with fewer layers" in r.over_devices(made)
    assert "needs 4 devices, this profile has 2" in r.over_devices(table("2xh100"))
    assert "benchmarks/collectives.py" in r.step_parts(table("cpu"))
