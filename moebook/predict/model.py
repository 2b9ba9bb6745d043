"""A calibrated estimate of TTFT and step time: a handful of factors per device, fitted to measured
points.

One step over T tokens (T = B in decoding, B S_in in prefill) of a model of L layers takes

    host + layer L + request B + sum over c of  sqrt( (bytes_c / (eff_c BW))^2 + (FLOPs_c / (eff_c
                                                peak))^2 )

with c in routed experts, KV cache, and the rest; BW and peak are the device's measured ceilings.
The root of squares lies between perfect overlap of reading and computing (the maximum) and none
(the sum). Prefill has a host time of its own. Factors are fitted by least squares on relative error
to TTFT and TPOT of measured points. With few points, or points that do not differ in what a factor
acts on, factors are dropped: tied to a sibling, or zero; `notes` says so.

With k draft tokens a step is one of the target over B (k + 1) tokens and k of the draft over B,
each with its own host time, for `tokens_per_step` tokens; factors are fitted to rows without
speculation.

    calibration = fit(summary, ceilings, architecture_of)
    predict(summary, calibration, architecture_of)          adds PREDICTED columns
    cross_validate(summary, ceilings, architecture_of)      error on engine shapes left out

Letters: B batch, S tokens, L layers. The floor (`Ceilings`, `floor_row`, `add_floor`) is in
floor.py."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from moebook.models.moe_backends import OWN_BACKENDS
from moebook.predict.calibration import IMPORTANCE, SIBLING, Calibration, Factors, steps
from moebook.predict.roofline import (
    SHAPE,
    ArchitectureOf,
    Case,
    Ceilings,
    Floor,
    add_floor,
    case_of,
    floor_row,
    no_ceiling,
    no_model,
)
from moebook.predict.under_bound import under_the_floor
from moebook.study.routing import MODEL, UNIFORM

__all__ = [
    "Calibration",
    "Ceilings",
    "CrossValidation",
    "Factors",
    "Floor",
    "Score",
    "add_floor",
    "cross_validate",
    "fit",
    "floor_row",
    "predict",
]

PREDICTED = (
    "predicted_ttft_s",
    "predicted_tpot_s",
    "predicted_e2e_s",
    "predicted_throughput_tok_s",
)
MEASURED_METHODS = ("full", "sampled")
PARALLEL = ("tensor_parallel", "pipeline_parallel", "expert_parallel")
LEAST_POINTS = 4
OBSERVATIONS_PER_FACTOR = 3
# a factor e times its start weighs like 1 % of error in one observation: holds open factors
PRIOR_WEIGHT = 0.01
START = {"host_step_s": 1e-3, "host_prefill_s": 3e-3, "layer_s": 2e-5, "request_s": 2e-5}
BOUNDS = {name: (1e-8, 10.0) if name.endswith("_s") else (1e-3, 1.5) for name in IMPORTANCE}
EFFICIENCY_STARTS = (0.6, 0.2, 0.05)


def _parallel_of(row) -> tuple[int, int, bool]:
    def value(name):
        return None if row.get(name) is None or pd.isna(row.get(name)) else row.get(name)

    return (
        int(value(PARALLEL[0]) or 1),
        int(value(PARALLEL[1]) or 1),
        bool(value(PARALLEL[2]) or False),
    )


def _usable(summary: pd.DataFrame, ceilings: Ceilings) -> pd.DataFrame:
    """Measured rows of this device with both times; one way of splitting the model."""
    if "repeat" in summary:
        raise ValueError(
            "a table with one row per repeat was given; give results.summarize(table), one row per "
            "point"
        )
    keep = (
        summary["ttft_s"].notna()
        & (summary["status"] == "ok")
        & summary["method"].isin(MEASURED_METHODS)
    )
    if "device" in summary:
        keep &= summary["device"].isna() | (summary["device"] == ceilings.device)
    if "dtype" in summary:
        keep &= summary["dtype"] == ceilings.dtype
    if "draft_tokens" in summary:
        keep &= summary["draft_tokens"].fillna(0) == 0
    if "routing" in summary:
        keep &= summary["routing"].isin((MODEL, UNIFORM)) & ~summary["identical"]
    if "asked_moe_backend" in summary:
        keep &= ~summary["asked_moe_backend"].isin(OWN_BACKENDS)
    rows = summary[keep]
    if len(rows) < LEAST_POINTS:
        raise ValueError(
            f"{len(rows)} of {len(summary)} rows can calibrate {ceilings.device} "
            f"({ceilings.dtype}); at least {LEAST_POINTS} measured points (ok, full or sampled) "
            "are needed"
        )
    ways = {_parallel_of(row) for _, row in rows.iterrows()}
    if len(ways) > 1:
        raise ValueError(
            f"points with several (TP, PP, EP): {sorted(ways)}; communication is not modelled, so "
            "calibrate one at a time"
        )
    return rows


def _choose(cases: list[Case], num_observations: int) -> tuple[list[str], list[str]]:
    """Factors these points can tell, and a note for every one dropped."""

    def differ(values) -> bool:
        return len(set(values)) > 1

    shapes_differ = differ(
        (c.arch.name, c.arch.num_layers, c.arch.expert_ffn_dim, c.arch.top_k) for c in cases
    )
    tells = {
        "other_bytes": (shapes_differ, "all points have one shape"),
        "other_flops": (shapes_differ, "all points have one shape"),
        "host_prefill_s": (
            differ(c.batch * c.input_tokens for c in cases) or shapes_differ,
            "all prompts are alike",
        ),
        "layer_s": (differ(c.arch.num_layers for c in cases), "all points have one depth"),
        "kv_bytes": (
            differ(c.batch * (c.input_tokens + c.output_tokens // 2) for c in cases),
            "all points hold as many cached tokens",
        ),
        "request_s": (differ(c.batch for c in cases), "all points have one batch"),
    }
    room = max(3, num_observations // OBSERVATIONS_PER_FACTOR)
    kept, notes = [], []
    for name in IMPORTANCE:
        possible, why = tells.get(name, (True, ""))
        if possible and len(kept) < room:
            kept.append(name)
            continue
        as_ = f"taken equal to {SIBLING[name]}" if SIBLING[name] else "taken as 0"
        why = why if not possible else f"{num_observations} observations allow {room} factors"
        notes.append(f"{name} dropped ({why}); {as_}")
    return kept, notes


def _factors(kept: list[str], logs: np.ndarray) -> Factors:
    values = dict(zip(kept, map(float, np.exp(logs)), strict=True))
    for name in (
        "other_bytes",
        "kv_bytes",
        "other_flops",
        "host_prefill_s",
        "layer_s",
        "request_s",
    ):
        values.setdefault(name, values.get(SIBLING[name], 0.0))
    return Factors(**values)


def fit(summary: pd.DataFrame, ceilings: Ceilings, architecture_of: ArchitectureOf) -> Calibration:
    """Factors that best give the measured TTFT and TPOT (medians), without models whose routing is
    not near uniform. ValueError under LEAST_POINTS usable rows."""
    left_out = under_the_floor(summary)
    rows = _usable(summary[~summary["model"].isin(left_out)] if left_out else summary, ceilings)
    cases = [case_of(row, architecture_of) for _, row in rows.iterrows()]
    ttft_s = rows["ttft_s"].to_numpy(float)
    tpot_s = rows["tpot_s"].to_numpy(float, na_value=np.nan)
    seen = np.isfinite(tpot_s) & (tpot_s > 0)
    prefill, decode = steps(cases, ceilings)
    kept, notes = _choose(cases, len(rows) + int(seen.sum()))
    low, high = (np.log([BOUNDS[name][side] for name in kept]) for side in (0, 1))

    def residuals(logs: np.ndarray, start: np.ndarray) -> np.ndarray:
        factors = _factors(kept, logs)
        ttft = prefill.seconds(factors, factors.host_prefill_s) / ttft_s - 1
        tpot = (decode.seconds(factors, factors.host_step_s) / tpot_s - 1)[seen]
        return np.concatenate([ttft, tpot, PRIOR_WEIGHT * (logs - start)])

    tries = []
    for efficiency in EFFICIENCY_STARTS:
        start = np.log([START.get(name, efficiency) for name in kept])
        tries.append(least_squares(residuals, start, bounds=(low, high), args=(start,)))
    best = min(tries, key=lambda t: t.cost)
    parallel = _parallel_of(rows.iloc[0])
    notes += [
        f"{model} left out: measured under its floor, so its routing is not near uniform"
        for model in left_out
    ]
    return Calibration(ceilings, _factors(kept, best.x), len(rows), parallel, tuple(notes))


def predict(
    summary: pd.DataFrame, calibration: Calibration, architecture_of: ArchitectureOf
) -> pd.DataFrame:
    """A copy with PREDICTED columns for every row with a shape, measured or not, and
    `predicted_reason` for nulls."""
    reasons: list[str | None] = []
    told: list[tuple[int, Case]] = []
    left_out = set(under_the_floor(summary))
    for i, (_, row) in enumerate(summary.iterrows()):
        reason = _no_prediction(row, calibration)
        if row["model"] in left_out:
            reason = (
                "measured under its floor: its routing is not near uniform, which the model assumes"
            )
        if reason is None:
            try:
                case = case_of(row, architecture_of)
                reason = no_ceiling(case, calibration.ceilings)
                told += [(i, case)] if reason is None else []
            except ValueError as error:
                reason = str(error)
        reasons.append(reason)
    values = np.full((len(summary), len(PREDICTED)), np.nan)
    if told:
        values[[i for i, _ in told]] = _predict([case for _, case in told], calibration)
    columns = {name: values[:, i] for i, name in enumerate(PREDICTED)}
    return summary.assign(**columns, predicted_reason=reasons)


def _no_prediction(row: pd.Series, calibration: Calibration) -> str | None:
    if row.get("status") == "infeasible":
        return "infeasible"
    if reason := no_model(row):
        return reason
    if _parallel_of(row) != calibration.parallel:
        return (
            f"(TP, PP, EP) {_parallel_of(row)}: calibrated at {calibration.parallel}; "
            "communication is not modelled"
        )
    return None


def _predict(cases: list[Case], calibration: Calibration) -> np.ndarray:
    """(N, 4) seconds, seconds, seconds, tokens/s."""
    ttft_s, step_s = _seconds(cases, calibration)
    drafting = [i for i, case in enumerate(cases) if case.drafting]
    if drafting:
        draft_ttft_s, draft_step_s = _seconds([cases[i].drafting for i in drafting], calibration)
        ttft_s[drafting] += draft_ttft_s
        step_s[drafting] += draft_step_s * [cases[i].draft_tokens for i in drafting]
    tpot_s = step_s / [case.tokens_per_step for case in cases]
    outputs = np.array([c.output_tokens for c in cases], float)
    e2e_s = ttft_s + (outputs - 1) * tpot_s
    tokens = np.array([c.batch * (c.input_tokens + c.output_tokens) for c in cases], float)
    return np.column_stack([ttft_s, np.where(outputs > 1, tpot_s, np.nan), e2e_s, tokens / e2e_s])


def _seconds(cases: list[Case], calibration: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """Of prefill, and of one decode step."""
    prefill, decode = steps(cases, calibration.ceilings)
    factors = calibration.factors
    return prefill.seconds(factors, factors.host_prefill_s), decode.seconds(
        factors, factors.host_step_s
    )


@dataclass(frozen=True)
class Score:
    """Absolute relative error in percent over `n` points."""

    mean_pct: float
    median_pct: float
    max_pct: float
    n: int


@dataclass(frozen=True)
class CrossValidation:
    """Errors on points whose engine shape was left out of the fit; `rows` holds each point with its
    prediction."""

    ttft: Score
    tpot: Score
    e2e: Score
    folds: int
    rows: pd.DataFrame

    def __str__(self) -> str:
        return (
            f"E2E of points left out: mean error {self.e2e.mean_pct:.1f} %, median "
            f"{self.e2e.median_pct:.1f} %, largest {self.e2e.max_pct:.1f} % ({self.e2e.n} points, "
            f"{self.folds} folds by engine shape)"
        )


def cross_validate(
    summary: pd.DataFrame,
    ceilings: Ceilings,
    architecture_of: ArchitectureOf,
    folds: int = 5,
    seed: int = 0,
) -> CrossValidation:
    """k-fold error, grouped so that all points of one engine shape are left out together."""
    rows = _usable(summary[~summary["model"].isin(under_the_floor(summary))], ceilings)
    columns = [c for c in SHAPE if c in rows]
    shape = pd.Series(
        [str(tuple(row)) for row in rows[columns].itertuples(index=False)], index=rows.index
    )
    groups = np.random.default_rng(seed).permutation(sorted(shape.unique()))
    folds = min(folds, len(groups))
    if folds < 2:
        raise ValueError(
            f"{len(groups)} engine shape in {len(rows)} points: leaving one out needs at least 2"
        )
    left_out = []
    for held in np.array_split(groups, folds):
        inside = shape.isin(held)
        left_out.append(
            predict(rows[inside], fit(rows[~inside], ceilings, architecture_of), architecture_of)
        )
    out = pd.concat(left_out)
    scores = {name: _score(out, name) for name in ("ttft", "tpot", "e2e")}
    return CrossValidation(**scores, folds=folds, rows=out)


def _score(rows: pd.DataFrame, name: str) -> Score:
    error = 100 * (rows[f"predicted_{name}_s"] / rows[f"{name}_s"].astype(float) - 1).abs().dropna()
    return Score(float(error.mean()), float(error.median()), float(error.max()), len(error))
