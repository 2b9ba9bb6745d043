"""What several devices gain: the paper's Fig 13, a decode step split into compute and
communication, and how well compositions meet runs.

Filled or dotted markers on solid lines were run over G devices. Open ones on dashed lines were
composed from one rank's measured time (enrich.py); a pipeline's composition is a band between its
two bounds. Each function: (table, *, width) -> (Figure, plotted rows); ValueError says which sweep,
columns or numbers are missing."""

from dataclasses import replace

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from moebook.explore.views import View
from moebook.models.one_rank import MODES, ONE
from moebook.plot import layout, lines, markers, panels, style
from moebook.plot.figure import METRICS, Drawing, figure, plotted, rows_of, with_numbers
from moebook.results.cells import COMPOSED
from moebook.results.schema import method_kind
from moebook.sections.parallelism import enrich

NEEDED = (*enrich.SPLIT, "method", "batch", "throughput_tok_s")
LOOKS = markers.looks_of(list(MODES))
THROUGHPUT = lines.Spec("fig13_parallelism", "modes", "model", "series", "devices")
PART_LOOKS = {
    "compute": {"facecolor": style.OKABE_ITO[0]},
    "communication": {"facecolor": style.OKABE_ITO[1], "hatch": "////", "hatchcolor": "black"},
}
RUN = {"linestyle": "none", "marker": "D", "color": "black", "markersize": 3.5}
DODGE = 1.045  # from one mode to the next, as a factor of devices


@figure("fig13_parallelism")
def over_devices(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 13: throughput over devices, a line per mode, a panel per model, with ideal scaling in
    grey.

    Axes of its own: one device belongs to every line, and each mode has a run and a composed
    one."""
    spec = THROUGHPUT
    rows_of(table, spec.name, spec.sweep, NEEDED)
    rows = enrich.over_devices(table)
    ok = with_numbers(rows, spec.name, [spec.metric])
    models = list(table["model"].unique())
    modes = [mode for mode in MODES if (rows["series"] == mode).any()]
    with style.paper_style(width):
        fig = Figure(figsize=panels.size(len(models), width), layout="constrained")
        axes = panels.grid_of_axes(fig, len(models), width, sharex=True)
        for ax, model in zip(axes, models, strict=True):
            own = rows[rows["model"] == model]
            _ideal(ax, own, spec.metric)
            for mode in modes:
                _mode(ax, own[own.index.isin(ok.index)], mode, spec.metric)
            _missing(ax, own, modes)
            style.log2_axis(ax, own["devices"])
            ax.tick_params(labelleft=True)
            title = f"{model}, batch {rows['batch'].iloc[0]:g}"
            ax.set_title(panels.title(title, len(models), width))
        gone = rows["status"].isin(style.MISSING)
        marks = max(1, len(modes) * (rows["series"] != ONE)[gone].any()) * gone.any()
        for ax in axes:
            style.value_axis([ax], 0.0, ax.dataLim.y1, marks=marks)
        fig.supxlabel("devices (count)")
        fig.supylabel(METRICS[spec.metric])
        handles = [Line2D([], [], color=LOOKS[m][0], marker=LOOKS[m][1]) for m in modes]
        notes = _notes(rows, ok, spec)
        layout.settle(fig, (handles, modes), notes, handler_map=markers.HANDLERS)
        return fig, plotted(rows, [spec.metric], ["series", "devices", "comm_from", "rounding"])


def _mode(ax: Axes, rows: pd.DataFrame, mode: str, metric: str) -> None:
    """What was run and what was composed of one mode, each from one device on. Modes stand side by
    side: those that do the same would hide one another."""
    colour, marker = LOOKS[mode]
    aside = DODGE ** (MODES.index(mode) - (len(MODES) - 1) / 2)
    moved = np.where(rows["series"] == ONE, 1, aside)
    rows = rows.assign(x=rows["devices"] * moved).sort_values("devices")
    one = rows[rows["series"] == ONE].head(1)
    run = rows[(rows["series"] == mode) & (rows["method"] != COMPOSED)]
    made = rows[(rows["series"] == mode) & (rows["method"] == COMPOSED)]
    if len(made):
        line = pd.concat([one, made])
        points = {"marker": marker, "markerfacecolor": "white", "markevery": (len(one), 1)}
        look = {"color": colour, "linestyle": markers.DASHES, "gid": COMPOSED}
        ax.plot(line["x"], line[metric], **look, **points)
        if mode == "PP":  # that of PP+EP is the same
            ends = line[f"{metric}_lo"], line[f"{metric}_hi"]
            ax.fill_between(line["x"], *ends, color=colour, alpha=0.15, linewidth=0, gid="band")
    if len(run):
        line = pd.concat([one, run])
        ax.plot(line["x"], line[metric], color=colour, gid="run")
        x, y, bars = run["x"].to_numpy(), run[metric].to_numpy(), style.error_bars(run, metric)
        ax.errorbar(x, y, yerr=bars, fmt="none", ecolor=colour, elinewidth=0.8, capsize=1.5)
        markers.draw_points(ax, x, y, run["method"].map(method_kind), colour, marker)


def _ideal(ax: Axes, rows: pd.DataFrame, metric: str) -> None:
    """What the hardware has over one device's, and that device's own point."""
    one = rows[(rows["series"] == ONE) & rows[metric].notna()].head(1)
    if one.empty:
        return
    value = one[metric].to_numpy()
    added = rows.drop_duplicates("devices").sort_values("devices")
    ideal = value * added["added"]
    ax.plot(added["devices"], ideal, color="0.6", linewidth=0.9, zorder=1, gid="ideal")
    kinds = one["method"].map(method_kind)
    markers.draw_points(ax, np.ones(1), value, kinds, style.GREY, "o")


def _missing(ax: Axes, rows: pd.DataFrame, modes: list[str]) -> None:
    """Marks at the foot: one device in grey, modes in their colours, stacked."""
    looks = [(ONE, style.GREY, 0), *((mode, LOOKS[mode][0], i) for i, mode in enumerate(modes))]
    for status in style.MISSING:
        gone = rows[rows["status"] == status]
        for series, colour, level in looks:
            at = gone.loc[gone["series"] == series, "devices"].unique()
            style.mark_missing(ax, at, status, colour, level)


def _notes(rows: pd.DataFrame, ok: pd.DataFrame, spec: lines.Spec) -> tuple[list, list[str]]:
    composed = ok[ok["method"] == COMPOSED]
    handles, labels = lines.notes_legend(rows, ok[ok["method"] != COMPOSED], spec)
    ideal = "the same cores" if enrich.shares_cores(rows) else "G times one device"
    more = {f"ideal: {ideal}": Line2D([], [], color="0.6", linewidth=0.9)}
    if len(composed):
        points = {"marker": "o", "markersize": 3.5, "markerfacecolor": "white"}
        line = Line2D([], [], color=style.GREY, linestyle=markers.DASHES, **points)
        more = {"composed from one rank": line, **more}
    if (composed["series"] == "PP").any():
        more["pipeline: serial to filled"] = Patch(color=style.GREY, alpha=0.25)
    return [*handles, *more.values()], [*labels, *more]


@figure("step_parts")
def step_parts(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """A decode step (ms) of every mode: one rank's compute and the ranks' communication as a bar,
    what was run as a marker.

    Axes of its own: stacked bars."""
    parts = ("compute_tpot_s", "comm_tpot_s")
    rows = rows_of(table, "step_parts", COMPOSED, (*NEEDED, "tpot_s", *parts))
    run = enrich.runs(table).rename(columns={"tpot_s": "measured_tpot_s"})
    rows = enrich.with_devices(rows).merge(
        run[[*enrich.PLACE, "measured_tpot_s"]], on=enrich.PLACE, how="left"
    )
    one = rows["series"] == ONE
    rows = rows.assign(compute_tpot_s=rows["compute_tpot_s"].mask(one, rows["tpot_s"]))
    shown = (rows["series"] != "PP+EP") | rows["measured_tpot_s"].notna()
    rows = rows[rows["compute_tpot_s"].notna() & shown]
    if (rows["series"] == ONE).all():
        raise ValueError("step_parts: no rank was measured alone (sweep 'shards')")
    rows = rows[rows["batch"] == rows["batch"].max()]
    models = [m for m in table["model"].unique() if (rows["model"] == m).any()]
    most = max(rows.groupby("model").size())
    shape = (1, len(models)) if width == "page" else (len(models), 1)
    with style.paper_style(width) as inches:
        fig = Figure(figsize=(inches, shape[0] * (0.16 * most + 0.55)), layout="constrained")
        for ax, model in zip(fig.subplots(*shape, squeeze=False).flat, models, strict=True):
            _bars(ax, rows[rows["model"] == model])
            ax.set_title(f"{model}, batch {rows['batch'].iloc[0]:g}")
        fig.supxlabel("decode step (ms)")
        legend = {part: Patch(**look) for part, look in PART_LOOKS.items()}
        legend["as run over the devices"] = Line2D([], [], **RUN)
        have = rows[[*parts, "measured_tpot_s"]].notna().any()
        legend = {text: legend[text] for text, has in zip(legend, have, strict=True) if has}
        piped = bool(rows["series"].str.startswith("PP").any())
        ends = "range between engine starts" + "; PP: filled to serial" * piped
        legend[ends] = Line2D([], [], color="black", linewidth=0.8)
        layout.settle(fig, (list(legend.values()), list(legend)))
        more = ["series", "devices", *parts, "measured_tpot_s", "comm_from"]
        return fig, plotted(rows, ["tpot_s"], more)


def _bars(ax: Axes, rows: pd.DataFrame) -> None:
    y, ms = np.arange(len(rows)), 1e3 * rows.filter(like="tpot_s").astype(float)
    start = 0.0
    for part, column in zip(PART_LOOKS, ("compute_tpot_s", "comm_tpot_s"), strict=True):
        long = ms[column].fillna(0.0)
        ax.barh(y, long, left=start, height=0.7, gid=part, **PART_LOOKS[part])
        start = long
    ax.hlines(y, ms["tpot_s_lo"], ms["tpot_s_hi"], color="black", linewidth=0.8, gid="ends")
    ax.plot(ms["measured_tpot_s"], y, zorder=4, gid="run", **RUN)
    split = " " + rows["devices"].astype(str)
    ax.set_yticks(y, rows["series"] + split.where(rows["series"] != ONE, ""))
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    style.value_axis([ax], 0.0, ax.dataLim.x1, axis="x")


@figure("composed_vs_measured")
def composed_vs_measured(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Error of composed over measured TTFT, step and E2E (%), a row per mode and model that was
    both.

    Axes of its own: a list of names, not a scale, goes down."""
    rows_of(table, "composed_vs_measured", "modes", NEEDED)
    rows = enrich.with_devices(enrich.errors(table))
    if rows.empty:
        raise ValueError(
            "composed_vs_measured: no mode was both run over several devices and composed"
        )
    with style.paper_style(width) as inches:
        fig = Figure(figsize=(inches, 0.2 * len(rows) + 0.6), layout="constrained")
        ax = fig.subplots()
        ax.axvline(0, color="black", linewidth=0.8)
        looks = markers.looks_of(["TTFT", "step", "E2E"])
        for (label, (colour, marker)), name in zip(looks.items(), enrich.TIMES, strict=True):
            error = 100 * (rows[f"composed_{name}"] / rows[name] - 1)
            look = {"linestyle": "none", "marker": marker, "color": colour}
            ax.plot(error, range(len(rows)), label=label, gid=f"error-{name}", **look)
        ends = rows["series"] + " " + rows["devices"].astype(str) + ", batch "
        ax.set_yticks(range(len(rows)), rows["model"] + ", " + ends + rows["batch"].astype(str))
        reach = max(1.0, 1.15 * np.abs(ax.dataLim.intervalx).max())
        ax.set(xlim=(-reach, reach), ylim=(len(rows) - 0.5, -0.5))
        fig.supxlabel("error (%)")
        layout.settle(fig, ax.get_legend_handles_labels())
        composed = [f"composed_{name}" for name in enrich.TIMES]
        more = ["series", "devices", *composed, "error_pct"]
        return fig, plotted(rows, enrich.TIMES, more)


BY_MODE = View("Fig 13: devices", None, "devices", "series", "model", table=enrich.over_devices)
EVERY = replace(BY_MODE, name="run, at all batches", sweep="modes", table=enrich.with_devices)
VIEWS = (
    BY_MODE,
    EVERY,
    replace(EVERY, name="composed, at all batches", sweep=COMPOSED),
    View("one rank alone", "shards", "batch", "series", "model"),
)
