"""Section 9 in words (see this folder's __init__)."""

import pandas as pd

from moebook.predict.under_bound import is_under
from moebook.results.commentary import commentary
from moebook.results.words import NOTHING, T, change, in_order, measured, nothing, planned
from moebook.sections.model_comparison import accuracies
from moebook.sections.model_comparison.accuracy import accuracy_rows, on_front, suites_of
from moebook.sections.model_comparison.parameter_commentary import parameter_shares

__all__ = ["accuracy", "headline", "imposing", "llms", "parameter_shares", "sources", "vlms"]
WORDS = {T: "throughput", "e2e_s": "latency"}


@commentary
def llms(summary: pd.DataFrame) -> str:
    """Fig 3: the ends of each latency in each format, and what is not there."""
    rows = measured(summary, "llms")
    return _ends(summary, "llms") + _lacking(summary, "llms") + _imposed(rows) + _under(rows)


@commentary
def vlms(summary: pd.DataFrame) -> str:
    """Fig 4: the same of language parts, in samples a second, too."""
    rows = measured(summary, "vlms")
    if rows.empty:
        return nothing(summary, "vlms", NOTHING + _lacking(summary, "vlms"))
    first = rows.iloc[0]
    speeds = ", ".join(f"{r.model} {r.batch / r.e2e_s:.3g}" for r in rows.itertuples())
    return (
        f"Language parts alone, {first['input_tokens']} tokens in (text and image together), "
        f"{first['output_tokens']} out. "
        + _ends(summary, "vlms")
        + f" Samples of one image and one text per second: {speeds}."
        + _lacking(summary, "vlms")
        + _imposed(rows)
        + _under(rows)
    )


def _ends(summary: pd.DataFrame, sweep: str) -> str:
    """`In fp8: first token from 1.2 s (A) to 3.4 s (B); ...`"""
    rows = measured(summary, sweep)
    if rows.empty:
        return nothing(summary, sweep, NOTHING)
    told = []
    for series, own in rows.groupby("series", sort=False):
        each = [
            f"{name} {_from_to(own, metric)}"
            for metric, name in (
                ("ttft_s", "first token"),
                ("tpot_s", "a step"),
                ("e2e_s", "end to end"),
            )
        ]
        told.append(f"In **{series}**: {'; '.join(each)}.")
    return " ".join(told)


def _from_to(rows: pd.DataFrame, metric: str) -> str:
    low, high = rows.loc[rows[metric].idxmin()], rows.loc[rows[metric].idxmax()]
    first = f"{_seconds(low[metric])} ({low['model']})"
    return (
        first
        if low["model"] == high["model"]
        else f"from {first} to {_seconds(high[metric])} ({high['model']})"
    )


def _seconds(value: float) -> str:
    return f"{value:.3g} s" if value >= 0.1 else f"{1e3 * value:.3g} ms"


def _lacking(summary: pd.DataFrame, sweep: str) -> str:
    """What is not measured, each reason once."""
    rows = planned(summary, sweep)
    gone = rows[rows["status"] != "ok"].groupby(["status", "reason"], sort=False)
    told = "; ".join(
        ", ".join(f"{r.model} in {r.series}" for r in own.itertuples()) + f": {status} ({reason})"
        for (status, reason), own in gone
    )
    return f" Not measured: {told}." if told else ""


def _imposed(rows: pd.DataFrame) -> str:
    drawn = in_order(rows[rows["skew"].notna()], "model") if "skew" in rows else []
    return f" Routing is imposed as uniform on {', '.join(drawn)}." if drawn else ""


def _under(rows: pd.DataFrame) -> str:
    """Models faster than their floor: of dummy weights, and no measure of the model."""
    under = rows[is_under(rows)]
    told = ", ".join(f"{r.model} in {r.series}" for r in under.itertuples())
    return (
        " Faster than its floor, probably because its dummy weights read fewer experts than "
        "uniform routing would, so "
        f"its speed is no measure of the model: {told}."
        if told
        else ""
    )


@commentary
def imposing(summary: pd.DataFrame) -> str:
    """What imposing a uniform routing costs: one model with its own routers and with imposed
    ones."""
    rows = measured(summary, "imposing")
    own, drawn = rows[rows["skew"].isna()], rows[rows["skew"].notna()]
    if own.empty or drawn.empty:
        return nothing(summary, "imposing", "What imposing a routing costs is not measured.")
    a, b = own.iloc[0], drawn.iloc[0]
    each = ", ".join(
        f"{name} {change(b[m] / a[m], 1)}"
        for m, name in (("ttft_s", "TTFT"), ("tpot_s", "TPOT"), ("e2e_s", "E2E"))
    )
    apart = not (
        a.get("e2e_s_lo", 0) <= b.get("e2e_s_hi", 0)
        and b.get("e2e_s_lo", 0) <= a.get("e2e_s_hi", 0)
    )
    each += "" if apart else " (the repeats of both overlap)"
    return (
        f"On {a['model']} in {a['series']}, imposed uniform routing against its own routers: "
        f"{each}. This is the cost "
        "of drawing experts, and what its own routing gains by being less even; compare models "
        "with and without "
        "imposed routing no closer than that."
    )


@commentary
def accuracy(summary: pd.DataFrame, metric: str) -> str:
    """Figs 17 and 18: which models stand on the front of speed (`metric`) and accuracy, suite by
    suite."""
    rows = accuracy_rows(summary)
    if rows.empty:
        if measured(summary, "llms").empty:
            return nothing(summary, "llms", f"{NOTHING} {_why_none(summary)}")
        return _why_none(summary)
    told = []
    for _, own in rows.groupby("suite", sort=False):
        first = own.iloc[0]
        best = own[on_front(own, metric, metric == T)].sort_values("accuracy_pct")
        beaten = [m for m in own.loc[~own["under_floor"], "model"] if m not in set(best["model"])]
        each = ", ".join(
            f"{r.model} ({r.accuracy_pct:.1f} %, {_speed(getattr(r, metric), metric)})"
            for r in best.itertuples()
        )
        off = f"; beaten in both: {', '.join(beaten)}" if beaten else ""
        caution = "" if first["alike"] else "; reports differ, so a few points are no difference"
        told.append(
            f"**{first['title']}, {first['evidence']}** ({first['tasks']}; {first['series']}): on "
            f"the front "
            f"{each}{off}{caution}."
        )
    if "vlm" in set(rows["kind"]):
        told.append(
            "Of vision tasks the accuracy is the whole model's, the speed its language part's."
        )
    return (
        f"By {WORDS[metric]}. " + " ".join(told) + _under(rows.drop_duplicates(["model", "series"]))
    )


def _speed(value: float, metric: str) -> str:
    return f"{value:,.0f} tokens/s" if metric == T else _seconds(value)


def _why_none(summary: pd.DataFrame) -> str:
    models = in_order(planned(summary, "llms"), "model")
    lacking = [
        m
        for m in models
        if not any(accuracies.published_name(m) in s.values for s in suites_of(summary))
    ]
    return (
        f"No accuracy is known of {', '.join(lacking)}."
        if lacking
        else "Too few models with an accuracy were measured in one format."
    )


@commentary
def sources(summary: pd.DataFrame) -> str:
    """Where the accuracies of this section were read, and what was not found."""
    models = in_order(summary[summary["model"].notna()], "model")
    found: dict[str, list[str]] = {}
    for suite in suites_of(summary):
        for model in models:
            for source in suite.sources(model):
                found.setdefault(source, []).append(model)
    told = [f"- {source} ({', '.join(dict.fromkeys(own))})" for source, own in found.items()]
    names = {accuracies.published_name(m) for m in models}
    told += [
        f"- {model}: {reason}" for model, reason in accuracies.missing().items() if model in names
    ]
    return (
        "\n".join(told)
        or "Nothing is published of the models of this profile; `accuracy_file` adds measured "
        "accuracies."
    )


@commentary
def headline(summary: pd.DataFrame) -> str:
    """The finding in one sentence."""
    rows = measured(summary, "llms")
    if rows.empty:
        return nothing(
            summary, "llms", "No language model was measured." + _lacking(summary, "llms")
        )
    told = []
    for series, own in rows.groupby("series", sort=False):
        if own["model"].nunique() > 1:
            ranked = own.sort_values(T, ascending=False)
            best, next_, last = ranked.iloc[0], ranked.iloc[1], ranked.iloc[-1]
            told.append(
                f"in {series} {best['model']} is fastest at {best[T]:,.0f} tokens/s, "
                f"{change(best[T] / next_[T])} over {next_['model']}"
                + (f" and {best[T] / last[T]:.1f} times {last['model']}" if len(own) > 2 else "")
                + f" ({len(own)} models)"
            )
    if not told:
        return "One model alone was measured in each format, so none can be compared." + _lacking(
            summary, "llms"
        )
    return f"**Finding.** At batch {rows['batch'].iloc[0]}, " + "; ".join(told) + "."
