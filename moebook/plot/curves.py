"""Small multiples of lines whose axes have words of their own: `panels.lines` with labels given, a
scale per panel where wanted, and dashed predictions beside what was measured."""

from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from moebook.plot import layout, lines, style
from moebook.plot.lines import Spec
from moebook.plot.rows import reading, values_of


@dataclass(frozen=True)
class Words:
    """Axis labels with units; `dashed` names a column drawn dashed beside each line, `dashed_label`
    what it is."""

    x: str
    y: str
    dashed: str | None = None
    dashed_label: str | None = None
    methods: bool = True  # the legend says how points were got


def curves(
    rows: pd.DataFrame,
    spec: Spec,
    words: Words,
    *,
    width: str,
    looks: lines.Looks | None = None,
    titles: dict | None = None,
) -> Figure:
    """A panel per value of `spec.panel`, a line per `spec.line`, over `spec.x`; rows without a
    number are marked."""
    ok = rows[(rows["status"] == "ok") & rows[spec.metric].notna()]
    shown = values_of(rows, spec.panel)
    looks = lines.looks_of(values_of(rows, spec.line)) if looks is None else looks
    log_y = (
        bool(ok[spec.metric].max() > lines.LOG_OVER * ok[spec.metric].min())
        if spec.log_y is None
        else spec.log_y
    )
    with style.paper_style(width):
        fig = Figure(figsize=lines.panel_size(len(shown), width), layout="constrained")
        axes = lines.grid_of_axes(fig, len(shown), width, sharex=True, sharey=True)
        for ax, panel in zip(axes, shown, strict=True):
            own = rows[rows[spec.panel] == panel]
            lines.draw_lines(ax, own, spec, looks)
            _dashed(ax, own, spec, words.dashed, looks)
            title = (titles or {}).get(panel, reading(spec.panel, panel))
            ax.set_title(lines.panel_title(title, len(shown), width))
        lines.x_scale(axes, rows, spec, width)
        if not spec.log_x:
            for ax in axes:
                ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        lines.y_scale(axes, rows, _with_dashed(ok, spec, words.dashed), spec, log_y, None)
        fig.supxlabel(words.x)
        fig.supylabel(words.y)
        layout.settle(
            fig,
            lines.series_legend(spec, looks),
            _notes(rows, ok, spec, words),
            handler_map=lines.HANDLERS,
        )
        return fig


def _with_dashed(ok: pd.DataFrame, spec: Spec, dashed: str | None) -> pd.DataFrame:
    """Rows whose metric includes what is dashed, for the limits of the axis."""
    if dashed is None:
        return ok
    return pd.concat(
        [
            ok,
            ok.drop(
                columns=[c for c in (f"{spec.metric}_lo", f"{spec.metric}_hi") if c in ok]
            ).assign(**{spec.metric: ok[dashed]}),
        ],
        ignore_index=True,
    )


def _dashed(
    ax: Axes, rows: pd.DataFrame, spec: Spec, dashed: str | None, looks: lines.Looks
) -> None:
    for value, (colour, _) in looks.items() if dashed else ():
        own = rows[rows[spec.line] == value].sort_values(spec.x)
        ax.plot(
            own[spec.x],
            own[dashed].to_numpy(float),
            color=colour,
            linestyle=lines.DASHES,
            linewidth=0.8,
            marker="none",
            zorder=1.8,
            gid="predicted",
        )


def _notes(
    rows: pd.DataFrame, ok: pd.DataFrame, spec: Spec, words: Words
) -> tuple[list, list[str]]:
    handles, labels = lines.notes_legend(rows, ok if words.methods else ok.head(0), spec)
    if words.dashed:
        handles.append(Line2D([], [], color=style.GREY, linestyle=lines.DASHES, linewidth=0.8))
        labels.append(words.dashed_label)
    return handles, labels
