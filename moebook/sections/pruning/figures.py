"""What pruning experts, or every expert's FFN, gains: the paper's Fig 11, gains over the whole
model, and why so little; what it costs in quality has a module of its own.

Each function: (table, *, width) -> (Figure, plotted rows); ValueError says which sweep or columns
are missing."""

from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pandas as pd

from moebook.plot import style
from moebook.plot.checks import predicted_vs_measured
from moebook.plot.energy import energy
from moebook.plot.figure import Drawing, figure
from moebook.plot.gains import NEEDED, gain_label, gain_rows
from moebook.plot.lines import Looks, Spec, lines
from moebook.plot.rows import rows_of, with_numbers
from moebook.sections.pruning.pruned import BASELINE, SWEEP, by_ratio, with_ratio
from moebook.sections.pruning.quality_figures import quality, quality_and_speed

__all__ = ["energy", "predicted_vs_measured", "quality", "quality_and_speed"]

HUES = {"inter": ("Blues", "s"), "intra": ("Oranges", "v")}  # of a kind; darker: more pruned
SHADES = (0.45, 0.95)
OVER_ACTIVE = Spec("over_active", SWEEP, panel="model", line="series", x="top_k")
GAIN = replace(
    OVER_ACTIVE, name="gain", metric="gain_pct", log_y=False, level=0, level_label="no gain"
)


@figure("fig11_pruning")
def gain(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 11: gain over the whole model (%) over active experts, a panel per kind of pruning and
    model."""
    rows = with_ratio(gain_rows(table, "gain", SWEEP, BASELINE))
    rows = rows.assign(panel=rows["model"] + ", " + rows["kind"])
    rows = rows.sort_values(["kind", "model"], kind="stable")
    spec = replace(GAIN, panel="panel", y_label=gain_label(BASELINE))
    return lines(rows, spec, width=width, looks=_looks(table, "gain"))


@figure("gain_by_ratio")
def gain_by_ratio(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Mean gain over active counts (%), and its range, over the share that is pruned (%): a line
    per kind, a panel per model."""
    rows = by_ratio(gain_rows(table, "gain_by_ratio", SWEEP, BASELINE))
    spec = replace(
        GAIN,
        name="gain_by_ratio",
        sweep=None,
        line="kind",
        x="ratio_pct",
        y_label="mean gain (%)",
        level_label="no gain; bars: range over active experts",
    )
    looks = {
        kind: (mpl.colors.to_hex(mpl.colormaps[hue](0.75)), marker)
        for kind, (hue, marker) in HUES.items()
    }
    return lines(rows, spec, width=width, looks=looks)


@figure("over_floor")
def over_floor(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """TPOT as a multiple of its physical limit over active experts, a panel per model: where the
    multiple grows by pruning, the bytes saved do not become time saved."""
    rows = rows_of(table, "over_floor", SWEEP, ("series", "method", "tpot_s", "floor_tpot_s"))
    with_numbers(rows, "over_floor", ["tpot_s", "floor_tpot_s"])
    bound = rows["floor_tpot_s"].astype(float)
    ends = (end for end in ("", "_lo", "_hi") if f"tpot_s{end}" in rows)
    ratios = {f"over_floor{end}": rows[f"tpot_s{end}"].astype(float) / bound for end in ends}
    spec = replace(
        OVER_ACTIVE,
        name="over_floor",
        metric="over_floor",
        level=1,
        level_label="physical limit",
        y_label="decode step (× physical limit)",
        log_y=False,
    )
    return lines(rows.assign(**ratios), spec, width=width, looks=_looks(table, "over_floor"))


def _looks(table: pd.DataFrame, name: str) -> Looks:
    """The whole model black, each kind of pruning in a hue of its own, darker with the ratio."""
    rows = with_ratio(rows_of(table, name, SWEEP, NEEDED)).drop_duplicates("series")
    rows = rows.assign(marker=style.markers(len(rows)), colour="black")
    for kind, (hue, _) in HUES.items():
        own = rows[rows["kind"] == kind].sort_values("ratio_pct").index
        shades = mpl.colormaps[hue](np.linspace(*SHADES, len(own)))
        rows.loc[own, "colour"] = [mpl.colors.to_hex(shade) for shade in shades]
    return {row.series: (row.colour, row.marker) for row in rows.itertuples()}
