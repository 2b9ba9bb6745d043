"""What speculative decoding costs and yields: the paper's Fig 12 with its baseline, and the
speed-up of cost and acceptance.

Each function: (table, a row per point; width) -> (Figure, plotted rows); ValueError says which
sweep or columns are missing."""

from dataclasses import replace

import pandas as pd
import seaborn
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from moebook.explore.views import View
from moebook.plot import layout, lines, markers, panels, style
from moebook.plot.figure import (
    AXES,
    Drawing,
    figure,
    gain_rows,
    has_sweep,
    one_per_place,
    plotted,
    reading,
    rows_of,
    values_of,
    with_numbers,
)
from moebook.plot.lines import Spec
from moebook.plot.shared import energy, predicted_vs_measured
from moebook.results.gains import PLACE
from moebook.sections.speculative_decoding import drafts
from moebook.sections.speculative_decoding.acceptance_figures import (
    acceptance,
    by_position,
    experts_hit,
    looks_of,
)
from moebook.sections.speculative_decoding.plan import PLAIN

__all__ = ["acceptance", "by_position", "energy", "experts_hit", "predicted_vs_measured"]

BY_SERIES = {"panel": "model", "line": "series"}
COST = ("series", "method", "draft_tokens", "tokens_per_step", "tpot_s", *PLACE)
SIDES = {"spec_tokens": "draft_tokens", "spec_batch": "batch"}  # of `break_even`: sweep -> x
FOOT = {"linestyle": "none", "color": style.GREY, "markersize": 4.5}
BAND = 0.18  # height of the band under zero, as a share of the panel above it
NEVER = "pays at no acceptance"
NEVER_AT = 1.06  # height at which drafts that never pay are marked
ACROSS = {"color": "black", "linewidth": 0.8, "linestyle": markers.DASHES}
EVEN = Spec("break_even", None, **BY_SERIES, x="draft_tokens", metric="break_even")


@figure("fig12_length")
def over_length(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 12: throughput over input = output length, a line per draft and one without."""
    spec = Spec("over_length", "spec_length", **BY_SERIES, x="input_tokens", log_y=False)
    return lines.lines(table, spec, width=width, looks=_looks_of(table, spec))


@figure("over_batch")
def over_batch(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Throughput over that without speculation (×) over batch, a line per draft."""
    spec = Spec(
        "over_batch",
        None,
        **BY_SERIES,
        x="batch",
        metric="ratio",
        log_y=False,
        level=1,
        level_label=PLAIN,
        y_label=f"throughput (× {PLAIN})",
    )
    rows = gain_rows(table, spec.name, "spec_batch", PLAIN)
    fig, _ = lines.lines(rows, spec, width=width, looks=looks_of(values_of(rows, "series")))
    return fig, plotted(rows, ["throughput_tok_s", "ratio"], ["series", "draft_tokens"])


@figure("fig12_tokens")
def over_draft_tokens(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 12: throughput over draft tokens, a line per draft; no speculation as a level across."""
    spec = Spec(
        "over_draft_tokens", "spec_tokens", **BY_SERIES, x="draft_tokens", floors=False, log_y=False
    )
    rows = rows_of(table, spec.name, spec.sweep, (spec.metric, *COST))
    is_plain = rows["series"] == PLAIN
    level = rows.loc[is_plain, spec.metric].dropna()
    if len(level):
        spec = replace(spec, level=float(level.iloc[0]), level_label=PLAIN)
    fig, shown = lines.lines(rows[~is_plain], spec, width=width, looks=_looks_of(table, spec))
    for ax in fig.axes:
        ax.set_ylim(bottom=0)
    plain = plotted(rows[is_plain], [spec.metric], ["series", "draft_tokens"])
    return fig, pd.concat([plain, shown], ignore_index=True)


def _looks_of(table: pd.DataFrame, spec: Spec) -> markers.Looks:
    rows = rows_of(table, spec.name, spec.sweep, ("series", "draft_tokens"))
    return looks_of(values_of(rows, "series"))


def _ratios(table: pd.DataFrame, figure: str, sweep: str) -> pd.DataFrame:
    """Rows with a draft and their `cost_ratio`. ValueError where columns, the baseline or numbers
    are missing."""
    rows = rows_of(table, figure, sweep, COST)
    with_numbers(rows, figure, ["tpot_s"])
    one_per_place(rows, figure, ("series", "draft_tokens", *PLACE))
    return drafts.cost_ratio(rows, sweep).assign(sweep=sweep)


@figure("speedup")
def speedup(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Speed-up of decoding over acceptance: a curve per draft from its measured cost, a panel per
    number of draft tokens. Points: the run itself, at the acceptance it had. In the band: what the
    trained tiny drafts reached.

    Axes of its own for these three layers."""
    runs = with_numbers(_ratios(table, "speedup", "spec_tokens"), "speedup", ["cost_ratio"])
    runs = runs.assign(speedup=runs["tokens_per_step"].astype(float) / runs["cost_ratio"])
    curves, counts = drafts.compose(runs), values_of(runs, "draft_tokens")
    ends = [c for c in curves if c.startswith("speedup")]  # of which seaborn draws line and band
    values = curves.melt(["acceptance", "draft_tokens", "series"], ends).astype({"value": float})
    looks = looks_of(values_of(runs, "series"))
    marks = drafts.reached(table)
    shapes = dict(zip(marks.index, style.MARKERS[5:] + style.MARKERS[:5], strict=False))
    with style.paper_style(width):
        fig = Figure(figsize=panels.size(len(counts), width), layout="constrained")
        axes = panels.grid_of_axes(fig, len(counts), width, sharex=True, sharey=True)
        for ax, k in zip(axes, counts, strict=True):
            ax.axhline(1, gid="level", **ACROSS)
            seaborn.lineplot(
                values[values["draft_tokens"] == k],
                x="acceptance",
                y="value",
                hue="series",
                palette={name: colour for name, (colour, _) in looks.items()},
                err_kws={"linewidth": 0, "alpha": 0.15},
                legend=False,
                ax=ax,
                estimator="median",
                errorbar=("pi", 100),
            )
            for run in runs[runs["draft_tokens"] == k].itertuples():
                colour, marker = looks[run.series]
                ax.plot(run.acceptance, run.speedup, color=colour, marker=marker, gid="run")
            title = "1 draft token" if k == 1 else reading("draft_tokens", k)
            ax.set(xlabel="", ylabel="", title=title)
        style.value_axis(axes, 0, max(curves["speedup"].max(), 1))
        style.value_axis(axes, 0, 1, axis="x")
        for ax in axes if len(marks) else ():
            _reached(ax, marks, shapes)
        fig.supxlabel("acceptance of a draft token (share)")
        fig.supylabel("speed-up of decoding (×)")
        handles, labels = lines.series_legend(EVEN, looks)
        found = [Line2D([], [], marker=shapes[name], **FOOT) for name in marks.index]
        words = [
            f"{name.removeprefix('draft ')} reached {value:.2f}" for name, value in marks.items()
        ]
        known = ([*handles, Line2D([], [], **ACROSS)], [*labels, PLAIN])
        layout.settle(fig, known, (found, words), handler_map=markers.HANDLERS)
    columns = ["series", "draft", "draft_tokens", *PLACE, "acceptance"]
    return fig, curves[[*columns, *curves.filter(like="speedup"), "cost_ratio"]]


def _reached(ax: Axes, marks: pd.Series, shapes: dict[str, str]) -> None:
    """What trained drafts reached, in a band of its own under zero: two rows, as they are alike."""
    high, ticks = ax.get_ylim()[1], ax.get_yticks()
    ax.axhspan(-BAND * high, 0, color="0.92", linewidth=0, zorder=0.5, gid="band")
    for i, (name, value) in enumerate(marks.items()):
        height = -BAND * high * (0.3 + 0.4 * (i % 2))
        ax.plot(value, height, marker=shapes[name], gid=f"reached-{name}", **FOOT)
    ax.set_ylim(-BAND * high, high)
    ax.set_yticks([tick for tick in ticks if 0 <= tick <= high])


@figure("break_even")
def break_even(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """The acceptance from which a draft pays, over draft tokens and over batch, a line per draft.

    Axes of its own: each panel has another x axis."""
    sides = {sweep: x for sweep, x in SIDES.items() if has_sweep(table, sweep)} or SIDES
    rows = pd.concat([_ratios(table, "break_even", s) for s in sides], ignore_index=True)
    ok = rows.index.isin(with_numbers(rows, "break_even", ["cost_ratio"]).index)
    rows = rows.assign(never=ok & rows["break_even"].isna())
    rows = rows[rows["series"].isin(rows.loc[ok, "series"])]  # a draft that ran nowhere has no line
    drawn = rows.assign(status=rows["status"].mask(rows["never"], "never"))
    looks, given = looks_of(values_of(rows, "series")), rows["set_acceptance"].dropna()
    spec = EVEN
    if len(given):
        spec = replace(spec, level=given.iloc[0], level_label="acceptance set in these runs")
    star = {"linestyle": "none", "marker": "*", "gid": "never"}
    with style.paper_style(width) as inches:
        fig = Figure(figsize=(inches, 2.2), layout="constrained")
        axes = list(fig.subplots(1, len(sides), sharey=True, squeeze=False).flat)
        for ax, (sweep, x) in zip(axes, sides.items(), strict=True):
            own = drawn[drawn["sweep"] == sweep]
            lines.draw_lines(ax, own, replace(spec, x=x), looks)
            lines.x_scale([ax], own, replace(spec, x=x), width)
            for row in own[own["never"]].itertuples():
                ax.plot(getattr(row, x), NEVER_AT, color=looks[row.series][0], **star)
            ax.set_xlabel(AXES[x][0].replace(" (", "\n(" if width == "column" else " ("))
            held = "batch" if x == "draft_tokens" else "draft_tokens"
            ax.set_title(", ".join(reading(held, v) for v in values_of(own, held)))
        marks = max(
            lines.rows_of_marks(drawn, replace(spec, panel="sweep", x=x)) for x in sides.values()
        )
        style.value_axis(axes, 0, NEVER_AT, marks=marks)
        fig.supylabel("break-even acceptance (share)")
        handles, labels = lines.notes_legend(rows, rows[rows["break_even"].notna()], spec, None)
        if rows["never"].any():
            handles.append(Line2D([], [], color=style.GREY, **star))
            labels.append(NEVER)
        legend = lines.series_legend(spec, looks)
        layout.settle(fig, legend, (handles, labels), handler_map=markers.HANDLERS)
    more = ["sweep", "series", "draft_tokens", "never", "set_acceptance"]
    return fig, plotted(rows, ["cost_ratio", "break_even"], more)


OVER = ("series", PLAIN)
VIEWS = (
    View("Fig 12: draft tokens", "spec_tokens", "draft_tokens", "series", log_x=False),
    View("Fig 12: length", "spec_length", "input_tokens", "series", over=OVER),
    View("over batch", "spec_batch", "batch", "series", over=OVER),
    View(
        "acceptance", "acceptance", "temperature", "series", "text", "acceptance_rate", log_x=False
    ),
    View(
        "experts hit", "acceptance|spec_tokens", "draft_tokens", "series", metric="experts_per_step"
    ),
)
