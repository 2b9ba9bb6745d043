"""What imbalance costs: predicted from first principles, and measured over uniform routing.

Letters: E experts, K experts per token, T tokens of a call, D expert-parallel ranks. Routing with
skew s chooses K experts without replacement, one after another, with probability ~ rank^-s: q_e is
the chance that a token chooses expert e, sum q_e = K. A call over T independent tokens hits

    sum_e 1 - (1 - q_e)^T    distinct experts (E (1 - (1 - K/E)^T) for s = 0)

A layer on one device reads the experts hit and computes T K products, whatever the skew: skew can
only save bytes. With experts spread over D ranks the layer waits for the rank with most tokens
(computing) or most experts hit (reading)."""

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd

from moebook.plot.figure import one_per_place, reading, rows_of, values_of, with_numbers
from moebook.predict.layers import work
from moebook.results.balance import EP_DEGREES
from moebook.results.gains import METRIC, ratios

UNIFORM = "zipf 0"  # the series that all others are over
DRAWS = 20_000
CHUNK_DRAWS = 2_000
PLACEMENTS = 200  # random orders of experts over ranks
LAYER_TIME = "layer_time_s"
# Tokens of the call that stands for reading: the most measured that are no more than this.
READING_UP_TO = 64
REGIMES = ("reading", "computing")
TIMES = "time_over_uniform"
ENDS = ("", "_lo", "_hi")


def zipf(num_experts: int, skew: float) -> np.ndarray:
    """(E,) probabilities ~ rank^-skew, most likely first; uniform for 0."""
    weight = np.arange(1, num_experts + 1, dtype=float) ** -skew
    return weight / weight.sum()


def inclusion(probabilities: np.ndarray, top_k: int) -> np.ndarray:
    """(E,) chance q_e that an expert is among K drawn without replacement, one after another.

    Exact for K = 1, K = E and uniform probabilities; otherwise 20,000 seeded draws. Arrival times ~
    Exp(p_e) rank the experts as such draws do, so expert e is in where it arrives before the K-th
    of the others; q_e is the mean of that chance over draws of the others, which stays exact to a
    few per mille for rare experts. ValueError where K exceeds E."""
    p = np.asarray(probabilities, float)
    p = p / p.sum()
    if not 1 <= top_k <= len(p):
        raise ValueError(
            f"top_k {top_k} of {len(p)} experts: it must lie between 1 and the number of experts"
        )
    if top_k == 1:
        return p
    if top_k == len(p) or np.ptp(p) == 0:
        return np.full(len(p), top_k / len(p))
    rng, total = np.random.default_rng(0), np.zeros(len(p))
    for _ in range(DRAWS // CHUNK_DRAWS):
        arrival = rng.exponential(size=(CHUNK_DRAWS, len(p))) / p
        ordered = np.partition(arrival, (top_k - 1, top_k), axis=1)
        kth, next_one = ordered[:, top_k - 1 : top_k], ordered[:, top_k : top_k + 1]
        others = np.where(arrival > kth, kth, next_one)  # the K-th arrival among the other experts
        total += -np.expm1(-p * others).sum(0)
    return np.minimum(total / total.sum() * top_k, 1.0)


@lru_cache(maxsize=64)
def skewed(num_experts: int, top_k: int, skew: float) -> np.ndarray:
    """(E,) chance that a token chooses an expert under `zipf` routing, most likely first; not to be
    written to."""
    q = inclusion(zipf(num_experts, skew), top_k)
    q.flags.writeable = False
    return q


def expected_distinct(q: np.ndarray, tokens: float) -> float:
    """Distinct experts that `tokens` independent tokens hit."""
    return float((1 - (1 - np.asarray(q)) ** tokens).sum())


def ep_slowdown(
    num_experts: int, top_k: int, skew: float, degree: int, tokens: float | None = None
) -> float:
    """Time of the fullest rank under skew over the same under uniform routing, mean over random
    placements of experts: by choices, or, with `tokens`, by distinct experts. Under 1: skew saves
    more reading than it unbalances. ValueError where the degree does not divide E."""
    if num_experts % degree:
        raise ValueError(f"{degree} ranks do not divide {num_experts} experts evenly")
    rng = np.random.default_rng(0)
    orders = rng.permuted(np.tile(np.arange(num_experts), (PLACEMENTS, 1)), axis=1)

    def fullest(s: float) -> float:
        q = skewed(num_experts, top_k, s)[orders]
        load = q if tokens is None else 1 - (1 - q) ** tokens
        return load.reshape(PLACEMENTS, degree, -1).sum(-1).max(-1).mean()

    return float(fullest(skew) / fullest(0.0))


class Rates(NamedTuple):
    """Bytes/s and FLOP/s that layer rows are held against."""

    bytes_per_s: float
    flops_per_s: float


BYTES_ALONE = Rates(1.0, np.inf)


def rates_of(rows: pd.DataFrame) -> Rates:
    """The measured peaks behind `floor_layer_s` = max(bytes / rate, FLOPs / rate) of layer rows;
    where there is no such bound bytes alone count. A rate that binds in no row comes out as the
    least that these rows allow."""
    if "floor_layer_s" not in rows or rows["floor_layer_s"].isna().all():
        return BYTES_ALONE
    rates = rows[["layer_bytes", "layer_flops"]].div(rows["floor_layer_s"], axis=0)
    return Rates(*rates.max().astype(float))


def predicted_layer_ratio(row: Mapping, skew: float, rates: Rates = BYTES_ALONE) -> float:
    """Time of a layer row's call under `skew` over the same under uniform routing: max(bytes /
    rate, FLOPs / rate), bytes by the distinct experts expected."""

    def seconds(s: float) -> float:
        hit = expected_distinct(skewed(int(row["num_experts"]), int(row["top_k"]), s), row["batch"])
        flops, moved = work({**row, "experts_hit": hit})
        return max(moved / rates.bytes_per_s, flops / rates.flops_per_s)

    return seconds(skew) / seconds(0.0)


def layer_ratios(summary: pd.DataFrame, figure: str) -> pd.DataFrame:
    """Rows of the sweep skew_layer with `tokens`, `ratio` (and _lo, _hi) over uniform routing at
    the same model and tokens, and `predicted_ratio`. ValueError where there are none."""
    columns = ("series", "skew", "model", "batch", "layer_timing", LAYER_TIME)
    rows = rows_of(summary, figure, "skew_layer", columns)
    rates = rates_of(with_numbers(rows, figure, [LAYER_TIME]))
    one_per_place(rows, figure, ("model", "batch", "skew"))
    uniform = rows[rows["series"] == UNIFORM]
    one = uniform[LAYER_TIME] / uniform[LAYER_TIME]  # null where it has no time
    found = pd.concat(
        [
            uniform.assign(**{f"ratio{end}": one for end in ENDS}),
            ratios(rows, "skew_layer", UNIFORM, LAYER_TIME),
        ],
        ignore_index=True,
    )
    with_numbers(found, figure, ["ratio"])
    predicted = [
        predicted_layer_ratio(row, row["skew"], rates) if row["status"] == "ok" else np.nan
        for row in found.to_dict("records")
    ]
    return found.assign(
        tokens=found["batch"], predicted_ratio=predicted, layer_time_us=found[LAYER_TIME] * 1e6
    )


def engine_ratios(summary: pd.DataFrame, figure: str) -> pd.DataFrame:
    """Rows of the sweep skew_engine with `over_uniform` (and _lo, _hi): throughput over the median
    under uniform routing at the same batch. ValueError where there are none."""
    columns = ("series", "skew", "model", "method", "batch", METRIC)
    rows = rows_of(summary, figure, "skew_engine", columns)
    ok = with_numbers(rows, figure, [METRIC])
    one_per_place(rows, figure, ("model", "batch", "skew"))
    uniform = rows["batch"].map(ok[ok["series"] == UNIFORM].set_index("batch")[METRIC])
    ends = [end for end in ENDS if f"{METRIC}{end}" in rows]
    over = {f"over_uniform{end}": rows[f"{METRIC}{end}"] / uniform for end in ends}
    return rows.assign(**over, uniform_tok_s=uniform)


def ep_times(summary: pd.DataFrame, figure: str) -> pd.DataFrame:
    """Time of a layer over that under uniform routing, a row per regime, skew and number of ranks:
    of one device as measured, of more PREDICTED. The first measured model of the sweep skew_layer,
    at a call that reads and at the largest, which computes."""
    rows = layer_ratios(summary, figure)
    measured = rows[rows["ratio"].notna()]
    own = rows[rows["model"] == measured["model"].iloc[0]].sort_values("skew")
    tokens = sorted(own.loc[own["ratio"].notna(), "tokens"].unique())
    small = max([t for t in tokens if t <= READING_UP_TO], default=tokens[0])
    calls = zip(REGIMES, (small, tokens[-1]), strict=True)
    parts = [_regime(own[own["tokens"] == t], name) for name, t in calls]
    return pd.concat(parts, ignore_index=True)


def _regime(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """Rows of one call: of one device as measured with its range, of more ranks by the fullest."""
    first = rows.iloc[0]
    experts, top_k, tokens = (int(first[c]) for c in ("num_experts", "top_k", "tokens"))
    one = rows[rows["ratio"].notna()]
    one = one.rename(columns={f"ratio{end}": f"{TIMES}{end}" for end in ENDS})
    counted = tokens if name == "reading" else None
    many = [
        (skew, degree, ep_slowdown(experts, top_k, skew, degree, counted))
        for degree in EP_DEGREES
        if experts % degree == 0 and experts > degree
        for skew in values_of(rows, "skew")
    ]
    many = pd.DataFrame(many, columns=["skew", "ranks", TIMES]).assign(how="PREDICTED")
    columns = ["skew", "ranks", "how", *(f"{TIMES}{end}" for end in ENDS)]
    found = pd.concat([one.assign(ranks=1, how="measured"), many]).reindex(columns=columns)
    panel = f"{name} ({reading('tokens', tokens)})"
    return found.assign(panel=panel, model=first["model"], tokens=tokens)
