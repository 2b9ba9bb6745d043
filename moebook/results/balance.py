"""How evenly the experts of a layer are chosen, from counts of choices: statistics with intervals,
and pairs of experts.

Letters: N sequences, L MoE layers, E experts, K experts per token, T tokens, D expert-parallel
ranks; n_e choices of an expert, p_e = n_e / sum n its share. Of one layer, all without unit:

    max_over_mean      E max p_e                           1 .. E        1 is even
    cv                 std(n_e) / mean(n_e)                0 .. sqrt(E-1)
    entropy            -sum p_e log p_e / log E            0 .. 1        1 is even
    gini               sum_ij |n_i - n_j| / (2 E sum n)    0 .. 1-1/E
    top_share          share of choices that the most chosen tenth of the experts takes (at least
                       one expert)
    ep<D>_max_over_mean  the fullest of D ranks of E/D neighbouring experts over the mean; null
                         where D does not divide E

`overall` is the mean over layers. Counts of few tokens look more uneven than the router is:
`sampling_floor` says what a perfectly even router would show. Tokens of one text are alike, so
intervals draw whole sequences again. Each draw adds the noise of sampling once more, and noise adds
in squares; therefore the interval is the reflected (basic) bootstrap of the squared distance x from
the even value, 2 x - quantiles (of the distance itself for entropy, which is a square already),
which takes that bias off, cut at even and stretched to hold the value."""

import json
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import entr, ndtri

PERCENT = (2.5, 97.5)  # of the draws: the ends of a 95 % interval
EP_DEGREES = (2, 4, 8)
PER_LAYER = ("max_over_mean", "cv", "entropy", "gini")  # what balance_layers tells of each layer


def statistics(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Statistics of counts (..., E), each (...); nan where a layer chose nothing, or D does not
    divide E."""
    counts = np.asarray(counts, float)
    experts = counts.shape[-1]
    total = counts.sum(-1)
    share = counts / np.where(total == 0, np.nan, total)[..., None]
    ordered = np.sort(share, axis=-1)
    tenth = max(1, experts // 10)
    rank = np.arange(1, experts + 1)
    entropy = entr(share).sum(-1)
    return {
        "max_over_mean": experts * ordered[..., -1],
        "cv": experts * share.std(-1),
        "entropy": entropy / np.log(experts) if experts > 1 else 1.0 + 0 * entropy,
        "gini": (ordered * (2 * rank - experts - 1)).sum(-1) / experts,
        "top_share": ordered[..., -tenth:].sum(-1),
        **{f"ep{degree}_max_over_mean": rank_imbalance(share, degree) for degree in EP_DEGREES},
    }


def rank_imbalance(load: np.ndarray, degree: int) -> np.ndarray:
    """Load of the fullest of `degree` ranks over their mean, from loads (..., E); nan where it does
    not divide E."""
    load = np.asarray(load, float)
    if load.shape[-1] % degree:
        return np.full(load.shape[:-1], np.nan)
    ranks = load.reshape(*load.shape[:-1], degree, -1).sum(-1)
    return ranks.max(-1) / ranks.mean(-1)


def describe(counts: np.ndarray, resamples: int = 1000, seed: int = 0) -> dict:
    """Columns of a results row from counts (N, L, E) of each sequence: `balance_<name>` of all
    sequences together, _lo and _hi their 95 % interval (null for one sequence), `expert_counts` and
    `balance_layers` as JSON text."""
    counts = np.asarray(counts)
    if counts.ndim != 3 or not counts.size:
        raise ValueError(f"counts of shape {counts.shape}: sequences x layers x experts are needed")
    total = counts.sum(0)
    value = statistics(total)
    draws = _resampled(counts, resamples, seed) if len(counts) > 1 else {}
    out = {"expert_counts": json.dumps(total.astype(int).tolist())}
    layers = {}
    for name, per_layer in value.items():
        middle = overall(per_layer)
        drawn = draws.get(name)
        even = even_value(name, counts.shape[-1])
        low, high = (None, None) if drawn is None else _interval(name, middle, overall(drawn), even)
        out |= {
            f"balance_{name}": _null(middle),
            f"balance_{name}_lo": _null(low),
            f"balance_{name}_hi": _null(high),
        }
        if name in PER_LAYER:
            ends = (
                (np.nan * per_layer,) * 2
                if drawn is None
                else _interval(name, per_layer, drawn, even)
            )
            layers |= {
                f"{name}{end}": [_null(x) for x in v]
                for end, v in zip(("", "_lo", "_hi"), (per_layer, *ends), strict=True)
            }
    return {**out, "balance_layers": json.dumps(layers)}


def overall(per_layer: np.ndarray) -> np.ndarray:
    """Mean over layers, those without a number left out."""
    known = np.isfinite(per_layer)
    count = known.sum(-1)
    return np.where(count > 0, np.where(known, per_layer, 0).sum(-1) / np.maximum(count, 1), np.nan)


def _resampled(counts: np.ndarray, resamples: int, seed: int) -> dict[str, np.ndarray]:
    """Statistics (R, L) of totals over sequences drawn again with replacement, a layer at a time to
    keep memory small."""
    sequences = len(counts)
    drawn = np.random.default_rng(seed).multinomial(
        sequences, np.full(sequences, 1 / sequences), size=resamples
    )
    weights = drawn.astype(float)
    layers = [
        statistics(weights @ counts[:, layer].astype(float)) for layer in range(counts.shape[1])
    ]
    return {name: np.stack([found[name] for found in layers], axis=1) for name in layers[0]}


def _interval(name: str, middle, draws: np.ndarray, even: float) -> tuple:
    """(lower, upper) from draws over axis 0: reflected in the squared distance from the even value,
    holding `middle`."""
    power = 1 if name == "entropy" else 2
    off, drawn = np.abs(np.asarray(middle) - even) ** power, np.abs(draws - even) ** power
    low, high = np.percentile(drawn, PERCENT, axis=0)
    near, far = (
        np.maximum(x, 0) ** (1 / power)
        for x in (np.minimum(2 * off - high, off), np.maximum(2 * off - low, off))
    )
    return (
        (even - np.minimum(far, 1), even - near) if name == "entropy" else (even + near, even + far)
    )


def even_value(name: str, num_experts: int) -> float:
    """What a statistic is for equal counts."""
    tenth = max(1, num_experts // 10) / num_experts
    return {"cv": 0.0, "gini": 0.0, "entropy": 1.0, "top_share": tenth}.get(name, 1.0)


def _null(value) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def sampling_floor(tokens: int, top_k: int, num_experts: int) -> dict[str, float]:
    """{"cv", "max_over_mean"} that a perfectly even router shows by chance over `tokens`
    independent tokens: expert counts are binomial, so cv^2 = (1 - K/E) / (T K/E); the largest of E
    such counts in the normal approximation (Blom)."""
    share = top_k / num_experts
    cv = float(np.sqrt((1 - share) / (tokens * share)))
    highest = ndtri((num_experts - 0.375) / (num_experts + 0.25)) if num_experts > 1 else 0.0
    return {"cv": cv, "max_over_mean": float(1 + cv * highest)}


@dataclass(frozen=True)
class Correlation:
    """Spearman's rho, mean over layers, with its 95 % interval over experts; `draws` are the
    resamples behind it."""

    value: float
    lo: float
    hi: float
    per_layer: np.ndarray
    draws: np.ndarray


def rank_correlation(
    counts: Iterable, delta: Iterable, resamples: int = 1000, seed: int = 0
) -> Correlation:
    """Rank correlation of how often experts are chosen with what removing them costs, both (L, E),
    within each layer."""
    counts, delta = np.asarray(counts, float), np.asarray(delta, float)
    if counts.shape != delta.shape or counts.ndim != 2:
        raise ValueError(
            f"counts {counts.shape} and increases {delta.shape}: both layers x experts are needed"
        )
    rng = np.random.default_rng(seed)
    observed, drawn = [], []
    for x, y in zip(counts, delta, strict=True):
        known = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
        index = known[rng.integers(len(known), size=(resamples, len(known)))]
        index = np.vstack([known, index])
        rho = _spearman(x[index], y[index])
        observed.append(rho[0])
        drawn.append(rho[1:])
    draws = overall(np.array(drawn).T)
    low, high = np.nanpercentile(draws, PERCENT)
    return Correlation(
        float(overall(np.array(observed))), float(low), float(high), np.array(observed), draws
    )


def _spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Row by row; nan where a row of one of them is constant."""
    x, y = (pd.DataFrame(v).rank(axis=1).to_numpy() for v in (x, y))
    x, y = (v - v.mean(1, keepdims=True) for v in (x, y))
    scale = np.sqrt((x * x).sum(1) * (y * y).sum(1))
    return np.divide((x * y).sum(1), scale, out=np.full(len(x), np.nan), where=scale > 0)
