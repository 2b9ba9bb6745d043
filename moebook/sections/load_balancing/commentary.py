"""Section 7 in words: training, balance and quality, single experts, and what skew costs."""

from itertools import combinations

import numpy as np
import pandas as pd

from moebook.results.balance import EP_DEGREES, overall, sampling_floor, statistics
from moebook.results.commentary import commentary, ends_of, markdown, measured, missing, nothing
from moebook.results.page import Number
from moebook.sections.load_balancing import choices, expert_maps
from moebook.sections.load_balancing.choices import BASE
from moebook.sections.load_balancing.plan import ALIKE
from moebook.sections.load_balancing.skew_commentary import skew_engine, skew_ep, skew_layer

__all__ = ["skew_engine", "skew_ep", "skew_layer"]

VARIANT = {"variant": "{variant}"}
ABLATED = ("perplexity", "ablation_perplexity", "expert_counts")
TIMES = "{:.2f}×"


@commentary
def headline(summary: pd.DataFrame) -> str:
    """The finding in a few sentences."""
    ends = _ends(summary)
    if ends is None:
        said = "The balance of trained models is not measured." + missing(summary, "balance")
        return nothing(summary, "balance", said)
    most, least = ends
    found = (
        f"**Finding.** Trained without balancing, the most chosen expert takes "
        f"{most['balance_max_over_mean']:.1f} times the uniform share; the load varies by "
        f"{most['balance_cv']:.2f} (coefficient of variation, mean over texts and layers). With "
        f"{least.name} these are {least['balance_max_over_mean']:.1f} times and "
        f"{least['balance_cv']:.2f}."
    )
    ablated = measured(summary, "importance", *ABLATED)
    rho = [f"{r['series']} {choices.importance(r).value:+.2f}" for _, r in ablated.iterrows()]
    if rho:
        found += (
            " How often an expert is chosen correlates with what removing it costs by ρ = "
            f"{', '.join(rho)}."
        )
    return found


def numbers(summary: pd.DataFrame) -> tuple[Number, ...]:
    """The unbalanced variant and the most even one, mean over texts and layers."""
    return tuple(
        number
        for one in _ends(summary) or ()
        for number in (
            Number(
                f"{one['balance_max_over_mean']:.1f}×", f"busiest expert over the mean, {one.name}"
            ),
            Number(f"{one['balance_cv']:.2f}", f"coefficient of variation, {one.name}"),
        )
    )


def _ends(summary: pd.DataFrame) -> tuple[pd.Series, pd.Series] | None:
    """Means over texts of the variant without balancing and of the most even other one."""
    columns = ["balance_cv", "balance_max_over_mean"]
    means = measured(summary, "balance", *columns).groupby("series", sort=False)[columns].mean()
    others = means.drop(index=[BASE, choices.TRAINED], errors="ignore")
    if BASE not in means.index or others.empty:
        return None
    return means.loc[BASE], others.loc[others["balance_cv"].idxmin()]


@commentary
def training(summary: pd.DataFrame) -> str:
    """What was trained, how long, and what it learned."""
    rows = measured(summary, "training", "perplexity")
    if rows.empty:
        return nothing(summary, "training")
    millions = rows[["parameters", "train_tokens"]] / 1e6
    heads = {
        "variant": "{series}",
        "held-out perplexity": "{perplexity:.2f}",
        "parameters (millions)": "{parameters:.1f}",
        "layers": "{num_layers}",
        "experts, active": "{num_experts}, {top_k}",
        "tokens (millions)": "{train_tokens:.1f}",
        "steps": "{train_steps:,.0f}",
        "time (s)": "{train_seconds:,.0f}",
    }
    return (
        f"{len(rows)} models were trained alike: `loss-free` is another architecture, the others "
        "differ in their balance loss alone. Token frequencies alone give a held-out perplexity of "
        f"{rows['unigram_perplexity'].iloc[0]:.1f}."
        f"{missing(summary, 'training')}{markdown(rows.assign(**millions), heads)}"
    )


@commentary
def heatmaps(summary: pd.DataFrame) -> str:
    """Fig 15: how uneven each variant is, all texts together, against chance."""
    rows = choices.with_variant(measured(summary, "balance", "expert_counts"))
    if rows.empty:
        return nothing(summary, "balance")
    counts = rows.groupby("variant", sort=False).apply(choices.counts_of, include_groups=False)
    found = pd.DataFrame([_statistics(one) for one in counts]).assign(variant=counts.index)
    top_k, experts = int(rows["top_k"].iloc[0]), counts.iloc[0].shape[1]
    tokens = counts.iloc[0].sum(1).mean() / top_k
    chance = sampling_floor(tokens, top_k, experts)
    heads = VARIANT | {
        "most chosen (× uniform)": "{most:.1f}",
        "in layer": "{layer}",
        "coefficient of variation": "{cv:.2f}",
        "entropy": "{entropy:.3f}",
        "Gini": "{gini:.2f}",
    }
    return (
        f"{ends_of(found, 'most', 'The most chosen expert, over uniform:', TIMES, 'variant')}"
        f"By chance, of "
        f"{tokens:,.0f} tokens, a perfectly even router of {experts} experts would "
        f"show a coefficient of variation of {chance['cv']:.3f} and {chance['max_over_mean']:.2f} "
        f"times the uniform share.{missing(summary, 'balance')}{markdown(found, heads)}"
    )


def _statistics(counts: np.ndarray) -> dict:
    """Means over layers of counts (L, E), and the most chosen expert with its layer."""
    found = statistics(counts)
    most = found["max_over_mean"]
    means = {name: float(overall(found[name])) for name in ("cv", "entropy", "gini")}
    return means | {"most": most.max(), "layer": int(most.argmax()) + 1}


@commentary
def domains(summary: pd.DataFrame) -> str:
    """How far the choices of one text are from those of the others."""
    rows = choices.with_variant(measured(summary, "balance", "expert_counts", "balance_cv"))
    found = []
    for variant, own in rows.groupby("variant", sort=False):
        share = [choices.over_uniform(choices.array(text)) for text in own["expert_counts"]]
        moved = [50 * np.abs(a - b).mean() for a, b in combinations(share, 2)]
        if moved:
            cv = own["balance_cv"]
            found.append((variant, np.mean(moved), cv.min(), cv.max()))
    if not found:
        return nothing(summary, "balance")
    found = pd.DataFrame(found, columns=["variant", "moved_pct", "cv_lo", "cv_hi"])
    heads = VARIANT | {
        "choices that move": "{moved_pct:.0f} %",
        "coefficient of variation, by text": "{cv_lo:.2f} to {cv_hi:.2f}",
    }
    return (
        ends_of(found, "moved_pct", "Of choices move from text to text", "{:.0f} %", "variant")
        + "Share of choices that go to other experts from one text to another, mean over pairs of "
        "texts and layers. A model that is even over all texts can still be uneven on one."
        + markdown(found, heads)
    )


@commentary
def ways(summary: pd.DataFrame) -> str:
    """Whether both ways of counting choices agree."""
    rows = measured(summary, "capture_check", "expert_counts")
    if len(rows) < 2:
        return "Expert choices were counted in one way only, so there is nothing to compare."
    a, b = map(choices.array, rows["expert_counts"].iloc[:2])
    moved = 50 * np.abs(a - b).sum() / max(a.sum(), 1)
    return (
        f"The same text counted at the routers and from the engine's output: {moved:.3f} % of "
        f"{a.sum():,.0f} choices differ."
    )


@commentary
def over_training(summary: pd.DataFrame) -> str:
    """When imbalance comes, on the fixed batch."""
    rows = measured(summary, "training", "load_counts", "load_steps")
    if rows.empty:
        return nothing(summary, "training")
    loads = pd.concat([choices.load_course(row) for _, row in rows.iterrows()], ignore_index=True)
    cv = loads.groupby("series", sort=False)["cv"]
    found = cv.agg(["first", "last", "max"]).reset_index(names="variant")
    steps = loads["step"]
    found["step"] = steps[cv.idxmax()].to_numpy()
    heads = VARIANT | {
        f"at step {steps.min():,}": "{first:.2f}",
        f"at step {steps.max():,}": "{last:.2f}",
        "most": "{max:.2f}, at step {step:,}",
    }
    said = "Coefficient of variation of the load on one fixed batch, mean over layers."
    said = ends_of(found, "last", "At the last step the load varies by", "{:.2f}", "variant") + said
    return said + missing(summary, "training") + markdown(found, heads)


@commentary
def balance_and_quality(summary: pd.DataFrame) -> str:
    """What balance costs in perplexity."""
    trained = measured(summary, "training", "perplexity").set_index("series")[["perplexity"]]
    cv = measured(summary, "balance", "balance_cv").groupby("series")["balance_cv"].mean()
    found = trained.astype(float).join(cv, how="inner")
    if found.empty:
        return nothing(summary, "training")
    over = 100 * (found["perplexity"] / found["perplexity"].get(BASE, np.nan) - 1)
    heads = VARIANT | {
        "held-out perplexity": "{perplexity:.2f}",
        f"over {BASE}": "{over_pct:+.2f} %",
        "coefficient of variation": "{balance_cv:.2f}",
    }
    found = found.assign(over_pct=over, variant=found.index)
    others = found.drop(index=BASE, errors="ignore")
    said = ends_of(others, "over_pct", f"Over {BASE} perplexity changes by", "{:+.2f} %", "variant")
    said += "Each was trained once, so what another seed would change is not known."
    return said + markdown(found, heads)


@commentary
def ep_balance(summary: pd.DataFrame) -> str:
    """What each variant would cost on ranks."""
    columns = {degree: f"balance_ep{degree}_max_over_mean" for degree in EP_DEGREES}
    rows = choices.with_variant(measured(summary, "balance", columns[2]))
    if rows.empty:
        return nothing(summary, "balance")
    means = rows.astype(dict.fromkeys(columns.values(), float)).groupby("variant", sort=False)
    means = means[list(columns.values())].mean().reset_index()
    heads = VARIANT | {f"{degree} ranks": f"{{{name}:.2f}}" for degree, name in columns.items()}
    last = f"{EP_DEGREES[-1]} ranks the fullest has"
    return (
        ends_of(means, columns[EP_DEGREES[-1]], f"On {last}, over the mean,", TIMES, "variant")
        + "Load of the fullest rank over the mean, mean over texts and layers. A layer that is "
        "bound by computing waits that many times as long as on even ranks; the mean over layers "
        f"is what a whole model waits.{missing(summary, 'balance')}{markdown(means, heads)}"
    )


@commentary
def importance(summary: pd.DataFrame) -> str:
    """Whether the most chosen experts are those whose loss hurts."""
    rows, found = measured(summary, "importance", *ABLATED), []
    if rows.empty:
        return nothing(summary, "importance")
    for _, row in rows.iterrows():
        rho, rise = choices.importance(row), choices.increase_pct(row)
        layer = int(np.nanargmax(rise)) // rise.shape[1] + 1
        numbers = (rho.value, rho.lo, rho.hi, np.nanmedian(rise), np.nanmax(rise), layer)
        found.append((row["series"], *numbers, int((rise < 0).sum()), rise.size))
    names = ["variant", "rho", "lo", "hi", "median", "worst", "layer", "lower", "all"]
    heads = VARIANT | {
        "ρ [95 % interval]": "{rho:+.2f} [{lo:+.2f}, {hi:+.2f}]",
        "perplexity without an expert, median": "{median:+.2f} %",
        "worst": "{worst:+.1f} % (layer {layer})",
        "experts without which it is lower": "{lower} of {all}",
    }
    layers, experts = rise.shape
    found = pd.DataFrame(found, columns=names)
    said = ends_of(
        found, "rho", "Frequency and worth of an expert correlate by ρ", "{:+.2f}", "variant"
    )
    said += f"Rank correlation of frequency and cost, over {layers} layers of {experts} experts."
    return said + missing(summary, "importance") + markdown(found, heads)


@commentary
def real_batches(summary: pd.DataFrame) -> str:
    """How far the experts of real batches lie from either end."""
    found = expert_maps.places_of_steps(
        measured(summary, expert_maps.REAL_BATCHES, expert_maps.STEP_EXPERTS)
    )
    if found.empty:
        return nothing(summary, expert_maps.REAL_BATCHES)
    rows = found.groupby(["model", "batch", "series"], sort=False)["place"].mean()
    own = rows.drop(index=ALIKE, level="series", errors="ignore").reset_index()
    own["name"] = own["series"] + " of " + own["model"] + ", batch " + own["batch"].astype(str)
    wide = rows.unstack("series", sort=False)
    heads = {"model": "{model}", "batch": "{batch}"} | {n: f"{{{n}:.2f}}" for n in wide}
    return (
        f"{ends_of(own, 'place', 'Real batches lie at', '{:.2f}', 'name')}At 0 all sequences of a "
        "step take the same experts, at 1 experts are drawn evenly; mean over steps and prompts. "
        "Small models that continue greedily repeat themselves, which brings sequences together."
        f"{missing(summary, expert_maps.REAL_BATCHES)}{markdown(wide.reset_index(), heads)}"
    )
