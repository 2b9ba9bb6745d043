"""Figures of section 7: what is drawn is what the table says, in both widths."""

import json
from functools import cache

import looks
import numpy as np
import pandas as pd
import pytest
from balance_tables import CPU, GPU, TEXTS, VARIANTS, cpu, gpu
from matplotlib.collections import QuadMesh

from moebook.plot import figure_files
from moebook.plot.figure import of_module
from moebook.sections.load_balancing import figures as f
from moebook.sections.load_balancing.choices import importance as rank_of
from moebook.sections.load_balancing.skew import ep_slowdown

TABLES = {"gpu": gpu, "cpu": cpu}
SWEEPS = {
    "heatmaps": "balance",
    "domains": "balance",
    "ep_balance": "balance",
    "over_training": "training",
    "balance_and_quality": "balance",
    "importance": "importance",
    "real_batches": "real_batches",
    "skew_layer": "skew_layer",
    "skew_ep": "skew_layer",
    "skew_engine": "skew_engine",
}
NAMES = sorted(SWEEPS)
DRAWN = [
    (n, d, w) for n in NAMES for d, w in (("gpu", "page"), ("gpu", "column"), ("cpu", "column"))
]


@cache
def draw(name, device="gpu", width="page"):
    return getattr(f, name)(TABLES[device](), width=width)


def named(ax, gid):
    return [line for line in ax.lines if str(line.get_gid()).startswith(gid)]


def words(fig):
    return [text.get_text() for legend in fig.legends for text in legend.get_texts()]


def titles(fig):
    return [ax.get_title() for ax in fig.axes if ax.get_title()]


def maps(fig):
    """(axes, mesh) of each heat map."""
    found = [(ax, mesh) for ax in fig.axes for mesh in ax.collections if isinstance(mesh, QuadMesh)]
    return [(ax, mesh) for ax, mesh in found if ax.get_label() != "<colorbar>"]


def test_real_batches_lie_where_they_were_planted_between_the_ends():
    fig, rows = draw("real_batches")
    assert titles(fig) == ["tiny-no-balance, batch 4", "tiny-no-balance, batch 16"]
    places = rows.groupby("series", sort=False)["place"].agg(["min", "max"])
    np.testing.assert_allclose(places, [[0.6, 0.6], [0.9, 0.9], [0, 0]], atol=1e-9)
    assert sorted(rows["step"].unique()) == [4.5, 12.5] and "experts drawn evenly" in words(fig)


def test_the_section_names_these_figures():
    assert sorted(g.__name__ for g in of_module(f).values()) == NAMES


@pytest.mark.parametrize(("name", "device", "width"), DRAWN)
def test_width_units_and_nothing_clipped(name, device, width):
    before = TABLES[device]().copy()
    fig, rows = draw(name, device, width)
    pd.testing.assert_frame_equal(before, TABLES[device]())
    assert fig.get_figheight() < 6.5
    looks.assert_readable(fig, rows, width, unitless=name == "domains")


@pytest.mark.parametrize("name", NAMES)
def test_missing_sweeps_columns_and_numbers_are_named(name):
    function, table = getattr(f, name), gpu()
    with pytest.raises(
        ValueError, match=rf"{name} needs sweep '{SWEEPS[name]}', of which .* no row; .*: other"
    ):
        function(table.assign(sweeps="other"))
    with pytest.raises(
        ValueError, match=rf"{name} needs sweep '\w+'; columns missing from the table: "
    ):
        function(table[["sweeps", "status"]])
    with pytest.raises(ValueError, match=rf"{name}: no row has .*\d+ oom"):
        function(table.assign(status="oom"))


def test_a_heat_map_is_the_share_over_uniform_sorted_by_layer():
    fig, rows = draw("heatmaps")
    drawn = [mesh for _, mesh in maps(fig)]
    assert len(drawn) == len(VARIANTS) and titles(fig)[0].startswith("no-balance\nmost chosen ")
    own = gpu()[(gpu()["sweeps"] == "balance") & (gpu()["series"] == "no-balance")]
    counts = np.sum([json.loads(t) for t in own["expert_counts"]], axis=0)
    over = np.sort(counts / counts.sum(1, keepdims=True), axis=1)[:, ::-1] * GPU["experts"]
    np.testing.assert_allclose(drawn[0].get_array(), np.maximum(np.log2(over), -4))
    norm = drawn[0].norm
    assert (norm.vmin, norm.vcenter, norm.vmax) == (-3, 0, 3) and norm is drawn[-1].norm
    assert (
        rows.groupby("variant")["choices"].sum().nunique() == 1
        and len(rows) == 5 * GPU["layers"] * GPU["experts"]
    )
    np.testing.assert_allclose(rows.groupby(["variant", "layer"])["over_uniform"].mean(), 1)


def test_a_checkpoint_of_ones_own_has_its_name_and_an_unmeasured_variant_a_word():
    table = cpu()
    mine = table[(table["sweeps"] == "balance") & (table["series"] == "loss-free")]
    mine = mine.assign(series="trained", model="my-moe", text=lambda x: x["text"] + ".txt")
    gone = table.assign(status=table["status"].mask((table["series"] == "aux-0.1"), "oom"))
    both = pd.concat([gone, mine], ignore_index=True)
    fig, _ = f.heatmaps(both)
    assert [t.split("\n")[0] for t in titles(fig)] == [*VARIANTS, "my-moe"]
    assert [t.get_text() for ax in fig.axes for t in ax.texts] == ["out of memory"]
    fig, rows = f.domains(both)
    assert [t for t in titles(fig)] == [*TEXTS, *(f"{t}.txt" for t in TEXTS)] and set(
        rows["variant"]
    ) >= {"my-moe"}
    fig, _ = f.ep_balance(both)
    assert titles(fig) == [*TEXTS, *(f"{t}.txt" for t in TEXTS)] and "my-moe" in words(fig)


def test_domains_keep_one_order_of_experts():
    fig, rows = draw("domains", "cpu", "column")
    assert len(maps(fig)) == 9 and titles(fig) == list(TEXTS)
    order = rows.pivot_table(index=["variant", "layer", "rank"], columns="text", values="expert")
    assert (order.nunique(axis=1) == 1).all() and len(rows) == 9 * CPU["layers"] * CPU["experts"]
    labels = [ax.get_ylabel() for ax, _ in maps(draw("domains")[0])]
    cv = gpu().query("sweeps == 'balance'").groupby("series")["balance_cv"].mean()
    shown = [label for label in labels if label]
    assert len(shown) == 3 and {cv.idxmin(), cv.idxmax()} < set(shown) < set(VARIANTS)


def test_over_training_draws_both_courses_and_the_level_of_chance():
    fig, rows = draw("over_training")
    left, right = fig.axes
    assert (
        [line.get_label() for line in named(left, "series")]
        == list(VARIANTS)
        == [line.get_label() for line in named(right, "series")]
    )
    first = rows[(rows["series"] == "no-balance") & rows["cv"].notna()]
    np.testing.assert_allclose(named(left, "series")[0].get_ydata(), first["cv"])
    assert first["cv"].iloc[-1] > 5 * first["cv"].iloc[0] and "an even router, by chance" in words(
        fig
    )
    assert named(left, "level")[0].get_ydata()[0] == pytest.approx(first["cv"].iloc[0], rel=0.2)
    curve = json.loads(gpu().loc[gpu()["sweeps"] == "training", "loss_curve"].iloc[0])
    np.testing.assert_allclose(named(right, "series")[0].get_xydata(), curve)


def test_quality_pairs_each_text_with_its_own_perplexity():
    fig, rows = draw("balance_and_quality")
    assert titles(fig) == list(TEXTS) and words(fig) == list(VARIANTS)
    for ax, text in zip(fig.axes, TEXTS, strict=True):
        own = rows[rows["text"] == text]
        points = [line.get_xydata()[0].tolist() for line in named(ax, "points")]
        np.testing.assert_allclose(points, own[["balance_cv", "text_perplexity"]])
        assert own["text_perplexity"].iloc[0] == TEXTS[text] and len(ax.collections) == 5
    with pytest.raises(ValueError, match="balance_and_quality: no row has text_perplexity"):
        f.balance_and_quality(gpu().drop(columns=[f"perplexity_{t}" for t in TEXTS]))


def test_ep_balance_starts_at_one_rank_and_leaves_out_degrees_that_do_not_divide():
    fig, rows = draw("ep_balance")
    line = named(fig.axes[0], "series")[0]
    assert (
        line.get_xdata().tolist() == [1, 2, 4, 8]
        and line.get_ydata()[0] == 1
        and "even ranks" in words(fig)
    )
    own = gpu()[(gpu()["sweeps"] == "balance")].iloc[0]
    assert line.get_ydata()[3] == pytest.approx(own["balance_ep8_max_over_mean"])
    odd = gpu().assign(balance_ep8_max_over_mean=np.nan)
    assert named(f.ep_balance(odd)[0].axes[0], "series")[0].get_xdata().tolist() == [1, 2, 4]
    assert "measured" in words(fig)


def test_importance_shows_every_expert_and_the_correlation():
    fig, rows = draw("importance")
    ok = gpu()[gpu()["sweeps"] == "importance"]
    for ax, (_, row) in zip(fig.axes, ok.iterrows(), strict=False):
        found = rank_of(row)
        assert (
            ax.get_title()
            == f"{row.series}\nρ = {found.value:+.2f} [{found.lo:+.2f}, {found.hi:+.2f}]"
        )
        own = rows[rows["series"] == row.series]
        np.testing.assert_allclose(
            ax.collections[0].get_offsets(), own[["over_uniform", "increase_pct"]]
        )
        low, high = ax.get_ylim()
        assert low <= 0 and high > rows["increase_pct"].max()
    assert len(rows) == 3 * GPU["layers"] * GPU["experts"]


def test_a_skewed_layer_is_drawn_over_its_uniform_self_with_the_prediction():
    fig, rows = draw("skew_layer")
    assert (
        len(fig.axes) == 3
        and "predicted by experts read" in words(fig)
        and "16 tokens" in words(fig)
    )
    uniform = rows[rows["skew"] == 0]
    assert (
        (uniform["ratio"] == 1).all()
        and (uniform["predicted_ratio"] == 1).all()
        and len(uniform) == 21
    )
    at = rows[(rows["model"] == "synthetic-OL-1B-7B") & (rows["tokens"] == 16)].sort_values("skew")
    assert at["ratio"].iloc[-1] < 0.6 and (np.diff(at["ratio"]) < 0).all()
    np.testing.assert_allclose(at["predicted_ratio"], at["ratio"], rtol=0.08)
    ax = fig.axes[[ax.get_title() for ax in fig.axes].index("synthetic-OL-1B-7B")]
    assert any(np.allclose(line.get_ydata(), at["ratio"]) for line in named(ax, "series"))
    assert any(
        np.allclose(line.get_ydata(), at["predicted_ratio"]) for line in named(ax, "predicted")
    )


def test_without_ceilings_the_bytes_predict():
    _, rows = draw("skew_layer", "cpu", "column")
    at = rows[rows["tokens"] == 16].set_index("skew")["predicted_ratio"]
    assert at[2.0] < at[1.0] < at[0.0] == 1


def test_skew_of_an_engine_is_drawn_in_tokens_and_over_uniform():
    fig, rows = draw("skew_engine")
    left, right = fig.axes
    own = gpu()[(gpu()["sweeps"] == "skew_engine") & (gpu()["batch"] == 16)].sort_values("skew")
    np.testing.assert_allclose(named(left, "series")[1].get_ydata(), own["throughput_tok_s"])
    speed = own["throughput_tok_s"].astype(float)
    np.testing.assert_allclose(named(right, "series")[1].get_ydata(), speed / speed.iloc[0])
    assert "timed out" in words(fig) and "batch 64" in words(fig)
    assert np.isnan(named(left, "series")[2].get_ydata()[-1])


def test_ranks_are_predicted_and_labelled_so():
    fig, rows = draw("skew_ep")
    assert [w for w in words(fig) if "PREDICTED" in w] == [
        f"{d} ranks, PREDICTED" for d in (2, 4, 8)
    ]
    assert titles(fig) == [
        "synthetic-OL-1B-7B, reading (64 tokens)",
        "synthetic-OL-1B-7B, computing (16384 tokens)",
    ]
    predicted = rows[rows["ranks"] > 1]
    assert set(predicted["how"]) == {"PREDICTED"} and set(rows.loc[rows["ranks"] == 1, "how"]) == {
        "measured"
    }
    worst = predicted[
        (predicted["ranks"] == 8) & (predicted["skew"] == 2) & (predicted["tokens"] == 16384)
    ]
    assert (
        worst["time_over_uniform"].item() == pytest.approx(ep_slowdown(64, 8, 2.0, 8))
        and ep_slowdown(64, 8, 2.0, 8) > 2
    )
    assert len(named(fig.axes[0], "predicted")) == 3


@pytest.mark.parametrize("name", ["heatmaps", "importance"])
def test_a_second_drawing_is_the_same_bytes(name):
    first, second = (
        figure_files.render(getattr(f, name)(cpu(), width="column")[0], "svg") for _ in range(2)
    )
    assert first == second
