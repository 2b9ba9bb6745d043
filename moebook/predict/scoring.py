"""How sure a calibration is: errors of points whose skeleton was left out of the fit, and the
widths that follow from them (split conformal). Points are those of measured.usable, with
predictions in `left_out_<metric>_s` and `fitted_<metric>_s`."""

import numpy as np
import pandas as pd

from moebook.predict.fitting import Fit
from moebook.predict.shipped import DRAFTED, LEVELS
from moebook.predict.what_if import measures

LEAST_ERRORS = 20  # of a class on one card; else those of all cards count together
METRICS = ("ttft", "tpot")


def left_out(fit: Fit, points: pd.DataFrame, near: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """TTFT and TPOT of every point from the fit to all other skeletons; NaN for a format that no
    other skeleton was measured in."""
    found = np.full((2, len(points)), np.nan)
    for own in sorted(set(points["skeleton"])):
        inside = (points["skeleton"] == own).to_numpy()
        told = fit.seconds(fit.run(~inside, near))
        known = inside & points["format"].isin(set(points["format"][~inside])).to_numpy()
        for metric in range(2):
            found[metric, known] = told[metric][known]
    return found[0], found[1]


def intervals(points: pd.DataFrame, kind: str) -> dict:
    """Split conformal half widths on the logarithm, of errors of left-out points."""
    found: dict = {}
    for name, rows in points.groupby("class"):
        own = {metric: _enough(rows, kind, metric) for metric in METRICS}
        if all(map(len, own.values())):  # else the widest class's count
            found[name] = {metric: _widths(errors) for metric, errors in own.items()}
    return found


def _enough(rows: pd.DataFrame, kind: str, metric: str) -> pd.DataFrame:
    """The errors of a class on one card, or on all where those are few."""
    own = _errors(rows[rows["device_kind"] == kind], metric)
    return own if len(own) >= LEAST_ERRORS else _errors(rows, metric)


def _widths(own: pd.DataFrame) -> dict:
    widths = {level: _quantile(own["error"], level) for level in LEVELS}
    return {**rounded(widths), "n": len(own), "coverage": coverage(own)}


def _errors(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    error = np.log(rows[f"left_out_{metric}_s"] / rows[f"{metric}_s"].astype(float)).abs()
    return rows.assign(error=error)[["skeleton", "error"]].dropna()


def _quantile(errors: pd.Series, level: int) -> float:
    """The ceil((n + 1) level)-th smallest; the largest where n is too small for it."""
    rank = int(np.ceil((len(errors) + 1) * level / 100))
    return float(np.sort(errors)[min(rank, len(errors)) - 1])


def coverage(errors: pd.DataFrame, level: int = 95) -> float | None:
    """Share of points within the width that the other skeletons' errors give: what neither the fit
    nor the width has seen. None where there is one skeleton."""
    inside = 0
    if errors["skeleton"].nunique() < 2:
        return None
    for _, own in errors.groupby("skeleton"):
        others = errors.drop(own.index)["error"]
        inside += int((own["error"] <= _quantile(others, level)).sum())
    return round(inside / len(errors), 3)


def scores(own: pd.DataFrame) -> dict:
    """Errors of left-out points over all that calibrate and by format, of those with a draft, and
    of the fit's own points."""
    alone = own[own["calibrates"]]
    each = {name: _score(rows, "left_out") for name, rows in alone.groupby("format")}
    each = {"all": _score(alone, "left_out"), **each}
    each[DRAFTED] = _score(own[~own["calibrates"]], "left_out")
    return {
        "left out": {name: found for name, found in each.items() if found},
        "in the sample": {"all": _score(alone, "fitted")},
    }


def _score(rows: pd.DataFrame, which: str) -> dict | None:
    known = rows.dropna(subset=[f"{which}_tpot_s"])
    if known.empty:
        return None
    found: dict = {"n": len(known), "models": known["skeleton"].nunique()}
    for metric in METRICS:
        error = (known[f"{which}_{metric}_s"] / known[f"{metric}_s"].astype(float) - 1).abs() * 100
        found[f"{metric}_median_pct"] = round(float(error.median()), 2)
        found[f"{metric}_p90_pct"] = round(float(error.quantile(0.9)), 2)
    return found


def measured_range(own: pd.DataFrame) -> dict[str, list[float]]:
    table = pd.DataFrame([measures(case) for case in own.loc[own["calibrates"], "case"]])
    return {name: [float(table[name].min()), float(table[name].max())] for name in table}


def rounded(values: dict) -> dict:
    """To four digits."""
    return {k: float(f"{v:.4g}") for k, v in values.items()}
