"""Section 3 in words: a function for each figure, of its name, and the finding."""

import pandas as pd

from moebook.predict import columns
from moebook.results.commentary import (
    NOTHING,
    T,
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
    with_gain,
)
from moebook.results.gains import gains
from moebook.results.page import Number
from moebook.sections.pruning.pruned import (
    BASELINE,
    CRITERIA,
    KINDS,
    SWEEP,
    by_ratio,
    perplexities,
    series_name,
    with_ratio,
    with_speed,
)

__all__ = ["energy", "predicted_vs_measured", "price"]

MOST_NAMED = 3
SMALL = (
    "One small model trained for minutes, one text, one random draw, nothing retrained after: the "
    "order of the criteria may be another in a large model."
)
DUELS = [
    ("norm", "random"),
    ("frequency", "random"),
    ("routed_activation", "random"),
    ("frequency", "norm"),
]


def _gains(table: pd.DataFrame) -> pd.DataFrame:
    """Pruned rows with their gain over the whole model; none where that was not measured."""
    if BASELINE not in set(measured(table, SWEEP)["series"]):
        return pd.DataFrame()
    return with_ratio(with_gain(gains(table, SWEEP, over=BASELINE)))


@commentary
def over_active(table: pd.DataFrame) -> str:
    """Fig 11: the whole model over active experts, and what cannot be."""
    rows = measured(table, SWEEP)
    if rows.empty:
        return nothing(table, SWEEP, NOTHING)
    whole = rows[rows["series"] == BASELINE].sort_values("top_k", kind="stable")
    found = [
        f"**{model}** whole: {own[T].iloc[0]:,.0f} tokens/s with {own['top_k'].iloc[0]} active, "
        f"{own[T].iloc[-1]:,.0f} with {own['top_k'].iloc[-1]}."
        for model, own in whole.groupby("model", sort=False)
    ]
    gone = planned(table, SWEEP).query("status != 'ok'")
    if len(gone):
        found.append(f"{len(gone)} points have no number: {'; '.join(gone['reason'].unique())}.")
    return " ".join(found if len(whole) else [NOTHING, *found])


@commentary
def gain(table: pd.DataFrame) -> str:
    """How many pruned points are slower than the whole model, and the fastest."""
    found = _gains(table)
    if found.empty:
        return nothing(table, SWEEP)
    slower, best = int((found["gain_pct"] < 0).sum()), found.loc[found["gain_pct"].idxmax()]
    return (
        f"{slower} of {len(found)} pruned points are slower than the whole model. The most is "
        f"gained by {best['series']} on {best['model']} with {best['top_k']} active: "
        f"{best['gain_pct']:+.1f} %."
    )


@commentary
def gain_by_ratio(table: pd.DataFrame) -> str:
    """Mean gain per kind and ratio, with the range over top-k."""
    found = _gains(table)
    if found.empty:
        return nothing(table, SWEEP)
    means = by_ratio(found)
    series = [series_name(*of) for of in zip(means["kind"], means["ratio_pct"], strict=True)]
    words = [
        f"{row.gain_pct:+.1f} % ({row.gain_pct_lo:+.1f} to {row.gain_pct_hi:+.1f})"
        for row in means.itertuples()
    ]
    wide = means.assign(series=series, words=words).pivot(
        index="series", columns="model", values="words"
    )
    said = "Gain over the whole model, mean over active experts (range):"
    beside = _on_the_sources_cards(measured(table, SWEEP))
    ends = ends_of(means.assign(series=series), "gain_pct", "Mean gain:", "{:+.1f} %")
    shown = markdown(wide.loc[in_order(found)].reset_index())
    return said + shown + ends + beside.strip()


def _on_the_sources_cards(rows: pd.DataFrame) -> str:
    """The most pruned of each kind over the whole model, at the most active experts that both have,
    predicted."""
    pairs = {}
    for model, own in rows.groupby("model", sort=False):
        whole = own[own["series"] == BASELINE].set_index("top_k", drop=False)
        for kind in KINDS:
            series = [s for s in own["series"].unique() if str(s).startswith(f"{kind} 50")]
            cut = own[own["series"].isin(series)].set_index("top_k", drop=False)
            both = sorted(set(whole.index) & set(cut.index))
            if both and whole.index.is_unique and cut.index.is_unique:
                pairs[f"{series[0]} of {model}"] = cut.loc[both[-1]], whole.loc[both[-1]]
    return columns.words(pairs)


@commentary
def over_floor(table: pd.DataFrame) -> str:
    """A decode step over its physical limit, whole and pruned."""
    rows = measured(table, SWEEP)
    if rows.empty:
        return nothing(table, SWEEP, NOTHING)
    if "floor_tpot_s" not in rows or rows["floor_tpot_s"].isna().all():
        return "The device's peaks were not measured, so there is no physical limit."
    wide = rows.assign(over=rows["tpot_s"] / rows["floor_tpot_s"]).pivot_table(
        index="series", columns="model", values="over", aggfunc="median"
    )
    wide = wide.loc[[name for name in in_order(rows) if name in wide.index]]
    return (
        "A decode step as a multiple of its physical limit, median over active experts:"
        + markdown(wide.map("{:.2f}".format, na_action="ignore").reset_index())
        + ends_of(
            wide.median(axis=1).rename("over").reset_index(), "over", "A step takes", "{:.2f} times"
        )
        + "Where the multiple grows with pruning, the time that pruning saves is lost to what does "
        "not shrink: kernel launches, attention, the host."
    )


@commentary
def quality(table: pd.DataFrame) -> str:
    """Which criterion loses least perplexity at each kind and ratio, with random choice as the
    reference."""
    if BASELINE not in set(planned(table, "quality")["series"]):
        return nothing(table, "quality", "No perplexity: the plan has no trained model to prune.")
    rows = perplexities(table)
    cut = rows.dropna(subset=["kind", "criterion"])
    ok = cut[(cut["status"] == "ok") & cut["increase_pct"].notna()]
    if ok.empty:
        return f"No perplexity of a pruned model.{_without(cut)}"
    wide = ok.pivot(index="series", columns="criterion", values="increase_pct")
    wide = wide.loc[in_order(ok), [name for name in CRITERIA if name in wide]]
    words = wide.map("{:+,.1f} %".format, na_action="ignore")
    words = words.mask(wide.eq(wide.min(axis=1), axis=0), "**" + words + "**")
    whole = rows.loc[rows["series"] == BASELINE, "perplexity"].item()
    return (
        f"The whole model has a perplexity of {whole:.2f}. Pruning adds, by criterion (the least "
        "in bold):"
        + markdown(words.rename(columns=CRITERIA).reset_index())
        + _duels(wide)
        + _without(cut)
        + f" {SMALL}"
    )


def _duels(wide: pd.DataFrame) -> str:
    """How often a criterion (a column) is better than random choice, and frequency than norm."""
    found = []
    for better, worse in DUELS:
        both = wide.reindex(columns=[better, worse]).dropna()
        if len(both):
            won = int((both[better] < both[worse]).sum())
            found.append(
                f"{CRITERIA[better]} loses less than {CRITERIA[worse]} in {won} of {len(both)}"
            )
    return f"Over kinds and ratios, {'; '.join(found)}." if found else ""


def _without(cut: pd.DataFrame) -> str:
    """Pruned models without a perplexity, by reason; many of one reason are counted."""
    found = []
    names = cut["series"] + " by " + cut["criterion"].map(CRITERIA)
    gone = cut[cut["status"] != "ok"].groupby(["status", "reason"], sort=False)
    for (status, reason), own in gone:
        who = f"{len(own)} of {len(cut)} pruned models"
        if len(own) <= MOST_NAMED:
            who = ", ".join(names[own.index])
        found.append(f"{who}: {status} ({reason})")
    return f" Without a number: {'; '.join(found)}." if found else ""


@commentary
def quality_and_speed(table: pd.DataFrame) -> str:
    """At the largest ratio, what the criterion that loses least costs, and the speed gained."""
    found = _gains(table)
    if found.empty or BASELINE not in set(measured(table, "quality")["series"]):
        return nothing(table, "quality")
    rows = with_speed(perplexities(table), found).query("status == 'ok'")
    rows = rows.dropna(subset=["increase_pct", "gain_pct"]).sort_values("increase_pct")
    words = []
    for kind, own in rows[rows["ratio_pct"] == rows["ratio_pct"].max()].groupby("kind"):
        best = own[own["criterion"] == own["criterion"].iloc[0]]
        gained = zip(best["gain_pct"], best["speed_model"], strict=True)
        words.append(
            f"{KINDS[kind].capitalize()} pruning of {best['ratio_pct'].iloc[0]:g} % by "
            f"{CRITERIA[best['criterion'].iloc[0]]} adds {best['increase_pct'].iloc[0]:+.1f} % to "
            f"the perplexity, for a throughput of "
            f"{', '.join(f'{gain:+.1f} % on {model}' for gain, model in gained)}."
        )
    return " ".join(words) or NOTHING


def numbers(table: pd.DataFrame) -> tuple[Number, ...]:
    """Mean gain of each kind at the largest ratio, the best point, and how many are slower."""
    found = _gains(table)
    if found.empty:
        return ()
    most = found[found["ratio_pct"] == found["ratio_pct"].max()]
    told = [
        Number(f"{mean:+.1f} %", f"throughput, {KINDS[kind]} {most['ratio_pct'].iloc[0]:g} %, mean")
        for kind, mean in most.groupby("kind", sort=False)["gain_pct"].mean().items()
    ]
    best = found.loc[found["gain_pct"].idxmax()]
    where = f"the most: {best['series']}, {best['model']}, {best['top_k']} active"
    slower = f"{(found['gain_pct'] < 0).sum()} of {len(found)}"
    told += [Number(f"{best['gain_pct']:+.1f} %", where), Number(slower, "pruned points slower")]
    return tuple(told)


@commentary
def headline(table: pd.DataFrame) -> str:
    """The finding in one sentence."""
    found = _gains(table)
    if found.empty:
        return nothing(table, SWEEP, "Pruning is not measured.")
    most = found["ratio_pct"].max()
    largest = found[found["ratio_pct"] == most].groupby("kind", sort=False)["gain_pct"].mean()
    by_kind = ", ".join(f"{KINDS[kind]} {gain:+.1f} %" for kind, gain in largest.items())
    least = found.loc[found["ratio_pct"] < most, "gain_pct"]
    rest = f"; smaller ratios between {least.min():+.1f} and {least.max():+.1f} %"
    return (
        f"**Finding.** Pruning {most:g} % changes throughput by {by_kind} on average"
        f"{rest if len(least) else ''}."
    )
