"""Predictions beside the rows of a summary.

A measured point of the reference gets what was predicted of it while its skeleton was left out of
the fit (calibrations/points.csv); any other row what the shipped calibration says. `predicted_how`
tells which. Rows of a device without a calibration, and rows that no prediction speaks of, have a
`predicted_reason`."""

import csv
from functools import cache
from importlib import resources

import numpy as np
import pandas as pd

from moebook.models.architecture import Architecture
from moebook.predict import measured, shipped
from moebook.predict.roofline import NO_MODEL, ArchitectureOf
from moebook.predict.shipped import FOLDER, POINTS
from moebook.predict.under_bound import under_the_floor
from moebook.predict.what_if import Interval, Unpredictable, beyond, check, combined, widths
from moebook.predict.what_if import seconds as of_case
from moebook.study.settings import OWN_BACKENDS

METRICS = ("ttft_s", "tpot_s", "e2e_s", "throughput_tok_s")
PREDICTED = tuple(f"predicted_{m}{side}" for m in METRICS for side in ("", "_lo95", "_hi95"))
LEFT_OUT, CALIBRATED = "left out", "calibrated"  # what predicted_how says


@cache
def left_out() -> dict[str, tuple[float, float, dict[str, str]]]:
    """point id -> (TTFT, TPOT) in s as predicted while its skeleton was left out, NaN where it
    could not be, and each metric's class."""
    file = resources.files("moebook.predict").joinpath(FOLDER, POINTS)
    with file.open(newline="") as text:
        return {
            row["point_id"]: (
                *(float(row[f"left_out_{m}_s"] or "nan") for m in ("ttft", "tpot")),
                {m: row[f"class_{m}"] for m in ("ttft", "tpot")},
            )
            for row in csv.DictReader(text)
        }


def add_predictions(
    summary: pd.DataFrame, architecture_of: ArchitectureOf, planned_for: str | None = None
) -> pd.DataFrame:
    """A copy with PREDICTED columns, `predicted_how`, and `predicted_reason` for nulls.
    planned_for: the kind of device of rows that were not measured."""
    under = set(under_the_floor(summary))
    found = [_row(row, under, architecture_of, planned_for) for row in summary.to_dict("records")]
    values = pd.DataFrame([f for f, _, _ in found], index=summary.index, columns=list(PREDICTED))
    hows = {"predicted_how": [h for _, h, _ in found], "predicted_reason": [r for _, _, r in found]}
    return summary.assign(**values.astype("float64"), **hows)


def _row(
    row: dict, under: set[str], architecture_of: ArchitectureOf, planned_for: str | None
) -> tuple:
    """(columns, how, None) or ({}, None, reason)."""
    reason = _no_prediction(row, under)
    device = row["device_kind"] if _is(row.get("device_kind")) else planned_for
    if reason is not None:
        return {}, None, reason
    try:
        return *_predicted(row, architecture_of(row), device or "not known"), None
    except ValueError as error:
        return {}, None, str(error)


def _predicted(row: dict, arch: Architecture, device: str) -> tuple[dict, str]:
    """(columns, how). Raises ValueError with the reason where there is none."""
    known = shipped.load(device)
    case = measured.case(row, arch)
    check(case, device)
    held = left_out().get(row["point_id"]) if _is(row.get("point_id")) else None
    if held is not None and np.isnan(held[1]):
        raise Unpredictable(
            f"{case.format} was measured of this model alone: nothing could be left out of its fit"
        )
    ttft, tpot, classes = held or of_case(case, known)[:3]
    wider = beyond(case, known, classes)[1]
    sides = {m: widths(known, kind, m, wider) for m, kind in classes.items()}
    e2e = combined(ttft, tpot, case.workload.output_tokens, sides)
    tokens = case.workload.batch * (case.workload.input_tokens + case.workload.output_tokens)
    told = {
        "ttft_s": Interval.of(ttft, sides["ttft"]),
        "tpot_s": Interval.of(tpot, sides["tpot"]) if case.workload.output_tokens > 1 else None,
        "e2e_s": e2e,
        "throughput_tok_s": e2e.inverse(tokens),
    }
    columns = {}
    for metric, interval in told.items():
        if interval is not None:
            columns[f"predicted_{metric}"] = interval.value
            columns[f"predicted_{metric}_lo95"] = interval.lo95
            columns[f"predicted_{metric}_hi95"] = interval.hi95
    return columns, LEFT_OUT if held else CALIBRATED


def _no_prediction(row: dict, under: set[str]) -> str | None:
    """Why no prediction speaks of a row, before its case is made, or None."""
    if row["status"] == "infeasible":
        return "infeasible"
    if reason := NO_MODEL.get(row["method"]):
        return reason
    if row["model"] in under:
        return (
            "measured under its physical limit: its routing is not near uniform, which the model "
            "assumes"
        )
    if row.get("identical") in (True,):
        return "its sequences are identical, and how many experts they share is not known"
    if row.get("asked_moe_backend") in OWN_BACKENDS:
        return "the workbook's own MoE kernels: the calibration is of the engine's"
    return None


def _is(value) -> bool:
    return value is not None and not pd.isna(value)
