"""What speculative decoding costs and yields: the paper's Fig 12 with its baseline, acceptance, and
the speed-up of both.

Each function: (summary, *, width) -> (Figure, plotted rows); ValueError says which sweep or columns
are missing."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from moebook.explore.views import View
from moebook.plot import layout, style
from moebook.plot import lines as panels
from moebook.plot.checks import predicted_vs_measured
from moebook.plot.figure import figure
from moebook.plot.lines import Spec, lines
from moebook.plot.rows import (
    AXES,
    has_sweep,
    one_per_place,
    plotted,
    reading,
    rows_of,
    values_of,
    with_numbers,
)
from moebook.predict import speculation
from moebook.predict.speculation import PLAIN
from moebook.results.gains import PLACE
from moebook.sections.speculative_decoding.acceptance_figures import (
    acceptance,
    by_position,
    experts_hit,
    looks_of,
)

__all__ = [
    "predicted_vs_measured",
    "acceptance",
    "break_even",
    "by_position",
    "experts_hit",
    "over_batch",
    "over_draft_tokens",
    "over_length",
    "speedup",
]

SPECS = {
    spec.name: spec
    for spec in (
        Spec(
            "over_length",
            "spec_length",
            panel="model",
            line="series",
            x="input_tokens",
            log_y=False,
        ),
        Spec(
            "over_draft_tokens",
            "spec_tokens",
            panel="model",
            line="series",
            x="draft_tokens",
            floors=False,
            log_y=False,
        ),
        Spec("over_batch", "spec_batch", panel="model", line="series", x="batch"),
        Spec(
            "break_even",
            "spec_tokens",
            panel="panel",
            line="series",
            x="draft_tokens",
            metric="break_even",
            level=0.0,
        ),
    )
}
SIDES = (("spec_tokens", "draft_tokens"), ("spec_batch", "batch"))  # of `break_even`
COST = ("series", "method", "draft_tokens", "tokens_per_step", "tpot_s", *PLACE)
SPEEDUP_LABEL = "speed-up of decoding (×)"
BREAK_EVEN_LABEL = "break-even acceptance (share)"
NEVER = "pays at no acceptance"
EVEN = "no speculation"
NEVER_AT = 1.06  # height at which drafts that never pay are marked
SET_LABEL = "acceptance set in these runs"


@figure("fig12_length")
def over_length(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Fig 12: throughput over input = output length, a line per draft and one without."""
    return lines(
        summary, SPECS["over_length"], width=width, looks=_looks_of(summary, "over_length")
    )


@figure("over_batch")
def over_batch(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Throughput over batch, a line per draft and one without."""
    return lines(summary, SPECS["over_batch"], width=width, looks=_looks_of(summary, "over_batch"))


@figure("fig12_tokens")
def over_draft_tokens(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Fig 12: throughput over draft tokens, a line per draft; no speculation as a level across."""
    spec = SPECS["over_draft_tokens"]
    looks = _looks_of(summary, spec.name)
    rows = rows_of(summary, spec.name, spec.sweep, (spec.metric, *COST))
    plain = rows[rows["series"] == PLAIN]
    level = plain[spec.metric].dropna()
    if len(level):
        spec = Spec(**{**vars(spec), "level": float(level.iloc[0]), "level_label": PLAIN})
    fig, shown = lines(rows[rows["series"] != PLAIN], spec, width=width, looks=looks)
    for ax in fig.axes:
        ax.set_ylim(bottom=0)
    return fig, pd.concat(
        [plotted(plain, [spec.metric], ["series", "draft_tokens"]), shown], ignore_index=True
    )


def _looks_of(summary: pd.DataFrame, figure: str) -> panels.Looks:
    return looks_of(
        values_of(
            rows_of(summary, figure, SPECS[figure].sweep, ("series", "draft_tokens")), "series"
        )
    )


def _ratios(summary: pd.DataFrame, figure: str, sweeps: tuple[str, ...]) -> pd.DataFrame:
    """Rows with a draft and their `cost_ratio`. ValueError where columns, the baseline or numbers
    are missing."""
    found = []
    for sweep in sweeps:
        rows = rows_of(summary, figure, sweep, COST)
        with_numbers(rows, figure, ["tpot_s"])
        one_per_place(rows, figure, ("series", "draft_tokens", *PLACE))
        found.append(speculation.cost_ratio(rows, sweep).assign(sweep=sweep))
    out = pd.concat(found, ignore_index=True)
    with_numbers(out, figure, ["cost_ratio"])
    return out


@figure("speedup")
def speedup(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Speed-up of decoding over acceptance: a curve per draft from its measured cost, a panel per
    number of draft tokens.

    Points: the run itself, at the acceptance it had. Marks at the foot: what the trained tiny
    drafts reached."""
    rows = _ratios(summary, "speedup", ("spec_tokens",))
    rows = rows[(rows["status"] == "ok") & rows["cost_ratio"].notna()]
    curves, counts = speculation.compose(summary), values_of(rows, "draft_tokens")
    looks = looks_of(values_of(rows, "series"))
    with style.paper_style(width):
        fig = Figure(figsize=panels.panel_size(len(counts), width), layout="constrained")
        axes = panels.grid_of_axes(fig, len(counts), width, sharex=True, sharey=True)
        for ax, k in zip(axes, counts, strict=True):
            ax.axhline(1, color="black", linewidth=0.8, linestyle=panels.DASHES, gid="level")
            for name, look in looks.items():
                _curve(
                    ax, curves[(curves["series"] == name) & (curves["draft_tokens"] == k)], look[0]
                )
                _run(ax, rows[(rows["series"] == name) & (rows["draft_tokens"] == k)], look)
            ax.set_title("1 draft token" if k == 1 else reading("draft_tokens", k))
        style.value_axis(axes, 0, max(curves["speedup"].max(), 1))
        style.value_axis(axes, 0, 1, axis="x")
        fig.supxlabel("acceptance of a draft token (share)")
        fig.supylabel(SPEEDUP_LABEL)
        handles, labels = panels.series_legend(SPECS["over_length"], looks)
        level = Line2D([], [], color="black", linewidth=0.8, linestyle=panels.DASHES)
        reached = _reached(axes, summary)
        layout.settle(
            fig, ([*handles, level], [*labels, EVEN]), reached, handler_map=panels.HANDLERS
        )
    columns = [
        "series",
        "draft",
        "draft_tokens",
        *PLACE,
        "acceptance",
        "speedup",
        "speedup_lo",
        "speedup_hi",
        "cost_ratio",
    ]
    return fig, curves[[c for c in columns if c in curves]]


def _curve(ax: Axes, curve: pd.DataFrame, colour: str) -> None:
    ax.plot(curve["acceptance"], curve["speedup"], color=colour, gid="curve")
    if {"speedup_lo", "speedup_hi"} <= set(curve):
        ax.fill_between(
            curve["acceptance"],
            curve["speedup_lo"].astype(float),
            curve["speedup_hi"].astype(float),
            color=colour,
            alpha=0.15,
            linewidth=0,
            gid="spread",
        )


def _run(ax: Axes, rows: pd.DataFrame, look: tuple[str, str]) -> None:
    """The runs themselves: their acceptance, and how many times as fast as plain decoding they
    were."""
    gained = rows["tokens_per_step"].astype(float) / rows["cost_ratio"].astype(float)
    ax.plot(
        rows["acceptance"],
        gained,
        linestyle="none",
        color=look[0],
        marker=look[1],
        zorder=3,
        gid="run",
    )


def _reached(axes: list[Axes], summary: pd.DataFrame) -> tuple[list, list[str]]:
    """Marks at the foot of each panel: acceptance of each trained draft, mean over texts at the
    lowest temperature."""
    rows = (
        speculation.acceptance_rows(summary)
        if {"temperature", "draft_tokens"} <= set(summary)
        else pd.DataFrame()
    )
    if rows.empty or rows["acceptance"].isna().all():
        return [], []
    rows = rows[rows["temperature"] == rows["temperature"].min()]
    reached = rows.groupby("series", sort=False)["acceptance"].mean().dropna()
    marks = dict(zip(reached.index, style.MARKERS[5:] + style.MARKERS[:5], strict=False))
    for ax in axes:
        for name, value in reached.items():
            ax.plot(
                [value],
                [0.04],
                transform=ax.get_xaxis_transform(),
                linestyle="none",
                marker=marks[name],
                color=style.GREY,
                markersize=4.5,
                clip_on=False,
                gid=f"reached-{name}",
            )
    handles = [
        Line2D([], [], linestyle="none", marker=marks[name], color=style.GREY)
        for name in reached.index
    ]
    return handles, [
        f"{name.removeprefix('draft ')} reached {value:.2f}" for name, value in reached.items()
    ]


@figure("break_even")
def break_even(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """The acceptance from which a draft pays, over draft tokens and over batch, a line per
    draft."""
    sides = [side for side in SIDES if has_sweep(summary, side[0])] or SIDES
    rows = _ratios(summary, "break_even", tuple(sweep for sweep, _ in sides))
    ok = (rows["status"] == "ok") & rows["cost_ratio"].notna()
    even = [
        speculation.break_even(r, int(k))[0] if good else None
        for r, k, good in zip(rows["cost_ratio"], rows["draft_tokens"], ok, strict=True)
    ]
    rows = rows.assign(break_even=np.array(even, float), never=ok & np.isnan(np.array(even, float)))
    looks = looks_of(values_of(rows, "series"))
    with style.paper_style(width) as inches:
        fig = Figure(figsize=(inches, 2.2), layout="constrained")
        axes = list(fig.subplots(1, len(sides), sharey=True, squeeze=False).flat)
        for ax, (sweep, x) in zip(axes, sides, strict=True):
            own = rows[rows["sweep"] == sweep]
            _even(ax, own, Spec(**{**vars(SPECS["break_even"]), "x": x}), looks, width)
            held = "batch" if x == "draft_tokens" else "draft_tokens"
            ax.set_title(", ".join(reading(held, v) for v in values_of(own, held)))
        axes[0].set_ylim(0, 1.1)
        fig.supylabel(BREAK_EVEN_LABEL)
        handles, labels = panels.series_legend(SPECS["break_even"], looks)
        layout.settle(fig, (handles, labels), _even_notes(rows), handler_map=panels.HANDLERS)
        more = ["sweep", "series", "draft_tokens", "never", "set_acceptance"]
        return fig, plotted(rows, ["cost_ratio", "break_even"], more)


def _even(ax: Axes, rows: pd.DataFrame, spec: Spec, looks: panels.Looks, width: str) -> None:
    drawn = rows.assign(status=rows["status"].mask(rows["never"], "never"))
    panels.draw_lines(ax, drawn, Spec(**{**vars(spec), "level": None}), looks)
    for name, (colour, _) in looks.items():
        at = rows.loc[rows["never"] & (rows["series"] == name), spec.x]
        if len(at):
            ax.plot(
                at,
                [NEVER_AT] * len(at),
                linestyle="none",
                marker="*",
                color=colour,
                zorder=4,
                gid="never",
            )
    for value in rows["set_acceptance"].dropna().unique():
        ax.axhline(
            value, color="black", linewidth=0.8, linestyle=panels.DASHES, zorder=1.5, gid="set"
        )
    panels.x_scale([ax], rows, spec, width)
    ax.set_xlabel(AXES[spec.x][0].replace(" (", "\n(" if width == "column" else " ("))


def _even_notes(rows: pd.DataFrame) -> tuple[list, list[str]]:
    handles, labels = panels.notes_legend(
        rows, rows[rows["break_even"].notna()], SPECS["over_length"]
    )
    if rows["set_acceptance"].notna().any():
        handles.append(Line2D([], [], color="black", linewidth=0.8, linestyle=panels.DASHES))
        labels.append(SET_LABEL)
    if rows["never"].any():
        handles.append(Line2D([], [], linestyle="none", marker="*", color=style.GREY))
        labels.append(NEVER)
    return handles, labels


VIEWS = (
    View("over draft tokens", "spec_tokens", "draft_tokens", "series", log_x=False),
    View("over length", "spec_length", "input_tokens", "series"),
    View("over batch", "spec_batch", "batch", "series"),
    View(
        "acceptance",
        "acceptance",
        "temperature",
        "series",
        "text",
        "acceptance_rate",
        log_x=False,
    ),
)
