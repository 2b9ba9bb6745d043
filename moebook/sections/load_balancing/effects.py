"""Effects on how evenly experts are chosen, and whether frequency tells importance: they decide the
claims of section 7.

Series are training variants (`no-balance`, `aux-0.01`, ..., `loss-free`). The cells of a claim hold
the column that its `metric` names (balance_cv, perplexity), each value with its interval. Each
variant was trained once: intervals speak of texts, tokens and experts, not of other trainings, and
the texts of these effects say so."""

import json

import numpy as np
import pandas as pd

from moebook.results.balance import rank_correlation
from moebook.results.cells import Cells, Untested
from moebook.results.pairs import Effect, mean_of, plain, summarise

AUX = "aux-"
PLACE = ("text", "batch", "input_tokens")
ONCE = "each variant trained once"


def _series(cells: Cells, wanted: str | list[str]) -> list[str]:
    """Measured series of the wanted names, or of those that start with a name ending in `-`, in the
    table's order."""
    names = [wanted] if isinstance(wanted, str) else wanted
    have = list(dict.fromkeys(cells.ok["series"].dropna()))
    found = [s for s in have if any(s == n or (n.endswith("-") and s.startswith(n)) for n in names)]
    if not found:
        raise Untested(f"no measured points of {plain(names)}; series measured: {plain(have)}")
    return found


def _at(cells: Cells, series: str) -> dict[tuple, int]:
    """Place -> row number of a series' cells."""
    own = cells.ok[cells.ok["series"] == series]
    return dict(zip(map(tuple, own[list(PLACE)].astype(str).to_numpy()), own.index, strict=True))


def imbalance_ratio(cells: Cells, over: str | list[str], series: str = "no-balance") -> Effect:
    """How many times as uneven `series` is as each of `over` on the same text: geometric mean over
    pairs."""
    (mine,) = _series(cells, series)
    others = _series(cells, over)
    base = _at(cells, mine)
    pairs = [
        (base[place], row)
        for other in others
        for place, row in _at(cells, other).items()
        if place in base
    ]
    if not pairs:
        raise Untested(f"no text that both {mine} and {plain(others)} were read on")
    high, low = np.array(pairs).T
    log_ratio = np.log(cells.samples[:, high] / cells.samples[:, low])
    names = cells.ok["series"].to_numpy()[low]
    by = ", ".join(f"{s}: {np.exp(log_ratio[0, names == s].mean()):.2f}" for s in others)
    used = cells.ok.iloc[np.unique(np.concatenate([high, low]))]
    found = mean_of(log_ratio, cells, "times", used, (), f"{mine} over each of {by}; {ONCE}")
    return _exponential(found)


def _exponential(effect: Effect) -> Effect:
    value, lo, hi = np.exp([effect.value, effect.lo, effect.hi])
    return Effect(
        float(value),
        float(lo),
        float(hi),
        effect.unit,
        effect.n,
        effect.used,
        effect.differs,
        effect.text,
        effect.whole,
    )


def coefficient_steps(cells: Cells, base: str = "no-balance") -> Effect:
    """Share of steps, from no loss through one coefficient of the auxiliary loss to the next on the
    same text, at which the metric falls, %."""
    ladder = sorted(_series(cells, AUX), key=lambda s: float(s.removeprefix(AUX)))
    ladder = [*(s for s in (base,) if s in set(cells.ok["series"])), *ladder]
    steps = [
        (first[place], second[place])
        for a, b in zip(ladder, ladder[1:], strict=False)
        for first, second in [(_at(cells, a), _at(cells, b))]
        for place in first
        if place in second
    ]
    if not steps:
        raise Untested(f"no text read at two coefficients; measured: {plain(ladder)}")
    low, high = np.array(steps).T
    falls = 100.0 * (cells.samples[:, high] < cells.samples[:, low])
    means = {s: cells.samples[0, list(_at(cells, s).values())].mean() for s in ladder}
    text = f"mean over texts: {', '.join(f'{s} {m:.3g}' for s, m in means.items())}; {ONCE}"
    return mean_of(falls, cells, "% of steps", cells.ok.iloc[np.unique(steps)], (), text)


def perplexity_cost(
    cells: Cells, over: str = "no-balance", series: str | list[str] = AUX
) -> Effect:
    """Held-out perplexity of `series` over that of `over`, %: mean over the variants, from the
    points of training."""
    rows = cells.planned[
        (cells.planned["method"] == "training") & (cells.planned["status"] == "ok")
    ]
    known = rows[rows["perplexity"].notna()] if "perplexity" in rows else rows.head(0)
    known = known.drop_duplicates("series").set_index("series")["perplexity"].astype(float)
    names = [
        s
        for s in known.index
        for n in ([series] if isinstance(series, str) else series)
        if s == n or (n.endswith("-") and s.startswith(n))
    ]
    if over not in known or not names:
        raise Untested(
            f"no perplexity of {over} and {plain([series] if isinstance(series, str) else series)}"
        )
    change = 100 * (known[names].to_numpy() / known[over] - 1)
    values = np.tile(change, (len(cells.samples), 1))
    text = (
        f"over {over}: {', '.join(f'{n} {c:+.2f} %' for n, c in zip(names, change, strict=True))}; "
        f"{ONCE}"
    )
    return mean_of(values, cells, "%", rows[rows["series"].isin([over, *names])], (), text)


def importance_rank(cells: Cells, series: str | list[str], text: str | None = None) -> Effect:
    """Spearman's rho between how often an expert is chosen and what perplexity rises by without it,
    within each layer: mean over layers and variants, interval over experts. `text` keeps the points
    of one text."""
    rows = cells.ok if text is None else cells.ok[cells.ok["text"] == text]
    rows = rows[rows["series"].isin(_series(cells, series))]
    rows = (
        rows[rows["ablation_perplexity"].notna() & rows["expert_counts"].notna()]
        if "expert_counts" in rows
        else rows[:0]
    )
    if rows.empty:
        raise Untested(
            f"no perplexities without single experts of "
            f"{plain([series] if isinstance(series, str) else series)}"
        )
    found = {
        row.series: importance(row, max(len(cells.samples) - 1, 2), cells.seed)
        for row in rows.itertuples()
    }
    draws = np.mean([c.draws for c in found.values()], axis=0)
    value = np.mean([c.value for c in found.values()])
    layers = sum(len(c.per_layer) for c in found.values())
    told = ", ".join(
        f"{s} {c.value:+.2f} ({c.per_layer.min():+.2f} to {c.per_layer.max():+.2f} by layer)"
        for s, c in found.items()
    )
    return summarise(np.array([value, *draws]), "rho", layers, rows, (), f"{told}; {ONCE}")


def importance(row, resamples: int = 1000, seed: int = 0):
    """`balance.rank_correlation` of a row of the sweep `importance` (attributes or columns of the
    table)."""
    counts = np.array(json.loads(row.expert_counts), float)
    without = np.array(json.loads(row.ablation_perplexity), float)
    return rank_correlation(counts, without / float(row.perplexity) - 1, resamples, seed)


def _base(row) -> float:
    """Perplexity of the whole model over the whole text; in older tables the median over its
    parts."""
    base = row.get("base_perplexity")
    return float(row["perplexity"] if base is None or np.isnan(base) else base)


def increase_pct(row: pd.Series) -> np.ndarray:
    """(L, E) by how many percent perplexity rises without each expert."""
    return 100 * (np.array(json.loads(row["ablation_perplexity"]), float) / _base(row) - 1)
