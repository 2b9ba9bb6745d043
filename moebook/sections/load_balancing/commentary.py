"""Section 7 in words (see this folder's __init__): training, balance and quality. Skew stands in
readings/skew."""

import json

import numpy as np
import pandas as pd

from moebook.results.balance import overall, sampling_floor, statistics
from moebook.results.commentary import commentary
from moebook.results.words import NOTHING, in_order, measured, missing, nothing
from moebook.sections.load_balancing.effects import importance as rank_of
from moebook.sections.load_balancing.effects import increase_pct
from moebook.sections.load_balancing.skew_commentary import skew_engine, skew_ep, skew_layer

__all__ = [
    "domains",
    "ep",
    "headline",
    "heat",
    "importance",
    "over_training",
    "quality",
    "skew_engine",
    "skew_ep",
    "skew_layer",
    "training",
    "ways",
]
BASE, TRAINED = "no-balance", "trained"
TEXTS = ("code", "prose", "numbers")


@commentary
def training(summary: pd.DataFrame) -> str:
    """What was trained, how long, and what it learned."""
    rows = _with(measured(summary, "training"), "perplexity")
    if rows.empty:
        return nothing(summary, "training")
    first = rows.iloc[0]
    told = ", ".join(f"{r.series} {r.perplexity:.2f}" for r in rows.itertuples())
    facts = []
    if pd.notna(first.get("parameters")):
        facts.append(
            f"{first['parameters'] / 1e6:.1f} million parameters, {int(first['num_layers'])} "
            f"layers of "
            f"{int(first['num_experts'])} experts, {int(first['top_k'])} active"
        )
    if pd.notna(first.get("train_tokens")) and pd.notna(first.get("train_steps")):
        facts.append(
            f"{first['train_tokens'] / 1e6:.1f} million tokens in {int(first['train_steps']):,} "
            f"steps"
        )
    spent = pd.to_numeric(rows.get("train_seconds", pd.Series(dtype=float))).dropna()
    if len(spent):
        facts.append(f"{spent.min():,.0f} to {spent.max():,.0f} s of training each")
    unigram = first.get("unigram_perplexity")
    beside = (
        f" (token frequencies alone give {unigram:.1f})"
        if unigram is not None and pd.notna(unigram)
        else ""
    )
    alike = (
        "trained alike; loss-free is another architecture, the others differ in their balance loss "
        "alone"
    )
    size = f"{len(rows)} models, {alike}: {'; '.join(facts)}. " if facts else ""
    return f"{size}Held-out perplexity: {told}{beside}." + missing(summary, "training")


@commentary
def heat(summary: pd.DataFrame) -> str:
    """Fig 15: how uneven each variant is, all texts together, against chance."""
    rows = _with(measured(summary, "balance"), "expert_counts")
    if rows.empty:
        return nothing(summary, "balance")
    told = []
    for name, own in _named(rows).groupby("variant", sort=False):
        counts = _counts(own)
        found = statistics(counts)
        most = found["max_over_mean"]
        told.append(
            f"**{name}** {most.max():.1f} times the uniform share at most (layer "
            f"{int(most.argmax()) + 1}), "
            f"coefficient of variation {overall(found['cv']):.2f}, entropy "
            f"{overall(found['entropy']):.3f}, "
            f"Gini {overall(found['gini']):.2f}"
        )
    own = (
        _named(rows).groupby("variant", sort=False).get_group(in_order(_named(rows), "variant")[0])
    )
    k, counts = int(own["top_k"].iloc[0]), _counts(own)
    tokens = counts.sum(1).mean() / k
    floor = sampling_floor(tokens, k, counts.shape[1])
    return (
        f"Of {tokens:,.0f} tokens: "
        + "; ".join(told)
        + f". A perfectly even router would show a coefficient of "
        f"variation of {floor['cv']:.3f} and {floor['max_over_mean']:.2f} times by chance on as "
        f"many tokens of "
        f"{counts.shape[1]} experts." + missing(summary, "balance")
    )


@commentary
def domains(summary: pd.DataFrame) -> str:
    """How far the choices of one text are from those of the others."""
    rows = _with(measured(summary, "balance"), "expert_counts")
    told = []
    for name, own in _named(rows).groupby("variant", sort=False) if len(rows) else ():
        if own["text"].nunique() < 2:
            continue
        shares = [
            s / np.maximum(s.sum(1, keepdims=True), 1) for s in map(_one, own["expert_counts"])
        ]
        moved = [
            0.5 * np.abs(a - b).sum(1).mean() for i, a in enumerate(shares) for b in shares[:i]
        ]
        cv = pd.to_numeric(own["balance_cv"]) if "balance_cv" in own else pd.Series(dtype=float)
        by_text = (
            f", coefficient of variation {cv.min():.2f} to {cv.max():.2f} by text"
            if cv.notna().any()
            else ""
        )
        told.append(f"**{name}** {100 * np.mean(moved):.0f} %{by_text}")
    if not told:
        return nothing(summary, "balance")
    return (
        "Share of choices that go to other experts from one text to another, mean over pairs of "
        "texts and layers: "
        + "; ".join(told)
        + ". A model that is even over all texts can still be uneven on one."
    )


@commentary
def over_training(summary: pd.DataFrame) -> str:
    """When imbalance comes, on the fixed batch."""
    rows = _with(measured(summary, "training"), "load_counts", "load_steps")
    if rows.empty:
        return nothing(summary, "training")
    told = []
    for row in rows.to_dict("records"):
        cv, steps = (
            overall(statistics(np.array(json.loads(row["load_counts"]), float))["cv"]),
            json.loads(row["load_steps"]),
        )
        peak = int(np.argmax(cv))
        top = (
            f", most {cv[peak]:.2f} at step {steps[peak]:,}"
            if cv[peak] > 1.05 * max(cv[0], cv[-1])
            else ""
        )
        told.append(
            f"**{row['series']}** {cv[0]:.2f} at step {steps[0]:,}, {cv[-1]:.2f} at "
            f"{steps[-1]:,}{top}"
        )
    return (
        "Coefficient of variation of the load: "
        + "; ".join(told)
        + "."
        + missing(summary, "training")
    )


@commentary
def quality(summary: pd.DataFrame) -> str:
    """What balance costs in perplexity."""
    trained = _with(measured(summary, "training"), "perplexity").set_index("series")
    rows = _with(measured(summary, "balance"), "balance_cv")
    cv = (
        rows.groupby("series", sort=False)["balance_cv"].mean()
        if len(rows)
        else pd.Series(dtype=float)
    )
    both = [s for s in trained.index if s in cv.index]
    if not both:
        return nothing(summary, "training")
    if BASE not in both:
        return (
            "; ".join(
                f"**{s}** perplexity {trained.loc[s, 'perplexity']:.2f} at {cv[s]:.2f}"
                for s in both
            )
            + "."
        )
    base = trained.loc[BASE, "perplexity"]
    told = "; ".join(
        f"**{s}** {100 * (trained.loc[s, 'perplexity'] / base - 1):+.2f} % perplexity at a "
        f"coefficient of "
        f"variation of {cv[s]:.2f}"
        for s in both
        if s != BASE
    )
    head = f"{BASE} has perplexity {base:.2f} at a coefficient of variation of {cv[BASE]:.2f}"
    return (
        f"{head}. Against it: {told}. Each was trained once, so what another seed would change is "
        f"not known."
        if told
        else f"{head}."
    )


@commentary
def ep(summary: pd.DataFrame) -> str:
    """What each variant would cost on ranks."""
    columns = [f"balance_ep{d}_max_over_mean" for d in (2, 4, 8)]
    rows = measured(summary, "balance")
    if rows.empty or not set(columns) <= set(rows):
        return nothing(summary, "balance")
    rows, told = _named(rows), []
    for name, own in rows.groupby("variant", sort=False):
        means = {c: pd.to_numeric(own[c]).mean() for c in columns}
        parts = [
            f"{means[c]:.2f} on {d}"
            for c, d in zip(columns, (2, 4, 8), strict=True)
            if pd.notna(means[c])
        ]
        if parts:
            told.append(f"**{name}** " + ", ".join(parts))
    return (
        "Fullest rank over the mean, mean over texts and layers, by ranks: "
        + "; ".join(told)
        + ". A layer that is "
        "bound by computing waits that many times as long as on even ranks; the mean over layers "
        "is what a whole "
        "model waits."
        if told
        else NOTHING
    ) + missing(summary, "balance")


@commentary
def importance(summary: pd.DataFrame) -> str:
    """Whether the most chosen experts are those whose loss hurts."""
    rows = _with(
        measured(summary, "importance"), "perplexity", "ablation_perplexity", "expert_counts"
    )
    if rows.empty:
        return nothing(summary, "importance")
    told = []
    for _, row in rows.iterrows():
        found, rise = rank_of(row), increase_pct(row)
        layer, expert = np.unravel_index(np.nanargmax(rise), rise.shape)
        told.append(
            f"**{row['series']}** ρ = {found.value:+.2f} [{found.lo:+.2f}, {found.hi:+.2f}] over "
            f"{rise.shape[0]} layers of {rise.shape[1]} experts; removing one expert raises "
            f"perplexity by "
            f"{np.nanmedian(rise):.2f} % (median), by {rise[layer, expert]:.1f} % for the worst "
            f"(layer "
            f"{layer + 1}), and lowers it for {int((rise < 0).sum())} of {rise.size}"
        )
    return "; ".join(told) + "." + missing(summary, "importance")


@commentary
def ways(summary: pd.DataFrame) -> str:
    """Whether both ways of counting choices agree."""
    rows = _with(measured(summary, "capture_check"), "expert_counts")
    if len(rows) < 2:
        return "Expert choices were counted in one way only, so there is nothing to compare."
    a, b = (_one(text) for text in rows["expert_counts"].iloc[:2])
    moved = 0.5 * np.abs(a - b).sum() / max(a.sum(), 1)
    return (
        f"The same text counted at the routers and from the engine's output: {100 * moved:.3f} % "
        f"of "
        f"{int(a.sum()):,} choices differ."
    )


@commentary
def headline(summary: pd.DataFrame) -> str:
    """The finding in one sentence."""
    rows = _with(measured(summary, "balance"), "balance_cv", "balance_max_over_mean")
    means = (
        rows.groupby("series", sort=False)[["balance_cv", "balance_max_over_mean"]].mean()
        if len(rows)
        else rows
    )
    others = [s for s in means.index if s not in (BASE, TRAINED)]
    if BASE not in means.index or not others:
        return nothing(
            summary,
            "balance",
            "The balance of trained models is not measured." + missing(summary, "balance"),
        )
    most, least = means.loc[BASE], means.loc[means.loc[others, "balance_cv"].idxmin()]
    rho = _with(
        measured(summary, "importance"), "perplexity", "ablation_perplexity", "expert_counts"
    )
    rho = [f"{r.series} {rank_of(r).value:+.2f}" for r in rho.itertuples()]
    rank = (
        f"; how often an expert is chosen correlates with what removing it costs by ρ = "
        f"{', '.join(rho)}"
        if rho
        else ""
    )
    return (
        f"**Finding.** Trained without balancing, the most chosen expert takes "
        f"{most['balance_max_over_mean']:.1f} "
        f"times the uniform share and the load varies by {most['balance_cv']:.2f} (coefficient of "
        f"variation, mean over "
        f"texts and layers); with {least.name}, {least['balance_max_over_mean']:.1f} times and "
        f"{least['balance_cv']:.2f}{rank}."
    )


def _with(rows: pd.DataFrame, *columns: str) -> pd.DataFrame:
    """Rows that have every one of the columns; none where the table lacks one."""
    if not set(columns) <= set(rows):
        return rows.head(0).reindex(columns=[*rows.columns, *(c for c in columns if c not in rows)])
    return rows[rows[list(columns)].notna().all(axis=1)]


def _named(rows: pd.DataFrame) -> pd.DataFrame:
    return rows.assign(variant=rows["series"].where(rows["series"] != TRAINED, rows["model"]))


def _one(text: str) -> np.ndarray:
    return np.array(json.loads(text), float)


def _counts(rows: pd.DataFrame) -> np.ndarray:
    return np.sum([_one(text) for text in rows["expert_counts"]], axis=0)
