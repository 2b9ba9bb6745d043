"""Floor and prediction of steps with a draft, against sums made here from the shapes' own
numbers."""

import numpy as np
import pandas as pd
import pytest
import speculation_tables as t

from moebook.models import costs
from moebook.models.catalog import load
from moebook.predict import model as predict
from moebook.predict.calibration import Calibration, Factors
from moebook.predict.model import Ceilings, add_floor
from moebook.predict.roofline import Case, case_of

CEILINGS = Ceilings("synthetic", 3.0e12, 8.0e14, "bfloat16")
TARGET, DRAFT = load("Qwen3-30B-A3B"), load("Qwen3-0.6B")
FACTORS = Factors(
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


def target_of(row):
    return TARGET


def one(**more) -> pd.DataFrame:
    row = t.row(
        "spec_tokens",
        "draft Qwen3-0.6B",
        3,
        2,
        100,
        1e-3,
        per_step=2.5,
        draft="Qwen3-0.6B",
        set_acceptance=0.7,
    )
    return pd.DataFrame([{**row, "output_tokens": 2, **more}])


def target_step_s(tokens: int, sequences: int = 2, context: int = 101) -> float:
    """One target step over `tokens` tokens of `sequences`: 48 layers of 128 experts of 768, 32
    heads of 128, 4 of cache."""
    layers, hidden, vocab, head = 48, 2048, 151936, 128
    attention = layers * (hidden * head * (32 + 2 * 4) + 32 * head * hidden)
    experts = layers * 128 * (1 - (120 / 128) ** tokens) * 3 * hidden * 768
    rest = (
        layers * 128 * hidden
        + layers * (2 * hidden + 2 * head)
        + hidden
        + vocab * hidden
        + tokens * hidden
    )
    each = tokens // sequences
    cache = sequences * layers * 2 * 4 * head * (context + each - 1 + each)
    return 2 * (attention + experts + rest + cache) / 3.0e12


def draft_step_s(sequences: int = 2, context: int = 101) -> float:
    """One step of the dense draft: 28 layers of 1024 x 3072, 16 heads of 128, 8 of cache, head tied
    to the embedding."""
    layers, hidden, vocab, head = 28, 1024, 151936, 128
    attention = layers * (hidden * head * (16 + 2 * 8) + 16 * head * hidden)
    ffn = layers * 3 * hidden * 3072
    rest = layers * (2 * hidden + 2 * head) + hidden + vocab * hidden + sequences * hidden
    cache = sequences * layers * 2 * 8 * head * (context + 1)
    return 2 * (attention + ffn + rest + cache) / 3.0e12


def test_a_step_by_hand():
    row = add_floor(one(), CEILINGS, target_of).iloc[0]
    wanted = (target_step_s(2 * 4) + 3 * draft_step_s()) / 2.5
    assert row["floor_tpot_s"] == pytest.approx(wanted, rel=1e-9) and row["floor_reason"] is None
    found = [costs.prefill_cost(model, 2, 100) for model in (TARGET, DRAFT)]
    prefill = sum(max(c.total_bytes / 3e12, c.total_flops / 8e14) for c in found)
    assert row["floor_ttft_s"] == pytest.approx(prefill)
    assert row["floor_e2e_s"] == pytest.approx(prefill + wanted)
    plain = add_floor(
        one(draft_tokens=0, draft=None, tokens_per_step=1.0), CEILINGS, target_of
    ).iloc[0]
    assert plain["floor_tpot_s"] == pytest.approx(target_step_s(2), rel=1e-9)


def test_lookup_costs_nothing_to_draft():
    row = add_floor(
        one(draft=None, speculative="ngram", set_acceptance=None), CEILINGS, target_of
    ).iloc[0]
    assert row["floor_tpot_s"] == pytest.approx(target_step_s(2 * 4) / 2.5, rel=1e-9)
    cost = costs.prefill_cost(TARGET, 2, 100)
    assert row["floor_ttft_s"] == pytest.approx(
        max(cost.total_bytes / 3e12, cost.total_flops / 8e14)
    )


def test_tokens_per_step_are_the_measured_ones_or_follow_from_the_set_acceptance():
    measured = case_of(one().iloc[0], target_of)
    assert (measured.tokens_per_step, measured.draft, measured.draft_tokens) == (2.5, DRAFT, 3)
    told = case_of(one(tokens_per_step=None).iloc[0], target_of)
    assert told.tokens_per_step == pytest.approx(1 + 0.7 + 0.49 + 0.343)
    out = add_floor(one(tokens_per_step=None, set_acceptance=None), CEILINGS, target_of).iloc[0]
    assert np.isnan(out["floor_tpot_s"]) and "neither measured nor set" in out["floor_reason"]


def test_an_unknown_draft_gives_a_reason_and_no_floor():
    for out, column in (
        (add_floor(one(draft="Qwen9"), CEILINGS, target_of), "floor"),
        (
            predict.predict(one(draft="Qwen9"), Calibration(CEILINGS, FACTORS, 0), target_of),
            "predicted",
        ),
    ):
        assert (
            np.isnan(out[f"{column}_e2e_s"].iloc[0]) and "Qwen9" in out[f"{column}_reason"].iloc[0]
        )


def test_the_floor_of_each_row_is_its_own():
    table = pd.concat(
        [one(), one(tokens_per_step=2.0), one(draft="Qwen3-1.7B"), one(draft_tokens=2)],
        ignore_index=True,
    )
    found = add_floor(table, CEILINGS, target_of)["floor_tpot_s"]
    assert found.nunique() == 4 and found[1] == pytest.approx(found[0] * 2.5 / 2.0)


def test_a_quantized_target_has_a_draft_in_the_drafts_own_format():
    case = Case(TARGET, 2, 100, 2, quantization="fp8", draft=DRAFT, draft_tokens=3)
    assert case.drafting == Case(DRAFT, 2, 100, 2, quantization="own")
    assert Case(TARGET, 2, 100, 2, draft_tokens=3).drafting is None


@pytest.mark.parametrize("method", ["acceptance", "routing", "ablation", "training"])
def test_trained_points_have_neither_floor_nor_prediction_and_do_not_calibrate(method):
    row = add_floor(one(method=method), CEILINGS, target_of).iloc[0]
    assert np.isnan(row["floor_e2e_s"]) and row["floor_reason"]
    out = predict.predict(one(method=method), Calibration(CEILINGS, FACTORS, 0), target_of).iloc[0]
    assert np.isnan(out["predicted_e2e_s"]) and out["predicted_reason"] == row["floor_reason"]
    with pytest.raises(ValueError, match="0 of 8 rows"):
        predict.fit(pd.concat([one(method=method)] * 8), CEILINGS, target_of)


def test_a_prediction_by_hand():
    def seconds(cost, host_s, arch):
        kv = cost.bytes["kv_cache"] / 3e12 / 0.35, cost.flops["attention_scores"] / 8e14 / 0.6
        experts = cost.bytes["experts"] / 3e12 / 0.7, cost.flops["experts"] / 8e14 / 0.4
        other = (
            (cost.total_bytes - cost.bytes["kv_cache"] - cost.bytes["experts"]) / 3e12 / 0.5,
            (cost.total_flops - cost.flops["experts"]) / 8e14 / 0.6,
        )
        return (
            host_s
            + 4e-5 * arch.num_layers
            + 3e-5 * 2
            + kv[0]
            + np.hypot(*experts)
            + np.hypot(*other)
        )

    out = predict.predict(
        one(output_tokens=100), Calibration(CEILINGS, FACTORS, 0), target_of
    ).iloc[0]
    verify = costs.decode_cost(TARGET, 2, 150, tokens_per_sequence=4)
    step = seconds(verify, 2e-3, TARGET) + 3 * seconds(
        costs.decode_cost(DRAFT, 2, 150), 2e-3, DRAFT
    )
    assert out["predicted_tpot_s"] == pytest.approx(step / 2.5, rel=1e-9)
    prefill = sum(seconds(costs.prefill_cost(m, 2, 100), 6e-3, m) for m in (TARGET, DRAFT))
    assert out["predicted_ttft_s"] == pytest.approx(prefill, rel=1e-9)


def test_only_rows_without_speculation_calibrate():
    plain = t.cost({"Qwen3-0.6B": 0.1}).query("draft_tokens == 0")
    table = pd.concat(
        [plain, t.cost({"Qwen3-0.6B": 0.1}).query("draft_tokens > 0").assign(tpot_s=9.0)]
    )
    assert predict.fit(table, CEILINGS, target_of) == predict.fit(plain, CEILINGS, target_of)
    assert predict.fit(plain, CEILINGS, target_of).num_points == len(plain) == 7
