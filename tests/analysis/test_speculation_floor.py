"""Floor and prediction of steps with a draft, against sums made here from the shapes' own
numbers."""

import numpy as np
import pandas as pd
import pytest
import speculation_tables as t

from moebook.models import costs
from moebook.models.catalog import load
from moebook.predict.case import case_of
from moebook.predict.columns import add_predictions
from moebook.predict.roofline import Ceilings, add_floor

CEILINGS = Ceilings("synthetic", 3.0e12, 8.0e14, "bfloat16")
TARGET, DRAFT = load("Qwen3-30B-A3B"), load("Qwen3-0.6B")


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


def on_h200(**more) -> pd.DataFrame:
    settings = {"graphs": "light", "tensor_parallel": 1, "pipeline_parallel": 1}
    return one(device_kind="h200", **settings, **more)


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
    measured = case_of(one().iloc[0], TARGET)
    assert measured.tokens_per_step == 2.5 and measured.drafting.arch == DRAFT
    assert measured.settings.speculation.num_tokens == 3
    told = case_of(one(tokens_per_step=None).iloc[0], TARGET)
    assert told.tokens_per_step == pytest.approx(1 + 0.7 + 0.49 + 0.343)
    out = add_floor(one(tokens_per_step=None, set_acceptance=None), CEILINGS, target_of).iloc[0]
    assert np.isnan(out["floor_tpot_s"]) and "neither measured nor set" in out["floor_reason"]


def test_an_unknown_draft_gives_a_reason_and_no_floor():
    floored = add_floor(one(draft="Qwen9"), CEILINGS, target_of).iloc[0]
    assert np.isnan(floored["floor_e2e_s"]) and "Qwen9" in floored["floor_reason"]
    out = add_predictions(on_h200(draft="Qwen9"), target_of).iloc[0]
    assert np.isnan(out["predicted_e2e_s"]) and "Qwen9" in out["predicted_reason"]


def test_the_floor_of_each_row_is_its_own():
    table = pd.concat(
        [one(), one(tokens_per_step=2.0), one(draft="Qwen3-1.7B"), one(draft_tokens=2)],
        ignore_index=True,
    )
    found = add_floor(table, CEILINGS, target_of)["floor_tpot_s"]
    assert found.nunique() == 4 and found[1] == pytest.approx(found[0] * 2.5 / 2.0)


def test_a_quantized_target_has_a_draft_in_the_drafts_own_format():
    drafting = case_of(one(quantization="fp8").iloc[0], TARGET).drafting
    assert (drafting.arch, drafting.settings.quantization) == (DRAFT, "own")
    assert drafting.settings.speculation is None
    assert case_of(one(draft=None, speculative="ngram").iloc[0], TARGET).drafting is None


@pytest.mark.parametrize("method", ["acceptance", "routing", "ablation", "training"])
def test_trained_points_have_neither_floor_nor_prediction_and_do_not_calibrate(method):
    row = add_floor(one(method=method), CEILINGS, target_of).iloc[0]
    assert np.isnan(row["floor_e2e_s"]) and row["floor_reason"]
    out = add_predictions(on_h200(method=method), target_of).iloc[0]
    assert np.isnan(out["predicted_e2e_s"]) and out["predicted_reason"] == row["floor_reason"]


def test_a_drafted_step_is_the_targets_and_the_drafts_by_the_tokens_it_gains():
    rows = [on_h200(tokens_per_step=n) for n in (2.5, 2.0)]
    found = add_predictions(pd.concat(rows, ignore_index=True), target_of)["predicted_tpot_s"]
    assert found[1] == pytest.approx(found[0] * 2.5 / 2.0)
    plain = add_predictions(on_h200(draft_tokens=0, draft=None, tokens_per_step=1.0), target_of)
    assert 2.5 * found[0] > plain["predicted_tpot_s"].iloc[0]
