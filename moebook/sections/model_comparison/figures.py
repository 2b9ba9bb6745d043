"""Section 9 as figures: latencies of whole models side by side (Figs 3 and 4), and speed against
accuracy (Figs 17, 18).

Each function: (summary, *, width) -> (Figure, plotted rows); ValueError says which sweep or columns
are missing."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from moebook.explore.views import View
from moebook.plot import layout, lines, style
from moebook.plot.checks import predicted_vs_measured
from moebook.plot.figure import figure
from moebook.plot.rows import METRICS, one_per_place, plotted, rows_of, values_of, with_numbers
from moebook.sections.model_comparison import parameter_figures
from moebook.sections.model_comparison.accuracy import accuracy_rows, on_front
from moebook.sections.model_comparison.parameter_figures import parameter_shares_of_table_1

LATENCIES = ("ttft_s", "tpot_s", "e2e_s")
BAR_IN, GAP = 0.13, 0.7  # height of one bar in inches; bars of room between two models
IMPOSED = "////"
FLOOR_LOOK = {"marker": "|", "color": "black", "markersize": 7, "markeredgewidth": 1.3}
PREDICTED_LOOK = {
    "marker": "D",
    "color": "black",
    "markerfacecolor": "white",
    "markersize": 3.4,
    "markeredgewidth": 0.8,
}
SPEEDS = {
    "throughput_tok_s": ("throughput (tokens/s,\ninput + output)", True),
    "e2e_s": ("end-to-end latency (s)", False),
}

__all__ = ["VIEWS", "parameter_shares_of_table_1", "predicted_vs_measured"]


@figure("fig03_llms")
def llms(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Fig 3: TTFT, time per output token and end-to-end latency of each language model, a bar per
    number format."""
    return _latencies(summary, "llms", width)


@figure("fig04_vlms")
def vlms(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Fig 4: the same of the language parts of vision-language models, image tokens in the
    prompt."""
    return _latencies(summary, "vlms", width)


@figure("fig17_throughput")
def throughput(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Fig 17: throughput against accuracy, a panel per suite of accuracies, the Pareto front
    joined."""
    return _against_accuracy(summary, "fig17_throughput", "throughput_tok_s", width)


@figure("fig18_latency")
def latency(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Fig 18: end-to-end latency against accuracy."""
    return _against_accuracy(summary, "fig18_latency", "e2e_s", width)


def _latencies(summary: pd.DataFrame, sweep: str, width: str) -> tuple[Figure, pd.DataFrame]:
    rows = rows_of(summary, sweep, sweep, ("model", "series", "method", *LATENCIES))
    ok = with_numbers(rows, sweep, LATENCIES)
    one_per_place(rows, sweep, ("model", "series"))
    models, series = list(dict.fromkeys(rows["model"])), values_of(rows, "series")
    looks, on_page = lines.looks_of(series), width == "page"
    tall = BAR_IN * len(models) * (len(series) + GAP) + 0.45
    with style.paper_style(width) as inches:
        fig = Figure(figsize=(inches, tall if on_page else 3 * tall), layout="constrained")
        axes = fig.subplots(*((1, 3) if on_page else (3, 1)), sharey=True)
        for ax, metric in zip(axes, LATENCIES, strict=True):
            _bars(ax, rows, models, looks, metric)
            ax.set_xlabel(METRICS[metric])
        axes[0].set_yticks(range(len(models)), models)
        axes[0].set_ylim(len(models) - 0.5, -0.5)
        strengths = zip(looks.values(), _strengths(looks), strict=True)
        formats = ([Patch(facecolor=c, alpha=alpha) for (c, _), alpha in strengths], series)
        layout.settle(fig, formats, _notes(rows, ok), handler_map=lines.HANDLERS)
        names = [f"{kind}_{m}" for m in LATENCIES for kind in ("floor", "predicted")]
        return fig, plotted(rows, LATENCIES, ["series", "skew", "throughput_tok_s", *names])


def _bars(ax: Axes, rows: pd.DataFrame, models: list[str], looks: lines.Looks, metric: str) -> None:
    """A bar per model and series; its repeats, floor and prediction on it, or a mark where it has
    no number."""
    step = 1 / (len(looks) + GAP)
    for i, (series, (colour, marker)) in enumerate(looks.items()):
        own = rows[rows["series"] == series]
        y = np.array([models.index(m) for m in own["model"]]) + (i - (len(looks) - 1) / 2) * step
        good = ((own["status"] == "ok") & own[metric].notna()).to_numpy()
        ok, at = own[good], y[good]
        values = ok[metric].to_numpy(float)
        bars = ax.barh(
            at,
            values,
            height=0.9 * step,
            color=colour,
            alpha=_strengths(looks)[i],
            linewidth=0,
            gid="bars",
        )
        for bar, is_imposed in zip(bars, _imposed(ok), strict=True):
            bar.set_hatch(IMPOSED if is_imposed else None)
        spread = style.error_bars(ok, metric)
        if spread is not None:
            ax.errorbar(
                values, at, xerr=spread, fmt="none", ecolor=colour, elinewidth=0.8, capsize=1.5
            )
        kinds = [lines.method_kind(m) for m in ok["method"]]
        lines.draw_points(ax, values, at, kinds, colour, marker, 0.8)
        for column, look in (
            (f"floor_{metric}", FLOOR_LOOK),
            (f"predicted_{metric}", PREDICTED_LOOK),
        ):
            if column in ok:
                ax.plot(
                    ok[column].to_numpy(float),
                    at,
                    linestyle="none",
                    zorder=3.5,
                    gid=column.split("_")[0],
                    **look,
                )
        for status, gone in own[~good].groupby("status"):
            marker, _ = style.MISSING.get(status, style.MISSING["failed"])
            places = y[~good][(own.loc[~good, "status"] == status).to_numpy()]
            ax.plot(
                np.full(len(gone), 0.02),
                places,
                transform=ax.get_yaxis_transform(),
                linestyle="none",
                marker=marker,
                color=colour,
                markersize=4,
                gid="missing",
            )
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)
    drawn = [metric, f"{metric}_hi", f"floor_{metric}", f"predicted_{metric}"]
    high = np.nanmax(
        rows.loc[rows["status"] == "ok", [c for c in drawn if c in rows]].to_numpy(float)
    )
    style.value_axis([ax], 0.0, high, axis="x")


def _strengths(looks: lines.Looks) -> list[float]:
    """How strong the colours of bars are, series by series, so that they differ in grey, too."""
    return [0.45] if len(looks) == 1 else list(np.linspace(0.75, 0.25, len(looks)))


def _imposed(rows: pd.DataFrame) -> pd.Series:
    return rows["skew"].notna() if "skew" in rows else pd.Series(False, rows.index)


def _notes(rows: pd.DataFrame, ok: pd.DataFrame) -> tuple[list, list[str]]:
    """How points were got, what hatches and marks mean."""
    handles, labels = lines.method_handles([lines.method_kind(m) for m in ok["method"]])
    if _imposed(ok).any():
        handles.append(Patch(facecolor="0.85", hatch=IMPOSED))
        labels.append("routing imposed as uniform")
    for column, look, label in (
        ("floor_ttft_s", FLOOR_LOOK, "floor"),
        ("predicted_ttft_s", PREDICTED_LOOK, "prediction"),
    ):
        if column in ok and ok[column].notna().any():
            handles.append(Line2D([], [], linestyle="none", **look))
            labels.append(label)
    for status, (marker, label) in style.MISSING.items():
        if (rows["status"] == status).any():
            handles.append(Line2D([], [], linestyle="none", marker=marker, color=style.GREY))
            labels.append(label)
    return handles, labels


def _against_accuracy(
    summary: pd.DataFrame, figure: str, metric: str, width: str
) -> tuple[Figure, pd.DataFrame]:
    rows_of(summary, figure, "llms", ("model", "series", "method", metric, "e2e_s"))
    rows = accuracy_rows(summary)
    if rows.empty:
        raise ValueError(
            f"{figure}: no row of two or more measured models that have an accuracy in one suite "
            f"and format; "
            "published ones are of the study's models, and `accuracy_file` adds measured ones"
        )
    models, suites = list(dict.fromkeys(rows["model"])), list(dict.fromkeys(rows["suite"]))
    looks = lines.looks_of(models)
    label, higher = SPEEDS[metric]
    with style.paper_style(width) as inches:
        beside = 1 if width == "column" else len(suites) if len(suites) <= 3 else 2
        high = -(-len(suites) // beside)
        fig = Figure(figsize=(inches, 2.6 if high == 1 else 1.9 * high), layout="constrained")
        axes = fig.subplots(high, beside, sharey=True, squeeze=False).flatten()
        for ax, suite in zip(axes, suites, strict=False):
            _panel(ax, rows[rows["suite"] == suite], looks, metric, higher)
        for ax in axes[len(suites) :]:
            ax.remove()
        style.value_axis(
            fig.axes, 0.0, rows[[c for c in (metric, f"{metric}_hi") if c in rows]].max().max()
        )
        fig.supylabel(label)
        fig.supxlabel("accuracy, mean over the tasks named (%)")
        handles: list = [
            Line2D([], [], linestyle="none", color=c, marker=m) for c, m in looks.values()
        ]
        more, words = lines.method_handles([lines.method_kind(m) for m in rows["method"]])
        dashes = Line2D([], [], color=style.GREY, linestyle=lines.DASHES, linewidth=0.8)
        layout.settle(
            fig,
            (handles, models),
            ([*more, dashes], [*words, "Pareto front"]),
            handler_map=lines.HANDLERS,
        )
        return fig, plotted(
            rows,
            [metric],
            ["suite", "series", "tasks", "accuracy_pct", "evidence", "alike", "skew"],
        )


def _panel(ax: Axes, rows: pd.DataFrame, looks: lines.Looks, metric: str, higher: bool) -> None:
    """One suite: a marker per model, error bars, and its front."""
    first = rows.iloc[0]
    spread = style.error_bars(rows, metric)
    for i, (_, row) in enumerate(rows.iterrows()):
        colour, marker = looks[row["model"]]
        x, y = np.array([row["accuracy_pct"]]), np.array([row[metric]], float)
        if spread is not None:
            ax.errorbar(
                x,
                y,
                yerr=spread[:, i : i + 1],
                fmt="none",
                ecolor=colour,
                elinewidth=0.8,
                capsize=1.5,
            )
        lines.draw_points(ax, x, y, [lines.method_kind(row["method"])], colour, marker, 1.2)
        if row["under_floor"]:
            ax.annotate(
                "under its floor",
                (x[0], y[0]),
                (0, -7),
                textcoords="offset points",
                ha="center",
                va="top",
                fontsize=6.5,
                color=style.GREY,
            )
    best = rows[on_front(rows, metric, higher)].sort_values("accuracy_pct")
    ax.plot(
        best["accuracy_pct"],
        best[metric].to_numpy(float),
        color=style.GREY,
        linestyle=lines.DASHES,
        linewidth=0.8,
        zorder=1.5,
        gid="front",
    )
    ax.margins(x=0.12)
    ax.set_title(
        f"{first['title']}, {first['evidence']}, all in "
        f"{first['series']}\n{_wrapped(first['tasks'])}",
        fontsize=7,
    )


def _wrapped(tasks: str, most: int = 34) -> str:
    """The tasks in at most two lines of text."""
    cut = tasks.rfind(", ", 0, most) if len(tasks) > most else -1
    return tasks if cut < 0 else f"{tasks[: cut + 1]}\n{tasks[cut + 2 :]}"


VIEWS = (
    View("language models", "llms", "model", "series"),
    View("vision-language models", "vlms", "model", "series"),
    *parameter_figures.VIEWS,
)
