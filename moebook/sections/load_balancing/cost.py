"""What imbalance costs, from first principles: experts hit under skewed routing, layer time on one
device, ranks of EP.

Letters: E experts, K experts per token, T tokens of a call, D expert-parallel ranks. Routing with
skew s chooses K experts without replacement, one after another, with probability ~ rank^-s: q_e is
the chance that a token chooses expert e, sum q_e = K. A call over T independent tokens hits

    sum_e 1 - (1 - q_e)^T    distinct experts (E (1 - (1 - K/E)^T) for s = 0)

A layer on one device reads the experts hit and computes T K products, whatever the skew: skew can
only save bytes. With experts spread over D ranks the layer waits for the rank with most tokens
(computing) or most experts hit (reading)."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from moebook.predict.layers import work

DRAWS = 20_000
PLACEMENTS = 200  # random orders of experts over ranks
CHUNK_DRAWS = 2_000


def zipf(num_experts: int, skew: float) -> np.ndarray:
    """(E,) probabilities ~ rank^-skew, most likely first; uniform for 0."""
    weight = np.arange(1, num_experts + 1, dtype=float) ** -skew
    return weight / weight.sum()


def inclusion(probabilities: np.ndarray, top_k: int, seed: int = 0) -> np.ndarray:
    """(E,) chance q_e that an expert is among K drawn without replacement, one after another.

    Exact for K = 1, K = E and uniform probabilities; otherwise 20,000 seeded draws. Arrival times ~
    Exp(p_e) rank the experts as such draws do, so expert e is in where it arrives before the K-th
    of the others; q_e is the mean of that chance over draws of the others, which stays exact to a
    few per mille for rare experts. ValueError where K exceeds E."""
    p = np.asarray(probabilities, float)
    if not 1 <= top_k <= len(p):
        raise ValueError(
            f"top_k {top_k} of {len(p)} experts: it must lie between 1 and the number of experts"
        )
    if top_k == len(p):
        return np.ones(len(p))
    if np.ptp(p) == 0:
        return np.full(len(p), top_k / len(p))
    return p / p.sum() if top_k == 1 else np.array(_drawn(tuple(p / p.sum()), top_k, seed))


@lru_cache(maxsize=64)
def _drawn(probabilities: tuple[float, ...], top_k: int, seed: int) -> tuple[float, ...]:
    p, rng = np.array(probabilities), np.random.default_rng(seed)
    total = np.zeros(len(p))
    for _ in range(DRAWS // CHUNK_DRAWS):
        arrival = rng.exponential(size=(CHUNK_DRAWS, len(p))) / p
        ordered = np.partition(arrival, (top_k - 1, top_k), axis=1)
        kth, next_one = ordered[:, top_k - 1 : top_k], ordered[:, top_k : top_k + 1]
        others = np.where(arrival > kth, kth, next_one)  # the K-th arrival among the other experts
        total += -np.expm1(-p * others).sum(0)
    q = total / total.sum() * top_k
    return tuple(np.minimum(q, 1.0))


def expected_distinct(q: np.ndarray, tokens: float) -> float:
    """Distinct experts that `tokens` independent tokens hit."""
    return float((1 - (1 - np.asarray(q)) ** tokens).sum())


def skewed(num_experts: int, top_k: int, skew: float) -> np.ndarray:
    """(E,) chance that a token chooses an expert under `zipf` routing, most likely first."""
    return inclusion(zipf(num_experts, skew), top_k)


def ep_rank_cost(q: np.ndarray, degree: int, tokens: float | None = None) -> float:
    """The fullest of `degree` ranks of neighbouring experts over the mean rank: by choices (a layer
    that computes), or, with `tokens`, by distinct experts hit (a layer that reads). ValueError
    where the degree does not divide E."""
    return float(_ranks(np.asarray(q, float)[None], degree, tokens, over_mean=True)[0])


def ep_slowdown(
    num_experts: int,
    top_k: int,
    skew: float,
    degree: int,
    tokens: float | None = None,
    seed: int = 0,
) -> float:
    """Time of the fullest rank under skew over the same under uniform routing, mean over random
    placements of experts: by choices, or, with `tokens`, by distinct experts. Under 1: skew saves
    more reading than it unbalances."""
    rng = np.random.default_rng(seed)
    orders = rng.permuted(np.tile(np.arange(num_experts), (PLACEMENTS, 1)), axis=1)
    fullest = [
        _ranks(skewed(num_experts, top_k, s)[orders], degree, tokens).mean() for s in (skew, 0.0)
    ]
    return float(fullest[0] / fullest[1])


def _ranks(q: np.ndarray, degree: int, tokens: float | None, over_mean: bool = False) -> np.ndarray:
    if q.shape[-1] % degree:
        raise ValueError(f"{degree} ranks do not divide {q.shape[-1]} experts evenly")
    load = q if tokens is None else 1 - (1 - q) ** tokens
    ranks = load.reshape(*load.shape[:-1], degree, -1).sum(-1)
    return ranks.max(-1) / (ranks.mean(-1) if over_mean else 1.0)


@dataclass(frozen=True)
class Rates:
    """Bytes/s and FLOP/s that layer rows were held against."""

    bytes_per_s: float
    flops_per_s: float


def rates_of(rows: pd.DataFrame) -> Rates | None:
    """The ceilings behind `floor_layer_s` = max(bytes / rate, FLOPs / rate) of layer rows; None
    where there is no floor. A rate that binds in no row comes out as the least that these rows
    allow."""
    if "floor_layer_s" not in rows or rows["floor_layer_s"].isna().all():
        return None
    own = rows[rows["floor_layer_s"].notna()]
    return Rates(
        float((own["layer_bytes"] / own["floor_layer_s"]).max()),
        float((own["layer_flops"] / own["floor_layer_s"]).max()),
    )


def predicted_layer_ratio(row: Mapping, skew: float, rates: Rates | None = None) -> float:
    """Time of a layer row's call under `skew` over the same under uniform routing: max(bytes /
    rate, FLOPs / rate), bytes by the distinct experts expected; without rates the ratio of the
    bytes."""

    def seconds(s: float) -> float:
        hit = expected_distinct(skewed(int(row["num_experts"]), int(row["top_k"]), s), row["batch"])
        flops, moved = work({**row, "experts_hit": hit})
        return moved if rates is None else max(moved / rates.bytes_per_s, flops / rates.flops_per_s)

    return seconds(skew) / seconds(0.0)
