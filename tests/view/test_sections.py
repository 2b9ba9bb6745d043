from functools import cache

import looks
import numpy as np
import pandas as pd
import pytest
import section_tables as t

from moebook.plot import figure_files
from moebook.results import gains as g
from moebook.sections.fused_moe import figures as fused_moe
from moebook.sections.pruning import figures as pruning
from moebook.sections.pruning.pruned import by_ratio
from moebook.sections.quantization import figures

FORMATS = ("fp32", "bf16", "fp16", "fp8", "int8 experts", "int4 weights")
TABLES = {
    "quantization": {
        "gpu": t.quality(t.quantization()),
        "cpu": t.quantization(t.TINY, ("fp32", "bf16"), (32, 64), FORMATS),
    },
    "pruning": {"gpu": t.pruning(), "cpu": t.floorless(t.pruning(t.TINY, (1, 2, 4)))},
    "fused_moe": {
        "gpu": pd.concat([t.layers(), t.ladder()], ignore_index=True),
        "cpu": pd.concat(
            [
                t.cpu_layers(),
                t.floorless(t.ladder(t.TINY, ("fused", "grouped GEMM", "expert loop"))),
            ],
            ignore_index=True,
        ),
    },
}
MODULES = {"quantization": figures, "pruning": pruning, "fused_moe": fused_moe}
NAMES = {
    "quantization": ("over_batch", "over_length", "gain", "formats", "memory"),
    "pruning": ("gain", "gain_by_ratio", "over_floor"),
    "fused_moe": (
        "layer_time",
        "layer_slowdown",
        "roofline",
        "layer_quantized",
        "over_batch",
        "over_length",
    ),
}
FIGURES = [(m, n) for m, names in NAMES.items() for n in names]
ONLY_GPU = {
    ("pruning", "over_floor"),
    ("fused_moe", "roofline"),
}  # need floors or weights
DRAWN = [
    (m, n, d) for m, n in FIGURES for d in ("gpu", "cpu") if d == "gpu" or (m, n) not in ONLY_GPU
]


@cache
def draw(module, name, device="gpu", width="page"):
    return getattr(MODULES[module], name)(TABLES[module][device], width=width)


def named(ax, gid):
    return [line for line in ax.lines if str(line.get_gid()).startswith(gid)]


def words(fig):
    return [text.get_text() for legend in fig.legends for text in legend.get_texts()]


@pytest.mark.parametrize("width", ["column", "page"])
@pytest.mark.parametrize(("module", "name", "device"), DRAWN)
def test_every_figure_has_its_width_units_and_nothing_clipped(module, name, device, width):
    table = TABLES[module][device]
    before = table.copy()
    fig, rows = draw(module, name, device, width)
    pd.testing.assert_frame_equal(before, table)
    looks.assert_readable(fig, rows, width)


@pytest.mark.parametrize("width", ["column", "page"])
@pytest.mark.parametrize(("module", "name", "device"), DRAWN)
def test_numbers_do_not_touch(module, name, device, width):
    fig, _ = draw(module, name, device, width)
    for ax in fig.axes:
        numbers = [text.get_window_extent() for text in ax.texts]
        assert not [
            (i, j)
            for i, a in enumerate(numbers)
            for j, b in enumerate(numbers[:i])
            if a.overlaps(b)
        ]
        assert all(box.x1 <= fig.bbox.x1 and box.y1 <= fig.bbox.y1 for box in numbers)


@pytest.mark.parametrize(("module", "name"), FIGURES)
def test_missing_sweeps_columns_and_numbers_are_named(module, name):
    function, table = getattr(MODULES[module], name), TABLES[module]["gpu"]
    with pytest.raises(
        ValueError, match=rf"{name} needs sweep '\w+', of which .* no row; .*: other"
    ):
        function(table.assign(sweeps="other"))
    with pytest.raises(
        ValueError, match=rf"{name} needs sweep '\w+'; columns missing from the table: "
    ):
        function(table[["sweeps", "status"]])
    with pytest.raises(
        ValueError,
        match=rf"{name}: no (row has .*\d+ oom|format has a perplexity)|{name} needs a time",
    ):
        function(table.assign(status="oom"))


@pytest.mark.parametrize(
    ("module", "name"), [("quantization", "memory"), ("pruning", "gain"), ("fused_moe", "roofline")]
)
def test_a_second_drawing_is_the_same_bytes(module, name, tmp_path):
    for folder in ("a", "b"):
        fig, rows = getattr(MODULES[module], name)(TABLES[module]["gpu"], width="column")
        figure_files.save(fig, rows, tmp_path / folder, "x", formats=("svg", "pdf"), width="column")
    for suffix in ("svg", "pdf", "csv"):
        assert (tmp_path / "a" / f"x.{suffix}").read_bytes() == (
            tmp_path / "b" / f"x.{suffix}"
        ).read_bytes()


def test_series_stand_in_the_order_of_the_table():
    fig, rows = draw("fused_moe", "over_batch")
    order = ["fused", "fused, no graphs", "grouped GEMM", "expert loop"]
    assert words(fig)[:4] == order == list(dict.fromkeys(rows["series"])) != sorted(order)
    for line, name in zip(named(fig.axes[0], "series"), order, strict=True):
        own = rows[rows["series"] == name]["throughput_tok_s"].to_numpy(float)
        np.testing.assert_array_equal(line.get_ydata(), own)
    formats, _ = draw("quantization", "formats")
    assert [text.get_text() for text in formats.axes[0].get_yticklabels()] == list(
        t.LADDER_OF_FORMATS
    )


def pair(**changes):
    rows = [
        t.point("a,b", "m", s, 16, 128, v, method=k)
        for s, v, k in (("whole", 1.0, "depth"), ("cut", 1.25, "full"))
    ]
    return pd.DataFrame(rows).assign(**changes)


def test_gains_of_a_known_case():
    found = g.gains(pair(), "b", "whole")
    assert len(found) == 1 and found["series"].item() == "cut" and found["over"].item() == "whole"
    assert found["gain_pct"].item() == pytest.approx(25)
    half = np.sqrt(2) * np.log(1.02 / 0.99) / 2  # two intervals alike, as logarithms, in quadrature
    assert found["gain_pct_lo"].item() == pytest.approx(100 * (1.25 * np.exp(-half) - 1))
    assert found["gain_pct_hi"].item() == pytest.approx(100 * (1.25 * np.exp(half) - 1))
    assert found["method"].item() == "depth"  # a gain is as sure as the less sure of both
    assert "gain_pct_lo" not in g.gains(pair().drop(columns=["throughput_tok_s_lo"]), "b", "whole")


def test_gains_without_a_counterpart_have_its_status():
    table = pair(status=["oom", "ok"], reason=["too large", None], throughput_tok_s=[np.nan, 1.0])
    assert g.gains(table, ["a"], "whole")[["status", "reason"]].iloc[0].to_list() == [
        "oom",
        "too large",
    ]
    elsewhere = g.gains(pair(batch=[1, 2]), "a", "whole")
    assert elsewhere["status"].item() == "not_run" and elsewhere["gain_pct"].isna().all()
    with pytest.raises(ValueError, match="'bf16' need .* sweep a; series there: whole, cut"):
        g.gains(pair(), "a", "bf16")
    with pytest.raises(ValueError, match="several rows at one model"):
        g.gains(pd.concat([pair(), pair()]), "a", "whole")


def test_pruned_series_are_read_and_averaged_over_active_counts():
    rows = by_ratio(g.gains(t.pruning(), "pruning", "baseline"))
    one = rows[(rows["kind"] == "intra") & (rows["ratio_pct"] == 50)].iloc[0]
    each = [100 * (1.25 * 1.02**k - 1) for k in (1, 2, 4, 6, 8)]
    assert one[["gain_pct", "gain_pct_lo", "gain_pct_hi"]].to_list() == pytest.approx(
        [np.mean(each), each[0], each[-1]]
    )
    gone = rows[
        (rows["model"] == t.MODELS[2]) & (rows["kind"] == "inter") & (rows["ratio_pct"] == 12.5)
    ].iloc[0]
    assert gone["status"] == "infeasible" and gone["n_places"] == 0 and np.isnan(gone["gain_pct"])
    fig, _ = draw("pruning", "gain_by_ratio")
    assert [text.get_text() for text in fig.axes[0].get_xticklabels()] == ["12.5", "25", "50"]


def test_pruning_has_a_hue_per_kind_and_a_panel_per_kind_and_model():
    fig, _ = draw("pruning", "over_floor")
    looks = {line.get_label(): line.get_color() for line in named(fig.axes[0], "series")}
    assert looks["baseline"] == "black" and len(set(looks.values())) == 7
    other, rows = draw("pruning", "gain")
    assert [ax.get_title() for ax in other.axes] == [
        f"{m}\n{k}" for k in ("inter", "intra") for m in t.MODELS[1:3]
    ]
    assert "baseline" not in words(other) and len(rows) == 60
    assert {
        line.get_label(): line.get_color() for line in named(other.axes[2], "series")
    }.items() <= looks.items()
    assert all(len(named(ax, "level")) == 1 for ax in other.axes)


def test_the_source_range_is_shaded_for_its_own_pair_only():
    fig, _ = draw("quantization", "gain")
    spans = [
        c.get_paths()[0].get_extents()
        for ax in fig.axes
        for c in ax.collections
        if c.get_gid() == "source"
    ]
    assert [(s.y0, s.y1) for s in spans] == [(25, 30), (20, 25)] and spans[0].x0 > 32
    assert "the source's range" in words(fig)
    other, _ = draw("quantization", "gain", "cpu")
    assert "the source's range" not in words(other)
    assert not [c for ax in other.axes for c in ax.collections if c.get_gid() == "source"]


def test_formats_without_a_number_are_marked_and_memory_counts_whole_sequences():
    fig, _ = draw("quantization", "formats")
    assert all(
        [line.get_ydata()[0] for line in named(ax, "missing-infeasible")] == [6] for ax in fig.axes
    )
    assert len(fig.axes) == 3
    _, rows = draw("quantization", "memory")
    assert "batch" not in rows, "the memory of an engine is that of any batch"
    assert list(rows["series"]) == list(t.LADDER_OF_FORMATS)
    fitting = rows.set_index("series")["fitting_batch"]
    assert fitting["bf16"] == 300_000 // 1024 and fitting["fp8 + fp8 KV"] == 600_000 // 1024
    assert np.isnan(fitting["int8 experts"])
    nullable = TABLES["quantization"]["gpu"].astype(
        {"weights_bytes": "Int64", "kv_capacity_tokens": "Int64"}
    )
    assert figures.memory(nullable)[1]["weights_gb"].iloc[0] == 94


def test_layer_figures_share_looks_and_one_floor():
    fig, rows = draw("fused_moe", "layer_time")
    assert len(fig.axes) == 6 and all(len(named(ax, "floor")) == 1 for ax in fig.axes)
    np.testing.assert_allclose(
        rows["layer_time_us"].dropna(),
        TABLES["fused_moe"]["gpu"].query("sweeps == 'layer'")["layer_time_s"].dropna() * 1e6,
    )
    assert {"under a captured graph", "plain calls", "timed out", "physical limit"} <= set(
        words(fig)
    )
    looks = {line.get_label(): line.get_color() for line in named(fig.axes[0], "series")}
    over, ratio = draw("fused_moe", "layer_slowdown")
    assert {
        line.get_label(): line.get_color() for line in named(over.axes[0], "series")
    }.items() <= looks.items()
    assert set(ratio["series"]) == set(t.BACKENDS) - {"fused Triton"}
    assert "layer time" in over._supylabel.get_text() and "physical limit" not in words(
        draw("fused_moe", "layer_time", "cpu")[0]
    )
    cpu, _ = draw("fused_moe", "layer_slowdown", "cpu")
    assert "that of fused (engine's choice)" in cpu._supylabel.get_text()


def test_the_roof_comes_from_the_floors():
    fig, rows = draw("fused_moe", "roofline")
    ridge = named(fig.axes[0], "ridge")[0]
    assert (ridge.get_xdata()[0], ridge.get_ydata()[0]) == pytest.approx(
        (t.PEAK / t.BANDWIDTH, t.PEAK / 1e12)
    )
    assert (rows["tflops"] < rows["roof_tflops"]).all()
    intensity = np.array([1.0, 2.0, 500.0, 900.0])
    assert fused_moe.roof(intensity, np.minimum(100.0, intensity)) == pytest.approx((1.0, 100.0))
    assert fused_moe.roof(intensity[:2], intensity[:2]) == (1.0, np.inf)
    assert fused_moe.roof(intensity[2:], np.array([100.0, 100.0])) == (np.inf, 100.0)
    flat, _ = fused_moe.roofline(t.layers(t.MODELS[:1], (1, 2, 4)))
    assert named(flat.axes[0], "roof") and not named(flat.axes[0], "ridge")


def test_quantized_layers_have_the_plain_kernel_as_reference_where_there_is_one():
    fig, _ = draw("fused_moe", "layer_quantized")
    assert "fused Triton in bf16" in words(fig) and len(fig.axes) == 3
    with pytest.raises(ValueError, match="layer_quantized needs a time of fused Triton"):
        fused_moe.layer_quantized(TABLES["fused_moe"]["gpu"].query("sweeps == 'layer_quantized'"))
    with pytest.raises(
        ValueError,
        match="layer_slowdown needs a time of fused Triton or .* with times: expert loop",
    ):
        fused_moe.layer_slowdown(TABLES["fused_moe"]["gpu"].query("series != 'fused Triton'"))
