"""What pruning experts, or every expert's FFN, gains: the paper's Fig 11, gains over the whole
model, and why so little; what it costs in quality has a module of its own.

Each function: (summary, *, width) -> (Figure, plotted rows); ValueError says which sweep or columns
are missing."""

from itertools import cycle

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from moebook.explore.views import View
from moebook.plot import lines as panels
from moebook.plot import style
from moebook.plot.checks import predicted_vs_measured
from moebook.plot.figure import figure
from moebook.plot.gains import gain_label, gain_rows, series_of
from moebook.plot.lines import Spec, lines
from moebook.plot.rows import rows_of, values_of, with_numbers
from moebook.results.gains import BASELINE, by_ratio, pruned
from moebook.results.perplexity import quality_rows
from moebook.sections.pruning.quality_figures import quality, quality_and_speed

__all__ = [
    "predicted_vs_measured",
    "gain",
    "gain_by_ratio",
    "over_active",
    "over_floor",
    "quality",
    "quality_and_speed",
]

SWEEP = "pruning"
HUES = ("Blues", "Oranges", "Greens", "Purples")  # one per kind of pruning; darker: more pruned
SHADES = (0.45, 0.95)
SPEC = Spec("over_active", SWEEP, panel="model", line="series", x="top_k")
TIMES = {"TPOT": ("tpot_s", "floor_tpot_s"), "TTFT": ("ttft_s", "floor_ttft_s")}


@figure("fig11_pruning")
def over_active(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Fig 11: throughput over active experts, whole (black) and pruned, a panel per model."""
    return lines(summary, SPEC, width=width, looks=_looks(series_of(summary, "over_active", SWEEP)))


@figure("gain")
def gain(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Percent gain over the whole model over active experts, a panel per kind of pruning and
    model."""
    looks = _looks(series_of(summary, "gain", SWEEP))
    rows = gain_rows(summary, "gain", SWEEP, BASELINE)
    kinds = rows["series"].map(lambda name: (pruned(name) or (name,))[0])
    rows = _in_order(rows.assign(panel=rows["model"] + ", " + kinds, kind=kinds), ["kind", "model"])
    spec = Spec(
        "gain",
        SWEEP,
        panel="panel",
        line="series",
        x="top_k",
        metric="gain_pct",
        log_y=False,
        level=0,
        level_label="no gain",
        y_label=gain_label(BASELINE),
    )
    return lines(rows, spec, width=width, looks=looks)


@figure("gain_by_ratio")
def gain_by_ratio(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Mean gain over active counts, and its range, over the share that is pruned: a line per kind,
    a panel per model."""
    kinds = _kinds(series_of(summary, "gain_by_ratio", SWEEP))
    rows = by_ratio(gain_rows(summary, "gain_by_ratio", SWEEP, BASELINE))
    spec = Spec(
        "gain_by_ratio",
        None,
        panel="model",
        line="kind",
        x="ratio_pct",
        metric="gain_pct",
        log_y=False,
        level=0,
        level_label="no gain",
        y_label="mean and range of gain (%)",
    )
    looks = {
        kind: (mpl.colors.to_hex(mpl.colormaps[hue](0.75)), marker)
        for kind, hue, marker in zip(kinds, cycle(HUES), cycle("sv^D"), strict=False)
    }
    return lines(rows, spec, width=width, looks=looks)


@figure("over_floor")
def over_floor(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """TPOT and TTFT as multiples of their floors over active experts: where the multiple grows by
    pruning, the bytes saved do not become time saved."""
    looks = _looks(series_of(summary, "over_floor", SWEEP))
    needed = ("series", "method", *(c for pair in TIMES.values() for c in pair))
    rows = rows_of(summary, "over_floor", SWEEP, needed)
    shown = {
        name: pair for name, pair in TIMES.items() if rows[list(pair)].notna().all(axis=1).any()
    }
    if not shown:
        with_numbers(rows, "over_floor", ["tpot_s", "floor_tpot_s"])
    parts = [
        _over(rows, *pair).assign(panel=rows["model"] + f", {name}") for name, pair in shown.items()
    ]
    rows = pd.concat([_in_order(part, ["model"]) for part in parts], ignore_index=True)
    spec = Spec(
        "over_floor",
        SWEEP,
        panel="panel",
        line="series",
        x="top_k",
        metric="over_floor",
        level=1,
        level_label="floor",
        log_y=True,
    )
    return lines(rows, spec, width=width, looks=looks)


def _over(rows: pd.DataFrame, metric: str, floor: str) -> pd.DataFrame:
    ends = [end for end in ("", "_lo", "_hi") if f"{metric}{end}" in rows]
    return rows.assign(
        **{
            f"over_floor{end}": rows[f"{metric}{end}"].astype(float) / rows[floor].astype(float)
            for end in ends
        }
    )


def _in_order(rows: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Rows sorted by columns of words, each in the order of the table but models by name; otherwise
    as they stand."""
    ranks = [
        rows[c].map({v: i for i, v in enumerate(values_of(rows, c))}).to_numpy()
        for c in reversed(columns)
    ]
    return rows.iloc[np.lexsort(ranks)]


def _kinds(series: list[str]) -> list[str]:
    return list(dict.fromkeys(part[0] for part in map(pruned, series) if part))


def _looks(series: list[str]) -> panels.Looks:
    """The whole model black, each kind of pruning in a hue of its own, darker with the ratio;
    others grey."""
    marks = dict(zip(series, style.markers(len(series)), strict=True))
    found = {
        name: ("black" if name == BASELINE else style.GREY, marker)
        for name, marker in marks.items()
    }
    for kind, hue in zip(_kinds(series), cycle(HUES), strict=False):
        own = sorted(
            (name for name in series if (pruned(name) or ("",))[0] == kind),
            key=lambda name: pruned(name)[1],
        )
        for name, shade in zip(own, np.linspace(*SHADES, len(own)), strict=True):
            found[name] = mpl.colors.to_hex(mpl.colormaps[hue](shade)), marks[name]
    return found


VIEWS = (
    View("over active experts", "pruning", "top_k", "series", "model"),
    View(
        "quality",
        None,
        "ratio_pct",
        "criterion",
        "kind",
        "increase_pct",
        log_x=False,
        table=quality_rows,
    ),
)
