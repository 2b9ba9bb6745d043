"""Section 8 in words (see this folder's __init__), from the joined table of
moebook/sections/accelerator_comparison/other_devices.py."""

from itertools import combinations

import pandas as pd

from moebook.results.commentary import commentary
from moebook.results.words import (
    NOTHING,
    T,
    change,
    in_order,
    measured,
    nothing,
    planned,
    with_length,
)
from moebook.sections.accelerator_comparison import accelerators
from moebook.sections.accelerator_comparison.figures import (
    BENDS,
    RATES,
    bend_rows,
    named,
    of_models_here,
)
from moebook.sections.accelerator_comparison.knees import REASONS
from moebook.sections.accelerator_comparison.other_devices import BEATEN


@commentary
def ceilings(summary: pd.DataFrame) -> str:
    """What devices reach of their published rates, and which accelerators have figures alone."""
    rows = summary[summary["source_kind"] == "measured"].drop_duplicates("device_label")
    told = []
    for row in rows.to_dict("records"):
        parts = [
            f"{row[column] / unit:.3g} {label.split('(')[1].rstrip(')')}"
            + (
                f" ({100 * row[column] / row[published]:.0f} % of the published)"
                if pd.notna(row[published])
                else ""
            )
            for column, (published, unit, label) in RATES.items()
            if pd.notna(row[column])
        ]
        if parts:
            told.append(f"**{row['device_label']}** " + " and ".join(parts))
    others = [
        d
        for d in in_order(summary[summary["source_kind"] == "roofline"], "device_label")
        if d not in set(rows["device_label"])
    ]
    text = "Measured: " + "; ".join(told) + "." if told else "No device's ceilings are measured."
    return text + (f" Published figures alone: {', '.join(others)}." if others else "")


@commentary
def common(summary: pd.DataFrame) -> str:
    """How many times faster each device is at the points that all have."""
    rows = measured(summary, "common")
    if rows.empty:
        return nothing(summary, "common", NOTHING)
    wide = rows.pivot_table(
        index=["batch", "input_tokens", "output_tokens"], columns="device_label", values=T
    ).dropna()
    if len(wide.columns) < 2 or wide.empty:
        return f"Measured on one device alone: {', '.join(in_order(rows, 'device_label'))}."
    slow = wide.mean().idxmin()
    told = [
        f"{device} {(wide[device] / wide[slow]).min():.3g} to "
        f"{(wide[device] / wide[slow]).max():.3g} times"
        for device in wide.columns.drop(slow)
    ]
    return f"At the {len(wide)} points that all devices have, over {slow}: {', '.join(told)}."


@commentary
def against_ceiling(summary: pd.DataFrame) -> str:
    """The best and worst share of the ceilings in decoding, per device."""
    rows = _own(summary)
    rows = (
        rows[rows["floor_tpot_s"].notna() & rows["tpot_s"].notna()]
        if "floor_tpot_s" in rows
        else rows.iloc[:0]
    )
    if rows.empty:
        return NOTHING + _beaten(summary)
    told = []
    for device, own in rows.groupby("device_label", sort=False):
        decode, prefill = (
            100 * own[f"floor_{p}"].astype(float) / own[p].astype(float)
            for p in ("tpot_s", "ttft_s")
        )
        told.append(
            f"**{device}** decodes at {decode.min():.0f} to {decode.max():.0f} % of what its "
            f"ceilings allow and "
            f"prefills at {prefill.min():.0f} to {prefill.max():.0f} %"
        )
    return (
        "; ".join(told)
        + ". The rest is launches, host work between steps, and kernels off their peak."
        + _beaten(summary)
    )


@commentary
def latency(summary: pd.DataFrame) -> str:
    """Fig 16: latency at the ends of each measured curve; what was not measured, with its
    reason."""
    rows = planned(of_models_here(summary), "scout")
    ok = rows[(rows["status"] == "ok") & (rows["source_kind"] == "measured")]
    if ok.empty:
        return nothing(summary, "scout", NOTHING + _gone(rows)) + _endpoint(summary)
    ok = named(ok[ok["batch"] == ok["batch"].min()])
    told = []
    for line, own in ok.groupby("line", sort=False):
        own = with_length(own).sort_values("length")
        first, last = own.iloc[0], own.iloc[-1]
        told.append(
            f"{line}: {first['e2e_s']:.3g} s at {first['length']} tokens, {last['e2e_s']:.3g} s at "
            f"{last['length']}"
        )
    return "; ".join(told) + "." + _gone(rows) + _endpoint(summary)


@commentary
def like_for_like(summary: pd.DataFrame) -> str:
    """Fig 16's model on two devices in one precision, and in what each holds."""
    rows = planned(_own(summary), "scout")
    if rows.empty:
        return nothing(summary, "scout", "No precision of one model was measured on two devices.")
    place = ["model", "series", "batch", "input_tokens", "output_tokens"]
    wide = rows.pivot_table(index=place, columns="device_label", values=T)
    told = []
    for base, other in combinations(wide.columns, 2):
        for (model, series), own in wide[[base, other]].dropna().groupby(level=[0, 1], sort=False):
            ratio = own[other] / own[base]
            told.append(
                f"{other} over {base}, {model} in {series}: {change(ratio.min())} to "
                f"{change(ratio.max())}"
            )
    if not told:
        return "No precision of one model was measured on two devices."
    return f"Like for like, throughput of {'; '.join(told)}."


@commentary
def rooflines(summary: pd.DataFrame) -> str:
    """How far apart rooflines lie, on how many devices, and what is no roofline, with the
    reason."""
    rows = summary[summary["source_kind"] == "roofline"]
    ok = rows[rows["status"] == "ok"]
    if ok.empty:
        return "No roofline is drawn." + _reasons(rows)
    ok = with_length(ok)
    at = ok[(ok["batch"] == ok["batch"].min()) & (ok["length"] == ok["length"].max())]
    told = [
        f"{r.device_label}{f' ×{r.tensor_parallel:.0f}' if r.tensor_parallel > 1 else ''} "
        f"{r.e2e_s:.3g} s ({r.series})"
        for r in at.sort_values("e2e_s").itertuples()
    ]
    tokens = at["length"].iloc[0]
    spans = [
        a
        for a in map(accelerators.load, accelerators.names())
        if a.spans and a.name in set(at["device_label"])
    ]
    more = "".join(
        f" {a.name}: {a.memory_bytes / 1e9:.0f} GB of memory each, so the model spans several, "
        f"layer after "
        "layer; its rate is a printed one whose dtype is not said."
        for a in spans
    )
    return f"Least E2E at {tokens} tokens in and out: {', '.join(told)}.{more}{_reasons(rows)}"


@commentary
def bends(summary: pd.DataFrame) -> str:
    """Where curves bend, and which computed bend lies nearest."""
    rows = _own(summary)
    table = bend_rows(named(rows, short=True)) if len(rows) else pd.DataFrame()
    table = table[table["bend_measured"].notna()] if len(table) else table
    if table.empty:
        return "No measured curve of three or more lengths grows steeper anywhere."
    told = []
    for row in table.to_dict("records"):
        near = [
            f"{REASONS[kind]} from {row[column]:,.0f}"
            for column, (kind, _) in BENDS.items()
            if column != "bend_measured"
            and pd.notna(row[column])
            and row["shortest"] <= row[column] <= row["longest"]
        ]
        told.append(
            f"- {row['line']}: at {row['bend_measured']:,.0f} tokens the exponent goes from "
            f"{row['exponent_below']:.2f} to {row['exponent_above']:.2f}"
            + (f"; within the lengths measured, {'; '.join(near)}" if near else "")
        )
    return "\n".join(told)


@commentary
def headline(summary: pd.DataFrame) -> str:
    """The finding in one sentence."""
    rows = planned(_own(summary), "scout")
    if rows.empty:
        return nothing(
            summary, "scout", "Fig 16's model is not measured." + _gone(planned(summary, "scout"))
        )
    steep = bend_rows(named(rows))
    steep = steep[steep["bend_measured"].notna()] if len(steep) else steep
    told = "latency bends upward nowhere"
    if len(steep):
        at = " to ".join(f"{n:,.0f}" for n in sorted({*steep["bend_measured"].agg(["min", "max"])}))
        rise = (steep["exponent_above"] - steep["exponent_below"]).max()
        told = (
            f"latency bends upward most at {at} tokens, where its exponent rises by {rise:.2f} at "
            f"most"
        )
    devices = ", ".join(
        f"{d} ({', '.join(in_order(own))})" for d, own in rows.groupby("device_label", sort=False)
    )
    return f"**Finding.** On {devices}: {told}.{_endpoint(summary)}"


def _own(summary: pd.DataFrame) -> pd.DataFrame:
    """What engines measured of the models that this profile shows."""
    rows = of_models_here(summary)
    return rows[(rows["source_kind"] == "measured") & (rows["status"] == "ok")]


def _beaten(summary: pd.DataFrame) -> str:
    rows = _own(summary)
    beaten = rows[rows["floor_reason"] == BEATEN] if "floor_reason" in rows else rows.iloc[:0]
    return "".join(
        f" {device}: {count} of {(rows['device_label'] == device).sum()} points {BEATEN}."
        for device, count in beaten["device_label"].value_counts(sort=False).items()
    )


def _gone(rows: pd.DataFrame) -> str:
    """What is not measured at all, per device and precision, with one reason each."""
    gone = rows[(rows["source_kind"] == "measured") & (rows["status"] != "ok")].drop_duplicates(
        ["device_label", "series"]
    )
    done = set(
        rows.loc[rows["status"] == "ok", ["device_label", "series"]].itertuples(
            index=False, name=None
        )
    )
    told = "; ".join(
        f"{r.device_label}, {r.series}: {r.status} ({r.reason})"
        for r in gone.itertuples()
        if (r.device_label, r.series) not in done
    )
    return f" Not measured: {told}." if told else ""


def _reasons(rows: pd.DataFrame) -> str:
    gone = rows[rows["status"] != "ok"].drop_duplicates("device_label")
    return "".join(f" No roofline of {r.device_label}: {r.reason}." for r in gone.itertuples())


def _endpoint(summary: pd.DataFrame) -> str:
    rows = planned(summary, "endpoint")
    if rows.empty:
        return " No endpoint is set, so nothing is measured of a CS-3."
    ok = rows[rows["status"] == "ok"]
    if ok.empty:
        return f" {rows['series'].iloc[0]}: {rows['status'].iloc[0]} ({rows['reason'].iloc[0]})."
    return (
        f" {ok['series'].iloc[0]} (endpoint): {ok['e2e_s'].min():.3g} to {ok['e2e_s'].max():.3g} s."
    )
