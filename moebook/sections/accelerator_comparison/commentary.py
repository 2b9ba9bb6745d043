"""Section 8 in words: what each figure shows, with its numbers, from the table of enrich.py."""

import pandas as pd

from moebook.results import gains
from moebook.results.cells import of_sweep
from moebook.results.commentary import (
    NOTHING,
    commentary,
    ends_of,
    first_and_last,
    markdown,
    missing,
    nothing,
    planned,
    with_length,
)
from moebook.results.page import Number
from moebook.sections.accelerator_comparison.enrich import BEATEN
from moebook.sections.accelerator_comparison.figures import (
    RATES,
    TERA,
    measured_here,
    named,
    of_models_here,
    shares,
)
from moebook.sections.accelerator_comparison.knees import COMPUTED, REASONS, of_curves


@commentary
def headline(table: pd.DataFrame) -> str:
    """Where Fig 16's model bends on the devices at hand, and whether an endpoint answered."""
    rows = of_sweep(measured_here(table), "scout")
    if rows.empty:
        why = "Fig 16's model is not measured." + _gone(planned(table, "scout"))
        return nothing(table, "scout", why)
    text, knees = "latency has no knee", _knees(rows)
    if len(knees):
        ends = sorted({*knees["bend_measured"].agg(["min", "max"])})
        rise = (knees["exponent_above"] - knees["exponent_below"]).max()
        at = " to ".join(f"{n:,.0f}" for n in ends)
        text = (
            f"latency has its knee at {at} tokens, where its exponent rises by {rise:.2f} at most"
        )
    precisions = rows.groupby("device_label", sort=False)["series"].unique()
    devices = ", ".join(f"{device} ({', '.join(own)})" for device, own in precisions.items())
    return f"**Finding.** On {devices}: {text}.{_endpoint(table)}"


def numbers(table: pd.DataFrame) -> tuple[Number, ...]:
    """Latency of Fig 16's model at its longest length on up to four devices and precisions."""
    rows = of_sweep(measured_here(table), "scout")
    rows = rows[(rows["batch"] == rows["batch"].min()) & (rows["source_kind"] == "measured")]
    rows = with_length(rows).dropna(subset="e2e_s")
    rows = rows[rows["length"] == rows["length"].max()] if len(rows) else rows
    return tuple(
        Number(
            f"{r.e2e_s:.3g} s", f"E2E of {r.length}, {r.device_label}, {r.series}, batch {r.batch}"
        )
        for r in rows.head(4).itertuples()
    )


def _knees(rows: pd.DataFrame, short: bool = False) -> pd.DataFrame:
    """The curves that have a measured knee."""
    curves = of_curves(named(rows, short))
    return curves.dropna(subset=["bend_measured"]) if len(curves) else curves


@commentary
def peaks(table: pd.DataFrame) -> str:
    """What devices reach of their published rates, and which accelerators have figures alone."""
    rows = table[table["source_kind"] == "measured"].drop_duplicates("device_label")
    rows = rows.dropna(subset=list(RATES), how="all")
    cells = {"device": "{device_label}"}
    for column, (published, label) in RATES.items():
        share = 100 * rows[column].astype(float) / rows[published].astype(float)
        rows = rows.assign(**{column: rows[column] / TERA, f"{column}_pct": share})
        cells[label] = f"{{{column}:.3g}} ({{{column}_pct:.0f}} % of the published)"
    text = f"Measured:{markdown(rows, cells)}" if len(rows) else "No device's peaks are measured."
    alone = table.loc[table["source_kind"] == "roofline", "device_label"]
    names = ", ".join(alone[~alone.isin(rows["device_label"])].unique())
    return (text + (f" Published figures alone: {names}." if names else "")).strip()


@commentary
def common(table: pd.DataFrame) -> str:
    """How many times faster devices are at the points that all measure."""
    return _between_devices(table, "common")


@commentary
def share_of_peaks(table: pd.DataFrame) -> str:
    """The best and worst share of the measured peaks, per device."""
    rows = measured_here(table)
    bound = rows.dropna(subset=["floor_tpot_s", "tpot_s"]) if "floor_tpot_s" in rows else rows[:0]
    if bound.empty:
        return NOTHING + _beaten(rows)
    found = [
        f"**{device}** decodes at {_range(shares(own, 'tpot_s'))} % of what its peaks allow and "
        f"prefills at {_range(shares(own, 'ttft_s'))} %"
        for device, own in bound.groupby("device_label", sort=False)
    ]
    rest = "The rest is launches, host work between steps, and kernels off their peak."
    return f"{'; '.join(found)}. {rest}{_beaten(rows)}"


def _range(values: pd.Series) -> str:
    return f"{values.min():.0f} to {values.max():.0f}"


def _beaten(rows: pd.DataFrame) -> str:
    """Points without a bound, because a measurement beat it."""
    if "floor_reason" not in rows:
        return ""
    beaten = (rows["floor_reason"] == BEATEN).groupby(rows["device_label"], sort=False)
    counts = beaten.agg(["sum", "size"])
    return "".join(
        f" {device}: {count} of {every} points {BEATEN}."
        for device, count, every in counts[counts["sum"] > 0].itertuples()
    )


@commentary
def latency(table: pd.DataFrame) -> str:
    """Fig 16: latency at the ends of each measured curve; what was not measured, with its
    reason."""
    rows = planned(of_models_here(table), "scout")
    ok = rows[(rows["status"] == "ok") & (rows["source_kind"] == "measured")]
    rest = _gone(rows) + _endpoint(table)
    if ok.empty:
        return nothing(table, "scout", NOTHING + rest)
    ok = with_length(named(ok[ok["batch"] == ok["batch"].min()]))
    found = [
        f"{r.line}: {r.e2e_s:.3g} s at {r.length} tokens, {r.e2e_s_last:.3g} s at {r.length_last}"
        for r in first_and_last(ok, "line", "length").itertuples()
    ]
    return f"{'; '.join(found)}.{rest}"


@commentary
def throughput(table: pd.DataFrame) -> str:
    """How many times faster devices are with Fig 16's model in one precision."""
    return _between_devices(table, "scout")


@commentary
def reference(table: pd.DataFrame) -> str:
    """How many times faster devices are with another model in 16 bits."""
    return _between_devices(table, "reference")


def _between_devices(table: pd.DataFrame, sweep: str) -> str:
    """The least and the most ratio of throughputs of a model in one precision, for each device over
    the first by name."""
    rows = of_sweep(measured_here(table), sweep)
    found = []
    for (model, series), own in rows.groupby(["model", "series"], sort=False):
        base, *others = sorted(own["device_label"].unique())
        if not others:
            continue
        every = gains.ratios(own.assign(series=own["device_label"]), sweep, base)
        ratios = every.dropna(subset=["ratio"]).groupby("series")["ratio"]
        found += [
            f"{device} over {base}, {model} in {series}: {low:.3g} to {high:.3g} times ({n} points)"
            for device, low, high, n in ratios.agg(["min", "max", "size"]).itertuples()
        ]
    if not found:
        return nothing(table, sweep, "No model in one precision was measured on two devices.")
    return f"Throughput of {'; '.join(found)}."


@commentary
def rooflines(table: pd.DataFrame) -> str:
    """How far apart rooflines lie, on how many devices, and what is no roofline, with the
    reason."""
    rows = table[table["source_kind"] == "roofline"]
    gone = rows[rows["status"] != "ok"].drop_duplicates("device_label")
    rest = "".join(f" No roofline of {r.device_label}: {r.reason}." for r in gone.itertuples())
    ok = with_length(rows[rows["status"] == "ok"])
    if ok.empty:
        return "No roofline is drawn." + rest
    at = ok[(ok["batch"] == ok["batch"].min()) & (ok["length"] == ok["length"].max())]
    shown = named(at).sort_values("e2e_s")
    shown = shown.assign(line=shown["line"].str.removesuffix(", roofline"))
    cells = {"published figures alone": "{line}", "least E2E (s)": "{e2e_s:.3g}"}
    head = f"Rooflines, run nowhere, at batch {at['batch'].iloc[0]}, {at['length'].iloc[0]} tokens:"
    ends = ends_of(shown, "e2e_s", "Published figures alone allow", "{:.3g} s", "line")
    return f"{head}{markdown(shown, cells)}{ends}{rest.strip()}".strip()


@commentary
def knees(table: pd.DataFrame) -> str:
    """Where curves bend, and what should bend them within the lengths measured."""
    rows = _knees(measured_here(table), short=True)
    if rows.empty:
        return "No measured curve of three or more lengths grows steeper anywhere."
    cells = {
        "curve": "{line}",
        "knee (tokens)": "{bend_measured:,.0f}",
        "exponent": "{exponent_below:.2f} to {exponent_above:.2f}",
    }
    for column in COMPUTED:
        inside = rows[column].between(rows["shortest"], rows["longest"])
        rows = rows.assign(**{column: rows[column].where(inside)})
        cells[f"{REASONS[column]} from"] = f"{{{column}:,.0f}}"
    text = "Where the exponent rises most, and what should bend a curve within its lengths:"
    ends = ends_of(rows, "bend_measured", "Curves have their knee at", "{:,.0f} tokens", "line")
    return f"{text}{markdown(rows, cells)}{ends}".strip()


def _gone(rows: pd.DataFrame) -> str:
    """What is not measured at all, per device and precision, with one reason each."""
    rows = rows[rows["source_kind"] == "measured"]
    return missing(rows.assign(series=rows["device_label"] + ", " + rows["series"]), "scout")


def _endpoint(table: pd.DataFrame) -> str:
    rows = planned(table, "endpoint")
    if rows.empty:
        return " No endpoint is set, so nothing is measured of a CS-3."
    ok, first = rows[rows["status"] == "ok"], rows.iloc[0]
    if ok.empty:
        return f" {first['series']}: {first['status']} ({first['reason']})."
    low, high = ok["e2e_s"].agg(["min", "max"])
    return f" {first['series']} (endpoint): {low:.3g} to {high:.3g} s."
