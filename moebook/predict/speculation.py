"""What speculative decoding costs, what it yields, and the speed-up of both together.

Each step a draft proposes k tokens and the target verifies k + 1 at once. With a the acceptance,
the probability that a draft token is accepted given that those before it were, equal at every
position:

    tokens per step    E(a, k) = 1 + a + ... + a^k = (1 - a^(k+1)) / (1 - a)          (a = 1: k + 1)
    cost ratio         r = step time with the draft / step time without it, same model, batch and
                       lengths step time = TPOT x tokens per step
    speed-up           E(a, k) / r, of decoding
    break-even         the a with E(a, k) = r

E is Leviathan, Kalman, Matias 2023 (arXiv 2211.17192), equation 1; their cost ratio is k c + 1,
which leaves out that a MoE target reads more experts for k + 1 tokens than for 1. Here r is
measured. The rates of the positions of a real draft differ; `fitted_acceptance` is the one a that
gives as many tokens per step. Letters: B batch, E experts, K per token."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from moebook.models.costs import distinct_experts
from moebook.results.gains import PLACE, ratios

PLAIN, NGRAM = "no speculation", "n-gram"
COST_SWEEPS = ("spec_length", "spec_tokens", "spec_batch")
GRID = np.linspace(0.0, 1.0, 51)
ENDS = ("", "_lo", "_hi")


def expected_tokens(acceptance: float, k: int) -> float:
    """Tokens a sequence gains per step with k draft tokens. ValueError for an acceptance outside 0
    to 1, or k under 0."""
    if not 0 <= acceptance <= 1 or k < 0:
        raise ValueError(
            f"acceptance {acceptance!r} with {k} draft tokens: acceptance lies between 0 and 1, k "
            f"is 0 or more"
        )
    return float(sum(acceptance**i for i in range(k + 1)))


def acceptance_for(tokens: float, k: int) -> float | None:
    """The acceptance that gives `tokens` per step: 0 for 1 or less, None for more than k + 1, which
    none gives."""
    if tokens > k + 1:
        return None
    if tokens <= 1:
        return 0.0
    return float(brentq(lambda a: expected_tokens(a, k) - tokens, 0.0, 1.0, xtol=1e-12))


def conditional_rates(accepted_pos: Sequence[float]) -> list[float]:
    """Acceptance of each position given those before it, from the share of drafts whose i-th token
    was accepted; NaN after a position that never was. ValueError for shares outside 0 to 1, or that
    grow."""
    shares = [1.0, *map(float, accepted_pos)]
    if any(not 0 <= s <= 1 for s in shares) or any(
        b > a for a, b in zip(shares, shares[1:], strict=False)
    ):
        raise ValueError(
            f"accepted shares {shares[1:]}: each lies between 0 and 1 and none exceeds the one "
            f"before"
        )
    return [b / a if a else float("nan") for a, b in zip(shares, shares[1:], strict=False)]


def fitted_acceptance(accepted_pos: Sequence[float]) -> float:
    """The acceptance whose expected tokens are those of these shares: E(a, k) = 1 + their sum."""
    conditional_rates(accepted_pos)
    return acceptance_for(1 + sum(map(float, accepted_pos)), len(accepted_pos))


def speedup(cost_ratio: float, acceptance: float, k: int) -> float:
    """Decoding with a draft over decoding without one, times. ValueError for a cost ratio that is
    not over 0."""
    if not cost_ratio > 0:
        raise ValueError(f"cost ratio {cost_ratio!r}: a step takes time")
    return expected_tokens(acceptance, k) / cost_ratio


def break_even(cost_ratio: float, k: int) -> tuple[float | None, str | None]:
    """(acceptance from which speculation pays, None), or (None, reason) where it does not even at
    1."""
    found = acceptance_for(cost_ratio, k)
    if found is None:
        return None, f"a step costs {cost_ratio:.2f} plain ones and yields {k + 1} tokens at most"
    return found, None


def shares_of(row: pd.Series) -> list[float]:
    """accepted_pos1 ... k of a row, as far as they are there."""
    found = [row.get(f"accepted_pos{i}") for i in range(1, int(row["draft_tokens"]) + 1)]
    return [float(v) for v in found if v is not None and not pd.isna(v)]


def acceptance_of(row: pd.Series) -> float:
    """What was set, else what fits the row's tokens per step, NaN where neither is known."""
    given, gained = row.get("set_acceptance"), row.get("tokens_per_step")
    if given is not None and not pd.isna(given):
        return float(given)
    if gained is None or pd.isna(gained):
        return float("nan")
    return acceptance_for(
        min(float(gained), int(row["draft_tokens"]) + 1), int(row["draft_tokens"])
    )


def with_step(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary with `step_s` (and _lo, _hi), seconds of a target step: TPOT times the median
    tokens per step."""
    gained = summary["tokens_per_step"].astype(float)
    gained = gained.where(~(gained.isna() & (summary["series"] == PLAIN)), 1.0)
    ends = [end for end in ENDS if f"tpot_s{end}" in summary]
    return summary.assign(
        **{f"step_s{end}": summary[f"tpot_s{end}"].astype(float) * gained for end in ends}
    )


def cost_ratio(summary: pd.DataFrame, sweeps: str | Iterable[str] = COST_SWEEPS) -> pd.DataFrame:
    """Rows with a draft, with `cost_ratio` (_lo, _hi): a step over the plain step at the same
    place, and `acceptance`.

    ValueError where the plain series is missing. A row without a number keeps its status and
    reason."""
    found = ratios(with_step(summary), sweeps, PLAIN, "step_s")
    found = found.rename(columns={f"ratio{end}": f"cost_ratio{end}" for end in ENDS})
    return found.assign(acceptance=[acceptance_of(row) for _, row in found.iterrows()])


def measured_ratio(
    summary: pd.DataFrame, sweeps: str | Iterable[str] = COST_SWEEPS
) -> pd.DataFrame:
    """`cost_ratio` of rows that have one; empty where nothing was measured in both."""
    try:
        found = cost_ratio(summary, sweeps)
    except (ValueError, KeyError):
        return pd.DataFrame()
    return found[(found["status"] == "ok") & found["cost_ratio"].notna()]


def compose(
    summary: pd.DataFrame, acceptances: Iterable[float] = GRID, sweep: str = "spec_tokens"
) -> pd.DataFrame:
    """Speed-up (_lo, _hi) of every measured draft and number of draft tokens at every acceptance, a
    row each."""
    rows, acceptances = measured_ratio(summary, sweep), list(acceptances)
    columns = ["series", "draft", *PLACE, "draft_tokens", *(f"cost_ratio{end}" for end in ENDS)]
    rows = rows[[c for c in columns if c in rows]] if len(rows) else pd.DataFrame(columns=columns)
    found = rows.merge(pd.DataFrame({"acceptance": acceptances}), how="cross")
    gained = [
        expected_tokens(a, int(k))
        for a, k in zip(found["acceptance"], found["draft_tokens"], strict=True)
    ]
    swapped = {"": "", "_lo": "_hi", "_hi": "_lo"}  # the dearest step gives the least speed-up
    return found.assign(
        tokens=gained,
        **{
            f"speedup{end}": np.array(gained) / found[f"cost_ratio{other}"].astype(float)
            for end, other in swapped.items()
            if f"cost_ratio{other}" in found
        },
    )


def check(summary: pd.DataFrame) -> pd.DataFrame:
    """Rows of `spec_check` beside what the same draft's run at another acceptance composes to.

    composed_tpot_s = step time of the other run / E(checked acceptance, k); error_pct is composed
    over measured."""
    rows = with_step(summary)
    names = rows["sweeps"].astype(str).str.split(",")
    asked = rows[names.map(lambda s: "spec_check" in s) & rows["set_acceptance"].notna()]
    other = rows[names.map(lambda s: "spec_tokens" in s) & rows["set_acceptance"].notna()]
    same = [*PLACE, "series", "draft_tokens"]
    both = asked.merge(
        other[[*same, "set_acceptance", "step_s", "status"]], on=same, suffixes=("", "_from")
    )
    both = both[both["set_acceptance"] != both["set_acceptance_from"]]
    gained = [
        expected_tokens(a, int(k))
        for a, k in zip(both["set_acceptance"], both["draft_tokens"], strict=True)
    ]
    composed = both["step_s_from"] / np.array(gained)
    both = both.assign(
        composed_tpot_s=composed, error_pct=100 * (composed / both["tpot_s"].astype(float) - 1)
    )
    columns = [
        *same,
        "set_acceptance",
        "set_acceptance_from",
        "tpot_s",
        "composed_tpot_s",
        "error_pct",
        "status",
        "reason",
    ]
    return both[[c for c in columns if c in both]].reset_index(drop=True)


def acceptance_rows(summary: pd.DataFrame) -> pd.DataFrame:
    """Measured rows of the sweep `acceptance`, with `acceptance`, the one that fits their accepted
    shares."""
    names = summary["sweeps"].astype(str).str.split(",")
    rows = summary[names.map(lambda s: "acceptance" in s) & (summary["status"] == "ok")]
    fitted = [
        float("nan") if row["draft_tokens"] == 0 else acceptance_of(row)
        for _, row in rows.iterrows()
    ]
    return rows.assign(acceptance=np.array(fitted, float))


def same_output(summary: pd.DataFrame) -> pd.DataFrame:
    """Per series at temperature 0: `same` of `of` sequences whose tokens are those of plain
    decoding, and the share. Plain decoding of the same training: on a GPU two trainings of one
    recipe differ, and so do their tokens."""
    rows = acceptance_rows(summary)
    rows = rows.assign(
        training=rows.get("training", pd.Series(None, rows.index, dtype=object)).fillna("")
    )
    rows = rows[
        (rows["temperature"] == 0) & rows.get("output_digests", pd.Series(None, rows.index)).notna()
    ]
    plain = {
        (row.text, row.training): row.output_digests.split(",")
        for row in rows[rows["series"] == PLAIN].itertuples()
    }
    counts: dict[str, list[bool]] = {}
    for row in rows[rows["series"] != PLAIN].itertuples():
        pairs = zip(
            row.output_digests.split(","), plain.get((row.text, row.training), ()), strict=False
        )
        counts.setdefault(row.series, []).extend(a == b for a, b in pairs)
    return pd.DataFrame(
        [
            {"series": name, "same": sum(found), "of": len(found), "share": sum(found) / len(found)}
            for name, found in counts.items()
            if found
        ],
        columns=["series", "same", "of", "share"],
    )


def experts(summary: pd.DataFrame) -> pd.DataFrame:
    """Rows whose experts were counted: distinct experts of a layer per target step, `formula` for
    as many tokens under uniform routing, `over_formula`, and `over_plain`, times those of plain
    decoding on the same text."""
    rows = acceptance_rows(summary)
    rows = rows[rows.get("experts_per_step", pd.Series(None, rows.index)).notna()]
    tokens = rows["step_tokens"].astype(float).fillna(rows["batch"] * (rows["draft_tokens"] + 1))
    hit = zip(rows["num_experts"], rows["top_k"], tokens, strict=True)
    formula = [distinct_experts(int(e), int(k), n) for e, k, n in hit]
    rows = rows.assign(step_tokens=tokens, formula=np.array(formula, float))
    plain = rows[rows["series"] == PLAIN].drop_duplicates(["text", "temperature"])
    plain = plain.set_index(["text", "temperature"])["experts_per_step"].astype(float)
    base = [
        plain.get((t, h), float("nan"))
        for t, h in zip(rows["text"], rows["temperature"], strict=True)
    ]
    return rows.assign(
        over_formula=rows["experts_per_step"] / rows["formula"],
        over_plain=rows["experts_per_step"] / np.array(base, float),
    )


def fixed_tokens(summary: pd.DataFrame) -> int | None:
    """The number of draft tokens that length and batch were measured at, else the most of the
    table; None without any."""
    k = summary["draft_tokens"].fillna(0).astype(int)
    for sweep in ("spec_length", "spec_batch", "spec_tokens"):
        own = k[summary["sweeps"].astype(str).str.split(",").map(lambda s, w=sweep: w in s)]
        if own.max() > 0:
            return int(own.max())
    return None


def matching(summary: pd.DataFrame, acceptance: float) -> pd.DataFrame:
    """What acceptance each draft needs to be as fast as the cheapest one at `acceptance`, at
    `fixed_tokens` draft tokens: `needed` (NaN where none is enough), `more` over `acceptance`.
    Cheapest first; empty where none was measured."""
    rows = measured_ratio(summary, "spec_tokens")
    rows = (
        rows[rows["draft_tokens"] == fixed_tokens(summary)].sort_values("cost_ratio")
        if len(rows)
        else rows
    )
    if rows.empty:
        return rows
    k = int(rows["draft_tokens"].iloc[0])
    tokens = expected_tokens(acceptance, k) * rows["cost_ratio"] / rows["cost_ratio"].iloc[0]
    needed = np.array([acceptance_for(t, k) for t in tokens], float)
    return (
        rows[["series", "draft_tokens", "batch", "input_tokens", "cost_ratio"]]
        .assign(needed=needed, more=needed - acceptance)
        .reset_index(drop=True)
    )
