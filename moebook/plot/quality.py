"""What figures of perplexity share: panels, the scale of increases, points, and legends."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter

from moebook.plot import markers, style

PARTS = "bars: range over parts of the text"
INCREASES = ("increase_pct", "increase_pct_lo", "increase_pct_hi")
LINEAR_UNDER = 100  # percent; from there on the axis has equal ratios at equal distances
LEAST_SPAN = 0.3  # percent that an axis of changes shows at least, so that noise looks like noise
TICKS = (0, 20, -20, 50, -50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000)


def side_by_side(count: int, width: str, tall: float) -> tuple[Figure, list[Axes]]:
    """`count` panels with one y axis: side by side on a page, `tall` inches high; one over
    another in a column."""
    shape, tall = ((1, count), tall) if width == "page" else ((count, 1), 0.85 * tall * count)
    fig = Figure(figsize=(style.width_in(width), tall), layout="constrained")
    return fig, list(fig.subplots(*shape, sharey=True, squeeze=False).flat)


def trained_name(rows: pd.DataFrame) -> str:
    """What an axis calls the model whose perplexity it shows."""
    tiny = "weights" in rows and str(rows["weights"].iloc[0]).startswith("tiny:")
    return "the trained tiny model" if tiny else str(rows["model"].iloc[0])


def without_increase_failed(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows; one that ran and has no increase is marked as failed."""
    lacking = (rows["status"] == "ok") & rows["increase_pct"].isna()
    return rows.assign(status=rows["status"].mask(lacking, "failed"))


def increase_axis(axes: list[Axes], rows: pd.DataFrame, columns=INCREASES) -> None:
    """An axis of perplexity increases (%) that holds `columns` of the rows, zero, and room for the
    marks of those without a number: linear, or from a doubling on with equal ratios at equal
    distances."""
    ok = rows["status"] == "ok"
    low, high = _span(rows[ok], columns)
    high, marks = max(high, low + LEAST_SPAN), int(not ok.all())
    if high < LINEAR_UNDER:
        style.value_axis(axes, low - 0.07 * (high - low), high, marks=marks)
        return
    foot = 0.07 + style.MARK_STEP * marks
    left, right = _log(low), _log(high)
    limits = left - foot * (right - left), right + 0.07 * (right - left)
    ticks: list[float] = []
    for tick in (t for t in TICKS if limits[0] <= _log(t) <= limits[1]):
        if all(abs(_log(tick) - _log(seen)) > 0.1 * (limits[1] - limits[0]) for seen in ticks):
            ticks.append(tick)
    for ax in axes:
        ax.set_yscale("function", functions=(_log, _percent))
        ax.set_ylim(*map(_percent, limits))
        ax.yaxis.set_major_locator(FixedLocator(sorted(ticks)))
        ax.yaxis.set_major_formatter(FuncFormatter(style.short_number))
        style.foot_band(ax, marks)


def gain_axis(ax: Axes, rows: pd.DataFrame, columns=("gain_pct",)) -> None:
    """An x axis of gains (%) that holds `columns` of the rows and zero."""
    low, high = _span(rows, columns)
    room = 0.08 * max(high - low, LEAST_SPAN)
    style.value_axis([ax], low - room, high + room, axis="x")


def _span(rows: pd.DataFrame, columns) -> tuple[float, float]:
    """The least and the largest value of the columns, and zero."""
    values = np.append(rows[[c for c in columns if c in rows]].to_numpy(float), 0.0)
    return np.nanmin(values), np.nanmax(values)


def _log(percent):
    return np.log1p(np.maximum(percent, -99.9) / 100)


def _percent(log):
    return 100 * np.expm1(log)


def draw_points(
    ax: Axes, rows: pd.DataFrame, x: str, y: str, look: tuple[str, str], label: str = "", **more
) -> None:
    """The rows as marks of one look (colour, marker), with bars of x, and of y where it is an
    increase."""
    drawn = ax.errorbar(
        rows[x].to_numpy(float),
        rows[y].to_numpy(float),
        xerr=style.error_bars(rows, x),
        yerr=style.error_bars(rows, y) if y == "increase_pct" else None,
        elinewidth=0.8,
        capsize=1.5,
        **{"linestyle": "none", **markers.marker_look("full", *look)[0], **more},
    )
    drawn[0].set(gid="points", label=label)


def note(marker: str, colour: str = style.GREY, **look) -> Line2D:
    """A legend's handle: one mark."""
    return Line2D([], [], linestyle="none", marker=marker, color=colour, **look)


def better() -> Line2D:
    """The handle of `better`: more speed for less perplexity."""
    return note("$\\searrow$", "black", markersize=7)


def looks_legend(looks: markers.Looks, words: dict | None = None) -> tuple[list, list[str]]:
    """Handles and labels of marks without lines."""
    handles = [
        Line2D([], [], linestyle="none", **markers.marker_look("full", *look)[0])
        for look in looks.values()
    ]
    return handles, [(words or {}).get(name, name) for name in looks]


def missing_legend(rows: pd.DataFrame) -> tuple[list, list[str]]:
    """Handles and labels of the statuses without a number."""
    found = [look for status, look in style.MISSING.items() if (rows["status"] == status).any()]
    return [note(marker) for marker, _ in found], [label for _, label in found]
