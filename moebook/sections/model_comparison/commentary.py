"""Section 9 in words; a function speaks of the figure of its name where there is one."""

from itertools import product

import pandas as pd

from moebook.predict.columns import is_under
from moebook.results.commentary import (
    NOTHING,
    T,
    change,
    commentary,
    ends_of,
    energy,
    in_order,
    markdown,
    measured,
    nothing,
    planned,
    predicted_vs_measured,
    price,
)
from moebook.results.findings import routing_of
from moebook.results.page import Number
from moebook.sections.model_comparison import accuracies, breakdown
from moebook.sections.model_comparison.enrich import (
    accuracy_rows,
    common_format,
    on_front,
    suites_of,
)
from moebook.sections.model_comparison.params import ALL_LLMS

__all__ = ["energy", "predicted_vs_measured", "price"]

KINDS = ("all parameters", "those active for one token")
NOT_ALIKE = "not routed alike, so they do not compare"
LATENCIES = {"ttft_s": "TTFT", "tpot_s": "TPOT", "e2e_s": "E2E"}


@commentary
def headline(table: pd.DataFrame) -> str:
    """The finding in one sentence."""
    rows = measured(table, ALL_LLMS)
    if rows.empty:
        lacking = _lacking(table, ALL_LLMS)
        return nothing(table, ALL_LLMS, f"No language model was measured.{lacking}")
    found, alone, unlike = [], [], []
    for series, own in rows.groupby("series", sort=False):
        if own["model"].nunique() == 1:
            alone.append(f"{own['model'].iloc[0]} in {series} {own[T].iloc[0]:,.0f}")
            continue
        if not _are_alike(own):
            ends = f"{own[T].min():,.0f} to {own[T].max():,.0f}"
            unlike.append(f"{len(own)} models in {series} run at {ends} tokens/s")
            continue
        ranked = own.sort_values(T, ascending=False).set_index("model")[T]
        slowest = f" and {ranked.iloc[0] / ranked.iloc[-1]:.1f} times {ranked.index[-1]}"
        found.append(
            f"in {series} {ranked.index[0]} is fastest at {ranked.iloc[0]:,.0f} tokens/s, "
            f"{change(ranked.iloc[0] / ranked.iloc[1])} over {ranked.index[1]}"
            f"{slowest if len(own) > 2 else ''} ({len(own)} models)"
        )
    if unlike:
        found.append(f"{', '.join(unlike)}: {NOT_ALIKE}")
    if not found:
        told = f"At batch {rows['batch'].iloc[0]}, tokens/s: {', '.join(alone)}"
        why = "one model a format, so none can be compared"
        return f"**Finding.** {told}; {why}.{_lacking(table, 'llms')}"
    return f"**Finding.** At batch {rows['batch'].iloc[0]}, {'; '.join(found)}."


def _are_alike(rows: pd.DataFrame) -> bool:
    """Whether all are routed alike: else their times do not compare."""
    return routing_of(rows).nunique() == 1


def numbers(table: pd.DataFrame) -> tuple[Number, ...]:
    """The fastest and the slowest model in the format that most have, the lead of the first, and
    its decode step."""
    rows = measured(table, ALL_LLMS)
    if rows.empty:
        return ()
    own = rows[rows["series"] == common_format(rows)].sort_values(T, ascending=False)
    if len(own) < 2:
        return ()
    first, second, last = own.iloc[0], own.iloc[1], own.iloc[-1]
    where = f"{first['series']}, batch {first['batch']:.0f}"
    if not _are_alike(own):
        ends = ((first, "most"), (last, "least"))
        return tuple(
            Number(f"{r[T]:,.0f} tok/s", f"{r['model']}, the {end}, {where}; {NOT_ALIKE}")
            for r, end in ends
        )
    return (
        Number(f"{first[T]:,.0f} tok/s", f"{first['model']}, the fastest, {where}"),
        Number(change(first[T] / second[T]), f"over the next, {second['model']}"),
        Number(f"{first[T] / last[T]:.1f}×", f"over the slowest, {last['model']}"),
        Number(f"{1e3 * first['tpot_s']:.1f} ms", f"a decode step of {first['model']}"),
    )


@commentary
def parameter_breakdown(_: pd.DataFrame) -> str:
    """The share of FFN layers in all and in active parameters, models of Table 1."""
    rows = breakdown.parameter_counts()
    ffn = rows["component"].isin(["experts", "shared_experts", "dense_ffn"])
    whole, own = (
        of.groupby("model", sort=False)[breakdown.COUNTS].sum() for of in (rows, rows[ffn])
    )
    share = 100 * own / whole
    ranges = [
        f"{share[c].min():.0f} % ({share[c].idxmin()}) to {share[c].max():.0f} % of {words}"
        for c, words in zip(breakdown.COUNTS, KINDS, strict=True)
    ]
    return f"FFN layers (routed, shared and dense) hold {', and '.join(ranges)}."


@commentary
def llms(table: pd.DataFrame) -> str:
    """The ends of each latency in each format, and what is not there."""
    return _ends(table, ALL_LLMS) + _cautions(table, ALL_LLMS)


@commentary
def vlms(table: pd.DataFrame) -> str:
    """The same of language parts, and their samples a second."""
    rows = measured(table, "vlms")
    if rows.empty:
        return nothing(table, "vlms", NOTHING + _lacking(table, "vlms"))
    rates = (rows["batch"] / rows["e2e_s"]).map("{:.3g}".format)
    return (
        f"Language parts alone, {rows['input_tokens'].iloc[0]} tokens in (text and image "
        f"together), {rows['output_tokens'].iloc[0]} out. Samples of one image and one text per "
        f"second: {', '.join(rows['model'] + ' ' + rates)}. {_ends(table, 'vlms')}"
        f"{_cautions(table, 'vlms')}"
    )


def _ends(table: pd.DataFrame, sweep: str) -> str:
    """A table: of each format and latency the least and the most, each with its model."""
    rows = measured(table, sweep)
    if rows.empty:
        return nothing(table, sweep, NOTHING)
    found, ends = [], ""
    for series, own in rows.set_index("model").groupby("series", sort=False):
        e2e = own["e2e_s"].rename("e2e_s").reset_index()
        ends += (
            ends_of(e2e, "e2e_s", f"E2E in {series}:", "{:.3g} s", "model") if len(own) > 1 else ""
        )
        for metric, name in LATENCIES.items():
            values = own[metric]
            least, most = (
                f"{_seconds(values[m])} ({m})" for m in (values.idxmin(), values.idxmax())
            )
            found.append({"format": series, "latency": name, "least": least, "most": most})
    return f"Latencies of {rows['model'].nunique()} models:{markdown(pd.DataFrame(found))}{ends}"


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 0.1 else f"{1e3 * value:.3g} ms"


def _cautions(table: pd.DataFrame, sweep: str) -> str:
    rows = measured(table, sweep)
    drawn = in_order(rows[rows["skew"].notna()], "model") if "skew" in rows else []
    imposed = f" Routing is imposed as uniform on {', '.join(drawn)}." if drawn else ""
    return _lacking(table, sweep) + imposed + _under(rows)


def _named(rows: pd.DataFrame) -> str:
    """`A in fp8, B in bf16`"""
    return ", ".join(rows["model"] + " in " + rows["series"])


def _lacking(table: pd.DataFrame, sweep: str) -> str:
    """What is not measured, each reason once."""
    rows = planned(table, sweep)
    gone = rows[rows["status"] != "ok"].groupby(["status", "reason"], sort=False)
    found = [
        _named(own) + f": {status}" * (status != "not_run") + f" ({reason})"
        for (status, reason), own in gone
    ]
    return f" Not measured: {'; '.join(found)}." if found else ""


def _under(rows: pd.DataFrame) -> str:
    """Models faster than their physical limit: of dummy weights, and no measure of the model."""
    under = rows[is_under(rows)]
    if under.empty:
        return ""
    return (
        " Faster than its physical limit, probably because its dummy weights read fewer experts "
        f"than uniform routing would, so its speed is no measure of the model: {_named(under)}."
    )


@commentary
def imposing(table: pd.DataFrame) -> str:
    """What imposing a uniform routing costs: one model with its own routers and with imposed
    ones."""
    rows = measured(table, "imposing")
    own, drawn = rows[rows["skew"].isna()], rows[rows["skew"].notna()]
    if own.empty or drawn.empty:
        return nothing(table, "imposing", "What imposing a routing costs is not measured.")
    a, b = own.iloc[0], drawn.iloc[0]
    each = ", ".join(f"{name} {change(b[m] / a[m], 1)}" for m, name in LATENCIES.items())
    if a["e2e_s_lo"] <= b["e2e_s_hi"] and b["e2e_s_lo"] <= a["e2e_s_hi"]:
        each += " (the intervals of both overlap)"
    return (
        f"On {a['model']} in {a['series']}, imposed uniform routing against its own routers: "
        f"{each}. This is the cost of drawing experts, and what its own routing gains by being "
        "less even; compare models with and without imposed routing no closer than that."
    )


WORDS = {T: "{:,.0f} tokens/s".format, "e2e_s": _seconds}


@commentary
def llm_accuracy(table: pd.DataFrame) -> str:
    """Which language models stand on the fronts of speed and accuracy."""
    return _fronts(table, "llm")


@commentary
def vlm_accuracy(table: pd.DataFrame) -> str:
    """The same of vision-language models."""
    return _fronts(table, "vlm")


def _fronts(table: pd.DataFrame, kind: str) -> str:
    """Which models stand on the front of speed and accuracy, a row per suite and metric."""
    rows = accuracy_rows(table)
    rows = rows[rows["kind"] == kind] if len(rows) else rows
    if rows.empty:
        why, sweep = _why_none(table), ALL_LLMS if kind == "llm" else "vlms"
        nothing_at_all = measured(table, sweep).empty
        return nothing(table, sweep, f"{NOTHING} {why}") if nothing_at_all else why
    found, cautious = [], []
    for (_, own), (metric, words) in product(rows.groupby("suite", sort=False), WORDS.items()):
        first, best = own.iloc[0], on_front(own, metric, metric == T)
        shown = own[best].sort_values("accuracy_pct")
        points = zip(shown["model"], shown["accuracy_pct"], shown[metric], strict=True)
        cautious += [] if first["alike"] else [first["title"]]
        found.append(
            {
                "accuracies": f"{first['title']}, {first['evidence']} ({first['tasks']})",
                "format": first["series"],
                "on the front": ", ".join(f"{m} ({a:.1f} %, {words(v)})" for m, a, v in points),
                "beaten in both": ", ".join(own.loc[~best & ~own["under_floor"], "model"]) or "–",
            }
        )
    text = f"The Pareto fronts of speed and accuracy:{markdown(pd.DataFrame(found))}"
    text += f"{found[0]['accuracies']}: on the front {found[0]['on the front']}. "
    if cautious:
        text += (
            f"Values of several reports, so that a few points are no difference: "
            f"{', '.join(dict.fromkeys(cautious))}."
        )
    if kind == "vlm":
        text += " Of vision tasks the accuracy is the whole model's, the speed its language part's."
    return text + _under(rows.drop_duplicates(["model", "series"]))


def _why_none(table: pd.DataFrame) -> str:
    known = set().union(*(suite.values for suite in suites_of(table)))
    models = in_order(planned(table, ALL_LLMS), "model")
    lacking = [model for model in models if accuracies.published_name(model) not in known]
    if lacking:
        return f"No accuracy is known of {', '.join(lacking)}."
    return "Too few models with an accuracy were measured in one format."


@commentary
def sources(table: pd.DataFrame) -> str:
    """Where the accuracies of this section were read, and what was not found."""
    models = in_order(table[table["model"].notna()], "model")
    read: dict[str, list[str]] = {}
    for suite in suites_of(table):
        for model in models:
            for source in suite.sources(model):
                read.setdefault(source, []).append(model)
    found = [f"- {source} ({', '.join(dict.fromkeys(own))})" for source, own in read.items()]
    names = {accuracies.published_name(model) for model in models}
    found += [f"- {name}: {why}" for name, why in accuracies.missing().items() if name in names]
    none = "Nothing is published of the models of this profile; `accuracy_file` adds measured ones."
    head = f"Accuracies were read in {len(read)} sources."
    return "\n".join([head, "", *found]) if found else none
