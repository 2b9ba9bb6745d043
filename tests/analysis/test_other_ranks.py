"""Rows of one card, predicted on four."""

from test_predict import row

from moebook.predict.other_ranks import faster, words

SHAPE = {"num_layers": 16, "expert_ffn_dim": 1024, "num_experts": 64}


def cell(top_k: int, **more):
    return row(**SHAPE, top_k=top_k, **more).iloc[0]


def test_fewer_active_experts_are_faster_and_labelled_predicted():
    found = faster(cell(1), cell(8))
    assert found.value > 1 and found.lo95 < found.value < found.hi95
    text = words({"1 over 8 active": (cell(1), cell(8))})
    assert "TP 4), predicted, deciding nothing: 1 over 8 active +" in text


def test_where_nothing_can_be_said_nothing_is():
    assert faster(cell(1, device_kind="cpu"), cell(8, device_kind="cpu")) is None
    assert faster(cell(1).drop("graphs"), cell(8)) is None and words({}) == ""
