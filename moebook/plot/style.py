"""How every figure looks, and how one is saved: paper widths, 8-9 pt type, colour-blind-safe
colours with markers.

A figure has the exact width it is printed at, so that its type keeps its size. Files of one figure
are the same bytes each time: no dates, a fixed salt for SVG ids, embedded TrueType fonts."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.ticker import (
    FixedLocator,
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    NullLocator,
)

COLUMN_WIDTH_IN = 3.33
PAGE_WIDTH_IN = 7.0
WIDTHS = {"column": COLUMN_WIDTH_IN, "page": PAGE_WIDTH_IN}
GREY = "0.45"
# Okabe-Ito without its yellow, which thin lines on white lose; longer series take petroff10.
OKABE_ITO = tuple(
    mpl.colors.to_hex(mpl.color_sequences["okabe_ito"][i]) for i in (5, 6, 3, 7, 1, 2, 0)
)
PETROFF10 = tuple(mpl.colors.to_hex(c) for c in mpl.color_sequences["petroff10"])
MARKER_SIZES = dict.fromkeys(
    "^vPX<>", 5.8
)  # narrow shapes, so that the dot of a sampled point fits inside
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "h")
# status -> (marker, what the legend says); `ok` points are drawn, all others are marked at the axis
# foot
MISSING = {
    "oom": ("x", "out of memory"),
    "infeasible": ("+", "infeasible"),
    "failed": ("1", "failed"),
    "timeout": ("2", "timed out"),
    "not_run": (".", "not measured"),
}
STYLE = Path(__file__).with_name("paper.mplstyle")
RC = mpl.rc_params_from_file(STYLE, fail_on_error=True, use_default_template=False)
MARK_STEP = 0.06  # of the axis height, from one row of missing marks to the next
SCALES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def width_in(width: str) -> float:
    """Inches of a named width. ValueError names the two there are."""
    if width not in WIDTHS:
        raise ValueError(f"unknown width {width!r}; allowed: {', '.join(WIDTHS)}")
    return WIDTHS[width]


@contextmanager
def paper_style(width: str = "page") -> Iterator[float]:
    """The house style while a figure is built; yields the figure's width in inches. Outside it,
    nothing changes."""
    inches = width_in(width)
    with house_style():
        yield inches


@contextmanager
def house_style() -> Iterator[None]:
    """matplotlib's own defaults and RC, whatever the user's matplotlibrc or style sheets say. Files
    are saved under it, too: `savefig.bbox`, `text.usetex` and others are read only then."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(RC)
        yield


def colours(count: int) -> Sequence[str]:
    """`count` colours for series, told apart by colour-blind readers up to ten; markers go with
    them."""
    palette = OKABE_ITO if count <= len(OKABE_ITO) else PETROFF10
    return [palette[i % len(palette)] for i in range(count)]


def markers(count: int) -> Sequence[str]:
    """`count` markers for series; those whose colour comes again have another."""
    every = len(MARKERS)
    return [MARKERS[(i + i // every) % every] for i in range(count)]


def log2_axis(ax: Axes, values: Iterable[float] | None = None) -> None:
    """Base-2 logarithmic x axis with ticks as plain integers, at `values` where given, else at
    powers of two."""
    ax.set_xscale("log", base=2)
    if values is not None:
        ticks = sorted(set(values))
        ax.xaxis.set_major_locator(FixedLocator(ticks))
        ax.set_xlim(ticks[0] / 1.3, ticks[-1] * 1.3)
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:.0f}" if value >= 1 else f"{value:g}")
    )


def apart(values: list[float]) -> list[float]:
    """Ascending values without those nearer than a sixth of the base-2 axis to one before them."""
    kept, least = values[:1], np.log2(values[-1] / values[0]) / 6
    for value in values[1:]:
        if np.log2(value / kept[-1]) >= least:
            kept = [*kept, value]
    return kept


def short_number(value: float, _position: object = None) -> str:
    """At most three figures: 950, 1.2k, 12k, 3.4M; small ones as they are. For ticks."""
    for factor, letter in SCALES:
        if abs(value) >= factor * 0.9995:
            return f"{float(f'{value / factor:.3g}'):g}{letter}"
    return f"{float(f'{value:.3g}'):g}"


def cell_number(value: float, figures: int = 3) -> str:
    """Always `figures` figures, so that neighbours compare: 1.50, 12.3, 2.40k. For numbers in
    cells."""
    rounded = float(f"{value:.{figures}g}")
    factor, letter = next(((f, x) for f, x in SCALES if rounded >= f), (1.0, ""))
    return (
        f"{value / factor:#.{max(figures, len(str(int(rounded / factor))))}g}".rstrip(".") + letter
    )


def value_axis(
    axes: Iterable[Axes],
    low: float,
    high: float,
    *,
    axis: str = "y",
    log: bool = False,
    marks: int = 0,
) -> None:
    """Limits and ticks of a measured quantity that runs from `low` to `high`: a linear axis starts
    at `low` exactly, a log one has ticks at 1, 2, 5 or 1, 3 or 1 per decade. `marks` rows of
    missing points have a band of their own under the scale."""
    for ax in axes:
        one = getattr(ax, f"{axis}axis")
        if log:
            getattr(ax, f"set_{axis}scale")("log")
            decades = np.log10(high / low)
            subs = (1.0, 2.0, 5.0) if decades < 1.4 else (1.0, 3.0) if decades < 2.6 else (1.0,)
            one.set_major_locator(LogLocator(subs=subs))
            one.set_minor_formatter(NullFormatter())
            foot = 0.05 + MARK_STEP * marks
            span = (1.2 * high / low) ** (1 / (0.93 - foot))
            limits = low / (1.1 * span**foot), high * 1.1 * span**0.07
            if marks:  # in their band there is no scale
                ticks = LogLocator(subs=subs).tick_values(low / 1.1, limits[1])
                one.set_major_locator(FixedLocator([t for t in ticks if low / 1.1 <= t]))
                one.set_minor_locator(NullLocator())
        else:
            locator, top = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]), high + 0.07 * (high - low)
            foot = MARK_STEP * marks
            limits = low - foot / (1 - foot) * (top - low), top
            ticks = [t for t in locator.tick_values(low, top) if low <= t <= top]
            one.set_major_locator(FixedLocator(ticks) if marks else locator)
        getattr(ax, f"set_{axis}lim")(*limits)
        one.set_major_formatter(FuncFormatter(short_number))
        foot_band(ax, marks)


def foot_band(ax: Axes, marks: int) -> None:
    """A grey band at the foot of the panel, so that `marks` rows of missing points stand on no
    scale."""
    if marks:
        whole = {"transform": ax.transAxes, "linewidth": 0, "zorder": 0.6, "gid": "foot"}
        ax.add_patch(Rectangle((0, 0), 1, MARK_STEP * marks, color="0.92", **whole))


def mark_missing(
    ax: Axes, xs: Iterable[float], status: str, colour: str = GREY, level: int = 0
) -> Line2D | None:
    """Crosses at the axis foot for points without a number. `level` stacks them upward; the
    returned line carries the legend's words for this status (ValueError for an unknown one). None
    where `xs` is empty."""
    if status not in MISSING:
        raise ValueError(
            f"unknown status {status!r} of a missing point; known: {', '.join(MISSING)}"
        )
    xs = list(xs)
    if not xs:
        return None
    marker, label = MISSING[status]
    foot = MARK_STEP * (level + 0.5)
    return ax.plot(
        xs,
        [foot] * len(xs),
        transform=ax.get_xaxis_transform(),
        linestyle="none",
        marker=marker,
        color=colour,
        markersize=4.5,
        markeredgewidth=1.1,
        label=label,
        clip_on=False,
        zorder=4,
    )[0]


def error_bars(rows: pd.DataFrame, metric: str) -> np.ndarray | None:
    """(2, N) distances from the median down to `<metric>_lo` and up to `_hi`; None where the table
    has no such columns."""
    lo, hi = f"{metric}_lo", f"{metric}_hi"
    if lo not in rows or hi not in rows:
        return None
    middle = rows[metric].to_numpy(float)
    bars = np.stack([middle - rows[lo].to_numpy(float), rows[hi].to_numpy(float) - middle])
    return np.clip(np.nan_to_num(bars), 0, None)
