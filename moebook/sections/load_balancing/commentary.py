"""Section 7 in words: training, balance and quality, single experts, and what skew costs."""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import pandas as pd

from moebook.results.balance import EP_DEGREES, overall, sampling_floor, statistics
from moebook.results.commentary import commentary, ends_of, markdown, measured, missing, nothing
from moebook.results.gains import METRIC
from moebook.results.page import Number
from moebook.sections.load_balancing import choices, expert_maps, skew
from moebook.sections.load_balancing.choices import BASE
from moebook.sections.load_balancing.plan import ALIKE

VARIANT = {"variant": "{variant}"}
ABLATED = ("perplexity", "ablation_perplexity", "expert_counts")
TIMES = "{:.2f}×"
LIMIT = 0.02  # change of time or throughput under which there is said to be none


@commentary
def headline(summary: pd.DataFrame) -> str:
    """The finding in a few sentences."""
    numbers = ["balance_cv", "balance_max_over_mean"]
    rows = _known(summary, "balance", *numbers)
    means = rows.groupby("series", sort=False)[numbers].mean()
    others = means.drop(index=[BASE, choices.TRAINED], errors="ignore")
    if BASE not in means.index or others.empty:
        said = "The balance of trained models is not measured." + missing(summary, "balance")
        return nothing(summary, "balance", said)
    most, least = means.loc[BASE], others.loc[others["balance_cv"].idxmin()]
    found = (
        f"**Finding.** Trained without balancing, the most chosen expert takes "
        f"{most['balance_max_over_mean']:.1f} times the uniform share; the load varies by "
        f"{most['balance_cv']:.2f} (coefficient of variation, mean over texts and layers). With "
        f"{least.name} these are {least['balance_max_over_mean']:.1f} times and "
        f"{least['balance_cv']:.2f}."
    )
    ablated = _known(summary, "importance", *ABLATED)
    rho = [f"{r['series']} {choices.importance(r).value:+.2f}" for _, r in ablated.iterrows()]
    if rho:
        found += (
            " How often an expert is chosen correlates with what removing it costs by ρ = "
            f"{', '.join(rho)}."
        )
    return found


def numbers(summary: pd.DataFrame) -> tuple[Number, ...]:
    """The unbalanced variant and the most even one, mean over texts and layers."""
    columns = ["balance_max_over_mean", "balance_cv"]
    means = _known(summary, "balance", *columns).groupby("series", sort=False)[columns].mean()
    others = means.drop(index=[BASE, choices.TRAINED], errors="ignore")
    if BASE not in means.index or others.empty:
        return ()
    both = means.loc[BASE], others.loc[others["balance_cv"].idxmin()]
    return tuple(
        number
        for one in both
        for number in (
            Number(f"{one[columns[0]]:.1f}×", f"busiest expert over the mean, {one.name}"),
            Number(f"{one[columns[1]]:.2f}", f"coefficient of variation, {one.name}"),
        )
    )


@commentary
def training(summary: pd.DataFrame) -> str:
    """What was trained, how long, and what it learned."""
    rows = _known(summary, "training", "perplexity")
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
    rows = choices.with_variant(_known(summary, "balance", "expert_counts"))
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
    rows = choices.with_variant(_known(summary, "balance", "expert_counts", "balance_cv"))
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
    rows = _known(summary, "capture_check", "expert_counts")
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
    rows = _known(summary, "training", "load_counts", "load_steps")
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
    trained = _known(summary, "training", "perplexity").set_index("series")[["perplexity"]]
    cv = _known(summary, "balance", "balance_cv").groupby("series")["balance_cv"].mean()
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
    rows = choices.with_variant(_known(summary, "balance", columns[2]))
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
    rows, found = _known(summary, "importance", *ABLATED), []
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
        _known(summary, expert_maps.REAL_BATCHES, expert_maps.STEP_EXPERTS)
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


@commentary
def skew_layer(summary: pd.DataFrame) -> str:
    """One device: skew lowers the experts read, and time where reading binds."""
    rows = _ratios(skew.layer_ratios, summary, "ratio")
    if rows.empty:
        return nothing(summary, "skew_layer")
    rows = rows.assign(change_pct=100 * (rows["ratio"] - 1))
    models = rows[rows["skew"] == rows.groupby("model")["skew"].transform("max")]
    models = models.groupby("model", sort=False)
    last = rows.loc[models["tokens"].idxmax(), ["model", "tokens", "change_pct"]]
    uniform = rows.loc[rows["skew"] == 0, ["model", "tokens", "experts_hit"]]
    found = rows.loc[models["ratio"].idxmin()].merge(last, on="model", suffixes=("", "_last"))
    found = found.merge(uniform, "left", on=["model", "tokens"], suffixes=("", "_uniform"))
    heads = {
        "model": "{model}",
        "routing": "zipf {skew:g}",
        "fastest call": "{tokens:,} tokens: {change_pct:+.0f} % time",
        "its experts hit": "{experts_hit:.0f} in place of {experts_hit_uniform:.0f}",
        "largest call": "{tokens_last:,} tokens: {change_pct_last:+.0f} % time",
    }
    skewed = rows[rows["skew"] > 0]
    said = (
        f"{(skewed['ratio'] > 1 + LIMIT).sum()} of {len(skewed)} skewed layers are slower than "
        f"uniform ones by over {100 * LIMIT:.0f} %. On one device skew lowers the experts read and "
        "leaves the products as they are; only how a kernel shares its work can make it slower."
    )
    if len(skewed):
        off_pct = 100 * (skewed["predicted_ratio"] / skewed["ratio"] - 1).abs()
        said += (
            f" The prediction from the experts read is off by {off_pct.median():.0f} % in the "
            f"median, {off_pct.max():.0f} % at most."
        )
    return said + missing(summary, "skew_layer") + markdown(found, heads)


@commentary
def skew_engine(summary: pd.DataFrame) -> str:
    """Whole engines: what the most skewed routing changes, by batch."""
    rows = _ratios(skew.engine_ratios, summary, "over_uniform")
    skewed = rows[rows["skew"] > 0]
    if skewed.empty:
        return nothing(summary, "skew_engine")
    most = skewed.loc[skewed.groupby("batch")["skew"].idxmax()]
    most = most.assign(change_pct=100 * (most["over_uniform"] - 1))
    heads = {
        "batch": "{batch}",
        "routing": "zipf {skew:g}",
        "tokens/s": f"{{{METRIC}:,.0f}}",
        "uniform, tokens/s": "{uniform_tok_s:,.0f}",
        "change": "{change_pct:+.0f} %",
    }
    ratio = skewed["over_uniform"]
    return (
        f"{rows['model'].iloc[0]}, against uniform routing. Of {len(skewed)} skewed points "
        f"{(ratio > 1 + LIMIT).sum()} are faster by over {100 * LIMIT:.0f} %, "
        f"{(ratio < 1 - LIMIT).sum()} slower. On one device skew reduces the distinct experts that "
        "a step reads; a single sequence reads its own K experts whatever the skew."
        f"{missing(summary, 'skew_engine')}{markdown(most, heads)}"
    )


@commentary
def skew_ep(summary: pd.DataFrame) -> str:
    """What ranks are predicted to pay, and what one device does."""
    if _ratios(skew.layer_ratios, summary, "ratio").empty:
        return nothing(summary, "skew_layer")
    rows = skew.ep_times(summary, "skew_ep")
    most = rows[rows["skew"] == rows["skew"].max()]
    found = most.set_index(["panel", "ranks"])[skew.TIMES].unstack(sort=False).add_prefix("ranks_")
    names = {1: "one device, measured"} | {d: f"{d} ranks, PREDICTED" for d in EP_DEGREES}
    known = {d: name for d, name in names.items() if f"ranks_{d}" in found}
    heads = {"call": "{panel}"} | {name: f"{{ranks_{d}:.2f}}" for d, name in known.items()}
    return (
        f"Time of a layer of {rows['model'].iloc[0]} under zipf {rows['skew'].max():g}, × uniform. "
        "PREDICTED: experts placed at random, the fullest rank. Expert parallelism is where "
        "imbalance costs: all ranks wait for the fullest. Communication, and moving or copying hot "
        f"experts, are not in this.{markdown(found.reset_index(), heads)}"
    )


def _known(summary: pd.DataFrame, sweep: str, *columns: str) -> pd.DataFrame:
    """Measured rows of a sweep that have every one of the columns; none where the table lacks
    one."""
    rows = measured(summary, sweep)
    return rows.reindex(columns=rows.columns.union(columns, sort=False)).dropna(subset=columns)


def _ratios(of: Callable, summary: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows that have the ratio; none where the sweep, or its uniform routing, is not measured."""
    try:
        rows = of(summary, "commentary")
    except ValueError:
        return pd.DataFrame(columns=["skew", column])
    return rows[(rows["status"] == "ok") & rows[column].notna()]
