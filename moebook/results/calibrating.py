"""Calibrations from the measured points of all sections and profiles of an outputs folder.

A fit for all of them, and one for every skeleton of which all points are left out, for scores and
intervals. A skeleton is a model's own shape: its edits, its ranks' shares, and models of the same
shape (DeepSeek-VL2-small's language part is DeepSeek-V2-Lite's) are left out together. points.csv
holds each point with what was predicted of it while it was left out."""

import datetime
import hashlib
from collections.abc import Container
from pathlib import Path

import pandas as pd
import yaml

from moebook import devices, paths
from moebook.predict import scoring
from moebook.predict.columns import usable
from moebook.predict.fitting import Fit, Fitted, fit_reserve
from moebook.predict.scoring import rounded
from moebook.predict.shipped import METRICS, POINTS, Calibration
from moebook.predict.step import Rates
from moebook.results.table import summarize

TABLES = "*/*/results.parquet"
MODELS = 3  # least, so that a model's interval rests on two others


def calibrate(
    root: Path, to: Path, held_out: Container[str] = ()
) -> list[tuple[Path, Calibration]]:
    """Write the points with their left-out predictions, and a file a kind of card, into a folder;
    each file, and what is in it. held_out: results that the fit does not see, as
    `2xh200/03_pruning`. ValueError where the points are too few, and before anything is
    fitted where a folder cannot be one."""
    for option, folder in (("--outputs", root), ("--to", to)):
        try:
            wrong = paths.place_problem(folder.absolute())
            wrong = wrong or (paths.shipped_problem(folder) if folder is to else None)
        except OSError as error:  # a name longer than any file's
            wrong = error.strerror
        if wrong:
            raise ValueError(f"{option}: given {str(folder)!r}; {wrong}; give the path of a folder")
    points, made = build(root, held_out)
    to.mkdir(parents=True, exist_ok=True)
    points.to_csv(to / POINTS, index=False, float_format="%.6g")
    found = [(to / f"{calibration.device_kind}.yaml", calibration) for calibration in made]
    for file, calibration in found:
        file.write_text(yaml.safe_dump(calibration.to_dict(), sort_keys=False, width=100))
    return found


def build(root: Path, held_out: Container[str] = ()) -> tuple[pd.DataFrame, list[Calibration]]:
    """The points with their left-out predictions, and one calibration a kind of card."""
    points = read(root, held_out)
    if points["skeleton"].nunique() < MODELS:
        raise ValueError(
            f"{root}: measured points of {points['skeleton'].nunique()} model; intervals come from "
            f"models left out of the fit, so measure {MODELS} or more"
        )
    rates = {kind: rates_of(kind) for kind in sorted(set(points["device_kind"]))}
    fit = Fit(points, rates)
    whole = fit.run(points["calibrates"].to_numpy(bool))
    fitted = fit.fitted(whole)
    inside = fit.seconds(whole)
    points = points.join(scoring.left_out(fit, points, whole))
    for metric, seconds in zip(METRICS, inside, strict=True):
        points[f"fitted_{metric}_s"] = seconds
    reserve = fit_reserve(points)
    made = [_calibration(kind, points, fitted, rates[kind], reserve) for kind in rates]
    return _shipped(points), made


def read(root: Path, held_out: Container[str] = ()) -> pd.DataFrame:
    """One row per measured point of an outputs folder that can calibrate, each once."""
    found = []
    for path in sorted(root.glob(TABLES)):
        if "/".join(path.parts[-3:-1]) in held_out:
            continue
        table = pd.read_parquet(path)
        if (table["status"] == "ok").any():
            found.append(usable(summarize(table)).assign(profile=path.parts[-3]))
    found = [rows for rows in found if len(rows)]
    if not found:
        raise ValueError(f"--outputs: given {str(root)!r}; no measured points lie in it ({TABLES})")
    rows = pd.concat(found, ignore_index=True)
    return rows.drop_duplicates("point_id", ignore_index=True)


def rates_of(kind: str) -> Rates:
    """A card's published rates. ValueError where there are none."""
    known = devices.published(kind)
    if known.bandwidth_bytes_per_s is None or known.bf16_flops_per_s is None:
        raise ValueError(f"device kind {kind!r} has no published rates in devices.yaml")
    return Rates(known.bandwidth_bytes_per_s, known.bf16_flops_per_s)


def _calibration(
    kind: str, points: pd.DataFrame, fitted: Fitted, rates: Rates, reserve: dict[str, float]
) -> Calibration:
    own = points[points["device_kind"] == kind]
    formats = {
        name: {
            "factors": rounded(fitted.formats[kind].get(name, {})),
            "points": len(rows),
            "models": sorted(set(rows["model"])),
        }
        for name, rows in own[own["calibrates"]].groupby("format")
    }
    return Calibration(
        device_kind=kind,
        engine=", ".join(sorted(set(own["engine_version"]))),
        built=datetime.date.today().isoformat(),
        inputs={
            "points": int(own["calibrates"].sum()),
            "profiles": sorted(set(own["profile"])),
            "digest": hashlib.sha256("".join(sorted(own["point_id"])).encode()).hexdigest()[:16],
            "attention": sorted({g.kind for c in own["case"] for g in c.arch.attention_groups}),
            "families": sorted({c.arch.family for c in own["case"]}),
        },
        rates=rates,
        factors=rounded(fitted.factors[kind]),
        formats=formats,
        reserve=rounded(reserve),
        intervals=scoring.intervals(points, kind),
        scores=scoring.scores(own),
        range=scoring.measured_range(own),
    )


def _shipped(points: pd.DataFrame) -> pd.DataFrame:
    """What points.csv holds."""
    known = [
        "point_id",
        "profile",
        "notebook",
        "device_kind",
        "model",
        "series",
        "format",
        "num_layers",
        "hidden_size",
        "expert_ffn_dim",
        "num_experts",
        "top_k",
        "tensor_parallel",
        "pipeline_parallel",
        "expert_parallel",
        "graphs",
        "routing",
        "batch",
        "input_tokens",
        "output_tokens",
        "draft",
        "draft_tokens",
        "ttft_s",
        "tpot_s",
        "left_out_ttft_s",
        "left_out_tpot_s",
        "class_ttft",
        "class_tpot",
    ]
    return points[known].sort_values(["device_kind", "point_id"])
