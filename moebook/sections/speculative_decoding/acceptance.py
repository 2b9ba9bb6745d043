"""What drafts get accepted: shares by position, output that stays the same, experts hit.

Each function takes a results table, a row per point. Letters: B batch, E experts, K experts per
token, k draft tokens."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.optimize import brentq

from moebook.models.costs import distinct_experts
from moebook.predict.work import expected_tokens
from moebook.results.commentary import measured
from moebook.sections.speculative_decoding.plan import PLAIN

SWEEP = "acceptance"


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
