"""Section 9 as figures: latencies of whole models side by side (Figs 3 and 4), and speed against
accuracy (Figs 17 and 18); Fig 1 is drawn by `breakdown`."""

import re

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from moebook.explore.views import View
from moebook.plot import layout, lines, markers, style
from moebook.plot.figure import (
    METRICS,
    Drawing,
    figure,
    one_per_place,
    plotted,
    rows_of,
    values_of,
    with_numbers,
)
from moebook.plot.layout import name_points
from moebook.plot.lines import Spec
from moebook.plot.shared import energy, predicted_vs_measured
from moebook.results.schema import method_kind
from moebook.sections.model_comparison import breakdown
from moebook.sections.model_comparison.breakdown import parameter_breakdown
from moebook.sections.model_comparison.enrich import accuracy_rows, on_front
from moebook.sections.model_comparison.params import ALL_LLMS

__all__ = ["energy", "parameter_breakdown", "predicted_vs_measured"]

LATENCIES = ("ttft_s", "tpot_s", "e2e_s")
SPEEDS = {
    "throughput_tok_s": "throughput (tokens/s,\ninput + output)",
    "e2e_s": "end-to-end latency (s)",
}
BAR_IN, GAP = 0.13, 0.7  # height of one bar in inches; bars of room between two models
MOST_LETTERS = 34  # of a title that stands in one line
IMPOSED = "////"
# prefix of a latency's column -> (what the mark on its bar means, its look)
MARKS = {
    "floor": (
        "physical limit",
        {"marker": "|", "color": "black", "markersize": 7, "markeredgewidth": 1.3},
    ),
    "predicted": (
        "predicted",
        {
            "marker": "D",
            "color": "black",
            "markerfacecolor": "white",
            "markersize": 3.4,
            "markeredgewidth": 0.8,
        },
    ),
}


@figure("fig03_llms")
def llms(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 3: TTFT, TPOT and E2E latency (s) of each language model, a bar per number format.
    Error bars: 95 % intervals between engine starts."""
    return _latencies(table, ALL_LLMS, width)


@figure("fig04_vlms")
def vlms(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 4: TTFT, TPOT and E2E latency (s) of the language parts of vision-language models, image
    tokens in the prompt."""
    return _latencies(table, "vlms", width)


@figure("fig17_llms")
def llm_accuracy(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 17: throughput (tokens/s) and E2E latency (s) of language models against accuracy (%), a
    panel per suite of accuracies, the Pareto front joined; in a column throughput alone."""
    return _against_accuracy(table, "fig17_llms", "llm", width)


@figure("fig18_vlms")
def vlm_accuracy(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 18: throughput (tokens/s) and E2E latency (s) of the language parts of vision-language
    models against the whole models' accuracy (%), the Pareto front joined."""
    return _against_accuracy(table, "fig18_vlms", "vlm", width)


def _latencies(table: pd.DataFrame, sweep: str, width: str) -> Drawing:
    """A panel per latency, on axes of its own: `lines` draws no bars."""
    rows = rows_of(table, sweep, sweep, ("model", "series", "method", *LATENCIES))
    ok = with_numbers(rows, sweep, LATENCIES)
    one_per_place(rows, sweep, ("model", "series"))
    models, series = list(dict.fromkeys(rows["model"])), values_of(rows, "series")
    looks, on_page = markers.looks_of(series), width == "page"
    strengths = _strengths(len(series))
    formats_of = rows["series"].map(series.index).groupby(rows["model"])
    offset = formats_of.rank() - 1 - (formats_of.transform("size") - 1) / 2
    step = 1 / (formats_of.size().max() + GAP)
    placed = rows.assign(place=rows["model"].map(models.index) + step * offset)
    tall = BAR_IN * len(models) / step + 0.45
    with style.paper_style(width) as inches:
        fig = Figure(figsize=(inches, tall if on_page else 3 * tall), layout="constrained")
        axes = fig.subplots(*((1, 3) if on_page else (3, 1)), sharey=True)
        for ax, metric in zip(axes, LATENCIES, strict=True):
            for name, strength in zip(series, strengths, strict=True):
                own = placed[placed["series"] == name]
                _bars(ax, own, metric, *looks[name], alpha=strength, height=0.9 * step)
            _latency_axis(ax, ok, metric)
        axes[0].set_yticks(range(len(models)), models)
        axes[0].set_ylim(len(models) - 0.5, -0.5)
        colours = zip(looks.values(), strengths, strict=True)
        formats = [Patch(facecolor=colour, alpha=alpha) for (colour, _), alpha in colours]
        layout.settle(fig, (formats, series), _notes(rows, ok, sweep), handler_map=markers.HANDLERS)
        marked = [f"{mark}_{metric}" for metric in LATENCIES for mark in MARKS]
        return fig, plotted(rows, LATENCIES, ["series", "skew", "throughput_tok_s", *marked])


def _strengths(count: int) -> list[float]:
    """How strong the colours of bars are, series by series, so that they differ in grey, too."""
    return [0.45] if count == 1 else list(np.linspace(0.75, 0.25, count))


def _bars(ax: Axes, rows: pd.DataFrame, metric: str, colour: str, marker: str, **look) -> None:
    """The bars of a series; repeats, physical limit and prediction on each, or a mark where it has
    no number."""
    good = (rows["status"] == "ok") & rows[metric].notna()
    ok, gone = rows[good], rows[~good]
    values, places = ok[metric].to_numpy(float), ok["place"].to_numpy()
    bars = ax.barh(places, values, color=colour, linewidth=0, **look)
    for bar, imposed in zip(bars, _imposed(ok), strict=True):
        bar.set_hatch(IMPOSED if imposed else None)
    spread = style.error_bars(ok, metric)
    if spread is not None:
        thin = {"ecolor": colour, "elinewidth": 0.8, "capsize": 1.5}
        ax.errorbar(values, places, xerr=spread, fmt="none", **thin)
    kinds = [method_kind(method) for method in ok["method"]]
    markers.draw_points(ax, values, places, kinds, colour, marker, 0.8)
    for mark, (_, shape) in MARKS.items():
        if f"{mark}_{metric}" in ok:
            at = ok[f"{mark}_{metric}"].to_numpy(float)
            ax.plot(at, places, linestyle="none", zorder=3.5, gid=mark, **shape)
    for status, lost in gone.groupby("status"):
        cross = {"marker": style.MISSING.get(status, style.MISSING["failed"])[0], "markersize": 4}
        edge = {"transform": ax.get_yaxis_transform(), "linestyle": "none", "gid": "missing"}
        ax.plot(np.full(len(lost), 0.02), lost["place"], color=colour, **cross, **edge)


def _imposed(rows: pd.DataFrame) -> pd.Series:
    return rows["skew"].notna() if "skew" in rows else pd.Series(False, rows.index)


def _latency_axis(ax: Axes, ok: pd.DataFrame, metric: str) -> None:
    drawn = [metric, f"{metric}_hi", *(f"{mark}_{metric}" for mark in MARKS)]
    highest = np.nanmax(ok[[c for c in drawn if c in ok]].to_numpy(float))
    style.value_axis([ax], 0.0, highest, axis="x")
    ax.set_xlabel(METRICS[metric])
    ax.grid(False, axis="y")
    ax.tick_params(axis="y", length=0)


def _notes(rows: pd.DataFrame, ok: pd.DataFrame, sweep: str) -> tuple[list, list[str]]:
    """How points were got, what hatches and marks mean."""
    handles, labels = lines.notes_legend(rows, ok, Spec(sweep, sweep, "model", "series", "model"))
    if _imposed(ok).any():
        handles.append(Patch(facecolor="0.85", hatch=IMPOSED))
        labels.append("routing imposed as uniform")
    for mark, (label, look) in MARKS.items():
        if f"{mark}_ttft_s" in ok and ok[f"{mark}_ttft_s"].notna().any():
            handles.append(Line2D([], [], linestyle="none", **look))
            labels.append(label)
    return handles, labels


def _against_accuracy(table: pd.DataFrame, name: str, kind: str, width: str) -> Drawing:
    """A column of panels per suite of a kind of model, a row per metric, on axes of their own: each
    suite has its own accuracies and its front."""
    rows_of(table, name, ALL_LLMS if kind == "llm" else "vlms", ("model", "series", *SPEEDS))
    rows = accuracy_rows(table)
    rows = rows[rows["kind"] == kind] if len(rows) else rows
    if rows.empty:
        raise ValueError(
            f"{name}: no row of two or more measured models that have an accuracy in one suite "
            f"and format; published ones are of the study's models, and `accuracy_file` adds "
            f"measured ones"
        )
    looks = markers.looks_of(list(dict.fromkeys(rows["model"])))
    suites, on_page = list(rows.groupby("suite", sort=False)), width == "page"
    metrics = list(SPEEDS)[: 1 if not on_page and len(suites) > 1 else 2]
    shape = (len(metrics), len(suites)) if on_page else (len(metrics) * len(suites), 1)
    shape = (1, 2) if on_page and len(suites) == 1 else shape
    with style.paper_style(width) as inches:
        size = (inches, (2.3 if shape[0] == 1 else 1.9 if on_page else 1.6) * shape[0])
        fig = Figure(figsize=size, layout="constrained")
        panels, drawn = iter(fig.subplots(*shape, squeeze=False).flat), []
        for metric in metrics:
            axes = [next(panels) for _ in suites]
            spec = Spec(name, None, "suite", "model", "accuracy_pct", metric, marker_scale=1.2)
            for ax, (_, own) in zip(axes, suites, strict=True):
                _suite(ax, own, spec, looks)
            highest = rows[[c for c in (metric, f"{metric}_hi") if c in rows]].max().max()
            style.value_axis(axes, 0.0, highest)
            drawn += [(ax, own, metric) for ax, (_, own) in zip(axes, suites, strict=True)]
            for ax in axes if not on_page else axes[:1]:
                ax.set_ylabel(SPEEDS[metric])
        fig.supxlabel("accuracy, mean over the tasks named (%)")
        notes, words = markers.method_handles([method_kind(m) for m in rows["method"]])
        dashes = Line2D([], [], color=style.GREY, linestyle=markers.DASHES, linewidth=0.8)
        fronts = [*notes, dashes], [*words, "Pareto front"]
        layout.settle(fig, fronts, handler_map=markers.HANDLERS)
        for ax, own, metric in drawn:
            name_points(ax, own[["accuracy_pct", metric]], own["model"].map(_short), 6)
    more = ["suite", "kind", "series", "tasks", "accuracy_pct", "evidence", "alike", "skew"]
    return fig, plotted(rows, metrics, more)


def _suite(ax: Axes, rows: pd.DataFrame, spec: Spec, looks: markers.Looks) -> None:
    """A marker per model, and the front; models under their physical limit are named so."""
    lines.draw_lines(ax, rows, spec, {model: looks[model] for model in rows["model"]})
    for _, row in rows[rows["under_floor"]].iterrows():
        where = {"xytext": (0, -7), "textcoords": "offset points", "ha": "center", "va": "top"}
        place = (row["accuracy_pct"], row[spec.metric])
        ax.annotate("under its limit", place, fontsize=6.5, color=style.GREY, **where)
    best = rows[on_front(rows, spec.metric, spec.metric == "throughput_tok_s")]
    best = best.sort_values("accuracy_pct")
    dashed = {"linestyle": markers.DASHES, "linewidth": 0.8, "zorder": 1.5, "gid": "front"}
    values = best[spec.metric].to_numpy(float)
    ax.plot(best["accuracy_pct"], values, color=style.GREY, **dashed)
    ax.margins(x=0.2)
    ax.tick_params(labelbottom=True, labelleft=True)
    first = rows.iloc[0]
    title = f"{first['title']}, {first['evidence']}, all in {first['series']}"
    ax.set_title(f"{title}\n{_two_lines(first['tasks'])}", fontsize=7)


def _short(model: str) -> str:
    """The model's name without version and kind, to stand at a point."""
    return re.sub(r"-(v0\.1|instruct|textonly|0125|1B-7B|A2\.7B)", "", model)


def _two_lines(tasks: str) -> str:
    cut = tasks.rfind(", ", 0, MOST_LETTERS) if len(tasks) > MOST_LETTERS else -1
    return tasks if cut < 0 else f"{tasks[: cut + 1]}\n{tasks[cut + 2 :]}"


def _counted_parts(_: pd.DataFrame) -> pd.DataFrame:
    found = breakdown.with_shares(breakdown.parameter_counts())
    return found.assign(status="ok", method="computed")


def _counted_sizes(_: pd.DataFrame) -> pd.DataFrame:
    found = breakdown.model_sizes().drop(columns="arch")
    return found.assign(status="ok", method="computed")


COUNTED = (
    View(
        "Fig 1: parameters by part",
        None,
        "model",
        "component",
        None,
        "total_share_pct",
        table=_counted_parts,
    ),
    View(
        "models",
        None,
        "top_k",
        "model",
        None,
        "active_parameters",
        log_x=False,
        table=_counted_sizes,
    ),
)
VIEWS = (
    View("Fig 3: language models", ALL_LLMS, "model", "series"),
    View("Fig 4: vision-language models", "vlms", "model", "series"),
    *COUNTED,
)
