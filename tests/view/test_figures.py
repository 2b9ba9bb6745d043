from functools import cache

import looks
import numpy as np
import pandas as pd
import pytest
import view_tables as t
from matplotlib.patches import Rectangle

from moebook.plot import figure, panels, style
from moebook.sections.hyperparameter_scaling import figures as f
from moebook.sections.model_comparison import breakdown

SUMMARY = pd.concat([t.grid(), t.batches()], ignore_index=True)
ON_SUMMARY = (
    "batch_topk",
    "batch_length",
    "ffn_scaling",
    "expert_scaling",
    "active_scaling",
    "grid_heatmap",
    "grid_over_floor",
    "over_floor",
    "predicted_vs_measured",
)
TABLES = {
    **dict.fromkeys(ON_SUMMARY, SUMMARY),
    "stacked": t.parameters(),
}
OF_TABLES = {"stacked": breakdown.stacked}


@cache
def draw(name, width):
    function = OF_TABLES.get(name) or getattr(f, name)
    return function(TABLES[name], width=width)


def named(ax, gid):
    return [line for line in ax.lines if str(line.get_gid()).startswith(gid)]


def words(fig):
    return [text.get_text() for legend in fig.legends for text in legend.get_texts()]


def shared(fig):
    return {
        " ".join(text.get_text().split())
        for text in (fig._supxlabel, fig._supylabel)
        if text is not None
    }


@pytest.mark.parametrize("width", ["column", "page"])
@pytest.mark.parametrize("name", TABLES)
def test_every_figure_has_its_width_units_and_nothing_outside(name, width):
    before = TABLES[name].copy()
    fig, rows = draw(name, width)
    pd.testing.assert_frame_equal(before, TABLES[name])
    looks.assert_readable(fig, rows, width)


@pytest.mark.parametrize("name", ["ffn_scaling", "active_scaling", "grid_heatmap"])
def test_of_more_panels_than_a_page_holds_twelve_are_drawn_and_the_legend_says_so(name):
    column = "num_experts" if name == "ffn_scaling" else "expert_ffn_dim"
    one = SUMMARY[
        SUMMARY["sweeps"].str.contains("grid") & (SUMMARY[column] == SUMMARY[column].max())
    ]
    many = [one.assign(**{column: n}) for n in range(1001, 1036)]
    fig, rows = getattr(f, name)(pd.concat(many, ignore_index=True))
    titles = [ax.get_title() for ax in fig.axes if ax.get_label() != "<colorbar>"]
    assert len(titles) == panels.MOST_PANELS == 12
    assert "1001" in titles[0].replace(",", "") and "1035" in titles[-1].replace(",", "")
    assert "12 of 35 panels, from the first to the last" in words(fig)
    assert rows[column].nunique() in (12, 35)  # the heat map's CSV has every cell


def test_ffn_scaling_draws_a_line_per_active_experts_in_a_panel_per_expert_count():
    fig, rows = draw("ffn_scaling", "page")
    assert [ax.get_title() for ax in fig.axes] == [
        "8 experts",
        "16 experts",
        "32 experts",
        "64 experts",
    ]
    assert len(rows) == 64 and (rows["status"] == "oom").sum() == 12
    for ax, e in zip(fig.axes, t.EXPERTS, strict=True):
        series = named(ax, "series")
        assert [s.get_label() for s in series] == ["1 active", "2 active", "4 active", "8 active"]
        for line, k in zip(series, t.ACTIVE, strict=True):
            cell = rows[(rows["num_experts"] == e) & (rows["top_k"] == k)]
            assert list(line.get_xdata()) == list(t.FFN)
            np.testing.assert_array_equal(
                line.get_ydata(), cell["throughput_tok_s"].to_numpy(float)
            )
        assert ax.get_xscale() == "log" and list(ax.get_xticks()) == list(t.FFN)
    assert shared(fig) == {
        "expert FFN dimension (channels)",
        "throughput (tokens/s, input + output)",
    }


def test_points_say_how_they_were_got():
    fig, _ = draw("ffn_scaling", "page")
    kinds = {line.get_gid() for ax in fig.axes for line in named(ax, "points")}
    assert kinds == {"points-sampled", "points-depth"}
    depth = [line for ax in fig.axes for line in named(ax, "points-depth")]
    assert {line.get_markerfacecolor() for line in depth} == {"white"}
    assert sum(len(line.get_xdata()) for line in depth) == sum(
        t.grid()["method"] == "depth+sampled"
    )
    assert [w for w in words(fig) if w in ("measured", "sampled", "extrapolated")] == [
        "sampled",
        "extrapolated",
    ]
    full, _ = draw("batch_length", "page")
    assert "measured" in words(full)
    solid = named(full.axes[0], "points-full")
    assert len(solid) == 1 and solid[0].get_markerfacecolor() == solid[0].get_color()


def test_missing_cells_are_crosses_at_the_foot_and_break_no_scale():
    fig, _ = draw("ffn_scaling", "page")
    crosses = [
        [line for line in ax.lines if line.get_label() == "out of memory"] for ax in fig.axes
    ]
    assert [[list(line.get_xdata()) for line in lines] for lines in crosses] == [
        [],
        [],
        [[14336]],
        [[7168, 14336]],
    ]
    assert all(
        line.get_color() == style.GREY and max(line.get_ydata()) < 0.1
        for lines in crosses
        for line in lines
    )
    assert "out of memory" in words(fig)
    by_line, _ = draw("active_scaling", "page")
    last = [line for line in by_line.axes[-1].lines if line.get_label() == "out of memory"]
    assert len(last) == 2 and len({line.get_color() for line in last} | {style.GREY}) == 3
    assert len({line.get_ydata()[0] for line in last}) == 2


def test_floors_only_where_they_stay_readable():
    fig, _ = draw("ffn_scaling", "page")
    assert len(named(fig.axes[0], "floor")) == 4 and "physical limit" in words(fig)
    floor = named(fig.axes[0], "floor")[0]
    assert floor.get_linewidth() < 1 and floor.get_linestyle() != "-"
    narrow, _ = draw("ffn_scaling", "column")
    assert len(named(narrow.axes[0], "floor")) == 4, "a column keeps its limits"
    six, _ = draw("batch_topk", "page")
    far, _ = f.ffn_scaling(t.grid().assign(floor_throughput_tok_s=1e9))
    for other in (six, far):
        assert not any(named(ax, "floor") for ax in other.axes) and "physical limit" not in words(
            other
        )


def test_error_bars_reach_from_lo_to_hi():
    fig, rows = draw("ffn_scaling", "page")
    bars = fig.axes[0].containers[0].lines[2][0].get_segments()
    first = rows[(rows["num_experts"] == 8) & (rows["top_k"] == 1)].sort_values("expert_ffn_dim")
    np.testing.assert_allclose(
        [s[:, 1] for s in bars], first[["throughput_tok_s_lo", "throughput_tok_s_hi"]].to_numpy()
    )


def test_a_small_grid_has_as_many_panels_as_values():
    fig, rows = f.expert_scaling(t.tiny_grid(), width="column")
    assert [ax.get_title() for ax in fig.axes] == ["FFN 128", "FFN 512"] and len(rows) == 12
    assert {"measured", "infeasible"} <= set(words(fig))
    cross = [line for line in fig.axes[0].lines if line.get_label() == "infeasible"]
    assert [list(line.get_xdata()) for line in cross] == [[4]]
    assert cross[0].get_color() == named(fig.axes[0], "series")[2].get_color()
    with pytest.raises(ValueError, match="expert_ffn_dim has one value in the grid"):
        f.ffn_scaling(t.grid(ffn=(1792,), experts=(8,), active=(2,)))
    three, _ = f.expert_scaling(t.grid(ffn=t.FFN[:3]), width="column")
    assert len(three.axes) == 3
    assert [ax.xaxis.get_tick_params()["labelbottom"] for ax in three.axes] == [False, True, True]


def test_heatmap_annotates_cells_and_hatches_those_without_a_number():
    fig, rows = draw("grid_heatmap", "page")
    panels = [ax for ax in fig.axes if ax.get_title()]
    coloured = [value for ax in panels for value in ax.collections[0].get_array().compressed()]
    np.testing.assert_allclose(sorted(coloured), sorted(rows["throughput_tok_s"].dropna()))
    hatched = [p for ax in panels for p in ax.patches if isinstance(p, Rectangle) and p.get_hatch()]
    assert len(panels) == 4 and len(coloured) == 52 and len(hatched) == 12
    texts = [text.get_text() for ax in panels for text in ax.texts]
    assert texts.count("OOM") == 12 and sum(s.endswith("*") for s in texts) == 12
    first = rows[
        (rows["expert_ffn_dim"] == 1792) & (rows["num_experts"] == 8) & (rows["top_k"] == 1)
    ]
    assert panels[0].texts[0].get_text() == style.cell_number(first["throughput_tok_s"].item())
    assert words(fig) == ["OOM: out of memory", "extrapolated"]


def test_heatmap_over_floor_shows_multiples():
    fig, rows = draw("grid_over_floor", "page")
    assert rows["e2e_over_floor"].dropna().round(9).unique() == pytest.approx([1 / 0.6])
    assert fig.axes[0].texts[0].get_text() == "1.67"
    assert "end-to-end latency\nover physical limit (×)" in [ax.get_ylabel() for ax in fig.axes]


@pytest.mark.parametrize(("width", "shape"), [("page", (2, 4)), ("column", (4, 2))])
def test_over_floor_has_a_panel_per_metric_and_expert_count(width, shape):
    fig, rows = draw("over_floor", width)
    assert fig.axes[0].get_subplotspec().get_gridspec().get_geometry() == shape
    assert np.allclose(rows[["ttft_over_floor", "tpot_over_floor"]], 1 / 0.6) and len(rows) == 52
    for ax in fig.axes:
        assert [list(line.get_ydata()) for line in named(ax, "level")] == [[1, 1]]
        assert all(np.allclose(line.get_ydata(), 1 / 0.6) for line in named(ax, "series"))


def test_predicted_vs_measured_prints_the_error_of_measured_points_only():
    extra = t.grid().assign(
        predicted_e2e_s=lambda d: d["e2e_s"].where(d["method"] != "depth+sampled", 1) * 1.1
    )
    fig, rows = f.predicted_vs_measured(extra)
    text = fig.axes[0].texts[0].get_text()
    n = ((extra["status"] == "ok") & (extra["method"] == "sampled")).sum()
    assert text.splitlines() == [
        "by the shipped calibration:",
        "median error 10.0 %",
        "90th percentile 10 %",
        f"n = {n}",
    ]
    drawn = [
        line
        for line in named(fig.axes[0], "points")
        if line.get_marker() == "o" and line.get_markersize() > 2
    ]
    assert sum(len(line.get_xdata()) for line in drawn) == len(rows) == 52
    np.testing.assert_allclose(
        rows["error_pct"], 100 * (rows["predicted_e2e_s"] / rows["e2e_s"] - 1)
    )


def test_predicted_vs_measured_draws_left_out_predictions_alone_where_there_are_some():
    how = ["left out" if i % 2 else "calibrated" for i in range(len(t.grid()))]
    fig, rows = f.predicted_vs_measured(t.grid().assign(predicted_how=how))
    assert fig.axes[0].texts[0].get_text().startswith("model left out of the fit:")
    assert 0 < len(rows) < 52


def test_parameter_breakdown_pools_what_nobody_could_see():
    fig, rows = draw("stacked", "page")
    assert words(fig) == ["routed experts", "attention", "embedding", "router + norms (under 1 %)"]
    assert rows.groupby("model")[
        ["total_share_pct", "active_share_pct"]
    ].sum().to_numpy() == pytest.approx(100)
    assert [text.get_text() for text in fig.axes[2].texts] == ["10.0", "40.0"]
    widths = [sum(patch.get_width() for patch in ax.patches) for ax in fig.axes]
    assert widths == pytest.approx([200, 200, 50, 5 * 1.97])


@pytest.mark.parametrize("name", ON_SUMMARY)
def test_missing_rows_and_columns_are_named(name):
    function = getattr(f, name)
    if name != "predicted_vs_measured":
        other = SUMMARY.assign(sweeps="validation")
        with pytest.raises(
            ValueError, match=rf"{name} needs sweep '\w+', of which .* no row; .*: validation"
        ):
            function(other)
    column = (
        "predicted_e2e_s"
        if name.startswith("pred")
        else "floor_e2e_s"
        if name == "grid_over_floor"
        else "floor_ttft_s"
        if name == "over_floor"
        else "throughput_tok_s"
    )
    with pytest.raises(
        ValueError, match=f"{name} needs .* columns missing from the table: {column}"
    ):
        function(SUMMARY.drop(columns=column))
    with pytest.raises(ValueError, match=rf"{name}: no row has .* \(\d+ rows: \d+ oom\)"):
        function(SUMMARY.assign(status="oom"))


def test_two_rows_for_one_place_are_refused():
    double = pd.concat([t.grid(), t.grid().head(1).assign(batch=32)], ignore_index=True)
    for draw in (f.ffn_scaling, f.grid_heatmap, f.over_floor):
        with pytest.raises(ValueError, match="2 rows share one place .* give rows of one batch"):
            draw(double)


def test_a_row_that_is_ok_without_its_number_is_marked_not_dropped():
    broken = t.tiny_grid()
    broken.loc[0, "throughput_tok_s"] = None
    fig, rows = f.ffn_scaling(broken)
    assert rows.loc[0, "status"] == "failed" and "failed" in words(fig)
    assert "fail" in [x.get_text() for ax in f.grid_heatmap(broken)[0].axes for x in ax.texts]


def test_rows_belong_to_every_sweep_they_name():
    both = t.tiny_grid().assign(sweeps="validation,grid")
    assert len(figure.rows_of(both, "x", "grid", ())) == 12
    with pytest.raises(ValueError, match="grid, validation"):
        figure.rows_of(both, "x", "gri", ())


def test_lines_over_the_fewest_active_experts_are_ratios_and_an_invalid_model_is_faded():
    table = t.batches().assign(device_kind="synthetic")
    table = table.assign(
        floor_tpot_s=table["tpot_s"] * np.where(table["model"].eq("synthetic-A"), 2, 0.5)
    )
    fig, rows = f.batch_topk(table)
    first = rows[rows["top_k"] == 1]
    assert (first["over_first"].dropna() == 1).all()
    invalid, valid = fig.axes
    assert [text.get_gid() for text in invalid.texts] == ["invalid"] and not valid.texts
    assert named(invalid, "series")[0].get_alpha() == 0.3
    assert named(valid, "series")[0].get_alpha() is None


def test_a_panel_without_any_number_is_not_drawn():
    table = t.batches()
    gone = table.assign(status=table["status"].mask(table["model"].eq("synthetic-A"), "oom"))
    fig, _ = f.batch_topk(gone)
    assert [ax.get_title() for ax in fig.axes] == ["synthetic-B"]
