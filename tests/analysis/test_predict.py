import itertools
import json
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest

from moebook.models import costs
from moebook.models.catalog import load
from moebook.models.edit import edit
from moebook.predict import model as predict
from moebook.predict.calibration import IMPORTANCE, SIBLING, Calibration, Factors
from moebook.predict.model import Ceilings

CEILINGS = Ceilings("synthetic", 3.0e12, 8.0e14, "bfloat16")
PLANTED = Factors(
    host_step_s=2e-3,
    host_prefill_s=6e-3,
    layer_s=4e-5,
    request_s=3e-5,
    expert_bytes=0.7,
    other_bytes=0.5,
    kv_bytes=0.35,
    expert_flops=0.4,
    other_flops=0.6,
)
BASE = load("Mixtral-8x7B-v0.1")


def architecture_of(row):
    return edit(
        BASE,
        ffn_dim=int(row["expert_ffn_dim"]),
        num_experts=int(row["num_experts"]),
        top_k=int(row["top_k"]),
        num_layers=int(row["num_layers"]),
    )


def plan(
    ffn=(1792, 14336),
    experts=(8, 32),
    active=(1, 8),
    layers=(4, 8),
    batches=(1, 64),
    tokens=(128, 2048),
):
    """Points without times."""
    rows = [
        {
            "model": "Mixtral-8x7B-v0.1",
            "method": "full",
            "status": "ok",
            "device": "synthetic",
            "hidden_size": 4096,
            "num_layers": deep,
            "expert_ffn_dim": i,
            "num_experts": e,
            "top_k": k,
            "dtype": "bfloat16",
            "quantization": None,
            "kv_cache_dtype": "auto",
            "tensor_parallel": 1,
            "pipeline_parallel": 1,
            "expert_parallel": False,
            "batch": b,
            "input_tokens": s,
            "output_tokens": s,
        }
        for i, e, k, deep, b, s in itertools.product(ffn, experts, active, layers, batches, tokens)
    ]
    return pd.DataFrame(rows)


def measured(table, noise=0.0, seed=0, factors=PLANTED):
    """The points with times as `factors` give them, times log-normal noise."""
    told = predict.predict(table, Calibration(CEILINGS, factors, 0), architecture_of)
    rng = np.random.default_rng(seed)
    times = {
        f"{m}_s": told[f"predicted_{m}_s"] * rng.lognormal(0, noise, len(told))
        for m in ("ttft", "tpot")
    }
    e2e = times["ttft_s"] + (table["output_tokens"] - 1) * times["tpot_s"]
    return table.assign(**times, e2e_s=e2e)


def test_a_step_by_hand():
    table = plan(ffn=(1792,), experts=(8,), active=(2,), layers=(4,), batches=(16,), tokens=(128,))
    model = architecture_of(table.iloc[0])
    cost = costs.decode_cost(model, 16, 128 + 64)
    kv = cost.bytes["kv_cache"] / 3e12 / 0.35
    experts = np.hypot(cost.bytes["experts"] / 3e12 / 0.7, cost.flops["experts"] / 8e14 / 0.4)
    other_bytes = cost.total_bytes - cost.bytes["experts"] - cost.bytes["kv_cache"]
    other = np.hypot(
        other_bytes / 3e12 / 0.5, (cost.total_flops - cost.flops["experts"]) / 8e14 / 0.6
    )
    wanted = 2e-3 + 4 * 4e-5 + 16 * 3e-5 + experts + other + kv
    out = predict.predict(table, Calibration(CEILINGS, PLANTED, 0), architecture_of).iloc[0]
    assert out["predicted_tpot_s"] == pytest.approx(wanted, rel=1e-9)
    assert out["predicted_e2e_s"] == pytest.approx(out["predicted_ttft_s"] + 127 * wanted)
    assert out["predicted_throughput_tok_s"] == pytest.approx(16 * 256 / out["predicted_e2e_s"])


def test_fit_recovers_planted_factors():
    calibration = predict.fit(measured(plan()), CEILINGS, architecture_of)
    assert calibration.notes == () and calibration.num_points == 64
    for name, value in asdict(PLANTED).items():
        assert getattr(calibration.factors, name) == pytest.approx(value, rel=0.05), name


def test_calibration_survives_json():
    calibration = predict.fit(measured(plan(layers=(4,))), CEILINGS, architecture_of)
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration


def test_six_points_drop_factors_and_say_so():
    table = measured(
        plan(experts=(8,), layers=(4,), batches=(16,), tokens=(128,), ffn=(1792, 7168, 14336))
    )
    assert len(table) == 6
    calibration = predict.fit(table, CEILINGS, architecture_of)
    notes = " ".join(calibration.notes)
    assert "layer_s dropped (all points have one depth); taken as 0" in notes
    assert "12 observations allow 4 factors" in notes and len(calibration.notes) == 5
    assert (
        calibration.factors.kv_bytes == calibration.factors.other_bytes
        and calibration.factors.request_s == 0
    )
    told = predict.predict(table, calibration, architecture_of)
    assert (told["predicted_e2e_s"] / told["e2e_s"] - 1).abs().max() < 0.1


def test_every_factor_has_a_fallback():
    assert set(asdict(PLANTED)) == set(IMPORTANCE)
    assert set(IMPORTANCE) - set(SIBLING) == {"host_step_s", "expert_bytes", "expert_flops"}


def test_cross_validation_is_small_on_planted_data_and_large_on_noise():
    table = plan(batches=(16,))
    good = predict.cross_validate(measured(table), CEILINGS, architecture_of)
    assert good.folds == 5 and good.e2e.n == len(table) and good.e2e.max_pct < 5
    bad = predict.cross_validate(measured(table, noise=0.6), CEILINGS, architecture_of)
    assert bad.e2e.mean_pct > 25 and bad.e2e.mean_pct >= bad.e2e.median_pct
    assert f"{bad.e2e.mean_pct:.1f} %" in str(bad)


def test_folds_leave_out_whole_engine_shapes():
    table = measured(plan(ffn=(1792, 3584, 14336), experts=(8,), active=(2,), layers=(4,)))
    assert predict.cross_validate(table, CEILINGS, architecture_of).folds == 3
    with pytest.raises(ValueError, match="1 engine shape in 4 points"):
        predict.cross_validate(table[table["expert_ffn_dim"] == 1792], CEILINGS, architecture_of)


def test_only_measured_points_of_the_device_calibrate():
    table = measured(plan(layers=(4,), experts=(8,)))
    spoilt = table.assign(tpot_s=99.0)
    extra = [
        spoilt.assign(method="depth"),
        spoilt.assign(device="other"),
        spoilt.assign(status="failed", ttft_s=None),
        spoilt.assign(dtype="float32"),
    ]
    a, b = (predict.fit(t, CEILINGS, architecture_of) for t in (table, pd.concat([table, *extra])))
    assert a == b


def test_refusals():
    table = measured(plan(layers=(4,), experts=(8,)))
    with pytest.raises(ValueError, match="3 of 3 rows.*at least 4"):
        predict.fit(table.head(3), CEILINGS, architecture_of)
    with pytest.raises(ValueError, match="summarize"):
        predict.fit(table.assign(repeat=0), CEILINGS, architecture_of)
    with pytest.raises(ValueError, match="calibrate one at a time"):
        predict.fit(
            table.assign(tensor_parallel=[1, 2] * (len(table) // 2)), CEILINGS, architecture_of
        )


def test_predictions_reach_unmeasured_points_and_stop_at_what_is_not_modelled():
    table = plan(layers=(4,), experts=(8,), batches=(16,), tokens=(128,))
    table = table.assign(status=["oom", "infeasible", "ok", "ok"], tensor_parallel=[1, 1, 4, 1])
    table.loc[3, "output_tokens"] = 1
    out = predict.predict(table, Calibration(CEILINGS, PLANTED, 0), architecture_of)
    assert out["predicted_e2e_s"].isna().tolist() == [False, True, True, False]
    assert out["predicted_tpot_s"].isna().tolist() == [False, True, True, True]
    assert "communication is not modelled" in out["predicted_reason"].iloc[2]
    four = replace(Calibration(CEILINGS, PLANTED, 0), parallel=(4, 1, False))
    out = predict.predict(table, four, architecture_of)
    assert out["predicted_e2e_s"].notna().tolist() == [False, False, True, False]


def test_a_model_under_its_floor_neither_calibrates_nor_is_predicted():
    import pandas as pd

    from moebook.predict.under_bound import under_the_floor

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
