"""What several devices gain: the paper's Fig 13, a decode step split into compute and
communication, scaling efficiency.

Filled or dotted markers on solid lines were run over G devices; open ones on dashed lines were
composed from one rank's measured time (analysis/parallelism.py). A pipeline's composition is a band
between its two bounds. Each function: (summary, *, width) -> (Figure, plotted rows); ValueError
says which sweep or columns are missing."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from moebook.explore.views import View
from moebook.models.one_rank import MODES, ONE
from moebook.plot import layout, lines, style
from moebook.plot.figure import figure
from moebook.plot.rows import METRICS, plotted, rows_of, with_numbers
from moebook.sections.parallelism import composed as analysis

NEEDED = (
    "model",
    "series",
    "method",
    "batch",
    "tensor_parallel",
    "pipeline_parallel",
    "throughput_tok_s",
)
LOOKS = lines.looks_of(list(MODES))
COMPOSED_LABEL = "composed from one rank"
BAND = "pipeline: serial to filled"
PART_COLUMNS = ("compute_tpot_s", "comm_tpot_s")
PART_LOOKS = {
    "compute": {"facecolor": style.OKABE_ITO[0]},
    "communication": {"facecolor": style.OKABE_ITO[1], "hatch": "////", "hatchcolor": "black"},
}
DODGE = 1.045  # from one mode to the next, as a factor of devices


@figure("fig13_parallelism")
def over_devices(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Fig 13: throughput over devices, a line per mode, a panel per model, with ideal scaling in
    grey."""
    return _lines(
        summary, "fig13_parallelism", "throughput_tok_s", METRICS["throughput_tok_s"], width
    )


@figure("efficiency")
def efficiency(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Throughput over G times that of one device (%; on a CPU over one), a line per mode, a panel
    per model."""
    return _lines(
        summary, "efficiency", "efficiency_pct", "scaling efficiency (% of the ideal)", width
    )


def _lines(
    summary: pd.DataFrame, figure: str, metric: str, label: str, width: str
) -> tuple[Figure, pd.DataFrame]:
    rows_of(summary, figure, "modes", NEEDED)
    rows = analysis.over_devices(summary)
    ok = with_numbers(rows, figure, [metric])
    marked = rows[
        (rows["series"] != ONE) | (metric != "efficiency_pct")
    ]  # one device is 100 %, whatever ran
    models, present = (
        list(dict.fromkeys(summary["model"])),
        [m for m in MODES if (rows["series"] == m).any()],
    )
    with style.paper_style(width):
        fig = Figure(figsize=lines.panel_size(len(models), width), layout="constrained")
        axes = lines.grid_of_axes(
            fig, len(models), width, sharex=True, sharey=metric == "efficiency_pct"
        )
        for ax, model in zip(axes, models, strict=True):
            own = rows[rows["model"] == model]
            _ideal(ax, own, metric)
            for mode in present:
                _mode(ax, own, mode, metric)
            _missing(ax, marked[marked["model"] == model], present)
            style.log2_axis(ax, rows["devices"])
            _scale(ax, own if metric != "efficiency_pct" else ok, metric)
            ax.tick_params(labelleft=True)
            ax.set_title(
                lines.panel_title(f"{model}, batch {own['batch'].iloc[0]:g}", len(models), width)
            )
        fig.supxlabel("devices (count)")
        fig.supylabel(label)
        modes = ([Line2D([], [], color=LOOKS[m][0], marker=LOOKS[m][1]) for m in present], present)
        layout.settle(fig, modes, _notes(marked, ok), handler_map=lines.HANDLERS)
        return fig, plotted(rows, [metric], ["series", "devices", "comm_from", "rounding"])


def _mode(ax: Axes, rows: pd.DataFrame, mode: str, metric: str) -> None:
    """What was run and what was composed of one mode, each from one device on."""
    colour, marker = LOOKS[mode]
    ok = rows[(rows["status"] == "ok") & rows[metric].notna()]
    one = ok[ok["series"] == ONE].head(1)
    own = ok[ok["series"] == mode]
    composed = own["method"] == analysis.COMPOSED
    for is_run, part in ((False, own[composed]), (True, own[~composed])):
        if part.empty:
            continue
        line = pd.concat([one, part]).sort_values("devices")
        x, y = _dodged(line, mode), line[metric].to_numpy(float)
        ax.plot(
            x,
            y,
            color=colour,
            linestyle="-" if is_run else lines.DASHES,
            gid="run" if is_run else analysis.COMPOSED,
        )
        if not is_run and mode == "PP":  # that of PP+EP is the same
            low, high = (line[f"{metric}_{end}"].to_numpy(float) for end in ("lo", "hi"))
            ax.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0, gid="band")
        x, y = _dodged(part, mode), part[metric].to_numpy(float)
        if is_run:
            bars = style.error_bars(part, metric)
            ax.errorbar(x, y, yerr=bars, fmt="none", ecolor=colour, elinewidth=0.8, capsize=1.5)
            lines.draw_points(
                ax, x, y, [lines.method_kind(m) for m in part["method"]], colour, marker
            )
        else:
            ax.plot(
                x,
                y,
                linestyle="none",
                marker=marker,
                color=colour,
                markerfacecolor="white",
                zorder=3,
                gid=f"points-{analysis.COMPOSED}",
            )


def _dodged(rows: pd.DataFrame, mode: str) -> np.ndarray:
    """Devices of each row, the modes beside each other: those that do the same would hide one
    another."""
    aside = DODGE ** (MODES.index(mode) - (len(MODES) - 1) / 2)
    return rows["devices"].to_numpy(float) * np.where(rows["series"] == ONE, 1.0, aside)


def _ideal(ax: Axes, rows: pd.DataFrame, metric: str) -> None:
    """What the hardware has over one device's, and that device's own point."""
    one = rows[(rows["series"] == ONE) & (rows["status"] == "ok") & rows[metric].notna()].head(1)
    if one.empty:
        return
    added = rows.drop_duplicates("devices").sort_values("devices")
    value = float(one[metric].iloc[0])
    ideal = value * added["added"].to_numpy(float) ** (metric == "throughput_tok_s")
    ax.plot(added["devices"], ideal, color="0.6", linewidth=0.9, zorder=1, gid="ideal")
    lines.draw_points(
        ax,
        np.array([1.0]),
        np.array([value]),
        [lines.method_kind(one["method"].iloc[0])],
        style.GREY,
        "o",
    )


def _missing(ax: Axes, rows: pd.DataFrame, present: list[str]) -> None:
    """Marks at the foot: one device in grey, modes in their colours, stacked."""
    gone = rows[rows["status"] != "ok"]
    for status in style.MISSING:
        at = gone[gone["status"] == status]
        style.mark_missing(ax, at.loc[at["series"] == ONE, "devices"], status)
        for level, mode in enumerate(present):
            style.mark_missing(
                ax, at.loc[at["series"] == mode, "devices"].unique(), status, LOOKS[mode][0], level
            )


def _scale(ax: Axes, rows: pd.DataFrame, metric: str) -> None:
    """From 0 to what is drawn, the ideal line included."""
    values = rows.loc[rows["status"] == "ok", [metric, f"{metric}_hi"]].to_numpy(float)
    ideal = [line.get_ydata().max() for line in ax.lines if line.get_gid() == "ideal"]
    style.value_axis([ax], 0.0, max([np.nanmax(values), *ideal]))


def _notes(rows: pd.DataFrame, ok: pd.DataFrame) -> tuple[list, list[str]]:
    run = ok[ok["method"] != analysis.COMPOSED]
    handles, labels = lines.method_handles([lines.method_kind(m) for m in run["method"]])
    labels = [f"{label}, run" if label == "sampled" else label for label in labels]
    if (ok["method"] == analysis.COMPOSED).any():
        handles.append(
            Line2D(
                [],
                [],
                color=style.GREY,
                linestyle=lines.DASHES,
                marker="o",
                markersize=3.5,
                markerfacecolor="white",
            )
        )
        labels.append(COMPOSED_LABEL)
    if ((ok["method"] == analysis.COMPOSED) & (ok["series"] == "PP")).any():
        handles.append(Patch(color=style.GREY, alpha=0.25))
        labels.append(BAND)
    handles.append(Line2D([], [], color="0.6", linewidth=0.9))
    labels.append(
        "ideal: the same cores" if analysis.shares_cores(rows) else "ideal: G times one device"
    )
    for status, (marker, label) in style.MISSING.items():
        if (rows["status"] == status).any():
            handles.append(Line2D([], [], linestyle="none", marker=marker, color=style.GREY))
            labels.append(label)
    return handles, labels


@figure("step_parts")
def step_parts(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """A decode step of every mode: one rank's compute and the ranks' communication as a bar, what
    was run as a marker."""
    rows = rows_of(
        summary,
        "step_parts",
        analysis.COMPOSED,
        (*NEEDED, "tpot_s", "compute_tpot_s", "comm_tpot_s"),
    )
    one = rows["series"] == ONE
    rows = rows.assign(
        devices=analysis.count_of(rows),
        compute_tpot_s=rows["compute_tpot_s"].mask(one, rows["tpot_s"]),
        measured_tpot_s=[_run_tpot(summary, row) for row in rows.to_dict("records")],
    )
    rows = rows[
        rows["compute_tpot_s"].notna()
        & ((rows["series"] != "PP+EP") | rows["measured_tpot_s"].notna())
    ]
    if (rows["series"] == ONE).all():
        raise ValueError("step_parts: no rank was measured alone (sweep 'shards')")
    rows = rows[rows["batch"] == rows["batch"].max()]
    models = [m for m in dict.fromkeys(summary["model"]) if (rows["model"] == m).any()]
    most = max(rows.groupby("model").size())
    shape = (1, len(models)) if width == "page" else (len(models), 1)
    with style.paper_style(width) as inches:
        fig = Figure(figsize=(inches, shape[0] * (0.16 * most + 0.55)), layout="constrained")
        for ax, model in zip(fig.subplots(*shape, squeeze=False).flat, models, strict=True):
            _parts(ax, rows[rows["model"] == model])
            ax.set_title(f"{model}, batch {rows['batch'].iloc[0]:g}")
        fig.supxlabel("decode step (ms)")
        run = Line2D([], [], linestyle="none", marker="D", color="black", markersize=3.5)
        legend = {part: Patch(**look) for part, look in PART_LOOKS.items()}
        legend["as run over the devices"] = run
        shown = [
            label
            for label, column in zip(legend, (*PART_COLUMNS, "measured_tpot_s"), strict=True)
            if rows[column].notna().any()
        ]
        layout.settle(fig, ([legend[label] for label in shown], shown))
        return fig, plotted(
            rows, ["tpot_s"], ["series", "devices", *PART_COLUMNS, "measured_tpot_s", "comm_from"]
        )


def _run_tpot(summary: pd.DataFrame, row: dict) -> float:
    """TPOT of the same place as the engine ran it over several devices; NaN where it did not."""
    if row["series"] == ONE:
        return float("nan")
    same = (summary["method"] != analysis.COMPOSED) & (summary["status"] == "ok")
    for name in (
        "model",
        "series",
        "tensor_parallel",
        "pipeline_parallel",
        "batch",
        "input_tokens",
    ):
        same &= summary[name] == row[name]
    return float(summary.loc[same, "tpot_s"].iloc[0]) if same.any() else float("nan")


def _parts(ax: Axes, rows: pd.DataFrame) -> None:
    y = np.arange(len(rows))
    compute, comm = (
        1e3 * rows["compute_tpot_s"].to_numpy(float),
        1e3 * rows["comm_tpot_s"].to_numpy(float),
    )
    ax.barh(y, compute, height=0.7, gid="compute", **PART_LOOKS["compute"])
    ax.barh(
        y,
        np.nan_to_num(comm),
        left=compute,
        height=0.7,
        gid="communication",
        **PART_LOOKS["communication"],
    )
    ends = 1e3 * rows[["tpot_s_lo", "tpot_s_hi"]].to_numpy(float)
    ax.hlines(y, ends[:, 0], ends[:, 1], color="black", linewidth=0.8, gid="ends")
    run = 1e3 * rows["measured_tpot_s"].to_numpy(float)
    ax.plot(
        run, y, linestyle="none", marker="D", color="black", markersize=3.5, zorder=4, gid="run"
    )
    ax.set_yticks(
        y, [r.series if r.series == ONE else f"{r.series} {r.devices}" for r in rows.itertuples()]
    )
    ax.set_ylim(len(rows) - 0.4, -0.6)
    ax.grid(axis="y", visible=False)
    style.value_axis(
        [ax], 0.0, float(np.nanmax([compute + np.nan_to_num(comm), run, ends[:, 1]])), axis="x"
    )


@figure("composed_vs_measured")
def composed_vs_measured(
    summary: pd.DataFrame, *, width: str = "page"
) -> tuple[Figure, pd.DataFrame]:
    """Error of composed over measured TTFT, step and E2E (%), a row per mode and model that was
    both."""
    rows_of(summary, "composed_vs_measured", "modes", NEEDED)
    rows = analysis.errors(summary)
    if rows.empty:
        raise ValueError(
            "composed_vs_measured: no mode was both run over several devices and composed"
        )
    rows = rows.assign(devices=analysis.count_of(rows))
    with style.paper_style(width) as inches:
        fig = Figure(figsize=(inches, 0.2 * len(rows) + 0.6), layout="constrained")
        ax = fig.subplots()
        ax.axvline(0, color="black", linewidth=0.8)
        looks = lines.looks_of(["TTFT", "step", "E2E"])
        y, reach = np.arange(len(rows)), 1.0
        for (label, (colour, marker)), name in zip(looks.items(), analysis.TIMES, strict=True):
            error = 100 * (rows[f"composed_{name}"] / rows[name] - 1).to_numpy(float)
            ax.plot(
                error,
                y,
                linestyle="none",
                marker=marker,
                color=colour,
                label=label,
                gid=f"error-{name}",
            )
            reach = max(reach, 1.15 * float(np.nanmax(np.abs(error))))
        ax.set_yticks(
            y, [f"{r.model}, {r.series} {r.devices}, batch {r.batch}" for r in rows.itertuples()]
        )
        ax.set(
            xlim=(-reach, reach), ylim=(len(rows) - 0.5, -0.5), xlabel="composed over measured (%)"
        )
        layout.settle(fig, ax.get_legend_handles_labels())
        composed = [f"composed_{name}" for name in analysis.TIMES]
        return fig, plotted(rows, analysis.TIMES, ["series", "devices", *composed, "error_pct"])


VIEWS = (
    View("over devices", None, "devices", "series", "model", table=analysis.over_devices),
    View("run, at all batches", "modes", "devices", "series", "model", table=analysis.with_devices),
    View(
        "composed, at all batches",
        "composed",
        "devices",
        "series",
        "model",
        table=analysis.with_devices,
    ),
    View("one rank alone", "shards", "batch", "series", "model"),
)
