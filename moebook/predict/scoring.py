"""How sure a calibration is: errors of points whose skeleton was left out of the fit, and the
widths that follow from them (split conformal). Points are those of measured.usable, with
predictions in `left_out_<metric>_s` and `fitted_<metric>_s`, and their class in `class_<metric>`.

A new model errs like a model, not like a point, so a point weighs by the inverse root of its
model's number of points. Of the weights tried (none, root, whole number) this covers best what it
says."""

import numpy as np
import pandas as pd

from moebook.predict.fitting import Fit
from moebook.predict.shipped import DRAFTED, HOST, LEVELS, METRICS, class_of
from moebook.predict.what_if import measures

LEAST_ERRORS = 20  # of a class on one card; else those of all cards count together


def left_out(fit: Fit, points: pd.DataFrame, near: np.ndarray) -> pd.DataFrame:
    """left_out_ and class_ columns of every point from the fit to all other skeletons; times are
    NaN for a format that no other skeleton was measured in."""
    found, paced = np.full((2, len(points)), np.nan), np.zeros((2, len(points)), bool)
    for own in sorted(set(points["skeleton"])):
        inside = (points["skeleton"] == own).to_numpy()
        x = fit.run(~inside, near)
        known = inside & points["format"].isin(set(points["format"][~inside])).to_numpy()
        for to, told, rows in ((found, fit.seconds(x), known), (paced, fit.host_paced(x), inside)):
            to[:, rows] = np.array(told)[:, rows]
    columns = {f"left_out_{m}_s": values for m, values in zip(METRICS, found, strict=True)}
    for metric, hosts in zip(METRICS, paced, strict=True):
        kinds = map(class_of, points["case"], hosts)
        columns[f"class_{metric}"] = list(kinds)
    return pd.DataFrame(columns, points.index)


def intervals(points: pd.DataFrame, kind: str) -> dict:
    """Split conformal half widths on the logarithm, of errors of left-out points."""
    found: dict = {}
    for metric in METRICS:
        for name, rows in points.groupby(f"class_{metric}"):
            errors = _enough(rows, kind, metric)
            if len(errors):  # else the widest class's count
                found.setdefault(name, {})[metric] = _widths(errors)
    return found


def _enough(rows: pd.DataFrame, kind: str, metric: str) -> pd.DataFrame:
    """The errors of a class on one card, or on all where those are few."""
    own = _errors(rows[rows["device_kind"] == kind], metric)
    return own if len(own) >= LEAST_ERRORS else _errors(rows, metric)


def _widths(own: pd.DataFrame) -> dict:
    counts = {"n": len(own), "models": own["skeleton"].nunique()}
    covered = {level: coverage(own, level) for level in LEVELS}
    widths = {level: _quantile(own, level) for level in LEVELS}
    return {**rounded(widths), **counts, "coverage": covered}


def _errors(rows: pd.DataFrame, metric: str) -> pd.DataFrame:
    error = np.log(rows[f"left_out_{metric}_s"] / rows[f"{metric}_s"].astype(float)).abs()
    return rows.assign(error=error)[["skeleton", "error"]].dropna()


def _quantile(errors: pd.DataFrame, level: int) -> float:
    """The least error up to which (n + 1) / n of the level's share of the weight lies; the largest
    where n is too small for it."""
    ordered = errors.sort_values("error")
    weight = ordered["skeleton"].map(ordered["skeleton"].value_counts()).to_numpy(float) ** -0.5
    n, up_to = len(errors), np.cumsum(weight) / weight.sum()
    rank = int(np.searchsorted(up_to, level / 100 * (n + 1) / n - 1e-12))
    return float(ordered["error"].iloc[min(rank, n - 1)])


def coverage(errors: pd.DataFrame, level: int) -> float | None:
    """Share of points within the width that the other skeletons' errors give: what neither the fit
    nor the width has seen. None where there is one skeleton."""
    inside = 0
    if errors["skeleton"].nunique() < 2:
        return None
    for _, own in errors.groupby("skeleton"):
        others = errors.drop(own.index)
        inside += int((own["error"] <= _quantile(others, level)).sum())
    return round(inside / len(errors), 3)


def scores(own: pd.DataFrame) -> dict:
    """Errors of left-out points over all that calibrate and by format, of those with a draft, and
    of the fit's own points."""
    alone = own[own["calibrates"]]
    each = {name: _score(rows, "left_out") for name, rows in alone.groupby("format")}
    each = {"all": _score(alone, "left_out"), **each}
    each["paced by the device"] = _score(alone[alone["class_tpot"] != HOST], "left_out")
    each[HOST] = _score(alone[alone["class_tpot"] == HOST], "left_out")
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
