"""Perplexity of a trained model, pruned or in several formats, against that of the model whole or
in one of them.

The repeats of a perplexity are disjoint parts of one text. Parts differ in difficulty, so their
range is no noise of a comparison: models are compared part by part, the easiest with the easiest
and so on, as ratios of what a summary keeps.

    increase_pct      100 (median / median of `over` - 1)
    increase_pct_lo   the least of that ratio over the easiest, median and hardest part; _hi the
                      most. Of three repeats these are all the parts.
"""

import re

import pandas as pd

from moebook.results.gains import BASELINE, by_ratio, pruned

SWEEP = "quality"
CRITERION = re.compile(r"tiny:.+/(?:inter|intra)-[\d.]+-(?P<criterion>\w+)")
ENDS = ("perplexity", "perplexity_lo", "perplexity_hi")
INCREASES = ("increase_pct", "increase_pct_lo", "increase_pct_hi")
GAINS = {
    "model": "speed_model",
    "gain_pct": "gain_pct",
    "gain_pct_lo": "gain_pct_lo",
    "gain_pct_hi": "gain_pct_hi",
    "n_places": "n_places",
}


def criterion_of(weights: object) -> str | None:
    """By what a model of the tiny family was pruned: `tiny:gpu/aux-0.01/inter-50-norm` -> "norm";
    None of any other."""
    found = CRITERION.fullmatch(weights) if isinstance(weights, str) else None
    return found["criterion"] if found else None


def quality_rows(summary: pd.DataFrame, over: str = BASELINE) -> pd.DataFrame:
    """The rows of sweep `quality` with `kind`, `ratio_pct`, `criterion` (null of what is not
    pruned) and `increase_pct` (and _lo, _hi) over series `over`.

    Where `over` has no number every other row gets its status and reason, and no increase. Empty
    where the sweep is; ValueError where `over` is missing or there twice."""
    rows = summary[[SWEEP in str(names).split(",") for names in summary["sweeps"]]]
    parts = [pruned(str(series)) or (None, float("nan")) for series in rows["series"]]
    weights = rows["weights"] if "weights" in rows else [None] * len(rows)
    rows = rows.assign(
        kind=pd.Series([kind for kind, _ in parts], rows.index, dtype=object),
        ratio_pct=pd.Series([ratio for _, ratio in parts], rows.index, dtype=float),
        criterion=pd.Series([criterion_of(w) for w in weights], rows.index, dtype=object),
    )
    if rows.empty:
        return rows.assign(**dict.fromkeys(INCREASES, pd.Series(dtype=float)))
    base = rows[rows["series"] == over]
    if len(base) != 1:
        raise ValueError(
            f"quality over {over!r} needs that series once in sweep {SWEEP!r}, which has it "
            f"{len(base)} times; series there: {', '.join(dict.fromkeys(rows['series'].dropna()))}"
        )
    return _increases(rows, base.iloc[0])


def _increases(rows: pd.DataFrame, base: pd.Series) -> pd.DataFrame:
    if base["status"] != "ok":
        lost = rows["status"] == "ok"
        rows = rows.assign(status=rows["status"].mask(lost, base["status"]))
        if "reason" in rows:
            rows["reason"] = rows["reason"].mask(lost, base["reason"])
        return rows.assign(**dict.fromkeys(INCREASES, float("nan")))
    more = pd.DataFrame(
        {end: 100 * (rows[end].astype(float) / float(base[end]) - 1) for end in ENDS if end in rows}
    )
    return rows.assign(
        increase_pct=more["perplexity"],
        increase_pct_lo=more.min(axis=1),
        increase_pct_hi=more.max(axis=1),
    )


def with_speed(rows: pd.DataFrame, gains: pd.DataFrame) -> pd.DataFrame:
    """Pruned rows of `quality_rows`, once for each model of `gains` (as analysis.gains gives them),
    with that model's mean gain over its places at the same kind and ratio: `speed_model`,
    `gain_pct` (_lo, _hi: its least and most), `n_places`. No gain at that kind and ratio: null."""
    speeds = by_ratio(gains).rename(columns=GAINS)[["kind", "ratio_pct", *GAINS.values()]]
    own = rows[rows["kind"].notna()].drop(columns=[c for c in GAINS.values() if c in rows])
    each = [own.assign(speed_model=model) for model in dict.fromkeys(speeds["speed_model"])]
    return pd.concat(each).merge(
        speeds, on=["speed_model", "kind", "ratio_pct"], how="left", sort=False
    )
