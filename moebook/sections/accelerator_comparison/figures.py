"""Accelerators side by side: peaks, one set of points on every device, the paper's Fig 16, and
where curves bend.

Each function: (table, *, width) -> (Figure, plotted rows), of the table that enrich.py makes;
ValueError says what is missing. A line is one device and precision, and its legend says what kind
of number it is: measured or endpoint. Colours are those of devices."""

from dataclasses import replace

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from moebook.explore.views import View
from moebook.plot import layout, lines, markers, style
from moebook.plot.figure import Drawing, figure, rows_of, with_numbers
from moebook.plot.lines import Spec
from moebook.results.cells import of_sweep

LABELS = ("device_label", "source_kind")
COMMON = Spec("common", "common", panel="batch", line="device_label", x="input_tokens")
REFERENCE = Spec("reference", "reference", panel="panel", line="line", x="input_tokens")
LATENCY = replace(REFERENCE, name="fig16_latency", sweep=None, metric="e2e_s", kind="kind")
THROUGHPUT = replace(LATENCY, name="fig16_throughput", metric="throughput_tok_s", floors=False)
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
CPU = "CPU"
FIRST = ("H100", "H200", CPU)  # devices that keep their colours whatever stands beside them


@figure("ceilings")
def peaks(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Copy bandwidth (TB/s) and matrix rate (TFLOP/s) as measured (dots) and as published
    (diamonds), a row per device that was measured; of a GPU's profile, per GPU. Devices that are
    published of alone stand in the text."""
    columns = [*RATES, *(published for published, _ in RATES.values())]
    rows = rows_of(table, "ceilings", None, (*LABELS, *columns))
    found = rows[rows["source_kind"] != "endpoint"].groupby("device_label", sort=False)[columns]
    rates = _of_a_kind(found.first().dropna(how="all", subset=list(RATES)).reset_index())
    if rates.empty:
        raise ValueError("ceilings: no device of the table has measured rates")
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
    """A row per row, a mark per column, over an axis that is logarithmic where they lie far
    apart."""
    for column, look in zip(values, looks, strict=True):
        ax.plot(values[column], range(len(values)), linestyle="none", gid=column, **look)
    ax.set_ylim(len(values) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)
    low, high = ax.dataLim.x0, ax.dataLim.x1
    log = high > lines.LOG_OVER * low
    style.value_axis([ax], low if log else 0.0, high, axis="x", log=log)


@figure("common")
def common(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Throughput of the same points on every device, over length, a panel per batch, with each
    device's physical limit."""
    rows = rows_of(table, "common", "common", LABELS)
    own = rows[rows["profile"] == table["profile"].iloc[0]]
    if not (own["status"] == "ok").any():
        raise ValueError(
            "common: none of these points is measured on this profile's own device yet; others "
            "alone compare nothing"
        )
    looks = _device_looks(table)
    return lines.lines(_present(table, "common"), COMMON, width=width, looks=looks)


@figure("reference")
def reference(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Throughput of another model in 16 bits over length, a line per device, a panel per batch."""
    rows = named(rows_of(_present(table, "reference"), "reference", "reference", LABELS))
    return lines.lines(rows, REFERENCE, width=width, looks=_line_looks(rows))


@figure("fig16_latency")
def latency(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 16: E2E latency over length at the smallest batch."""
    rows = _fig16(table, LATENCY)
    rows = rows[rows["batch"] == rows["batch"].min()]
    return lines.lines(rows, LATENCY, width=width, looks=_line_looks(rows))


@figure("fig16_throughput")
def throughput(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Fig 16: throughput over length, a panel per batch."""
    rows = _fig16(table, THROUGHPUT)
    return lines.lines(rows, THROUGHPUT, width=width, looks=_line_looks(rows))


@figure("against_ceiling")
def share_of_peaks(table: pd.DataFrame, *, width: str = "page") -> Drawing:
    """How near measured points come to their device's peaks (%): physical limit over measured, of
    prefill and of a decode step, at the smallest and the largest batch."""
    columns = (*LABELS, *PHASES, *(f"floor_{phase}" for phase in PHASES))
    rows = measured_here(rows_of(table, "against_ceiling", None, columns))
    rows = named(rows[rows["floor_ttft_s"].notna()], short=True)
    rows = rows[rows["batch"].isin(rows["batch"].agg(["min", "max"]))]
    batch = ", batch " + rows["batch"].astype(str)
    parts = [rows.assign(share_pct=shares(rows, c), panel=PHASES[c] + batch) for c in PHASES]
    both = pd.concat(parts).sort_values("batch", kind="stable")
    return lines.lines(both, SHARE, width=width, looks=_line_looks(rows))


def shares(rows: pd.DataFrame, phase: str) -> pd.Series:
    """Physical limit over measured time of a phase, `ttft_s` or `tpot_s` (%)."""
    return 100 * rows[f"floor_{phase}"].astype(float) / rows[phase].astype(float)


def _present(table: pd.DataFrame, sweep: str) -> pd.DataFrame:
    """The sweep's rows, without those of devices that have measured none of it."""
    rows = _of_a_kind(of_sweep(table, sweep))
    measured = rows["device_label"].isin(rows.loc[rows["status"] != "not_run", "device_label"])
    return rows[measured] if measured.any() else rows


def _of_a_kind(rows: pd.DataFrame) -> pd.DataFrame:
    """Beside a GPU, whose row is first, no CPU: its numbers would press GPUs into one line."""
    if len(rows) and rows["device_label"].iloc[0] != CPU:
        return rows[rows["device_label"] != CPU]
    return rows


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
        line = device + (", " + rows["series"]).mask(kind == "endpoint", "")
        line += (", " + kind).mask(kind == "measured", "")
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
    """Rows of the model over length, measured or of an endpoint; of other devices those of the
    models shown here. Rooflines stand in a table (commentary.rooflines): what hardware could do
    lies so far from what engines do that one axis shows neither."""
    rows = rows_of(table, spec.name, None, (*LABELS, "sweeps", "model", "series", spec.metric))
    rows = of_sweep(rows, "scout|chunked|endpoint")
    rows = rows[(rows["status"] != "not_run") & (rows["source_kind"] != "roofline")]
    with_numbers(rows, spec.name, [spec.metric])
    rows = named(of_models_here(rows).sort_values("batch", kind="stable"))
    return rows[rows["line"].isin(rows.loc[rows["status"] == "ok", "line"])]


def _device_looks(rows: pd.DataFrame) -> markers.Looks:
    """A colour and marker per device."""
    return markers.looks_of([*FIRST, *sorted(set(rows["device_label"].dropna()) - set(FIRST))])


def _line_looks(rows: pd.DataFrame) -> markers.Looks:
    """Lines in their device's colour, each with a marker of its own: in grey that alone tells
    devices apart."""
    devices = _device_looks(rows)
    device = dict(zip(rows["line"], rows["device_label"], strict=True))
    marker = dict(zip(sorted(device), style.markers(len(device)), strict=True))
    return {line: (devices[device[line]][0], marker[line]) for line in device}


VIEW_COMMON = View("same points on every device", "common", "input_tokens", "device_label", "batch")
VIEW_SCOUT = replace(VIEW_COMMON, sweep="scout")
VIEWS = (
    VIEW_COMMON,
    replace(VIEW_SCOUT, name="Fig 16: measured", where={"source_kind": "measured"}),
    replace(VIEW_SCOUT, name="Fig 16: rooflines", where={"source_kind": "roofline"}),
    replace(VIEW_COMMON, name="another model in 16 bits", sweep="reference"),
)
