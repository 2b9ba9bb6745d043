"""Accelerators side by side: peaks, one set of points on every device, the paper's Fig 16, and
where curves bend.

Each function: (table, *, width) -> (Figure, plotted rows), of the table that enrich.py makes;
ValueError says what is missing. A line is one device and precision, and its legend says what kind
of number it is: measured, endpoint or roofline. Colours are those of devices; rooflines are dashed,
without points, and have panels of their own, because what hardware could do lies far from what
engines do."""

from dataclasses import replace

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from moebook.explore.views import View
from moebook.plot import layout, length_axis, style
from moebook.plot import lines as panels
from moebook.plot.figure import Drawing, figure
from moebook.plot.lines import Spec
from moebook.plot.rows import (
    AXES,
    METRICS,
    one_per_place,
    plotted,
    rows_of,
    values_of,
    with_numbers,
)
from moebook.results.cells import of_sweep
from moebook.sections.accelerator_comparison.knees import COMPUTED, REASONS, of_curves

LABELS = ("device_label", "source_kind")
COMMON = Spec("common", "common", panel="batch", line="device_label", x="input_tokens")
REFERENCE = Spec("reference", "reference", panel="panel", line="line", x="input_tokens")
LATENCY = replace(REFERENCE, name="fig16_latency", sweep=None, metric="e2e_s", kind="kind")
THROUGHPUT = replace(LATENCY, name="fig16_throughput", metric="throughput_tok_s")
SHARE = replace(
    REFERENCE,
    name="against_ceiling",
    sweep=None,
    metric="share_pct",
    log_y=False,
    y_label="share of the measured peaks (%)",
)
PHASES = {"ttft_s": "prefill", "tpot_s": "decode"}
RATES = {
    "copy_bytes_per_s": ("published_bytes_per_s", "memory bandwidth (TB/s)"),
    "matmul_flops_per_s": ("published_flops_per_s", "bf16 matrix rate (TFLOP/s)"),
}
TERA = 1e12
BLACK = {"color": "black", "markerfacecolor": "none"}
RANGE = {"color": "0.8", "linewidth": 3}
MARKS = {
    "bend_compute": {"marker": "^", **BLACK},
    "bend_bandwidth": {"marker": "s", **BLACK},
    "bend_capacity": {"marker": "|", **BLACK},
    "bend_measured": {"marker": "o", "color": "black"},
}
FIRST = ("H100", "H200", "CPU")  # devices that keep their colours whatever stands beside them


@figure("ceilings")
def peaks(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Copy bandwidth (TB/s) and matrix rate (TFLOP/s) as measured (dots) and as published
    (diamonds), a row per device."""
    columns = [*RATES, *(published for published, _ in RATES.values())]
    rows = rows_of(table, "ceilings", None, (*LABELS, *columns))
    found = rows[rows["source_kind"] != "endpoint"].groupby("device_label", sort=False)[columns]
    rates = found.first().dropna(how="all").reset_index()
    if rates.empty:
        raise ValueError("ceilings: no device of the table has measured or published rates")
    looks = {"marker": "o", "color": style.OKABE_ITO[0]}, {"marker": "D", **BLACK}
    with style.paper_style(width) as inches:
        fig = Figure(figsize=(inches, 0.2 * len(rates) + 0.75), layout="constrained")
        axes = fig.subplots(1, 2, sharey=True)
        for ax, (measured, (published, label)) in zip(axes, RATES.items(), strict=True):
            _dots(ax, rates[[measured, published]].astype(float) / TERA, looks)
            ax.set_xlabel(label.replace(" (", "\n(") if width == "column" else label)
        axes[0].set_yticks(range(len(rates)), rates["device_label"])
        handles = [Line2D([], [], linestyle="none", **look) for look in looks]
        layout.settle(fig, (handles, ["measured", "published (dense)"]))
        return fig, rates


def _dots(ax: Axes, values: pd.DataFrame, looks) -> None:
    """A row per row, a mark per column, over a logarithmic axis."""
    for column, look in zip(values, looks, strict=True):
        ax.plot(values[column], range(len(values)), linestyle="none", gid=column, **look)
    ax.set_ylim(len(values) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    style.value_axis([ax], ax.dataLim.x0, ax.dataLim.x1, axis="x", log=True)


@figure("common")
def common(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Throughput of the same points on every device, over length, a panel per batch, with each
    device's roofline bound."""
    rows = rows_of(table, "common", "common", LABELS)
    own = rows[rows["profile"] == table["profile"].iloc[0]]
    if not (own["status"] == "ok").any():
        raise ValueError(
            "common: none of these points is measured on this profile's own device yet; others "
            "alone compare nothing"
        )
    looks = _device_looks(table)
    return panels.lines(_present(table, "common"), COMMON, width=width, looks=looks)


@figure("reference")
def reference(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Throughput of another model in 16 bits over length, a line per device, a panel per batch."""
    rows = named(rows_of(_present(table, "reference"), "reference", "reference", LABELS))
    return panels.lines(rows, REFERENCE, width=width, looks=_line_looks(rows))


@figure("fig16_latency")
def latency(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 16: E2E latency over length at the smallest batch."""
    rows = _fig16(table, LATENCY)
    return _side_by_side(rows[rows["batch"] == rows["batch"].min()], LATENCY, width)


@figure("fig16_throughput")
def throughput(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 16: throughput over length, a panel per batch."""
    return _side_by_side(_fig16(table, THROUGHPUT), THROUGHPUT, width)


@figure("against_ceiling")
def share_of_peaks(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """How near measured points come to their device's peaks (%): roofline bound over measured, of
    prefill and of a decode step, at the smallest and the largest batch."""
    columns = (*LABELS, *PHASES, *(f"floor_{phase}" for phase in PHASES))
    rows = measured_here(rows_of(table, "against_ceiling", None, columns))
    rows = named(rows[rows["floor_ttft_s"].notna()], short=True)
    rows = rows[rows["batch"].isin(rows["batch"].agg(["min", "max"]))]
    batch = ", batch " + rows["batch"].astype(str)
    parts = [rows.assign(share_pct=shares(rows, c), panel=PHASES[c] + batch) for c in PHASES]
    both = pd.concat(parts).sort_values("batch", kind="stable")
    return panels.lines(both, SHARE, width=width, looks=_line_looks(rows))


def shares(rows: pd.DataFrame, phase: str) -> pd.Series:
    """Roofline bound over measured time of a phase, `ttft_s` or `tpot_s` (%)."""
    return 100 * rows[f"floor_{phase}"].astype(float) / rows[phase].astype(float)


@figure("bends")
def knees(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Lengths (tokens) at which each measured curve should bend and where it does, a row per
    device, model, precision and batch."""
    rows = rows_of(table, "bends", None, (*LABELS, *COMPUTED, "e2e_s"))
    curves = of_curves(named(measured_here(rows), short=True))
    if curves.empty:
        raise ValueError("bends: no curve of three or more lengths was measured")
    on_page, y = width == "page", range(len(curves))
    with style.paper_style(width) as inches:
        tall = (0.2 if on_page else 0.31) * len(curves) + 0.7
        fig = Figure(figsize=(inches, tall), layout="constrained")
        ax = fig.subplots()
        ax.hlines(y, curves["shortest"], curves["longest"], gid="range", zorder=1, **RANGE)
        _dots(ax, curves[list(MARKS)], MARKS.values())
        ax.set_xlabel("prompt or context (tokens)")
        in_two = curves["line"].str.replace(r"^(.*?, .*?), ", "\\1\n", regex=True)
        ax.set_yticks(y, curves["line"] if on_page else in_two)
        handles: list = [Line2D([], [], linestyle="none", **look) for look in MARKS.values()]
        words = [*REASONS.values(), "lengths measured"]
        layout.settle(fig, ([*handles, Line2D([], [], **RANGE)], words))
        return fig, curves


def _present(table: pd.DataFrame, sweep: str) -> pd.DataFrame:
    """The sweep's rows, without those of devices that have measured none of it."""
    rows = of_sweep(table, sweep)
    measured = rows["device_label"].isin(rows.loc[rows["status"] != "not_run", "device_label"])
    return rows[measured] if measured.any() else rows


def named(rows: pd.DataFrame, short: bool = False) -> pd.DataFrame:
    """With `line`, what a legend calls a row, and `panel`. short: lines of several models, all of
    them measured."""
    kind, device = rows["source_kind"], rows["device_label"]
    roofline = kind == "roofline"
    count = rows["tensor_parallel"].astype("Int64").astype(str)
    device = device.mask(roofline & (rows["tensor_parallel"] > 1), device + " ×" + count)
    if short:
        line = device + ", " + rows["model"] + ", " + rows["series"]
    else:
        line = device + (", " + rows["series"]).mask(kind == "endpoint", "") + ", " + kind
    batch = ", batch " + rows["batch"].astype(str)
    panel = rows["model"].mask(roofline, "roofline") + batch
    kinds = rows["method"].replace({"endpoint": "full"})
    return rows.assign(line=_short(line), panel=_short(panel), kind=kinds)


def _short(names: pd.Series) -> pd.Series:
    """Long model names without what a reader of the figure knows."""
    return names.str.replace("-17B-16E-Instruct|-1B-7B-0125", "", regex=True)


def measured_here(table: pd.DataFrame) -> pd.DataFrame:
    """What engines measured of the models that this profile shows."""
    rows = of_models_here(table)
    return rows[(rows["source_kind"] == "measured") & (rows["status"] == "ok")]


def of_models_here(rows: pd.DataFrame) -> pd.DataFrame:
    """Without other profiles' models: those of the profile that comes first, and the source's."""
    measured = rows["source_kind"] == "measured"
    first = rows.loc[measured, "profile"].head(1)
    here = ~measured | rows["profile"].isin(first)
    return rows[rows["model"].isin(rows.loc[here, "model"])]


def _fig16(table: pd.DataFrame, spec: Spec) -> pd.DataFrame:
    """Rows of the model over length: measured, endpoint and roofline; of other devices those of the
    models shown here."""
    rows = rows_of(table, spec.name, None, (*LABELS, "sweeps", "model", "series", spec.metric))
    rows = of_sweep(rows, "scout|chunked|endpoint")
    rows = rows[rows["status"] != "not_run"]
    with_numbers(rows, spec.name, [spec.metric])
    rows = named(of_models_here(rows).sort_values("batch", kind="stable"))
    nothing = ~rows["line"].isin(rows.loc[rows["status"] == "ok", "line"])
    return rows.assign(line=rows["line"].mask(nothing, rows["line"].str.removesuffix(", measured")))


def _side_by_side(rows: pd.DataFrame, spec: Spec, width: str) -> Drawing:
    """Panels with a scale of their own each: measured ones, then rooflines. So axes of its own."""
    rows, spec = length_axis.placed(rows, spec)
    one_per_place(rows, spec.name, (spec.panel, spec.line, spec.x))
    order = rows.sort_values("source_kind", key=lambda kinds: kinds == "roofline", kind="stable")
    names, looks = values_of(order, spec.panel), _line_looks(order)
    with style.paper_style(width):
        fig = Figure(figsize=panels.panel_size(len(names), width, most=3), layout="constrained")
        for ax, name in zip(
            panels.grid_of_axes(fig, len(names), width, most=3), names, strict=True
        ):
            own = rows[rows[spec.panel] == name]
            panels.draw_lines(ax, own, spec, looks)
            ax.set_title(panels.panel_title(name, len(names), width, most=3))
            ax.tick_params(labelleft=True, labelbottom=True)
            panels.x_scale([ax], own, spec, width)
            ok = own[(own["status"] == "ok") & own[spec.metric].notna()]
            if len(ok):
                panels.y_scale([ax], own, ok, spec, True, None)
            for line in ax.lines if name.startswith("roofline") else ():
                line.set_linestyle(panels.DASHES if line.get_gid() == "series" else "none")
        fig.supxlabel(AXES[spec.x][0])
        fig.supylabel(METRICS[spec.metric])
        ok = rows[(rows["status"] == "ok") & (rows["source_kind"] != "roofline")]
        handles, labels = panels.series_legend(spec, looks)
        for handle, label in zip(handles, labels, strict=True):
            if "roofline" in label:
                handle.set(linestyle=panels.DASHES, marker="none")
        notes = panels.notes_legend(rows, ok, spec)
        layout.settle(fig, (handles, labels), notes, handler_map=panels.HANDLERS)
        return fig, plotted(order, [spec.metric], ["panel", "line", "series", *LABELS])


def _device_looks(rows: pd.DataFrame) -> panels.Looks:
    """A colour and marker per device."""
    return panels.looks_of([*FIRST, *sorted(set(rows["device_label"].dropna()) - set(FIRST))])


def _line_looks(rows: pd.DataFrame) -> panels.Looks:
    """Lines in their device's colour, told apart by markers."""
    devices = _device_looks(rows)
    lines = rows.drop_duplicates("line")
    nth = lines.groupby("device_label").cumcount() % len(style.MARKERS)
    every = zip(lines["line"], lines["device_label"], nth, strict=True)
    return {line: (devices[device][0], style.MARKERS[i]) for line, device, i in every}


COMMON_VIEW = View("same points on every device", "common", "input_tokens", "device_label", "batch")
SCOUT_VIEW = replace(COMMON_VIEW, sweep="scout")
VIEWS = (
    COMMON_VIEW,
    replace(SCOUT_VIEW, name="source's model, measured", where={"source_kind": "measured"}),
    replace(SCOUT_VIEW, name="source's model, rooflines", where={"source_kind": "roofline"}),
    replace(COMMON_VIEW, name="another model in 16 bits", sweep="reference"),
)
