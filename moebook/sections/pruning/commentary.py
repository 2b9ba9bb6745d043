"""Section 3 in words (see this folder's __init__)."""

import pandas as pd

from moebook.results.commentary import commentary
from moebook.results.gains import BASELINE, gains, pruned
from moebook.results.perplexity import quality_rows
from moebook.results.words import NOTHING, T, in_order, measured, nothing, planned, with_gain

SWEEP = "pruning"
CRITERIA = {
    "random": "random choice",
    "norm": "weight norm",
    "frequency": "activation frequency",
    "routed_activation": "routed activation",
}
MOST_NAMED = 3
SMALL = (
    "One small model trained for minutes, one text, one random draw, nothing retrained after: the "
    "order of the "
    "criteria may be another in a large model."
)


def _gains(summary: pd.DataFrame) -> pd.DataFrame:
    rows = measured(summary, SWEEP)
    if rows.empty or BASELINE not in set(rows["series"]):
        return pd.DataFrame()
    found = with_gain(gains(summary, SWEEP, over=BASELINE))
    parts = found["series"].map(pruned)
    return found.assign(kind=parts.str[0], ratio_pct=parts.str[1])


@commentary
def absolute(summary: pd.DataFrame) -> str:
    """Fig 11: the whole model over active experts, and what cannot be."""
    rows = measured(summary, SWEEP)
    if rows.empty:
        return nothing(summary, SWEEP, NOTHING)
    told = []
    for model, own in rows[rows["series"] == BASELINE].groupby("model", sort=False):
        own = own.sort_values("top_k")
        told.append(
            f"**{model}** whole: {own[T].iloc[0]:,.0f} tokens/s with {own['top_k'].iloc[0]} "
            f"active, "
            f"{own[T].iloc[-1]:,.0f} with {own['top_k'].iloc[-1]}"
        )
    gone = planned(summary, SWEEP)
    gone = gone[gone["status"] != "ok"]
    rest = (
        f" {len(gone)} points have no number: {'; '.join(dict.fromkeys(gone['reason']))}."
        if len(gone)
        else ""
    )
    return ("; ".join(told) + "." if told else NOTHING) + rest


@commentary
def gain(summary: pd.DataFrame) -> str:
    """Mean gain per kind and ratio, with the range over top-k."""
    found = _gains(summary)
    if found.empty:
        return nothing(summary, SWEEP)
    told = []
    for model, own in found.groupby("model", sort=False):
        parts = []
        for series in in_order(own):
            at = own.loc[own["series"] == series, "gain_pct"]
            parts.append(f"{series} {at.mean():+.1f} % ({at.min():+.1f} to {at.max():+.1f})")
        told.append(f"**{model}**, mean over active experts (range): " + ", ".join(parts))
    slower = int((found["gain_pct"] < 0).sum())
    return (
        ". ".join(told)
        + f". {slower} of {len(found)} pruned points are slower than the whole model."
    )


@commentary
def floor(summary: pd.DataFrame) -> str:
    """A decode step over its floor, whole against pruned most."""
    rows = measured(summary, SWEEP)
    if rows.empty:
        return nothing(summary, SWEEP, NOTHING)
    if "floor_tpot_s" not in rows or rows["floor_tpot_s"].isna().all():
        return "The device's ceilings were not measured, so there is no floor."
    over = (
        (rows["tpot_s"] / rows["floor_tpot_s"])
        .groupby([rows["model"], rows["series"]], sort=False)
        .median()
    )
    told = []
    for model in in_order(rows, "model"):
        own = over[model]
        told.append(
            f"**{model}** " + ", ".join(f"{series} {value:.2f}" for series, value in own.items())
        )
    return (
        "A decode step as a multiple of its floor (median over active experts): "
        + "; ".join(told)
        + ". Where the "
        "multiple grows with pruning, the time that pruning saves is lost to what does not shrink: "
        "kernel launches, "
        "attention, the host."
    )


@commentary
def quality(summary: pd.DataFrame) -> str:
    """Which criterion loses least perplexity at each kind and ratio, with random choice as the
    reference."""
    if BASELINE not in set(planned(summary, "quality")["series"]):
        return nothing(summary, "quality", "No perplexity: the plan has no trained model to prune.")
    rows = quality_rows(summary)
    whole = rows[rows["series"] == BASELINE].iloc[0]
    cut = rows[rows["kind"].notna() & rows["criterion"].notna()]
    ok = cut[(cut["status"] == "ok") & cut["increase_pct"].notna()]
    if ok.empty:
        return f"No perplexity of a pruned model.{_without(cut)}"
    told = [_order(series, own) for series, own in ok.groupby("series", sort=False)]
    return (
        f"The whole model has a perplexity of {whole['perplexity']:.2f}; pruning changes it. "
        + " ".join(told)
        + _duels(ok)
        + _without(cut)
        + f" {SMALL}"
    )


def _order(series: str, own: pd.DataFrame) -> str:
    """`inter 50 %: least by weight norm (+3.1 %), then random choice (+9.0 %).`"""
    told = [
        f"{CRITERIA.get(r.criterion, r.criterion)} ({r.increase_pct:+,.1f} %)"
        for r in own.sort_values("increase_pct").itertuples()
    ]
    return f"**{series}**: " + (
        f"least by {told[0]}, then {', '.join(told[1:])}." if told[1:] else f"{told[0]}."
    )


def _duels(ok: pd.DataFrame) -> str:
    """How often each criterion is better than random choice, and frequency than the norm."""
    wide = ok.pivot(index="series", columns="criterion", values="increase_pct")
    pairs = [(c, "random") for c in CRITERIA if c != "random"] + [("frequency", "norm")]
    told = []
    for better, worse in pairs:
        both = wide[[better, worse]].dropna() if {better, worse} <= set(wide) else pd.DataFrame()
        if len(both):
            won = int((both[better] < both[worse]).sum())
            told.append(
                f"{CRITERIA[better]} loses less than {CRITERIA[worse]} in {won} of {len(both)}"
            )
    return f" Over kinds and ratios, {'; '.join(told)}." if told else ""


def _without(cut: pd.DataFrame) -> str:
    """Pruned models without a perplexity, by reason; many of one reason are counted."""
    told = []
    for (status, reason), gone in cut[cut["status"] != "ok"].groupby(
        ["status", "reason"], sort=False
    ):
        names = [
            f"{r.series} by {CRITERIA.get(r.criterion, r.criterion)}" for r in gone.itertuples()
        ]
        who = (
            ", ".join(names)
            if len(names) <= MOST_NAMED
            else f"{len(names)} of {len(cut)} pruned models"
        )
        told.append(f"{who}: {status} ({reason})")
    return f" Without a number: {'; '.join(told)}." if told else ""


@commentary
def headline(summary: pd.DataFrame) -> str:
    """The finding in one sentence."""
    found = _gains(summary)
    if found.empty:
        return nothing(summary, SWEEP, "Pruning is not measured.")
    most = found[found["ratio_pct"] == found["ratio_pct"].max()]
    means = most.groupby("kind", sort=False)["gain_pct"].mean()
    by_kind = ", ".join(f"{kind}-expert {g:+.1f} %" for kind, g in means.items())
    least = found[found["ratio_pct"] < found["ratio_pct"].max()]["gain_pct"]
    rest = (
        f"; smaller ratios between {least.min():+.1f} and {least.max():+.1f} %"
        if len(least)
        else ""
    )
    return (
        f"**Finding.** Pruning {most['ratio_pct'].iloc[0]:g} % changes throughput by {by_kind} on "
        f"average{rest}."
    )
