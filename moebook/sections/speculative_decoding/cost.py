"""What a step with a draft costs, and the speed-up of cost and yield together.

With E(a, k) the tokens per step of predict/work.py:

    cost ratio         r = step time with the draft / step time without it, same model, batch and
                       lengths; step time = TPOT x tokens per step
    speed-up           E(a, k) / r, of decoding
    break-even         the a with E(a, k) = r

Leviathan's cost ratio is k c + 1, which leaves out that a MoE target reads more experts for k + 1
tokens than for 1. Here r is measured. The rates of the positions of a real draft differ; its one
acceptance is the a that gives as many tokens per step."""

from collections.abc import Iterable

import numpy as np
import pandas as pd

from moebook.predict.work import expected_tokens
from moebook.results.commentary import planned
from moebook.results.gains import PLACE, ratios
from moebook.sections.speculative_decoding.acceptance import acceptance_for, acceptance_of
from moebook.sections.speculative_decoding.plan import PLAIN

GRID = np.linspace(0.0, 1.0, 51)
ENDS = ("", "_lo", "_hi")
SAME = [*PLACE, "series", "draft_tokens"]  # of one draft at one place


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
