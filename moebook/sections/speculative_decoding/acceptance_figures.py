"""What trained drafts and n-gram lookup get accepted, and what that makes a target read (section
4).

Each function: (summary, *, width) -> (Figure, plotted rows); ValueError says which sweep or columns
are missing."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from moebook.plot import layout, lines, style
from moebook.plot.figure import figure
from moebook.plot.lines import Spec
from moebook.plot.rows import (
    METRICS,
    one_per_place,
    plotted,
    reading,
    rows_of,
    values_of,
    with_numbers,
)
from moebook.predict import speculation
from moebook.predict.speculation import NGRAM, PLAIN

SWEEP = "acceptance"
NEEDED = ("series", "method", "text", "temperature", "draft_tokens")
COUNTED = ("experts_per_step", "step_tokens", "num_experts", "top_k", "batch")
TOLD = ("series", "text", "temperature", "draft_tokens")
SHARE_LABEL = "drafts accepted up to here (share)"
POSITION_LABEL = "position of the draft token (count)"
HIT_LABEL = "distinct experts per layer and step (count)"
FORMULA = "formula, uniform routing"
ROW_IN = 0.2


@figure("acceptance")
def acceptance(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Tokens per target step of each draft on each text, a row per draft, a panel per
    temperature."""
    rows = rows_of(summary, "acceptance", SWEEP, (*NEEDED, "tokens_per_step"))
    ok = with_numbers(rows[rows["series"] != PLAIN], "acceptance", ["tokens_per_step"])
    one_per_place(rows, "acceptance", TOLD)
    texts, heats, series = _texts(ok), values_of(ok, "temperature"), values_of(rows, "series")
    series = [name for name in series if name != PLAIN]
    looks = lines.looks_of(texts)
    with style.paper_style(width):
        fig, axes = _rows_of_panels(len(heats), len(series) * 1.5, width)
        for ax, heat in zip(axes, heats, strict=True):
            ax.axvline(1, color="black", linewidth=0.8, linestyle=lines.DASHES, gid="level")
            for i, text in enumerate(texts):
                own = ok[(ok["temperature"] == heat) & (ok["text"] == text)]
                _dots(ax, own, series, _dodge(i, len(texts)), looks[text])
            _name_rows(ax, series)
            ax.set_title(reading("temperature", heat))
        most = (
            ok[[c for c in ("tokens_per_step", "tokens_per_step_hi") if c in ok]]
            .astype(float)
            .max()
            .max()
        )
        style.value_axis(axes, 0, most, axis="x")
        fig.supxlabel(METRICS["tokens_per_step"])
        handles: list = [
            Line2D([], [], linestyle="none", color=c, marker=m) for c, m in looks.values()
        ]
        level = Line2D([], [], color="black", linewidth=0.8, linestyle=lines.DASHES)
        layout.settle(fig, ([*handles, level], [*texts, PLAIN]))
        return fig, plotted(rows, ["tokens_per_step", "acceptance_rate"], TOLD)


@figure("acceptance_by_position")
def by_position(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Share of drafts whose i-th token was accepted, a line per draft, a panel per text, at the
    lowest temperature."""
    columns = [
        c
        for c in summary
        if c.startswith("accepted_pos") and c.removeprefix("accepted_pos").isdigit()
    ]
    rows = rows_of(summary, "by_position", SWEEP, (*NEEDED, *(columns or ["accepted_pos1"])))
    ok = with_numbers(rows, "by_position", columns[:1])
    ok = ok[ok["temperature"] == ok["temperature"].min()]
    long = pd.concat([_at_position(ok, c) for c in columns], ignore_index=True)
    long = long[long["share"].notna()].assign(panel=long["text"] + _heat(ok))
    spec = Spec(
        "by_position",
        None,
        panel="panel",
        line="series",
        x="position",
        metric="share",
        log_x=False,
        log_y=False,
        y_label=SHARE_LABEL,
        kind="kind",
        floors=False,
    )
    fig, shown = lines.lines(long, spec, width=width, looks=looks_of(values_of(rows, "series")))
    fig._supxlabel.set_text(POSITION_LABEL)
    for ax in fig.axes:
        ax.set_xticks(sorted(long["position"].unique()))
        ax.set_ylim(0, 1)
    return fig, shown.assign(temperature=ok["temperature"].min())


def _at_position(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    ends = {
        f"share{end}": rows.get(f"{column}{end}", rows[column]).astype(float)
        for end in ("", "_lo", "_hi")
    }
    return rows.assign(position=int(column.removeprefix("accepted_pos")), kind="full", **ends)


@figure("experts_hit")
def experts_hit(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Distinct experts of a layer that a target step hits, a row per series, beside the formula; a
    panel per text."""
    rows = rows_of(summary, "experts_hit", SWEEP, (*NEEDED, *COUNTED))
    with_numbers(rows, "experts_hit", ["experts_per_step"])
    found = speculation.experts(rows)
    found = found[found["temperature"] == found["temperature"].min()]
    one_per_place(found, "experts_hit", TOLD)
    texts, series = _texts(found), values_of(found, "series")
    looks = looks_of(values_of(rows, "series"))
    with style.paper_style(width):
        fig, axes = _rows_of_panels(len(texts), len(series), width)
        for ax, text in zip(axes, texts, strict=True):
            own = found[found["text"] == text]
            at = np.array([series.index(name) for name in own["series"]])
            ax.barh(
                at,
                own["experts_per_step"].astype(float),
                height=0.6,
                color=[looks[n][0] for n in own["series"]],
                alpha=0.5,
                linewidth=0,
                gid="bars",
            )
            ax.plot(
                own["formula"],
                at,
                linestyle="none",
                marker="|",
                color="black",
                markersize=9,
                gid="formula",
            )
            _name_rows(ax, series)
            ax.set_title(text + _heat(found))
        style.value_axis(
            axes, 0, found[["experts_per_step", "formula"]].astype(float).max().max(), axis="x"
        )
        fig.supxlabel(HIT_LABEL)
        layout.settle(
            fig,
            (
                [Line2D([], [], linestyle="none", marker="|", color="black", markersize=9)],
                [FORMULA],
            ),
        )
        return fig, plotted(
            found,
            ["experts_per_step"],
            [*TOLD, "step_tokens", "formula", "over_formula", "over_plain"],
        )


def looks_of(series: list[str]) -> lines.Looks:
    """No speculation black, lookup grey, drafts in colours and markers of their own in the order of
    the table."""
    drafts = [name for name in series if name not in (PLAIN, NGRAM)]
    found = {PLAIN: ("black", "o"), NGRAM: (style.GREY, "h")}
    found |= dict(
        zip(
            drafts,
            zip(style.colours(len(drafts)), style.markers(len(drafts) + 1)[1:], strict=True),
            strict=True,
        )
    )
    return {name: found[name] for name in series}


def _texts(rows: pd.DataFrame) -> list[str]:
    """In the order of the table."""
    return list(dict.fromkeys(rows["text"].dropna()))


def _heat(rows: pd.DataFrame) -> str:
    return ", " + reading("temperature", float(rows["temperature"].min()))


def _rows_of_panels(count: int, rows: float, width: str) -> tuple[Figure, list[Axes]]:
    """Panels side by side on a page, under each other in a column, of `rows` rows each."""
    shape = (1, count) if width == "page" else (count, 1)
    fig = Figure(
        figsize=(style.width_in(width), shape[0] * (ROW_IN * rows + 0.35) + 0.35),
        layout="constrained",
    )
    return fig, list(fig.subplots(*shape, sharex=True, sharey=True, squeeze=False).flat)


def _dots(
    ax: Axes, rows: pd.DataFrame, series: list[str], shift: float, look: tuple[str, str]
) -> None:
    at = np.array([series.index(name) for name in rows["series"]]) + shift
    x = rows["tokens_per_step"].to_numpy(float)
    bars = style.error_bars(rows, "tokens_per_step")
    if bars is not None:
        ax.errorbar(x, at, xerr=bars, fmt="none", ecolor=look[0], elinewidth=0.8, capsize=1.5)
    ax.plot(x, at, linestyle="none", color=look[0], marker=look[1], gid="points")


def _dodge(i: int, count: int) -> float:
    return 0.0 if count == 1 else 0.5 * (i / (count - 1) - 0.5)


def _name_rows(ax: Axes, series: list[str]) -> None:
    ax.set_yticks(range(len(series)), [name.removeprefix("draft ") for name in series])
    ax.set_ylim(len(series) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    ax.grid(False, axis="y")
