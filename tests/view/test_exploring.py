import json
import os
import random
import re
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import shipped
import view_tables as t
from matplotlib.container import ErrorbarContainer

from moebook import sections
from moebook.explore import arranged, hover
from moebook.explore import views as choosing
from moebook.explore.chart import chart
from moebook.explore.views import Choice, View, metrics_of, moved, with_rows
from moebook.results.cells import UNEVEN

GRID = View("grid", "grid", "expert_ffn_dim", "top_k", "num_experts")
SUMMARY = pd.concat([t.grid(), t.batches()], ignore_index=True)
STEMS = [section.stem for section in sections.every() if section.views]
PICKS = int(os.environ.get("MOEBOOK_TEST_PICKS", 20))  # of each section; `make campaign`: 200
PAPER_PICKS = 2  # a paper figure takes half a second, one for the browser a twentieth


def found(profile: str, stem: str) -> dict[View, pd.DataFrame]:
    table = shipped.results(profile, stem).shown.assign(profile=profile)
    return with_rows(table, sections.find(stem).views)[0]


def largest(stem: str) -> str:
    """The profile whose shipped table of a section has the most rows."""
    profiles = [profile for profile, own in shipped.every() if own == stem]
    return max(profiles, key=lambda profile: len(shipped.results(profile, stem).shown))


def is_picture(fig) -> bool:
    """Whether points of data, not of marks or legends, are drawn."""
    lines = [line for ax in fig.axes for line in ax.lines]
    return any(len(o.get_xdata()) for o in lines if str(o.get_gid()).startswith("points-"))


def points_of(figure: dict) -> list[dict]:
    """The traces that one can point at; all of a figure is JSON without nan."""
    json.dumps(figure, allow_nan=False)
    return [trace for trace in figure["data"] if "customdata" in trace]


@pytest.mark.parametrize(("profile", "stem"), shipped.every())
def test_every_view_of_shipped_results_is_a_picture_and_the_first_declared_opens(profile, stem):
    views = found(profile, stem)
    declared = sections.find(stem).views
    assert next(iter(views)).name == declared[0].name
    for view, rows in views.items():
        choice = choosing.first(rows, view)
        drawn, spec, _ = arranged.arranged(rows, choice)
        assert sum(len(trace["x"]) for trace in points_of(chart(drawn, spec))) > 0
        assert (choice.x, choice.metric) == (view.x, view.metric), "a view opens as it is declared"
        for column in [c for c in rows if re.fullmatch(r"predicted_\w+(_s|_tok_s)", c)]:
            assert (rows[column].notna() == rows[f"{column}_lo95"].notna()).all(), "each has a band"


@pytest.mark.parametrize("stem", STEMS)
def test_any_pick_is_a_picture(stem):
    profile = largest(stem)
    views, rng = found(profile, stem), random.Random(f"{profile} {stem}")
    for pick in range(PICKS):
        view = rng.choice(list(views))
        choice = picked(views[view], view, rng)
        with warnings.catch_warnings():
            warnings.simplefilter("error", category=UserWarning)
            if pick < PAPER_PICKS:
                assert is_picture(arranged.picture(views[view], choice)[0]), choice
        rows, spec, _ = arranged.arranged(views[view], choice)
        ok = rows[rows["status"] == "ok"]
        traces = points_of(chart(rows, spec))
        assert sum(len(trace["x"]) for trace in traces) == len(ok) > 0, choice
        assert sorted(at for trace in traces for at in trace["customdata"]) == sorted(ok.index)
        assert all(len(t["text"]) == len(t["x"]) == len(t["y"]) for t in traces), choice
        assert not rows.duplicated(["panel_label", "line_label", "place"]).any(), choice
        assert rows["line_label"].nunique() <= arranged.MOST_LINES, choice
        assert not spec.log_x or (rows["place"] > 0).all() or spec.names, choice
        assert not spec.log_y or (ok[choice.metric] > 0).all(), choice


def picked(rows: pd.DataFrame, view: View, rng: random.Random) -> Choice:
    """A choice of what is offered, with other columns in each role."""
    metric = rng.choice(metrics_of(rows))
    offered = choosing.offers(rows, view, Choice(metric, view.x))
    x, *rest = rng.sample([*offered.columns, None, None], len(offered.columns) + 2)
    only, log_x = rng.choice([None, *offered.only]), rng.random() < 0.8
    log_y = rng.choice([None, True, False])
    wish = Choice(metric, x or view.x, *rest[:2], only, None, log_x, log_y)
    wish = choosing.settled(rows, view, wish)
    over = rng.choice([None, *choosing.offers(rows, view, wish).over])
    return choosing.settled(rows, view, replace(wish, over=over))


def test_a_free_choice_draws_its_columns():
    choice = Choice("e2e_s", "top_k", "expert_ffn_dim", "num_experts", ("num_experts", 8))
    fig, rows, notes = arranged.picture(GRID.rows(SUMMARY), choice)
    assert len(fig.axes) == 1 and len(rows) == 16 and not notes
    assert fig._supylabel.get_text() == "end-to-end latency (s)"
    assert fig._supxlabel.get_text() == "active experts per token (count)"


def test_only_what_has_numbers_and_varies_is_offered():
    rows = GRID.rows(SUMMARY.assign(ttft_s=None))
    offered = choosing.offers(rows, GRID, Choice("tpot_s", "top_k"))
    assert offered.metrics == ["throughput_tok_s", "tpot_s", "e2e_s"]
    assert set(offered.columns) == {"expert_ffn_dim", "num_experts", "top_k", "method"}
    assert ("top_k", 4) in offered.only
    assert {c for c, _ in offered.only} <= set(offered.columns)
    constant = View("one batch", "grid", "batch", "top_k")
    assert "batch" in choosing.offers(rows, constant, Choice("tpot_s", "batch")).columns, (
        "the view's own stay"
    )


def test_a_wish_that_cannot_be_drawn_is_settled():
    rows = GRID.rows(SUMMARY.assign(ttft_s=None))
    wish = Choice("ttft_s", "text", "series", "top_k", ("batch", 7))
    settled = Choice("throughput_tok_s", "expert_ffn_dim", None, "top_k", None)
    assert choosing.settled(rows, GRID, wish) == settled
    gone = View("gone", "grid", "no such column")
    assert choosing.first(rows, gone).x in rows


def test_a_taken_axis_swaps_with_the_other_role():
    choice = choosing.first(GRID.rows(SUMMARY), GRID)
    swapped = moved(choice, "x", "top_k")
    assert (swapped.x, swapped.line, swapped.panel) == ("top_k", "expert_ffn_dim", "num_experts")
    no_lines = moved(choice, "line", None)
    assert no_lines.line is None
    assert moved(no_lines, "line", "expert_ffn_dim") == no_lines, "an x axis there must be"
    assert moved(no_lines, "line", "num_experts").panel is None


def test_rows_that_share_a_place_are_told_apart_in_the_names_of_lines():
    choice = Choice("throughput_tok_s", "expert_ffn_dim", "top_k")
    rows, _, notes = arranged.arranged(GRID.rows(SUMMARY), choice)
    assert any("experts per layer" in note for note in notes)
    assert len(rows) < len(GRID.rows(SUMMARY))
    assert rows["line_label"].nunique() == arranged.MOST_LINES
    assert any(f"{arranged.MOST_LINES} of 16 lines shown" in note for note in notes)
    assert rows["line_label"].str.contains("active, ").all()
    twice = pd.concat([GRID.rows(SUMMARY)] * 2)
    rows, *_ = arranged.arranged(twice, choosing.first(twice, GRID))
    assert "1 active (2)" in set(rows["line_label"])


def test_the_lines_with_the_most_numbers_are_kept():
    rows = pd.DataFrame(
        [
            {"model": f"m{i:02d}", "batch": b, "tpot_s": 1.0 + i}
            for i in range(14)
            for b in (1, 2, 4)
        ]
    ).assign(status="ok", method="full")
    lost = rows["model"].isin(["m00", "m01", "m02", "m03"]) & (rows["batch"] == 4)
    rows.loc[lost, ["status", "tpot_s"]] = "oom", None
    kept, _, notes = arranged.arranged(rows, Choice("tpot_s", "batch", "model"))
    assert set(kept["line_label"]) == {f"m{i:02d}" for i in range(4, 14)}
    assert notes == ["10 of 14 lines shown, those with the most numbers; “only” shows others."]


def test_a_log_axis_that_would_drop_zero_is_linear_and_says_so():
    rows = pd.DataFrame(
        {
            "skew": [0.0, 1.0, 2.0],
            "gain_pct": [0.0, -3.0, 5.0],
            "tpot_s": [1.0, 2.0, 9.0],
            "status": "ok",
            "method": "full",
            "model": "m",
        }
    )
    fig, drawn, notes = arranged.picture(rows, Choice("gain_pct", "skew", log_x=True, log_y=True))
    ax = fig.axes[0]
    assert (ax.get_xscale(), ax.get_yscale()) == ("linear", "linear") and len(drawn) == 3
    assert ax.get_ylim()[0] <= -3 and ax.get_xlim()[0] <= 0
    assert notes == [f"The {axis} axis is linear: it holds zero or less." for axis in "xy"]
    fig, _, notes = arranged.picture(rows, Choice("tpot_s", "skew", log_x=False, log_y=True))
    assert fig.axes[0].get_yscale() == "log" and not notes


def test_values_that_are_all_zero_have_an_axis():
    rows = pd.DataFrame(
        {
            "batch": [1, 2],
            "increase_pct": [0.0, 0.0],
            "status": "ok",
            "method": "full",
            "model": "m",
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error", category=UserWarning)
        fig, *_ = arranged.picture(rows, Choice("increase_pct", "batch"))
    assert fig.axes[0].get_ylim()[1] > 0


def test_words_on_the_x_axis_are_places_without_lines_between():
    rows = pd.DataFrame(
        {
            "model": ["a", "b", "a-name-much-longer-than-any-axis"],
            "tpot_s": [1.0, 2.0, 3.0],
            "quantization": [None, "fp8", "fp8"],
        }
    )
    rows = rows.assign(status="ok", method="roofline")
    fig, _, _ = arranged.picture(rows, Choice("tpot_s", "model"))
    ax = fig.axes[0]
    names = [label.get_text() for label in ax.get_xticklabels()]
    assert len(names) == 3 and set(names) >= {"a", "b"}
    assert max(map(len, names)) <= arranged.NAME_CHARACTERS
    assert [o.get_linestyle() for o in ax.lines if o.get_gid() == "series"] == ["None"]
    assert not ax.get_title()
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["computed"]
    rows, *_ = arranged.arranged(rows, Choice("tpot_s", "quantization"))
    assert sorted(set(rows["name"])) == ["fp8", "no quantization"]


def test_rows_without_the_metric_or_an_x_are_left_out_and_counted():
    rows = pd.DataFrame(
        {
            "batch": [1, 2, None],
            "ttft_s": [1.0, None, 2.0],
            "model": "m",
            "status": "ok",
            "method": "full",
        }
    )
    _, drawn, notes = arranged.picture(rows, Choice("ttft_s", "batch"))
    assert len(drawn) == 1
    assert notes == [
        "Left out: 1 row without a number of this metric.",
        "Left out: 1 row without a value on the x axis.",
    ]
    with pytest.raises(ValueError, match="needs rows with a number of tpot_s; these 3 have none"):
        arranged.picture(rows.assign(tpot_s=np.nan), Choice("tpot_s", "batch"))


def test_views_without_rows_are_not_offered_and_say_why():
    def refuses(_: pd.DataFrame) -> pd.DataFrame:
        raise ValueError("needs a baseline")

    views = (
        GRID,
        View("absent", "quality", "series"),
        View("refused", None, "series", table=refuses),
    )
    offered, missing = with_rows(SUMMARY, views)
    assert list(offered) == [GRID]
    assert missing == {"absent": "no row has a number", "refused": "needs a baseline"}


def test_a_views_own_table_and_filter_make_its_rows():
    view = View(
        "one",
        "grid",
        "top_k",
        where={"num_experts": 8},
        table=lambda rows: rows.assign(top_k=rows["top_k"] * 2),
    )
    rows = view.rows(SUMMARY)
    assert set(rows["num_experts"]) == {8} and set(rows["top_k"]) == {2, 4, 8, 16}


def of_formats() -> pd.DataFrame:
    """Two series over two batches, fp8 1.5 times as fast at batch 4, without a partner at 8."""
    rows = [("bf16", 4, 100.0), ("fp8", 4, 150.0), ("fp8", 8, 160.0)]
    table = pd.DataFrame(rows, columns=["series", "batch", "throughput_tok_s"])
    spread = {"throughput_tok_s_lo": 0.99, "throughput_tok_s_hi": 1.01}
    ends = {name: by * table["throughput_tok_s"] for name, by in spread.items()}
    return table.assign(model="m", status="ok", method="full", n_records=1, **ends)


def test_ratios_are_to_the_row_at_the_same_place_with_their_interval():
    choice = Choice("throughput_tok_s", "batch", "series", over=("series", "bf16"))
    rows, spec, notes = arranged.arranged(of_formats(), choice)
    own = rows.set_index(["line_label", "batch"])
    assert own.loc[("bf16", 4), "throughput_tok_s"] == 1
    fast = own.loc[("fp8", 4)]
    assert fast["throughput_tok_s"] == pytest.approx(1.5)
    # two starts' errors add in squares: each 1 % wide, so 1.41 % together
    assert fast["throughput_tok_s_hi"] / 1.5 == pytest.approx(1.01**2**0.5, abs=5e-4)
    assert notes == ["Left out: 1 row without a partner of series: bf16."]
    assert spec.level == 1 and spec.y_label == "throughput, × that of series: bf16"


def test_a_base_that_is_not_drawn_is_said_and_values_are_drawn():
    choice = Choice("throughput_tok_s", "batch", "series", None, ("batch", 8), ("series", "bf16"))
    rows, spec, notes = arranged.arranged(of_formats(), choice)
    assert list(rows["throughput_tok_s"]) == [160.0] and spec.level is None
    assert notes == ["No ratios: no row drawn has series: bf16."]


def test_only_numbers_above_zero_have_ratios():
    rows = of_formats().assign(gain_pct=[0.0, 50.0, 60.0])
    view = View("gain", None, "batch", "series", metric="gain_pct")
    assert choosing.offers(rows, view, Choice("gain_pct", "batch", "series")).over == []
    plain = Choice("throughput_tok_s", "batch", "series")
    assert ("series", "bf16") in choosing.offers(rows, view, plain).over


def test_layers_look_as_the_key_says():
    rows = pd.DataFrame({"batch": [1, 2, 4, 8], "method": ["full", "sampled", "depth", "full"]})
    rows = rows.assign(model="m", status="ok", throughput_tok_s=[1.0, 2.0, 3.0, 4.0])
    rows["note"] = [None, None, None, f"measured under its physical limit by 5 %: {UNEVEN}"]
    rows = rows.assign(floor_throughput_tok_s=5.0, predicted_throughput_tok_s=2.5)
    rows = rows.assign(predicted_throughput_tok_s_lo95=2.0, predicted_throughput_tok_s_hi95=3.0)
    drawn, spec, _ = arranged.arranged(rows, Choice("throughput_tok_s", "batch"))
    figure = chart(drawn, spec)
    (points,) = points_of(figure)
    assert points["marker"]["symbol"] == ["circle", "circle-open-dot", "circle-open", "circle"]
    assert [colour == "#9a9a9a" for colour in points["marker"]["color"]] == [False] * 3 + [True]
    dashes = [trace["line"].get("dash") for trace in figure["data"]]
    assert dashes == ["dash", None, None, "dot", None]
    assert figure["data"][2]["fill"] == "tonexty" and figure["data"][2]["y"] == [3.0] * 4
    key = figure["layout"]["annotations"][0]["text"]
    assert all(word in key for word in ("sampled", "grey", "physical limit", "predicted, 95 %"))
    assert len(chart(drawn, spec, layers=())["data"]) == 1


def test_a_hover_tells_value_interval_records_and_method():
    choice = Choice("throughput_tok_s", "batch", "series")
    rows, spec, _ = arranged.arranged(of_formats(), choice)
    text = hover.told(rows, spec)[0]
    assert "bf16" in text and "100.0 [99.00, 101.0] 95 %" in text
    assert "measured; 1 engine start" in text


def test_two_rows_have_a_difference_with_its_interval():
    two = of_formats().iloc[[0, 1]]
    assert hover.difference(two, "throughput_tok_s").startswith("B over A: +50.0 % [+4")
    zero = two.assign(gain_pct=[0.0, 50.0])
    assert "not above zero" in hover.difference(zero, "gain_pct")


@pytest.mark.parametrize(
    ("profile", "stem"), [("h200", "02_quantization"), ("h100", "07_load_balancing")]
)
def test_a_click_tells_the_points_yaml_command_and_record(profile, stem):
    view, rows = next(iter(found(profile, stem).items()))
    drawn, spec, _ = arranged.arranged(rows, choosing.first(rows, view))
    one = hover.records(drawn[drawn["status"] == "ok"])[0]
    text = hover.details(one, shipped.REFERENCE / profile / stem)
    assert f"model: {one['model']}" in text and f"key: {one['key']}" in text
    assert f"moebook measure params/{profile}/{stem}.yaml --sweep " in text
    assert one["point_id"] in text


def test_balance_metrics_of_section_7_are_offered():
    views = found("h100", "07_load_balancing")
    rows = next(rows for view, rows in views.items() if view.name == "balance")
    assert len([m for m in metrics_of(rows) if m.startswith("balance_")]) == 8


def test_error_bars_stay():
    fig, *_ = arranged.picture(GRID.rows(SUMMARY), choosing.first(GRID.rows(SUMMARY), GRID))
    assert any(isinstance(c, ErrorbarContainer) for ax in fig.axes for c in ax.containers)


@pytest.mark.parametrize("stem", STEMS)
def test_a_sections_views_have_names_of_their_own(stem):
    views = sections.find(stem).views
    assert len({v.name for v in views}) == len(views)


def test_every_section_that_measures_has_views():
    assert {s.stem for s in sections.every() if s.params.measures} <= set(STEMS)
