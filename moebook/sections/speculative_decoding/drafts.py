"""What drafts get accepted (shares by position, output that stays the same, experts hit), what a
step with a draft costs, and the speed-up of cost and yield together.

With E(a, k) the tokens per step of predict/work.py:

    cost ratio         r = step time with the draft / step time without it, same model, batch and
                       lengths; step time = TPOT x tokens per step
    speed-up           E(a, k) / r, of decoding
    break-even         the a with E(a, k) = r

Leviathan's cost ratio is k c + 1, which leaves out that a MoE target reads more experts for k + 1
tokens than for 1. Here r is measured. The rates of the positions of a real draft differ; its one
acceptance is the a that gives as many tokens per step.

Each function takes a results table, a row per point. Letters: B batch, E experts, K experts per
token, k draft tokens."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from moebook.models.costs import distinct_experts
from moebook.predict.work import expected_tokens
from moebook.results.commentary import measured, planned
from moebook.results.gains import PLACE, ratios
from moebook.sections.speculative_decoding.plan import PLAIN

SWEEP = "acceptance"
GRID = np.linspace(0.0, 1.0, 51)
ENDS = ("", "_lo", "_hi")
SAME = [*PLACE, "series", "draft_tokens"]  # of one draft at one place


@np.vectorize(otypes=[float])
def acceptance_for(tokens: float, k: int) -> float:
    """The acceptance that gives `tokens` per step with k draft tokens, numbers or arrays: 0 for 1
    token or less, NaN for more than k + 1, which none gives, and for NaN."""
    if np.isnan(tokens) or tokens > k + 1:
        return np.nan
    if tokens <= 1:
        return 0.0
    return brentq(lambda a: expected_tokens(a, k) - tokens, 0.0, 1.0, xtol=1e-12)


def acceptance_of(rows: pd.DataFrame) -> pd.Series:
    """The acceptance that was set, else the one that gives a row's tokens per step; NaN where
    neither is known, or no draft."""
    k = rows["draft_tokens"].astype(float).fillna(0)
    fitted = acceptance_for(rows["tokens_per_step"].astype(float).clip(upper=k + 1), k)
    return rows["set_acceptance"].astype(float).fillna(pd.Series(fitted, rows.index)).where(k > 0)


def trained(table: pd.DataFrame) -> pd.DataFrame:
    """Measured rows of trained models, with their `acceptance`."""
    rows = measured(table, SWEEP).copy()
    return rows.assign(acceptance=acceptance_of(rows))


def coldest(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows at the lowest temperature."""
    return rows[rows["temperature"] == rows["temperature"].min()]


def reached(table: pd.DataFrame) -> pd.Series:
    """Series -> acceptance at the lowest temperature, mean over texts."""
    rows = trained(table)
    rows = coldest(rows[rows["acceptance"].notna()])
    return rows.groupby("series", sort=False)["acceptance"].mean()


def conditional_rates(accepted: Sequence[float]) -> np.ndarray:
    """Acceptance of each position given those before it, from the share of drafts whose i-th token
    was accepted; NaN after a position that never was. ValueError for shares outside 0 to 1, or that
    grow."""
    shares = np.array([1.0, *accepted])
    if not np.all((shares >= 0) & (shares <= 1)) or np.any(np.diff(shares) > 0):
        raise ValueError(
            f"accepted shares {list(accepted)}: each lies between 0 and 1 and none exceeds the one "
            f"before"
        )
    with np.errstate(invalid="ignore"):
        return shares[1:] / shares[:-1]


def same_output(table: pd.DataFrame) -> pd.DataFrame:
    """Per series at temperature 0: `same` of `of` sequences whose tokens are those of plain
    decoding, and the share. Plain decoding of the same training: on a GPU two trainings of one
    recipe differ, and so do their tokens."""
    place = ["text", "training"]
    rows = trained(table).query("temperature == 0")
    rows = rows.reindex(columns=["series", *place, "output_digests"])
    rows = rows.dropna(subset="output_digests")
    both = rows[rows["series"] != PLAIN].merge(rows[rows["series"] == PLAIN], on=place)
    pairs = [
        list(zip(own.split(","), plain.split(","), strict=False))
        for own, plain in zip(both["output_digests_x"], both["output_digests_y"], strict=True)
    ]
    both["same"] = np.array([sum(a == b for a, b in one) for one in pairs], int)
    both["of"] = np.array([len(one) for one in pairs], int)
    found = both.groupby("series_x", sort=False)[["same", "of"]].sum().rename_axis("series")
    return found.assign(share=found["same"] / found["of"]).reset_index()


def experts(table: pd.DataFrame) -> pd.DataFrame:
    """Rows whose experts were counted: distinct experts of a layer per target step, `formula` for
    as many tokens under uniform routing, `over_formula`, and `over_plain`, times those of plain
    decoding on the same text."""
    rows, place = trained(table), ["text", "temperature"]
    rows = rows[rows["experts_per_step"].notna()]
    tokens = rows["step_tokens"].astype(float).fillna(rows["batch"] * (rows["draft_tokens"] + 1))
    formula = np.vectorize(distinct_experts, otypes=[float])
    rows = rows.assign(
        step_tokens=tokens, formula=formula(rows["num_experts"], rows["top_k"], tokens)
    )
    plain = rows[rows["series"] == PLAIN].drop_duplicates(place)[[*place, "experts_per_step"]]
    base = rows[place].merge(plain, on=place, how="left")["experts_per_step"]
    return rows.assign(
        over_formula=rows["experts_per_step"] / rows["formula"],
        over_plain=rows["experts_per_step"] / base.to_numpy(float),
    )


def with_step(table: pd.DataFrame) -> pd.DataFrame:
    """The table with `step_s` (and _lo, _hi), seconds of a target step: TPOT times the median
    tokens per step, 1 without a draft."""
    gained = table["tokens_per_step"].astype(float)
    gained = gained.mask(gained.isna() & (table["series"] == PLAIN), 1.0)
    ends = [end for end in ENDS if f"tpot_s{end}" in table]
    return table.assign(
        **{f"step_s{end}": table[f"tpot_s{end}"].astype(float) * gained for end in ends}
    )


def cost_ratio(table: pd.DataFrame, sweeps: str | Iterable[str]) -> pd.DataFrame:
    """Rows with a draft, with `cost_ratio` (_lo, _hi): a step over the plain step at the same
    place; `acceptance`; and `break_even`, NaN where a draft would not pay at an acceptance of 1.

    ValueError where the plain series is missing. A row without a number keeps its status and
    reason."""
    found = ratios(with_step(table), sweeps, PLAIN, "step_s")
    found = found.rename(columns={f"ratio{end}": f"cost_ratio{end}" for end in ENDS})
    found = found.assign(acceptance=acceptance_of(found))
    return found.assign(break_even=acceptance_for(found["cost_ratio"], found["draft_tokens"]))


def measured_ratio(table: pd.DataFrame, sweeps: str | Iterable[str]) -> pd.DataFrame:
    """`cost_ratio` of rows that have one; empty where nothing was measured in both."""
    try:
        found = cost_ratio(table, sweeps)
    except ValueError:
        return table.head(0).assign(cost_ratio=0.0)
    return found[(found["status"] == "ok") & found["cost_ratio"].notna()]


def compose(rows: pd.DataFrame, acceptances: Iterable[float] = GRID) -> pd.DataFrame:
    """Speed-up (_lo, _hi) of rows of `measured_ratio` at every acceptance, a row each."""
    rows = rows[["series", "draft", *PLACE, "draft_tokens", *rows.filter(like="cost_ratio")]]
    found = rows.merge(pd.DataFrame({"acceptance": list(acceptances)}), how="cross")
    gained = expected_tokens(found["acceptance"], found["draft_tokens"])
    swapped = {"": "", "_lo": "_hi", "_hi": "_lo"}  # the dearest step gives the least speed-up
    speedups = {
        f"speedup{end}": gained / found[f"cost_ratio{other}"].astype(float)
        for end, other in swapped.items()
        if f"cost_ratio{other}" in found
    }
    return found.assign(tokens=gained, **speedups)


def check(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of `spec_check` and what the same draft's run at another acceptance composes to.

    composed_tpot_s = step time of the other run / E(checked acceptance, k); error_pct is composed
    over measured."""
    rows = with_step(table)
    here, other = (
        planned(rows, sweep).dropna(subset="set_acceptance")
        for sweep in ("spec_check", "spec_tokens")
    )
    both = here.merge(other[[*SAME, "set_acceptance", "step_s"]], on=SAME, suffixes=("", "_from"))
    both = both[both["set_acceptance"] != both["set_acceptance_from"]]
    composed = both["step_s_from"] / expected_tokens(both["set_acceptance"], both["draft_tokens"])
    error = 100 * (composed / both["tpot_s"].astype(float) - 1)
    return both.assign(composed_tpot_s=composed, error_pct=error).reset_index(drop=True)


def fixed_tokens(table: pd.DataFrame) -> int | None:
    """The number of draft tokens that length and batch were measured at, else the most of the
    table; None without any."""
    for sweep in ("spec_length", "spec_batch", "spec_tokens"):
        most = planned(table, sweep)["draft_tokens"].astype(float).max()
        if most > 0:
            return int(most)
    return None


def at_fixed(rows: pd.DataFrame, table: pd.DataFrame) -> pd.DataFrame:
    """The rows at the table's fixed number of draft tokens, or at the most that they have."""
    counts, fixed = rows["draft_tokens"], fixed_tokens(table)
    return rows[counts == (fixed if (counts == fixed).any() else counts.max())]


def matching(table: pd.DataFrame, acceptance: float) -> pd.DataFrame:
    """What acceptance each draft needs to be as fast as the cheapest one at `acceptance`, at one
    number of draft tokens: `needed` (NaN where none is enough), `more` over `acceptance`. Cheapest
    first; empty where none was measured."""
    rows = at_fixed(measured_ratio(table, "spec_tokens"), table).sort_values("cost_ratio")
    ratio, k = rows["cost_ratio"].astype(float), rows["draft_tokens"]
    needed = acceptance_for(expected_tokens(acceptance, k) * ratio / ratio.min(), k)
    return rows.assign(needed=needed, more=needed - acceptance).reset_index(drop=True)
