"""What pruning costs in quality: perplexity of a trained model by ratio and criterion, and against
the speed it gains.

Each function: (summary, *, width) -> (Figure, plotted rows); ValueError says which sweep or columns
are missing."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter

from moebook.plot import layout, lines, style
from moebook.plot.figure import figure
from moebook.plot.gains import gain_rows
from moebook.plot.lines import Spec
from moebook.plot.rows import one_per_place, plotted, rows_of, values_of, with_numbers
from moebook.results.gains import BASELINE
from moebook.results.perplexity import SWEEP, quality_rows, with_speed

# criterion -> (words, colour, marker); random, the reference, in grey
CRITERIA = {
    "random": ("random", style.GREY, "X"),
    "norm": ("weight norm", style.OKABE_ITO[0], "o"),
    "frequency": ("activation frequency", style.OKABE_ITO[1], "s"),
    "routed_activation": ("routed activation", style.OKABE_ITO[2], "^"),
}
KINDS = {
    "inter": ("inter-expert", "full"),
    "intra": ("intra-expert", "none"),
}  # words, how its marks are filled
SPEC = Spec(
    "quality",
    SWEEP,
    panel="kind",
    line="criterion",
    x="ratio_pct",
    level=0,
    level_label="whole model",
)
PARTS = "bars: easiest to hardest part of the text"
DODGE = 0.17  # from one criterion to the next, where ratios stand 1 apart
SIZES = (0.8, 1.35)  # of a mark, from the least to the most pruned
LINEAR_UNDER = 100  # percent; from there on the axis has equal ratios at equal distances
LEAST_SPAN = 1.0  # percent that an axis of increases shows at least, so that noise looks like noise
TICKS = (
    -50,
    -20,
    -10,
    0,
    10,
    20,
    50,
    100,
    150,
    200,
    300,
    500,
    1000,
    2000,
    5000,
    10_000,
    20_000,
    50_000,
    100_000,
)


@figure("quality")
def quality(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Perplexity over that of the whole model (%), by ratio and criterion, a panel per kind of
    pruning."""
    rows, ok = _rows(summary, "quality")
    kinds, ratios, looks = values_of(rows, "kind"), values_of(rows, "ratio_pct"), _looks(rows)
    place = {criterion: DODGE * (i - (len(looks) - 1) / 2) for i, criterion in enumerate(looks)}
    rows = rows.assign(_x=rows["ratio_pct"].map(ratios.index) + rows["criterion"].map(place))
    with style.paper_style(width):
        fig = Figure(figsize=lines.panel_size(max(2, len(kinds)), width), layout="constrained")
        axes = lines.grid_of_axes(fig, len(kinds), width, sharex=True, sharey=True)
        for ax, kind in zip(axes, kinds, strict=True):
            _by_ratio(ax, rows[rows["kind"] == kind], looks)
            ax.set_title(KINDS.get(kind, (kind,))[0])
            ax.set_xlim(-0.5, len(ratios) - 0.5)
            ax.set_xticks(range(len(ratios)), [f"{ratio:g}" for ratio in ratios])
            ax.grid(False, axis="x")
        _increase_axis(axes, rows)
        fig.supxlabel("pruned (% of experts or of their width)")
        fig.supylabel("perplexity increase (%)")
        notes = lines.notes_legend(rows, ok, SPEC)
        bar = Line2D([], [], color=style.GREY, marker="|", markersize=7, linestyle="none")
        layout.settle(fig, _criteria_legend(looks), ([*notes[0], bar], [*notes[1], PARTS]))
        return fig, plotted(
            rows,
            ["perplexity", "increase_pct"],
            ["series", "kind", "ratio_pct", "criterion", "weights"],
        )


@figure("quality_and_speed")
def quality_and_speed(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Perplexity increase (%) of the trained model against the throughput gain (%), mean over
    active experts, of each model of sweep `pruning` at the same kind and ratio; a panel per such
    model."""
    rows, _ = _rows(summary, "quality_and_speed")
    rows = with_speed(rows, gain_rows(summary, "quality_and_speed", "pruning", BASELINE))
    with_numbers(rows, "quality_and_speed", ["increase_pct", "gain_pct"])
    looks, models = _looks(rows), values_of(rows, "speed_model")
    shape, tall = (
        ((1, len(models)), 2.5) if width == "page" else ((len(models), 1), 2.1 * len(models))
    )
    with style.paper_style(width) as inches:
        fig = Figure(figsize=(inches, tall), layout="constrained")
        axes = list(fig.subplots(*shape, sharey=True, squeeze=False).flat)
        for ax, model in zip(axes, models, strict=True):
            _trade(ax, rows[rows["speed_model"] == model], looks, values_of(rows, "ratio_pct"))
            ax.set_xlabel(f"throughput gain of\n{model} (%)")
        _increase_axis(axes, rows, bars=False)
        fig.supylabel(f"perplexity increase of\n{trained_name(rows)} (%)")
        layout.settle(fig, _criteria_legend(looks), _trade_notes(rows), handler_map=lines.HANDLERS)
        return fig, plotted(
            rows,
            ["perplexity", "increase_pct", "gain_pct"],
            ["series", "kind", "ratio_pct", "criterion", "weights", "speed_model", "n_places"],
        )


def trained_name(rows: pd.DataFrame) -> str:
    """What an axis calls the model whose perplexity it shows."""
    tiny = "weights" in rows and str(rows["weights"].iloc[0]).startswith("tiny:")
    return "the trained tiny model" if tiny else str(rows["model"].iloc[0])


def _rows(summary: pd.DataFrame, figure: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The pruned rows, and those of them that have a number."""
    rows_of(summary, figure, SWEEP, ("series", "weights", "method", "perplexity"))
    rows = quality_rows(summary)
    rows = rows[rows["kind"].notna() & rows["criterion"].notna()]
    if rows.empty:
        raise ValueError(
            f"{figure}: sweep {SWEEP!r} has no row of a pruned model, which its weights name"
        )
    rows = rows.assign(
        status=rows["status"].mask((rows["status"] == "ok") & rows["increase_pct"].isna(), "failed")
    )
    one_per_place(rows, figure, ("kind", "ratio_pct", "criterion"))
    return rows, with_numbers(rows, figure, ["increase_pct"])


def _looks(rows: pd.DataFrame) -> dict[str, tuple[str, str, str]]:
    """(words, colour, marker) per criterion, in the order of CRITERIA and then of the table."""
    found = dict.fromkeys(
        [*(c for c in CRITERIA if c in set(rows["criterion"])), *rows["criterion"]]
    )
    others = [c for c in found if c not in CRITERIA]
    more = {
        c: (c, style.OKABE_ITO[3:][i % 4], style.MARKERS[4 + i % 6]) for i, c in enumerate(others)
    }
    return {c: CRITERIA.get(c) or more[c] for c in found}


def _by_ratio(ax: Axes, rows: pd.DataFrame, looks: dict) -> None:
    ax.axhline(0, color="black", linewidth=0.8, linestyle=lines.DASHES, zorder=1.5, gid="level")
    for criterion, (words, colour, marker) in looks.items():
        own = rows[rows["criterion"] == criterion].sort_values("ratio_pct")
        ok = own[own["status"] == "ok"]
        x, y = ok["_x"].to_numpy(), ok["increase_pct"].to_numpy(float)
        bars = style.error_bars(ok, "increase_pct")
        if bars is not None and len(ok):
            ax.errorbar(x, y, yerr=bars, fmt="none", ecolor=colour, elinewidth=0.8, capsize=1.5)
        ax.plot(
            x,
            y,
            color=colour,
            linewidth=0.6,
            marker=marker,
            markersize=_size(marker),
            label=words,
            gid="points",
        )
        for status, gone in own[own["status"] != "ok"].groupby("status"):
            style.mark_missing(ax, gone["_x"], status, colour)


def _trade(ax: Axes, rows: pd.DataFrame, looks: dict, ratios: list[float]) -> None:
    """From the whole model at the origin along the ratios, a line per kind and criterion."""
    sizes = dict(
        zip(ratios, np.linspace(*SIZES, len(ratios)) if len(ratios) > 1 else [1.0], strict=True)
    )
    for (kind, criterion), own in rows.groupby(["kind", "criterion"], sort=False):
        _, colour, marker = looks[criterion]
        own = own.sort_values("ratio_pct")
        ok = own[(own["status"] == "ok") & own["gain_pct"].notna()]
        x, y = (np.array([0.0, *ok[c].astype(float)]) for c in ("gain_pct", "increase_pct"))
        ax.plot(
            x, y, color=colour, linewidth=0.6, linestyle="-" if kind == "inter" else ":", gid="path"
        )
        for row in ok.itertuples():
            ax.plot(
                [row.gain_pct],
                [row.increase_pct],
                linestyle="none",
                gid=f"points-{kind}",
                color=colour,
                marker=marker,
                markerfacecolor=colour if KINDS.get(kind, ("", "none"))[1] == "full" else "white",
                zorder=3,
                markersize=_size(marker) * sizes[row.ratio_pct],
                label=f"{row.series}, {criterion}",
            )
        for status, gone in own[(own["status"] != "ok") & own["gain_pct"].notna()].groupby(
            "status"
        ):
            style.mark_missing(ax, gone["gain_pct"], status, colour)
    ax.plot(
        [0], [0], marker="o", color="black", markersize=4, linestyle="none", gid="whole", zorder=4
    )
    span = np.append(rows["gain_pct"].dropna().to_numpy(float), 0.0)
    room = 0.08 * max(np.ptp(span), LEAST_SPAN)
    style.value_axis([ax], span.min() - room, span.max() + room, axis="x")


def _size(marker: str) -> float:
    return style.MARKER_SIZES.get(marker, style.RC["lines.markersize"])


def _increase_axis(axes: list[Axes], rows: pd.DataFrame, bars: bool = True) -> None:
    """Percent of increase with 0 in sight: linear, or from a doubling on with equal ratios at equal
    distances."""
    ends = ["increase_pct", *(["increase_pct_lo", "increase_pct_hi"] if bars else [])]
    values = np.append(rows.loc[rows["status"] == "ok", ends].to_numpy(float).ravel(), 0.0)
    increase_scale(
        axes, np.nanmin(values), np.nanmax(values), marks=int((rows["status"] != "ok").any())
    )


def increase_scale(axes: list[Axes], low: float, high: float, marks: int = 0) -> None:
    """The scale of an axis of increases (%) from `low` to `high`, with room at its foot for `marks`
    rows of marks."""
    high, foot = max(high, low + LEAST_SPAN), 0.07 + style.MARK_STEP * marks
    if high < LINEAR_UNDER:
        style.value_axis(axes, low - foot * (high - low), high)
        return
    left, right = _log(low), _log(high)
    limits = left - foot * (right - left), right + 0.07 * (right - left)
    ticks: list[float] = []
    for tick in sorted((t for t in TICKS if limits[0] <= _log(t) <= limits[1]), key=abs):
        if all(abs(_log(tick) - _log(seen)) > 0.1 * (limits[1] - limits[0]) for seen in ticks):
            ticks.append(tick)
    for ax in axes:
        ax.set_yscale("function", functions=(_log, _percent))
        ax.set_ylim(*map(_percent, limits))
        ax.yaxis.set_major_locator(FixedLocator(sorted(ticks)))
        ax.yaxis.set_major_formatter(FuncFormatter(style.short_number))


def _log(percent):
    return np.log1p(np.maximum(percent, -99.9) / 100)


def _percent(log):
    return 100 * np.expm1(log)


def _criteria_legend(looks: dict) -> tuple[list, list[str]]:
    return (
        [
            Line2D([], [], linestyle="none", color=colour, marker=marker, markersize=_size(marker))
            for _, colour, marker in looks.values()
        ],
        [words for words, *_ in looks.values()],
    )


def _trade_notes(rows: pd.DataFrame) -> tuple[list, list[str]]:
    """What fillings, sizes and marks mean, and where it is good to be."""
    grey = {"marker": "o", "color": style.GREY, "linestyle": "none"}
    found = [(Line2D([], [], **{**grey, "color": "black"}, markersize=4), "whole model")]
    for kind in values_of(rows, "kind"):
        words, fill = KINDS.get(kind, (kind, "none"))
        found.append(
            (
                Line2D([], [], **grey, markerfacecolor=style.GREY if fill == "full" else "white"),
                words,
            )
        )
    ratios = values_of(rows, "ratio_pct")
    if len(ratios) > 1:
        ends = tuple(Line2D([], [], **grey, markersize=_size("o") * size) for size in SIZES)
        found.append((ends[0], f"{ratios[0]:g} % pruned"))
        found.append((ends[1], f"{ratios[-1]:g} %"))
    for status, (marker, label) in style.MISSING.items():
        if (rows["status"] == status).any():
            found.append((Line2D([], [], linestyle="none", marker=marker, color=style.GREY), label))
    found.append(
        (
            Line2D([], [], linestyle="none", marker="$\\searrow$", color="black", markersize=7),
            "better",
        )
    )
    return [handle for handle, _ in found], [label for _, label in found]
