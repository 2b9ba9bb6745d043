"""The fit, its folds and its intervals, on times that planted factors give; predictions beside the
rows of a summary."""

import itertools
import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml

from moebook import paths
from moebook.models.catalog import load
from moebook.models.edit import edit
from moebook.predict import scoring, shipped
from moebook.predict.case import Case
from moebook.predict.case import case_of as case
from moebook.predict.columns import (
    CALIBRATED,
    LEFT_OUT,
    add_predictions,
    left_out,
    skeleton,
    under_the_floor,
    usable,
)
from moebook.predict.fitting import Fit
from moebook.predict.shipped import HOST
from moebook.predict.step import FACTORS, Batch, Rates, of_rows
from moebook.study.settings import EngineSettings, Workload

RATES = {"h200": Rates(4.8e12, 9.9e14), "h100": Rates(3.35e12, 9.9e14)}
PLANTED = {name: start for name, (start, _) in FACTORS.items()} | {
    "b_experts": 0.6,
    "b_dense": 0.9,
    "f_experts": 0.3,
    "layer_s": 3e-5,
    "host_s": 1.2e-3,
    "prefill_f_dense": 0.45,
}
MODELS = ("Mixtral-8x7B-v0.1", "OLMoE-1B-7B-0125", "Qwen1.5-MoE-A2.7B", "Qwen3-30B-A3B")


def points(noise: float = 0.0, models=MODELS, seed: int = 0) -> pd.DataFrame:
    """Points of each model at several depths, batches and lengths, with times as PLANTED has them
    and log-normal noise."""
    rows = []
    for name, layers, batch, tokens, device in itertools.product(
        models, (4, 12), (1, 16, 64), (128, 1024), RATES
    ):
        arch = edit(load(name), num_layers=layers)
        made = Case(arch, EngineSettings(), Workload(batch, tokens, tokens))
        rows.append({"model": name, "device_kind": device, "case": made, "calibrates": True})
    found = pd.DataFrame(rows)
    batch = Batch(list(found["case"]), [RATES[d] for d in found["device_kind"]])
    told = batch.seconds(of_rows(PLANTED, {}, batch.formats))
    draws = np.random.default_rng(seed).lognormal(0, noise, (2, len(found)))
    known = {"format": batch.formats}
    skeletons = found["model"].map(skeleton)
    times = {"ttft_s": told[0] * draws[0], "tpot_s": told[1] * draws[1]}
    return found.assign(**known, **times, skeleton=skeletons)


def test_the_fit_recovers_what_the_points_tell():
    table = points()
    fit = Fit(table, RATES)
    x = fit.run(np.ones(len(table), bool))
    ttft, tpot = fit.seconds(x)
    np.testing.assert_allclose(tpot, table["tpot_s"], rtol=0.03)
    np.testing.assert_allclose(ttft, table["ttft_s"], rtol=0.05)
    found = fit.fitted(x).factors["h200"]
    for name in ("b_experts", "host_s"):
        assert found[name] == pytest.approx(PLANTED[name], rel=0.1), name


def test_points_that_do_not_calibrate_move_nothing():
    table = points(models=MODELS[:2])
    spoilt = table.assign(tpot_s=9.0, calibrates=False)
    both = pd.concat([table, spoilt], ignore_index=True)
    keep = np.ones(len(table), bool)
    a = Fit(table, RATES).run(keep)
    b = Fit(both, RATES).run(np.ones(len(both), bool))
    np.testing.assert_allclose(a, b, atol=1e-6)


def test_a_left_out_point_is_predicted_without_its_skeleton():
    table = points(models=MODELS[:3])
    spoilt = table.copy()
    spoilt.loc[spoilt["model"] == MODELS[0], ["ttft_s", "tpot_s"]] *= 3.0
    told = []
    for each in (table, spoilt):
        fit = Fit(each, RATES)
        near = np.concatenate([fit.start, np.zeros(2 * len(fit.start))])
        told.append(scoring.left_out(fit, each, near)["left_out_tpot_s"].to_numpy())
    own = (table["model"] == MODELS[0]).to_numpy()
    np.testing.assert_allclose(told[0][own], told[1][own], rtol=1e-9)
    assert not np.allclose(told[0][~own], told[1][~own], rtol=1e-3)


def test_a_format_of_one_skeleton_has_no_left_out_prediction():
    table = points(models=MODELS[:2])
    fp8 = [replace(c, settings=EngineSettings(quantization="fp8")) for c in table["case"]]
    own = (table["model"] == MODELS[0]).to_numpy()
    table.loc[own, "case"] = pd.Series(fp8, table.index)[own]
    table["format"] = [c.format for c in table["case"]]
    fit = Fit(table, RATES)
    told = scoring.left_out(fit, table, np.concatenate([fit.start, np.zeros(2 * len(fit.start))]))
    assert told.loc[own, ["left_out_ttft_s", "left_out_tpot_s"]].isna().all(axis=None)


def test_what_the_host_paces_has_a_class_of_its_own():
    table = points(models=MODELS[:3])
    fit = Fit(table, RATES)
    near = np.concatenate([fit.start, np.zeros(2 * len(fit.start))])
    told = scoring.left_out(fit, table, near)
    small = table["case"].map(lambda c: (c.arch.num_layers, c.workload.batch) == (4, 1))
    assert (told["class_tpot"][small] == HOST).any()
    large = table["case"].map(lambda c: c.arch.num_layers == 12 and c.workload.batch == 64)
    assert set(told["class_tpot"][large]) == {"batch 32 and more"}


def test_intervals_are_conformal_quantiles_and_cover_what_they_say():
    rng = np.random.default_rng(1)
    n = 400
    table = pd.DataFrame(
        {
            "class_ttft": "batch 1",
            "class_tpot": "batch 1",
            "device_kind": "h200",
            "skeleton": np.repeat(list("abcdefgh"), n // 8),
            "ttft_s": 1.0,
            "tpot_s": 1.0,
            "left_out_ttft_s": rng.lognormal(0, 0.1, n),
            "left_out_tpot_s": rng.lognormal(0, 0.1, n),
        }
    )
    found = scoring.intervals(table, "h200")["batch 1"]["tpot"]
    errors = np.sort(np.abs(np.log(table["left_out_tpot_s"])))
    assert found[95] == pytest.approx(errors[int(np.ceil(401 * 0.95)) - 1], rel=1e-3)
    assert found[80] < found[95] and (found["n"], found["models"]) == (n, 8)
    assert found["coverage"] == pytest.approx({80: 0.8, 95: 0.95}, abs=0.03)
    one = table.assign(skeleton="a")
    found = scoring.intervals(one, "h200")["batch 1"]["tpot"]
    assert found["models"] == 1 and found["coverage"] == {80: None, 95: None}


def test_a_model_with_many_points_does_not_set_the_width_alone():
    """100 points of one model that err by 1 %, 4 of each of 4 others that err by 20 %."""
    skeletons = ["a"] * 100 + list("bcde") * 4
    table = pd.DataFrame({"class_ttft": "batch 1", "class_tpot": "batch 1", "skeleton": skeletons})
    error = np.where(table["skeleton"] == "a", 1.01, 1.2)
    times = {f"{side}{m}_s": 1.0 for side in ("", "left_out_") for m in ("ttft", "tpot")}
    table = table.assign(device_kind="h200", **times | {"left_out_tpot_s": error})
    found = scoring.intervals(table, "h200")["batch 1"]["tpot"]
    assert found[80] == pytest.approx(np.log(1.2), rel=1e-3)


def test_a_fit_wants_points():
    with pytest.raises(ValueError, match="3 measured points; a fit takes 30"):
        Fit(points().head(3), RATES)


def test_what_ships_names_its_inputs_and_its_scores():
    for name in shipped.names():
        known = shipped.load(name)
        assert known.inputs["points"] >= 100 and len(known.inputs["digest"]) == 16
        score = known.scores["left out"]["all"]
        assert score["tpot_median_pct"] <= 6 and score["models"] >= 8
        assert all(v <= 1 for k, v in known.factors.items() if k.startswith(("b_", "f_")))
        again = shipped.Calibration.from_dict(yaml.safe_load(yaml.safe_dump(known.to_dict())))
        assert again == known


def test_every_shipped_point_is_of_the_reference():
    shipped_points = left_out()
    seen = set()
    for path in paths.reference().glob("*/*/results.parquet"):
        seen |= set(pd.read_parquet(path, columns=["point_id"])["point_id"].dropna())
    assert set(shipped_points) <= seen and len(shipped_points) > 500


def row(**more) -> pd.DataFrame:
    settings = {"dtype": "bfloat16", "quantization": None, "kv_cache_dtype": "auto"}
    split = {"tensor_parallel": 1, "pipeline_parallel": 1, "expert_parallel": False}
    work = {"batch": 16, "input_tokens": 512, "output_tokens": 128, "routing": "model"}
    told = {"model": MODELS[1], "series": "", "method": "full", "status": "ok", "graphs": "light"}
    return pd.DataFrame([{"device_kind": "h200", **settings, **split, **work, **told, **more}])


def predicted(**more) -> pd.Series:
    return add_predictions(row(**more), lambda r: load(r["model"])).iloc[0]


def test_a_row_has_its_metrics_with_intervals():
    out = predicted()
    e2e = out["predicted_ttft_s"] + 127 * out["predicted_tpot_s"]
    assert out["predicted_e2e_s"] == pytest.approx(e2e)
    assert out["predicted_throughput_tok_s"] == pytest.approx(16 * 640 / e2e)
    assert out["predicted_tpot_s_lo95"] < out["predicted_tpot_s"] < out["predicted_tpot_s_hi95"]
    assert out["predicted_how"] == CALIBRATED and out["predicted_reason"] is None
    assert np.isnan(predicted(output_tokens=1)["predicted_tpot_s"])


def test_a_measured_point_of_the_reference_has_its_left_out_prediction():
    point, (ttft, tpot, _) = next((p, t) for p, t in left_out().items() if not np.isnan(t[1]))
    out = predicted(point_id=point)
    assert (out["predicted_ttft_s"], out["predicted_tpot_s"]) == (ttft, tpot)
    assert out["predicted_how"] == LEFT_OUT


@pytest.mark.parametrize(
    "more, words",
    [
        ({"status": "infeasible"}, "infeasible"),
        ({"identical": True}, "identical"),
        ({"asked_moe_backend": "loop"}, "own MoE kernels"),
        ({"graphs": "eager"}, "without graphs"),
        ({"device_kind": "cpu"}, "no calibration for device 'cpu'"),
        ({"method": "layer"}, "no run of an engine"),
    ],
)
def test_a_row_without_a_prediction_says_why(more, words):
    out = predicted(**more)
    assert np.isnan(out["predicted_e2e_s"]) and words in out["predicted_reason"]


def test_imposed_routing_costs_its_own_kernels():
    plain, drawn = predicted(), predicted(routing="uniform")
    assert drawn["predicted_tpot_s"] > plain["predicted_tpot_s"]
    assert predicted(routing="same")["predicted_tpot_s"] < plain["predicted_tpot_s"]


def test_a_row_is_turned_back_into_its_case():
    made = case(
        row(quantization="fp8", draft_tokens=2, draft="Qwen3-0.6B").iloc[0], load(MODELS[1])
    )
    assert made.settings.quantization == "fp8" and made.settings.speculation.num_tokens == 2
    assert not usable(
        row(ttft_s=1.0, tpot_s=1.0, draft_tokens=2, draft="Qwen3-0.6B", set_acceptance=0.5,
            num_layers=16, expert_ffn_dim=1024, num_experts=64, top_k=8, asked_moe_backend=None,
            identical=False)
    )["calibrates"].any()  # fmt: skip


def test_a_model_under_its_floor_neither_calibrates_nor_is_predicted():
    rows = pd.DataFrame(
        {
            "model": ["A", "A", "B", "C"],
            "tpot_s": [1.0, 0.7, 0.99, 0.5],
            "floor_tpot_s": 1.0,
            "device_kind": ["h200", "h200", "h200", "cpu"],
        }
    )
    assert under_the_floor(rows) == ["A"]
    assert under_the_floor(rows.drop(columns="floor_tpot_s")) == []


def test_ones_own_results_make_a_calibration_that_the_command_reads(tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from moebook import cli
    from moebook.results import calibrating

    table = points(models=MODELS[:3]).assign(
        point_id=lambda t: t.index.astype(str), profile="mine", engine_version="vllm 0.26.0"
    )
    monkeypatch.setattr(calibrating, "read", lambda *_: table)
    monkeypatch.setattr(calibrating, "fit_reserve", lambda points: shipped.load("h200").reserve)
    monkeypatch.setattr(calibrating, "_shipped", lambda points: points[["point_id", "model"]])
    run = CliRunner().invoke
    done = run(cli.app, ["calibrate", "--to", str(tmp_path)], catch_exceptions=False)
    assert done.exit_code == 0 and "models left out of the fit" in done.stdout
    own = ["predict", MODELS[0], "--calibration", str(tmp_path / "h100.yaml"), "--json"]
    rows = json.loads(run(cli.app, own, catch_exceptions=False).stdout)
    assert {row["device"] for row in rows} == {"h100"} and rows[0]["tpot_s"] > 0
    monkeypatch.setattr(calibrating, "read", lambda *_: table[table["model"] == MODELS[0]])
    with pytest.raises(ValueError, match="measured points of 1 model"):
        calibrating.calibrate(tmp_path, tmp_path)
    with pytest.raises(ValueError, match="is no file of `moebook calibrate`"):
        shipped.read(tmp_path / "points.csv")
    with pytest.raises(ValueError, match="is no file of `moebook calibrate`"):
        shipped.read(tmp_path / "none.yaml")
