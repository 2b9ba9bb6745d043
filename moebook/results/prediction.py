"""In words, how well predictions meet what was measured: a commentary of many sections."""

import pandas as pd

from moebook.predict.columns import CALIBRATED, LEFT_OUT
from moebook.predict.measured import METHODS
from moebook.results.commentary import commentary

HOW = {
    LEFT_OUT: "predicted while their model was left out of the fit",
    CALIBRATED: "predicted by the shipped calibration, which has their model or its kin in it",
}


@commentary
def predicted_vs_measured(table: pd.DataFrame) -> str:
    """The score by how predictions were made, or why there are none."""
    if "predicted_e2e_s" not in table:  # of nothing measured
        return "No prediction: nothing was measured."
    ok = table["status"] == "ok"
    measured = table[ok & table["predicted_e2e_s"].notna()]
    if measured.empty:
        why = table.loc[ok, "predicted_reason"].dropna()
        return f"No prediction: {why.iloc[0] if len(why) else 'nothing was measured'}."
    told = [_score(measured, how, words) for how, words in HOW.items()]
    none = table.loc[ok & table["method"].isin(METHODS) & table["predicted_e2e_s"].isna()]
    whose = none.groupby("predicted_reason")["model"].agg(lambda m: ", ".join(sorted(set(m))))
    told += [f"No prediction of {models}: {reason}." for reason, models in whose.items()]
    return " ".join(filter(None, told))


def _score(rows: pd.DataFrame, how: str, words: str) -> str | None:
    own = rows[rows["predicted_how"] == how]
    if own.empty:
        return None
    error = 100 * (own["predicted_e2e_s"] / own["e2e_s"].astype(float) - 1).abs()
    inside = own["e2e_s"].between(own["predicted_e2e_s_lo95"], own["predicted_e2e_s_hi95"])
    return (
        f"{len(own)} points {words}: E2E off by {error.median():.1f} % in the median, "
        f"{error.quantile(0.9):.0f} % at the 90th percentile; {100 * inside.mean():.0f} % lie in "
        "their 95 % interval."
    )
