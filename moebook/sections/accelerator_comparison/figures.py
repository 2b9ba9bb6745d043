"""Accelerators side by side: ceilings, one set of points on every device, the paper's Fig 16, and
where curves bend.

Each function: (summary, *, width) -> (Figure, plotted rows), of the summary that
moebook/sections/accelerator_comparison/other_devices.py makes; ValueError says what is missing. A
line is one device and precision, and its legend says what kind of number it is: measured, endpoint
or roofline. Colours are those of devices; rooflines are dashed, without points, and have panels of
their own, because what hardware could do lies far from what engines do."""

from dataclasses import replace

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from moebook.explore.views import View
from moebook.plot import layout, length_axis, style
from moebook.plot import lines as panels
from moebook.plot.figure import figure
from moebook.plot.lines import Spec
from moebook.plot.rows import (
    AXES,
    METRICS,
    one_per_place,
    plotted,
    reading,
    rows_of,
    values_of,
    with_numbers,
)
from moebook.results import words
from moebook.sections.accelerator_comparison import knees as reasons
from moebook.sections.accelerator_comparison.knees import measured_bend

LABELS = ("device_label", "source_kind")
COMMON = Spec("common", "common", panel="batch", line="device_label", x="input_tokens")
REFERENCE = Spec("reference", "reference", panel="panel", line="line", x="input_tokens")
LATENCY = Spec(
    "fig16_latency",
    None,
    panel="panel",
    line="line",
    x="input_tokens",
    metric="e2e_s",
    floors=False,
)
THROUGHPUT = replace(LATENCY, name="fig16_throughput", metric="throughput_tok_s")
SHARE = Spec(
    "against_ceiling",
    None,
    panel="panel",
    line="line",
    x="input_tokens",
    metric="share_pct",
    floors=False,
    log_y=False,
    y_label="share of the ceilings reached (%)",
)
PHASES = {"ttft_s": "prefill", "tpot_s": "decode"}
RATES = {
    "copy_bytes_per_s": ("published_bytes_per_s", 1e12, "memory bandwidth (TB/s)"),
    "matmul_flops_per_s": ("published_flops_per_s", 1e12, "bf16 matrix rate (TFLOP/s)"),
}
DOT = {"marker": "o", "color": style.OKABE_ITO[0]}
DIAMOND = {"marker": "D", "color": "black", "markerfacecolor": "none"}
FIRST = ("H100", "H200", "CPU")  # devices that keep their colours whatever stands beside them
BENDS = {
    "bend_compute": ("compute", "^"),
    "bend_bandwidth": ("bandwidth", "s"),
    "bend_capacity": ("capacity", "|"),
    "bend_measured": ("measured", "o"),
}


@figure("ceilings")
def ceilings(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Copy bandwidth and matrix rate as measured (dots) and as published (diamonds), a row per
    device."""
    rows = rows_of(
        summary,
        "ceilings",
        None,
        (*LABELS, *RATES, *(published for published, *_ in RATES.values())),
    )
    found = rows[rows["source_kind"] != "endpoint"].groupby("device_label", sort=False)
    table = found[[*RATES, *(published for published, *_ in RATES.values())]].first().reset_index()
    table = table.dropna(how="all", subset=[c for c in table if c != "device_label"]).reset_index(
        drop=True
    )
    if table.empty:
        raise ValueError("ceilings: no device of the table has measured or published rates")
    with style.paper_style(width) as inches:
        fig = Figure(figsize=(inches, 0.2 * len(table) + 0.75), layout="constrained")
        for ax, (measured, (published, unit, label)) in zip(
            fig.subplots(1, 2, sharey=True), RATES.items(), strict=True
        ):
            _ceiling(ax, table, measured, published, unit)
            ax.set_xlabel(label.replace(" (", "\n(") if width == "column" else label)
        ax.set_yticks(range(len(table)), table["device_label"])
        ax.set_ylim(len(table) - 0.5, -0.5)
        handles = [Line2D([], [], linestyle="none", **look) for look in (DOT, DIAMOND)]
        layout.settle(fig, (handles, ["measured", "published (dense)"]))
        return fig, table


def _ceiling(ax: Axes, table: pd.DataFrame, measured: str, published: str, unit: float) -> None:
    values = table[[measured, published]].astype(float) / unit
    style.value_axis([ax], values.min(axis=None), values.max(axis=None), axis="x", log=True)
    for column, look in ((measured, DOT), (published, DIAMOND)):
        ax.plot(values[column], range(len(table)), linestyle="none", gid=column, **look)
    ax.tick_params(axis="y", length=0)


@figure("common")
def common(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Throughput of the same points on every device, over length, a panel per batch, with each
    device's floor."""
    rows = rows_of(summary, "common", "common", LABELS)
    own = rows[rows["profile"] == summary["profile"].iloc[0]]
    if not (own["status"] == "ok").any():
        raise ValueError(
            "common: none of these points is measured on this profile's own device yet; others "
            "alone compare "
            "nothing"
        )
    return panels.lines(
        _present(summary, "common"), COMMON, width=width, looks=_device_looks(summary)
    )


@figure("reference")
def reference(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Throughput of another model in 16 bits over length, a line per device, a panel per batch."""
    rows = named(rows_of(_present(summary, "reference"), "reference", "reference", LABELS))
    return panels.lines(rows, REFERENCE, width=width, looks=_line_looks(rows))


@figure("fig16_latency")
def latency(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Fig 16: E2E latency over length at the smallest batch."""
    rows = _fig16(summary, LATENCY)
    return _side_by_side(rows[rows["batch"] == rows["batch"].min()], LATENCY, width)


@figure("fig16_throughput")
def throughput(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Fig 16: throughput over length, a panel per batch."""
    return _side_by_side(_fig16(summary, THROUGHPUT), THROUGHPUT, width)


@figure("against_ceiling")
def against_ceiling(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """How near measured points come to their device's ceilings: floor over measured, of prefill and
    of a decode step, at the smallest and the largest batch."""
    columns = (*LABELS, *PHASES, *(f"floor_{phase}" for phase in PHASES))
    rows = named(of_models_here(rows_of(summary, "against_ceiling", None, columns)), short=True)
    rows = rows[
        (rows["status"] == "ok")
        & (rows["source_kind"] == "measured")
        & rows["floor_ttft_s"].notna()
    ]
    rows = rows[rows["batch"].isin(rows["batch"].agg(["min", "max"]))]
    parts = [
        rows.assign(
            share_pct=100 * rows[f"floor_{column}"].astype(float) / rows[column].astype(float),
            panel=[f"{phase}, batch {b}" for b in rows["batch"]],
        )
        for column, phase in PHASES.items()
    ]
    table = pd.concat(parts).sort_values("batch", kind="stable")
    return panels.lines(table, SHARE, width=width, looks=_line_looks(rows))


@figure("bends")
def bends(summary: pd.DataFrame, *, width: str = "page") -> tuple[Figure, pd.DataFrame]:
    """Lengths at which each measured curve should bend and where it does, a row per device, model,
    precision and batch."""
    computed = [c for c in BENDS if c != "bend_measured"]
    rows = of_models_here(rows_of(summary, "bends", None, (*LABELS, *computed, "e2e_s")))
    rows = named(rows[(rows["source_kind"] == "measured") & (rows["status"] == "ok")], short=True)
    table = bend_rows(rows)
    if table.empty:
        raise ValueError("bends: no curve of three or more lengths was measured")
    with style.paper_style(width) as inches:
        on_page = width == "page"
        fig = Figure(
            figsize=(inches, (0.2 if on_page else 0.31) * len(table) + 0.7), layout="constrained"
        )
        ax = fig.subplots()
        for i, row in enumerate(table.itertuples()):
            ax.plot(
                [row.shortest, row.longest],
                [i, i],
                color="0.8",
                linewidth=3,
                solid_capstyle="butt",
                gid="range",
            )
        for column, (_, marker) in BENDS.items():
            ax.plot(
                table[column],
                range(len(table)),
                linestyle="none",
                marker=marker,
                color="black",
                gid=column,
                markerfacecolor="black" if marker == "o" else "none",
            )
        style.value_axis(
            [ax],
            table[[*BENDS, "shortest"]].min(axis=None),
            table[[*BENDS, "longest"]].max(axis=None),
            axis="x",
            log=True,
        )
        ax.set(xlabel="prompt or context (tokens)", ylim=(len(table) - 0.5, -0.5))
        ax.set_yticks(range(len(table)), table["line"] if on_page else table["line"].map(_in_two))
        ax.tick_params(axis="y", length=0)
        handles: list = [
            Line2D(
                [],
                [],
                linestyle="none",
                marker=m,
                color="black",
                markerfacecolor="black" if m == "o" else "none",
            )
            for _, m in BENDS.values()
        ]
        words = [f"{reasons.REASONS[kind]}" for kind, _ in BENDS.values()]
        layout.settle(
            fig,
            ([*handles, Line2D([], [], color="0.8", linewidth=3)], [*words, "lengths measured"]),
        )
        return fig, table


def bend_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per curve of three or more lengths, as many tokens in as out: bends computed from
    shapes, and the measured one (analysis/bends.py)."""
    found = []
    for (line, batch), own in rows.groupby(["line", "batch"], sort=False):
        own = own[[n.tokens_in == n.tokens_out for n in words.lengths_of(own)]]
        own = own.drop_duplicates("input_tokens").sort_values("input_tokens")
        if len(own) < 3:
            continue
        bend = measured_bend(own["input_tokens"], own["e2e_s"].astype(float))
        found.append(
            {
                "line": f"{line}, batch {batch}",
                **own[[c for c in BENDS if c in own]].iloc[0],
                "bend_measured": bend and bend.length,
                "exponent_below": bend and bend.below,
                "exponent_above": bend and bend.above,
                "shortest": own["input_tokens"].iloc[0],
                "longest": own["input_tokens"].iloc[-1],
            }
        )
    numbers = dict.fromkeys((*BENDS, "exponent_below", "exponent_above"), "float64")
    return pd.DataFrame(found).astype(numbers) if found else pd.DataFrame()


def _in_two(line: str) -> str:
    """A row's name in two lines: device and model, then the rest."""
    parts = line.split(", ")
    return ", ".join(parts[:2]) + "\n" + ", ".join(parts[2:])


def _present(summary: pd.DataFrame, sweep: str) -> pd.DataFrame:
    """The sweep's rows, without those of devices that have measured none of it."""
    rows = summary[[sweep in str(names).split(",") for names in summary["sweeps"]]]
    measured = set(rows.loc[rows["status"] != "not_run", "device_label"])
    return rows[rows["device_label"].isin(measured)] if measured else rows


def named(rows: pd.DataFrame, short: bool = False) -> pd.DataFrame:
    """With `line`, what a legend calls a row, and `panel`. short: lines of several models, all of
    them measured."""
    devices = [
        f"{d} ×{n}" if k == "roofline" and n > 1 else d
        for d, n, k in zip(
            rows["device_label"], rows["tensor_parallel"], rows["source_kind"], strict=True
        )
    ]
    wanted = ("model", "series") if short else ("series", "source_kind")
    tails = [
        ", ".join(dict.fromkeys(str(rows[c].iloc[i]) for c in wanted)) for i in range(len(rows))
    ]
    lines = [
        d if k == "endpoint" and short else f"{d}, {tail}" if k != "endpoint" else f"{d}, endpoint"
        for d, tail, k in zip(devices, tails, rows["source_kind"], strict=True)
    ]
    kinds = rows["source_kind"].map({"roofline": "roofline"}).fillna(rows["model"])
    titles = [
        f"{_short(kind)}, {reading('batch', b)}"
        for kind, b in zip(kinds, rows["batch"], strict=True)
    ]
    return rows.assign(
        line=[_short(line) for line in lines],
        panel=titles,
        kind=rows["method"].replace({"endpoint": "full"}),
    )


def _short(name: str) -> str:
    """Long model names without what a reader of the figure knows."""
    return name.replace("-17B-16E-Instruct", "").replace("-1B-7B-0125", "")


def _fig16(summary: pd.DataFrame, spec: Spec) -> pd.DataFrame:
    """Rows of the model over length: measured, endpoint and roofline; of other devices those of the
    models shown here."""
    rows = rows_of(summary, spec.name, None, (*LABELS, "sweeps", "model", "series", spec.metric))
    wanted = rows["sweeps"].map(
        lambda names: bool({"scout", "chunked", "endpoint"} & set(str(names).split(",")))
    )
    rows = rows[wanted & (rows["status"] != "not_run")]
    with_numbers(rows, spec.name, [spec.metric])
    rows = named(of_models_here(rows).sort_values("batch", kind="stable"))
    nothing = ~rows["line"].isin(rows.loc[rows["status"] == "ok", "line"])
    return rows.assign(line=rows["line"].mask(nothing, rows["line"].str.removesuffix(", measured")))


def of_models_here(rows: pd.DataFrame) -> pd.DataFrame:
    """Without other profiles' models: those of the profile that comes first, and the source's."""
    measured = rows["source_kind"] == "measured"
    here = (
        measured & (rows["profile"] == rows.loc[measured, "profile"].iloc[0])
        if measured.any()
        else measured
    )
    return rows[rows["model"].isin(set(rows.loc[here | ~measured, "model"]))]


def _side_by_side(rows: pd.DataFrame, spec: Spec, width: str) -> tuple[Figure, pd.DataFrame]:
    """Panels with a scale of their own each: measured ones, then rooflines."""
    rows, spec = length_axis.placed(rows, spec)
    one_per_place(rows, spec.name, (spec.panel, spec.line, spec.x))
    order = rows.sort_values("source_kind", key=lambda kinds: kinds == "roofline", kind="stable")
    names, looks = values_of(order, spec.panel), _line_looks(order)
    spec = replace(spec, kind="kind")
    with style.paper_style(width):
        fig = Figure(figsize=panels.panel_size(len(names), width, most=3), layout="constrained")
        axes = panels.grid_of_axes(fig, len(names), width, most=3)  # each has labels of its own
        for ax, name in zip(axes, names, strict=True):
            own = rows[rows[spec.panel] == name]
            panels.draw_lines(ax, own, spec, looks)
            ax.set_title(panels.panel_title(name, len(names), width, most=3))
            ax.tick_params(labelleft=True, labelbottom=True)
            panels.x_scale([ax], own, spec, width)
            ok = own[(own["status"] == "ok") & own[spec.metric].notna()]
            if len(ok):
                panels.y_scale([ax], own, ok, spec, True, None)
        for line in (x for ax in axes for x in ax.get_lines() if "roofline" in str(x.get_label())):
            line.set_linestyle(panels.DASHES)
        fig.supxlabel(AXES[spec.x][0])
        fig.supylabel(METRICS[spec.metric])
        ok = rows[(rows["status"] == "ok") & (rows["source_kind"] != "roofline")]
        layout.settle(
            fig, _legend(looks), panels.notes_legend(rows, ok, spec), handler_map=panels.HANDLERS
        )
        return fig, plotted(order, [spec.metric], ["panel", "line", "series", *LABELS])


def _legend(looks: panels.Looks) -> tuple[list, list[str]]:
    handles = [
        Line2D([], [], color=colour, linestyle=panels.DASHES)
        if "roofline" in line
        else Line2D([], [], color=colour, marker=marker)
        for line, (colour, marker) in looks.items()
    ]
    return handles, list(looks)


def _device_looks(rows: pd.DataFrame) -> panels.Looks:
    """A colour and marker per device."""
    return panels.looks_of([*FIRST, *sorted(set(rows["device_label"].dropna()) - set(FIRST))])


def _line_looks(rows: pd.DataFrame) -> panels.Looks:
    """Lines in their device's colour, told apart by markers."""
    devices = _device_looks(rows)
    lines = rows.drop_duplicates("line")
    nth = lines.groupby("device_label").cumcount()
    return {
        line: (devices[device][0], style.MARKERS[i % len(style.MARKERS)])
        for line, device, i in zip(lines["line"], lines["device_label"], nth, strict=True)
    }


VIEWS = (
    View("same points on every device", "common", "input_tokens", "device_label", "batch"),
    View(
        "source's model, measured",
        "scout",
        "input_tokens",
        "device_label",
        "batch",
        where={"source_kind": "measured"},
    ),
    View(
        "source's model, rooflines",
        "scout",
        "input_tokens",
        "device_label",
        "batch",
        where={"source_kind": "roofline"},
    ),
    View("another model in 16 bits", "reference", "input_tokens", "device_label", "batch"),
)
