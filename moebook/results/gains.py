"""One series against another at the same place: ratios of a metric, percent gains.

A place is a model with its active experts, batch and lengths. The range of a ratio is the widest
that the repeats of both allow: the least of the one over the most of the other, and the other way
round."""

from collections.abc import Iterable

import pandas as pd

from moebook.results.cells import METHOD_ORDER, of_sweep, places_of_series

PLACE = ("model", "top_k", "batch", "input_tokens", "output_tokens")
METRIC = "throughput_tok_s"
BASELINE = "baseline"  # what sections call the whole model


def ratios(
    summary: pd.DataFrame, sweeps: str | Iterable[str], over: str, metric: str = METRIC
) -> pd.DataFrame:
    """The rows of the sweeps but those of series `over`, with `ratio` (and _lo, _hi), their metric
    over its metric.

    A row whose counterpart has no number gets the counterpart's status and reason, and one whose
    counterpart was got by a less direct method that method. ValueError where the series is missing,
    or twice at one place."""
    wanted = {sweeps} if isinstance(sweeps, str) else set(sweeps)
    rows = of_sweep(summary, "|".join(wanted))
    rows = rows.assign(_place=places_of_series(rows))
    base, others = rows[rows["series"] == over], rows[rows["series"] != over]
    if base.empty or others.empty:
        raise ValueError(
            f"gains over {over!r} need that series and another in sweep "
            f"{' or '.join(sorted(wanted))}; series there: "
            f"{', '.join(dict.fromkeys(rows['series'].dropna())) or 'none'}"
        )
    if base.duplicated("_place").any():
        raise ValueError(
            f"series {over!r} has several rows at one {', '.join(PLACE)}; give rows of one "
            "measurement"
        )
    ends = [metric, f"{metric}_lo", f"{metric}_hi"]
    facts = [c for c in ("status", "reason", "method", *ends) if c in rows]
    both = others.merge(
        base[["_place", *facts]], on="_place", how="left", suffixes=("", "_over"), sort=False
    )
    out = both[others.columns.drop("_place")].assign(
        ratio=both[metric] / both[f"{metric}_over"], over=over
    )
    if set(ends) <= set(rows):
        lo, hi = ends[1:]
        out = out.assign(
            ratio_lo=both[lo] / both[f"{hi}_over"], ratio_hi=both[hi] / both[f"{lo}_over"]
        )
    return _as_sure_as_both(out, both)


def _as_sure_as_both(out: pd.DataFrame, both: pd.DataFrame) -> pd.DataFrame:
    lost = (both["status"] == "ok") & (both["status_over"] != "ok")
    out["status"] = both["status"].mask(lost, both["status_over"].fillna("not_run"))
    if "reason" in both:
        out["reason"] = both["reason"].mask(lost, both["reason_over"])
    if "method" in both:
        less = _indirect(both["method_over"]) > _indirect(both["method"])
        out["method"] = both["method"].mask(less, both["method_over"])
    return out


def _indirect(methods: pd.Series) -> pd.Series:
    return methods.map({name: i for i, name in enumerate(METHOD_ORDER)}).fillna(-1)


def gains(
    summary: pd.DataFrame, sweeps: str | Iterable[str], over: str, metric: str = METRIC
) -> pd.DataFrame:
    """`ratios` with `gain_pct` (and _lo, _hi): by how many percent the metric exceeds that of
    series `over`."""
    rows = ratios(summary, sweeps, over, metric)
    ends = [c for c in ("ratio", "ratio_lo", "ratio_hi") if c in rows]
    return rows.assign(**{c.replace("ratio", "gain_pct"): 100 * (rows[c] - 1) for c in ends})
