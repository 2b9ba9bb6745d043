"""Section 7: what the source claims, and the effects that decide each: how evenly experts are
chosen, and whether frequency says importance.

Series are training variants (`no-balance`, `aux-0.01`, ..., `loss-free`). The cells of a claim hold
the column that its `metric` names (balance_cv, perplexity), each value with its interval. Each
variant was trained once: intervals speak of texts, tokens and experts, not of other trainings, and
the texts of these effects say so. Effects raise Untested where the data cannot decide."""

from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import numpy as np

from moebook.results.cells import Cells, Untested
from moebook.results.claims import Claim, Part, at_least, at_most, within
from moebook.results.comparison import (
    Comparison,
    Effect,
    Item,
    times,
)
from moebook.results.conditions import plain
from moebook.sections.load_balancing.choices import BASE, importance

AUX = "aux-"
PLACE = ["text", "batch", "input_tokens"]
ONCE = "each variant trained once"


def _among(have: Iterable[str], wanted: str | list[str]) -> list[str]:
    """Those of the names, in their order, that are wanted, or start with a wanted name that ends in
    `-`."""
    wanted = np.atleast_1d(wanted).tolist()
    starts = tuple(name for name in wanted if name.endswith("-"))
    return [s for s in dict.fromkeys(have) if s in wanted or s.startswith(starts)]


def _series(cells: Cells, wanted: str | list[str]) -> list[str]:
    have = cells.ok["series"].dropna().unique()
    found = _among(have, wanted)
    if not found:
        names = plain(np.atleast_1d(wanted))
        raise Untested(f"no measured points of {names}; series measured: {plain(have)}")
    return found


def _pairs(cells: Cells, first: str, second: str) -> np.ndarray:
    """(P, 2) row numbers of the cells of two series that were read on the same text."""
    at = cells.ok[["series", *PLACE]].reset_index()
    both = at[at["series"] == first].merge(at[at["series"] == second], on=PLACE)
    return both[["index_x", "index_y"]].to_numpy()


def imbalance_ratio(cells: Cells, over: str) -> Effect:
    """How many times as uneven `no-balance` is as each of `over` on the same text."""
    _series(cells, BASE)
    others = _series(cells, over)
    pairs = np.concatenate([_pairs(cells, other, BASE) for other in others])
    if not len(pairs):
        raise Untested(f"no text that both {BASE} and {plain(others)} were read on")
    low, high = pairs.T
    pairs = Comparison(cells, low, high, (), "")
    found = pairs.effect("times", times, over=False)
    names, logs = cells.ok["series"].to_numpy()[low], np.log(found.values)
    by = ", ".join(f"{s}: {np.exp(logs[names == s].mean()):.2f}" for s in others)
    return replace(found, text=f"{BASE} over each of {by}; {ONCE}")


def coefficient_steps(cells: Cells) -> Effect:
    """Change of the metric at each step, from no loss through one coefficient of the auxiliary loss
    to the next on the same text, %."""
    order = sorted(_series(cells, AUX), key=lambda s: float(s.removeprefix(AUX)))
    order = [*_among(cells.ok["series"], BASE), *order]
    steps = [_pairs(cells, a, b) for a, b in zip(order, order[1:], strict=False)]
    steps = np.concatenate([np.empty((0, 2), int), *steps])
    if not len(steps):
        raise Untested(f"no text read at two coefficients; measured: {plain(order)}")
    low, high = steps.T
    found = Comparison(cells, low, high, (), "").effect(over=False)
    names, values = cells.ok["series"].to_numpy(), cells.values.value
    means = ", ".join(f"{s} {values[names == s].mean():.3g}" for s in order)
    return replace(found, text=f"mean over texts: {means}; {ONCE}")


def perplexity_cost(cells: Cells) -> Effect:
    """Held-out perplexity with an auxiliary loss over that of `no-balance`, %: of each variant,
    from the points of training."""
    planned = cells.planned
    rows = planned[(planned["method"] == "training") & (planned["status"] == "ok")]
    rows = rows.assign(perplexity=rows.get("perplexity"))  # null in a table without the column
    known = rows.set_index("series")["perplexity"].dropna().astype(float)
    names = _among(known.index, AUX)
    if BASE not in known or not names:
        raise Untested(f"no perplexity of {BASE} and {AUX}")
    change = 100 * (known[names] / known[BASE] - 1)
    by = ", ".join(f"{name} {percent:+.2f} %" for name, percent in change.items())
    items = tuple(Item(name, float(percent)) for name, percent in change.items())
    used = rows[rows["series"].isin([BASE, *names])]
    return Effect(items, "%", used, (), f"over {BASE}: {by}; {ONCE}")


def importance_rank(cells: Cells, series: str | list[str]) -> Effect:
    """Spearman's rho between how often an expert is chosen and what perplexity rises by without it,
    within each layer: mean over the layers of each variant, interval over experts."""
    rows = cells.ok[cells.ok["series"].isin(_series(cells, series))]
    rows = rows.dropna(subset=["ablation_perplexity", "expert_counts"])
    if rows.empty:
        names = plain(np.atleast_1d(series))
        raise Untested(f"no perplexities without single experts of {names}")
    found = {row["series"]: importance(row) for _, row in rows.iterrows()}
    by = ", ".join(
        f"{s} {c.value:+.2f} ({c.per_layer.min():+.2f} to {c.per_layer.max():+.2f} by layer)"
        for s, c in found.items()
    )
    items = tuple(
        Item(s, c.value, rank_error(c.per_layer, int(experts)) * cells.change.deviation)
        for (s, c), experts in zip(found.items(), rows["num_experts"], strict=True)
    )
    return Effect(items, "rho", rows, (), f"{by}; {ONCE}")


def rank_error(per_layer: np.ndarray, experts: int) -> float:
    """Standard error of the mean of Spearman's rhos over `experts` each: Fisher's z has variance
    1.06 / (E - 3) (Fieller et al. 1957)."""
    each = (1 - np.asarray(per_layer) ** 2) * np.sqrt(1.06 / (experts - 3))
    return float(np.sqrt((each**2).sum()) / len(each))


SOURCE = {"model": ["DeepSeek-VL2", "MolmoE-1B"]}
UNTESTED = (
    "needs that model's trained weights and the MME images, which this study did not have; to test "
    "it: with the checkpoint and images at hand, notebook 07 says how to count its expert choices"
)

NO_MEASURE = within(-0.5, 0.5, contradicted_below=-0.7, contradicted_above=0.7, rounding=0.05)

CLAIMS = (
    Claim(
        id="balance-vl2",
        statement=(
            "DeepSeek-VL2 loads its experts nearly uniformly, with a peak near 290 thousand "
            "activations on MME."
        ),
        decided_by="max over mean activations per layer of DeepSeek-VL2 on MME",
        source_range={"peak_activations": 290000},
        untested=UNTESTED,
    ),
    Claim(
        id="balance-molmoe",
        statement=(
            "MolmoE-1B loads its experts unevenly, up to about a million activations for some."
        ),
        decided_by="max over mean activations per layer of MolmoE-1B on MME",
        source_range={"peak_activations": 1000000},
        untested=UNTESTED,
    ),
    Claim(
        id="balance-aux-loss",
        statement="The auxiliary loss in training is why a model is balanced.",
        decided_by=(
            "coefficient of variation of expert counts of small MoEs trained alike but for the "
            "balance loss, without it over with it on the same held-out text, and its fall with "
            "the loss's coefficient"
        ),
        source_range={},
        sweep="balance|training",
        source=SOURCE,
        metric="balance_cv",
        parts=(
            Part(
                "uneven without the loss",
                partial(imbalance_ratio, over="aux-"),
                at_least(1.5, contradicted_below=1.1, rounding=0.05),
                why=(
                    "1.5 times as uneven is plain to see in a heat map; under 1.1 the loss does "
                    "next to nothing"
                ),
            ),
            Part(
                "more loss, more even",
                coefficient_steps,
                at_most(0),
                share=0.8,
                contradicted_over=0.5,
                why="each coefficient against the next weaker one, the weakest against none",
            ),
            Part(
                "loss-free balancing",
                partial(imbalance_ratio, over="loss-free"),
                at_least(1.5, contradicted_below=1.1, rounding=0.05),
                decides=False,
                why="a selection bias balances without an auxiliary loss",
            ),
            Part(
                "what it costs in perplexity",
                perplexity_cost,
                at_most(2),
                decides=False,
                why="the loss pulls against the language loss",
            ),
        ),
    ),
    Claim(
        id="frequency-not-importance",
        statement=(
            "In balanced models activation frequency alone is no measure of an expert's importance."
        ),
        decided_by=(
            "Spearman's rank correlation, within layers, of how often an expert is chosen with "
            "what perplexity rises by without it, in variants trained to be balanced"
        ),
        source_range={},
        sweep="importance",
        source=SOURCE,
        metric="perplexity",
        parts=(
            Part(
                "frequency against importance",
                partial(importance_rank, series=["aux-", "loss-free"]),
                NO_MEASURE,
                why=(
                    "at 0.5 frequency explains a quarter of the variance of ranks, so it is no "
                    "measure alone; at 0.7 half of it"
                ),
            ),
            Part(
                "in the unbalanced variant",
                partial(importance_rank, series="no-balance"),
                NO_MEASURE,
                decides=False,
                why="where some experts are hardly chosen, frequency must tell at least that",
            ),
        ),
    ),
)
