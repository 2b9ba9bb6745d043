"""What pruning experts, or every expert's FFN, gains: the paper's Fig 11, gains over the whole
model, and why so little; and what it costs in quality, perplexity of a trained model by ratio and
criterion, and against the speed it gains. Both of these build their own axes: increases of
perplexity have a scale of their own.

Each function: (table, *, width) -> (Figure, plotted rows); ValueError says which sweep or columns
are missing."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from moebook.explore.views import View
from moebook.plot import layout, markers, panels, style
from moebook.plot.figure import (
    NEEDED,
    Drawing,
    figure,
    gain_label,
    gain_rows,
    one_per_place,
    plotted,
    rows_of,
    values_of,
    with_numbers,
)
from moebook.plot.lines import Spec, lines
from moebook.plot.markers import Looks
from moebook.plot.quality import (
    PARTS,
    better,
    draw_points,
    gain_axis,
    increase_axis,
    looks_legend,
    missing_legend,
    note,
    trained_name,
    without_increase_failed,
)
from moebook.plot.shared import energy, predicted_vs_measured
from moebook.results.gains import QUALITY
from moebook.sections.pruning.pruned import (
    BASELINE,
    CRITERIA,
    KINDS,
    SWEEP,
    by_ratio,
    perplexities,
    with_ratio,
    with_speed,
)

__all__ = ["energy", "predicted_vs_measured"]

HUES = {"inter": ("Blues", "s"), "intra": ("Oranges", "v")}  # of a kind; darker: more pruned
SHADES = (0.45, 0.95)
LEVEL = {"color": "black", "linewidth": 0.8, "gid": "level"}
COLOURS = (style.GREY, *style.OKABE_ITO[:3])  # random choice, the reference, in grey
CRITERION_LOOKS = dict(zip(CRITERIA, zip(COLOURS, "Xos^", strict=True), strict=True))
DODGE = 0.12  # from one criterion to the next, where ratios stand 1 apart
SIZES = (0.8, 1.35)  # of a mark, from the least to the most pruned
ROW = ["series", "kind", "ratio_pct", "criterion", "weights"]
OVER_ACTIVE = Spec("over_active", SWEEP, panel="model", line="series", x="top_k")
GAIN = replace(
    OVER_ACTIVE, name="gain", metric="gain_pct", log_y=False, level=0, level_label="no gain"
)


@figure("fig11_pruning")
def gain(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 11: gain over the whole model (%) over active experts, a panel per kind of pruning and
    model."""
    rows = with_ratio(gain_rows(table, "gain", SWEEP, BASELINE))
    rows = rows.assign(panel=rows["model"] + ", " + rows["kind"])
    rows = rows.sort_values(["kind", "model"], kind="stable")
    spec = replace(GAIN, panel="panel", y_label=gain_label(BASELINE))
    return lines(rows, spec, width=width, looks=_looks(table, "gain"))


@figure("gain_by_ratio")
def gain_by_ratio(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Mean gain over active counts (%), and its range, over the share that is pruned (%): a line
    per kind, a panel per model."""
    rows = by_ratio(gain_rows(table, "gain_by_ratio", SWEEP, BASELINE))
    spec = replace(
        GAIN,
        name="gain_by_ratio",
        sweep=None,
        line="kind",
        x="ratio_pct",
        y_label="mean gain (%)",
        level_label="no gain; bars: range over active experts",
    )
    looks = {
        kind: (mpl.colors.to_hex(mpl.colormaps[hue](0.75)), marker)
        for kind, (hue, marker) in HUES.items()
    }
    return lines(rows, spec, width=width, looks=looks)


@figure("over_floor")
def over_floor(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """TPOT as a multiple of its physical limit over active experts, a panel per model: where the
    multiple grows by pruning, the bytes saved do not become time saved."""
    rows = rows_of(table, "over_floor", SWEEP, ("series", "method", "tpot_s", "floor_tpot_s"))
    with_numbers(rows, "over_floor", ["tpot_s", "floor_tpot_s"])
    bound = rows["floor_tpot_s"].astype(float)
    ends = (end for end in ("", "_lo", "_hi") if f"tpot_s{end}" in rows)
    ratios = {f"over_floor{end}": rows[f"tpot_s{end}"].astype(float) / bound for end in ends}
    spec = replace(
        OVER_ACTIVE,
        name="over_floor",
        metric="over_floor",
        level=1,
        level_label="physical limit",
        y_label="decode step (× physical limit)",
        log_y=False,
    )
    return lines(rows.assign(**ratios), spec, width=width, looks=_looks(table, "over_floor"))


def _looks(table: pd.DataFrame, name: str) -> Looks:
    """The whole model black, each kind of pruning in a hue of its own, darker with the ratio."""
    rows = with_ratio(rows_of(table, name, SWEEP, NEEDED)).drop_duplicates("series")
    rows = rows.assign(marker=style.markers(len(rows)), colour="black")
    for kind, (hue, _) in HUES.items():
        own = rows[rows["kind"] == kind].sort_values("ratio_pct").index
        shades = mpl.colormaps[hue](np.linspace(*SHADES, len(own)))
        rows.loc[own, "colour"] = [mpl.colors.to_hex(shade) for shade in shades]
    return {row.series: (row.colour, row.marker) for row in rows.itertuples()}


@figure("quality")
def quality(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Perplexity over that of the whole model (%), by ratio and criterion, a panel per kind of
    pruning."""
    rows, looks = _pruned_rows(table, "quality")
    kinds, ratios = values_of(rows, "kind"), values_of(rows, "ratio_pct")
    place = dict(zip(looks, DODGE * (np.arange(len(looks)) - (len(looks) - 1) / 2), strict=True))
    rows = rows.assign(_x=rows["ratio_pct"].map(ratios.index) + rows["criterion"].map(place))
    with style.paper_style(width):
        fig = Figure(figsize=panels.size(max(2, len(kinds)), width), layout="constrained")
        axes = panels.grid_of_axes(fig, len(kinds), width, sharex=True, sharey=True)
        for ax, kind in zip(axes, kinds, strict=True):
            level = ax.axhline(0, linestyle=markers.DASHES, **LEVEL)
            own = rows[rows["kind"] == kind].sort_values("ratio_pct")
            for criterion, look in looks.items():
                _increases(ax, own[own["criterion"] == criterion], "_x", look, CRITERIA[criterion])
            ax.set_title(KINDS[kind])
            ax.set_xlim(-0.5, len(ratios) - 0.5)
            ax.set_xticks(range(len(ratios)), [f"{ratio:g} %" for ratio in ratios])
            ax.grid(False, axis="x")
            for i in range(1, len(ratios)):
                ax.axvline(i - 0.5, color="0.8", linewidth=0.6, gid="between")
        increase_axis(axes, rows)
        fig.supxlabel("pruned (share of experts or of their width)")
        fig.supylabel("perplexity increase (%)")
        marks, words = missing_legend(rows)
        notes = [*marks, level, note("|", markersize=7)], [*words, "whole model", PARTS]
        layout.settle(fig, looks_legend(looks, CRITERIA), notes)
        return fig, plotted(rows, ["perplexity", "increase_pct"], ROW)


@figure("quality_and_speed")
def quality_and_speed(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Perplexity increase (%) of the trained model against the throughput gain (%), mean over
    active experts, of each model of sweep `pruning` at the same kind and ratio; a panel per kind
    and such model."""
    rows, looks = _pruned_rows(table, "quality_and_speed")
    gains = gain_rows(table, "quality_and_speed", SWEEP, BASELINE)
    rows = with_speed(rows, gains)
    with_numbers(rows, "quality_and_speed", ["increase_pct", "gain_pct"])
    known = rows[rows["gain_pct"].notna()]
    kinds, models = values_of(known, "kind"), values_of(known, "speed_model")
    places = [(kind, model) for kind in kinds for model in models]
    with style.paper_style(width):
        fig = Figure(figsize=panels.size(len(places), width, 2), layout="constrained")
        axes = panels.grid_of_axes(fig, len(places), width, 2, sharex=True, sharey=True)
        for ax, (kind, model) in zip(axes, places, strict=True):
            own = known[(known["kind"] == kind) & (known["speed_model"] == model)]
            for criterion, path in own.groupby("criterion", sort=False):
                _path(ax, path.sort_values("ratio_pct"), looks[criterion], _sizes(rows))
            ax.plot([0], [0], color="black", marker="o", markersize=4, gid="whole", zorder=4)
            ax.set_title(panels.title(f"{KINDS[kind]}, {model}", len(places), width, 2))
        gain_axis(axes[0], known)
        fig.supxlabel("throughput gain (%)")
        increase_axis(axes, rows, ["increase_pct"])
        fig.supylabel(f"perplexity increase of\n{trained_name(rows)} (%)")
        layout.settle(fig, looks_legend(looks, CRITERIA), _quality_notes(rows))
        shown = ["perplexity", "increase_pct", "gain_pct"]
        return fig, plotted(rows, shown, [*ROW, "speed_model", "n_places"])


def _pruned_rows(table: pd.DataFrame, name: str) -> tuple[pd.DataFrame, markers.Looks]:
    """The pruned rows, and a look per criterion in them."""
    rows_of(table, name, QUALITY, ("series", "weights", "method", "perplexity"))
    rows = perplexities(table).dropna(subset=["kind", "criterion"])
    if rows.empty:
        raise ValueError(
            f"{name}: sweep {QUALITY!r} has no row of a pruned model, which its weights name"
        )
    rows = without_increase_failed(rows)
    one_per_place(rows, name, ("kind", "ratio_pct", "criterion"))
    with_numbers(rows, name, ["increase_pct"])
    return rows, {
        name: look for name, look in CRITERION_LOOKS.items() if name in set(rows["criterion"])
    }


def _increases(ax: Axes, rows: pd.DataFrame, x: str, look: tuple[str, str], label: str) -> None:
    """A line of increases with bars; a mark at the foot where there is no number."""
    ok = rows["status"] == "ok"
    draw_points(ax, rows[ok], x, "increase_pct", look, label)
    for status, gone in rows[~ok].groupby("status"):
        style.mark_missing(ax, gone[x], status, look[0])


def _path(ax: Axes, rows: pd.DataFrame, look: tuple[str, str], sizes: dict) -> None:
    """From the whole model at the origin along the ratios, a mark per ratio; no bars: those of a
    gain are its range over active experts."""
    ok = rows[rows["status"] == "ok"]
    x, y = (np.array([0.0, *ok[c].astype(float)]) for c in ("gain_pct", "increase_pct"))
    ax.plot(x, y, color=look[0], linewidth=0.6, gid="path")
    for row in ok.itertuples():
        mark = markers.marker_look("full", *look)[0]
        mark["markersize"] *= sizes[row.ratio_pct]
        line = ax.plot(row.gain_pct, row.increase_pct, linestyle="none", zorder=3, **mark)[0]
        line.set(gid=f"points-{row.kind}", label=f"{row.series}, {row.criterion}")
    for status, gone in rows[rows["status"] != "ok"].groupby("status"):
        style.mark_missing(ax, gone["gain_pct"], status, look[0])


def _sizes(rows: pd.DataFrame) -> dict[float, float]:
    """ratio -> how large its marks are"""
    ratios = values_of(rows, "ratio_pct")
    sizes = np.linspace(*SIZES, len(ratios)) if len(ratios) > 1 else [1.0]
    return dict(zip(ratios, sizes, strict=True))


def _quality_notes(rows: pd.DataFrame) -> tuple[list, list[str]]:
    """What sizes and marks mean, and where it is good to be."""
    notes = {"whole model": note("o", "black", markersize=4)}
    sizes = list(_sizes(rows).items())
    if len(sizes) > 1:
        for (ratio, size), word in zip((sizes[0], sizes[-1]), ("% pruned", "%"), strict=True):
            handle = note("o", markersize=size * style.RC["lines.markersize"])
            notes[f"{ratio:g} {word}"] = handle
    marks, words = missing_legend(rows)
    return [*notes.values(), *marks, better()], [*notes, *words, "better"]


QUALITY_VIEW = ("ratio_pct", "criterion", "kind", "increase_pct")
VIEWS = (
    View("gain", SWEEP, "top_k", "series", "model", over=("series", "baseline")),
    View("Fig 11: throughput", SWEEP, "top_k", "series", "model"),
    View("quality", None, *QUALITY_VIEW, log_x=False, table=perplexities),
)
