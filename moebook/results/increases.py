"""By how much a trained model, pruned or in another format, exceeds the perplexity of a reference.

The repeats of a perplexity are disjoint parts of one text. Parts differ in difficulty, so their
range is no noise of a comparison: models are compared part by part, the easiest with the easiest
and so on, as ratios of what a summary keeps.

    increase_pct      100 (median / median of `over` - 1)
    increase_pct_lo   the least of that ratio over the easiest, median and hardest part; _hi the
                      most. Of three repeats these are all the parts.
"""

import pandas as pd

from moebook.results.cells import of_sweep

SWEEP = "quality"
PARTS = ("perplexity", "perplexity_lo", "perplexity_hi")


def increases(table: pd.DataFrame, over: str) -> pd.DataFrame:
    """The rows of sweep `quality` with `increase_pct` (and _lo, _hi, in %) over series `over`.

    Where `over` has no number every other row gets its status and reason, and no increase. Empty
    where the sweep is; ValueError where `over` is missing or there twice."""
    rows = of_sweep(table, SWEEP)
    reference = rows[rows["series"] == over]
    if len(rows) and len(reference) != 1:
        raise ValueError(
            f"quality over {over!r} needs that series once in sweep {SWEEP!r}, which has it "
            f"{len(reference)} times; "
            f"series there: {', '.join(dict.fromkeys(rows['series'].dropna()))}"
        )
    if len(rows) and (status := reference["status"].item()) != "ok":
        lost = rows["status"] == "ok"
        rows = rows.assign(
            status=rows["status"].mask(lost, status),
            reason=rows["reason"].mask(lost, reference["reason"].item()),
        )
    parts = rows[[part for part in PARTS if part in rows]].astype(float)
    base = parts.loc[reference.index].squeeze(axis=0) if len(rows) else 1.0
    ratios = 100 * (parts / base - 1)
    return rows.assign(
        increase_pct=ratios["perplexity"],
        increase_pct_lo=ratios.min(axis=1),
        increase_pct_hi=ratios.max(axis=1),
    )
