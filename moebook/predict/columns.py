"""Rows of a summary and the performance model: as cases, as points that calibrate, with predictions
beside them, and under their floor.

A measured point of the reference gets what was predicted of it while its skeleton was left out of
the fit (calibrations/points.csv); any other row what the shipped calibration says. `predicted_how`
tells which. Rows of a device without a calibration, and rows that no prediction speaks of, have a
`predicted_reason`.

Rows measured on one card can be scaled to several by the model: labelled so, and deciding
nothing."""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd

from moebook.models import catalog
from moebook.models.architecture import Architecture
from moebook.predict import shipped
from moebook.predict.case import case_of
from moebook.predict.points import throughput_ratio
from moebook.predict.roofline import NO_MODEL, ArchitectureOf
from moebook.predict.what_if import (
    Interval,
    Unpredictable,
    beyond,
    check,
    combined,
    predict,
    widths,
)
from moebook.predict.what_if import seconds as of_case
from moebook.study.plan import FORMAT_COLUMNS, SHAPE_COLUMNS, SPLIT_COLUMNS
from moebook.study.settings import OWN_BACKENDS

METRICS = ("ttft_s", "tpot_s", "e2e_s", "throughput_tok_s")
PREDICTED = tuple(f"predicted_{m}{side}" for m in METRICS for side in ("", "_lo95", "_hi95"))
READ = (  # what a prediction needs of a row
    *("key", "status", "method", "model", "series", *SHAPE_COLUMNS, *FORMAT_COLUMNS),
    *(*SPLIT_COLUMNS, "graphs", "asked_moe_backend", "routing", "identical", "batch"),
    *("input_tokens", "output_tokens", "speculative", "draft", "draft_tokens", "set_acceptance"),
    *("tokens_per_step", "device_kind", "point_id"),
)
LEFT_OUT, CALIBRATED = "left out", "calibrated"  # what predicted_how says
TIMED = ("full", "sampled")
UNDER_FLOOR = 0.05  # by how much a row under its floor is faster
SOURCES_CARDS = 4  # what the source's runs of these sections were split over


def usable(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a summary that are predicted, each with its `case`, `format`, `skeleton` and
    whether it `calibrates`: steps with a draft do not, for more than one model is in them. Left
    out: the workbook's own MoE kernels, steps without graphs, identical sequences, and models
    measured under their floor, whose routing is not known."""
    rows = rows[(rows["status"] == "ok") & rows["method"].isin(TIMED)]
    keep = ~of_those_under(rows) & rows["tpot_s"].notna() & rows["ttft_s"].notna()
    keep &= ~rows["asked_moe_backend"].isin(OWN_BACKENDS)
    keep &= (rows["graphs"] != "eager") & ~rows["identical"].fillna(False).astype(bool)
    rows = rows[keep]
    cases = [case_of(row) for _, row in rows.iterrows()]
    alone = rows["draft_tokens"].fillna(0) == 0
    known = {
        "calibrates": alone,
        "format": [c.format for c in cases],
    }
    return rows.assign(case=cases, **known, skeleton=rows["model"].map(skeleton))


def skeleton(model: str) -> str:
    """The shape of a model that its edits start from, as text (DeepSeek-VL2-small has
    DeepSeek-V2-Lite's)."""
    a = catalog.load(model)
    return f"L{a.num_layers}-H{a.hidden_size}-E{a.num_experts}-K{a.top_k}-I{a.expert_ffn_dim}"


@cache
def left_out() -> dict[str, tuple[float, float, dict[str, str]]]:
    """point id -> (TTFT, TPOT) in s as predicted while its skeleton was left out, NaN where it
    could not be, and each metric's class."""
    return {
        row["point_id"]: (
            *(float(row[f"left_out_{m}_s"] or "nan") for m in shipped.METRICS),
            {m: row[f"class_{m}"] for m in shipped.METRICS},
        )
        for row in shipped.points()
    }


def add_predictions(
    summary: pd.DataFrame, architecture_of: ArchitectureOf, planned_for: str | None = None
) -> pd.DataFrame:
    """A copy with PREDICTED columns, `predicted_how`, and `predicted_reason` for nulls.
    planned_for: the kind of device of rows that were not measured."""
    under = set(under_the_floor(summary))
    rows = summary[[c for c in READ if c in summary]].to_dict("records")
    found = [_row(row, under, architecture_of, planned_for) for row in rows]
    values = pd.DataFrame([f for f, _, _ in found], index=summary.index, columns=list(PREDICTED))
    hows = {"predicted_how": [h for _, h, _ in found], "predicted_reason": [r for _, _, r in found]}
    return summary.assign(**values.astype("float64"), **hows)


def _row(
    row: dict, under: set[str], architecture_of: ArchitectureOf, planned_for: str | None
) -> tuple:
    """(columns, how, None) or ({}, None, reason)."""
    device = (row["device_kind"] if _is(row.get("device_kind")) else planned_for) or "not known"
    reason = _no_prediction(row, under) or _not_calibrated(device)
    if reason is not None:
        return {}, None, reason
    try:
        return *_predicted(row, architecture_of(row), device), None
    except ValueError as error:
        return {}, None, str(error)


def _predicted(row: dict, arch: Architecture, device: str) -> tuple[dict, str]:
    """(columns, how). Raises ValueError with the reason where there is none."""
    known = shipped.load(device)
    case = case_of(row, arch)
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


@cache
def _not_calibrated(device: str) -> str | None:
    try:
        shipped.load(device)
    except shipped.NotCalibrated as error:
        return str(error)


def _is(value) -> bool:
    return value is not None and not pd.isna(value)


def under_the_floor(summary: pd.DataFrame) -> list[str]:
    """Models measured faster than their floor by over UNDER_FLOOR without speculation: they read
    fewer experts than near-uniform routing would, so neither the floor nor a comparison by speed
    speaks of them. A CPU's caches can beat its copy rate, so there this tells nothing. Steps with a
    draft are judged apart, by `is_under`."""
    return sorted(summary.loc[of_those_under(summary), "model"].unique())


def of_those_under(summary: pd.DataFrame) -> pd.Series:
    """The rows of models under their floor: all of one notebook and number format in which the
    tokens are routed alike. Weights in another format, or choices imposed, are routed
    otherwise."""
    under = is_under(summary)
    if "draft_tokens" in summary:
        under &= summary["draft_tokens"].fillna(0) == 0
    named = ("notebook", "model", "quantization", "routing", "identical")
    places = [summary[c].astype(str) for c in named if c in summary]
    alike = pd.Series(list(zip(*places, strict=True)), summary.index, dtype=object)
    return alike.isin(set(alike[under]))


def is_under(summary: pd.DataFrame) -> pd.Series:
    """Whether each row's TPOT lies under its floor by over UNDER_FLOOR; False on a CPU and where
    there is no floor. With a draft it tells that the tokens of a step share experts more than
    tokens drawn at random do."""
    if "floor_tpot_s" not in summary or "device_kind" not in summary:
        return pd.Series(False, summary.index)
    under = summary["tpot_s"] < (1 - UNDER_FLOOR) * summary["floor_tpot_s"]
    return under & (summary["device_kind"] != "cpu")


def faster(
    a: pd.Series, b: pd.Series, ranks: int = SOURCES_CARDS, device: str | None = None
) -> Interval | None:
    """Throughput of row a over row b of a summary, were both split over `ranks` tensor ranks of
    `device` (None: of their own kind): what was measured, times what the model says that the ratio
    changes by. The interval is that of a predicted ratio there. None where nothing can be said: no
    calibration of a device, or the engine refuses the split."""
    here, there = [], []
    try:
        kind = device or a["device_kind"]
        for row in (a, b):
            case = case_of(row)
            here.append(predict(case.arch, case.settings, case.workload, row["device_kind"]))
            split = replace(case, settings=replace(case.settings, tensor_parallel=ranks))
            there.append((split, predict(split.arch, split.settings, split.workload, kind)))
        found = throughput_ratio(*there)
    except (KeyError, ValueError):  # a table without these columns, or a case that is refused
        return None
    model = here[0].throughput_tok_s.value / here[1].throughput_tok_s.value
    anchor = a["throughput_tok_s"] / b["throughput_tok_s"] / model
    return Interval(*(anchor * value for value in vars(found).values()))


def words(pairs: dict[str, tuple[pd.Series, pd.Series]]) -> str:
    """What each pair's ratio would be on the source's cards, in a sentence; empty where none can be
    predicted. pairs: what a over b is, and both rows."""
    found = {name: faster(*rows) for name, rows in pairs.items()}
    said = [f"{name} {percent(x)}" for name, x in found.items() if x is not None]
    if not said:
        return ""
    start = f"Scaled to the source's {SOURCES_CARDS} cards (TP {SOURCES_CARDS}) by the performance"
    return f" {start} model, predicted, deciding nothing: {'; '.join(said)}, with 95 % intervals."


def percent(ratio: Interval) -> str:
    """A ratio as a change in percent with its 95 % interval."""
    value, low, high = (100 * (x - 1) for x in (ratio.value, ratio.lo95, ratio.hi95))
    return f"{value:+.0f} % [{low:+.0f}, {high:+.0f}]"
