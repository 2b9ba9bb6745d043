"""Rows of one card, predicted on four."""

import pytest
from test_predict import row

from moebook.predict.columns import faster, words

SHAPE = {"num_layers": 16, "expert_ffn_dim": 1024, "num_experts": 64}


def cell(top_k: int, throughput_tok_s: float = 1000.0, **more):
    return row(**SHAPE, top_k=top_k, throughput_tok_s=throughput_tok_s, **more).iloc[0]


def test_fewer_active_experts_are_faster_and_labelled_predicted():
    found = faster(cell(1, 2000.0), cell(8))
    assert found.value > 1 and found.lo95 < found.value < found.hi95
    text = words({"1 over 8 active": (cell(1, 2000.0), cell(8))})
    assert "predicted, deciding nothing: 1 over 8 active +" in text


def test_what_was_measured_scales_what_is_predicted():
    once, twice = (faster(cell(1, measured), cell(8)) for measured in (1000.0, 2000.0))
    assert twice.value == pytest.approx(2 * once.value)
    assert twice.hi95 / twice.value == pytest.approx(once.hi95 / once.value)
    same = faster(cell(8, 2000.0), cell(8))
    assert (same.value, same.lo95) == (2.0, 2.0)  # nothing is left to the model


def test_where_nothing_can_be_said_nothing_is():
    assert faster(cell(1, device_kind="cpu"), cell(8, device_kind="cpu")) is None
    assert faster(cell(1).drop("graphs"), cell(8)) is None and words({}) == ""
