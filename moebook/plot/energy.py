"""Energy against throughput, for sections that measure both."""

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from moebook.plot import layout, lines, style
from moebook.plot.figure import Drawing, figure
from moebook.plot.names import name_points
from moebook.plot.rows import METRICS, one_per_place, plotted, rows_of, with_numbers
from moebook.study.points import ENERGY

X, Y, NET = "throughput_tok_s", "energy_per_output_token_j", "energy_net_per_output_token_j"
WITHOUT = {"linestyle": lines.DASHES, "linewidth": 0.8, "marker": ".", "markersize": 3}


@figure("energy")
def energy(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Energy of an output token (J) against throughput (tokens/s), both logarithmic, a line per
    model or series, its batches written beside. Dashed: without the idle card's power."""
    rows = rows_of(table, "energy", ENERGY, ("model", "series", "batch", X, Y, NET))
    ok = with_numbers(rows, "energy", [X, Y, NET])
    one_per_place(rows, "energy", ("model", "series", "batch"))
    if len(ok) < 2:
        raise ValueError("energy: one point alone is no curve, the text has its numbers")
    ok = ok.assign(line_label=_labels(ok)).sort_values("batch", kind="stable")
    looks = lines.looks_of(list(dict.fromkeys(ok["line_label"])))
    with style.paper_style(width) as inches:
        fig = Figure(figsize=(inches, 2.8), layout="constrained")
        ax = fig.subplots()
        handles = []
        for name, (colour, marker) in looks.items():
            own = ok[ok["line_label"] == name]
            ax.plot(own[X], own[Y], color=colour, label=name)
            handles.append(Line2D([], [], color=colour, marker=marker))
            places = own[X].to_numpy(float), own[Y].to_numpy(float)
            lines.draw_points(ax, *places, ["sampled"] * len(own), colour, marker)
            ax.plot(own[X], own[NET], color=colour, **WITHOUT)
        ax.set(xscale="log", yscale="log", xlabel=METRICS[X], ylabel=METRICS[Y])
        for axis in (ax.xaxis, ax.yaxis):
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(style.short_number))
            axis.set_minor_locator(NullLocator())
        net = Line2D([], [], color=style.GREY, **WITHOUT)
        kinds, words = lines.method_handles(["sampled"])
        notes = ([*kinds, net], [*words, "without idle power"])
        layout.settle(fig, (handles, list(looks)), notes, handler_map=lines.HANDLERS)
        name_points(ax, ok[[X, Y]], "B " + ok["batch"].astype(str), style.RC["font.size"])
        return fig, plotted(ok, [X, Y, NET, "idle_power_w", "decode_power_w"], ["series"])


def _labels(rows: pd.DataFrame) -> pd.Series:
    """What tells the lines apart: the series, the model, or both."""
    series = rows["series"].fillna("").astype(str)
    if rows["model"].nunique() == 1 and series.nunique() > 1:
        return series
    return rows["model"] + (", " + series if series.nunique() > 1 else "")
