import math

import pandas as pd
import pytest

from moebook.results import derived


def test_known_values():
    ttft, e2e, batch, inputs, outputs = 1.0, 10.0, 4, 20, 10
    assert derived.tpot(ttft, e2e, outputs) == pytest.approx(1.0)
    assert derived.itl_paper(ttft, e2e, batch, outputs) == pytest.approx(9 / 39)
    assert derived.itl_predecessor(ttft, e2e, batch, outputs) == pytest.approx(0.25)
    assert derived.throughput(e2e, batch, inputs, outputs) == pytest.approx(12.0)
    assert derived.output_throughput(e2e, batch, outputs) == pytest.approx(4.0)


@pytest.mark.parametrize("missing", [None, math.nan, pd.NA])
def test_missing_times_give_none(missing):
    assert derived.tpot(missing, 2.0, 4) is None and derived.tpot(1.0, missing, 4) is None
    assert (
        derived.itl_paper(1.0, missing, 2, 4) is None
        and derived.itl_predecessor(missing, 1.0, 2, 4) is None
    )
    assert (
        derived.throughput(missing, 1, 1, 1) is None
        and derived.output_throughput(missing, 1, 1) is None
    )


def test_one_output_token_has_no_decode_step():
    assert derived.tpot(1.0, 1.0, 1) is None and derived.itl_paper(1.0, 0.9, 8, 1) is None
    assert "at least 2" in derived.no_decode_reason(1) and derived.no_decode_reason(2) is None


def test_nonsense_is_refused_with_the_value():
    with pytest.raises(derived.MetricError, match="e2e_s 1 is under ttft_s 2"):
        derived.tpot(2.0, 1.0, 4)
    with pytest.raises(derived.MetricError, match="output_tokens 0"):
        derived.tpot(1.0, 2.0, 0)
    with pytest.raises(derived.MetricError, match="batch 0.*least 1"):
        derived.throughput(1.0, 0, 1, 1)
    with pytest.raises(derived.MetricError, match="e2e_s -1"):
        derived.output_throughput(-1, 1, 1)
    with pytest.raises(derived.MetricError, match="input_tokens 1.5"):
        derived.throughput(1.0, 1, 1.5, 1)


def rows(**columns):
    base = {
        "ttft_s": [1.0],
        "e2e_s": [10.0],
        "batch": [4],
        "input_tokens": [20],
        "output_tokens": [10],
    }
    return pd.DataFrame({**base, **columns})


def test_add_metrics():
    table = pd.concat(
        [
            rows(),
            rows(ttft_s=[pd.NA], e2e_s=[None]),
            rows(output_tokens=[1], e2e_s=[1.0]),
            rows(e2e_s=[0.5]),
        ]
    )
    out = derived.add_metrics(table)
    assert list(out.index) == [0, 0, 0, 0] and "tpot_s" not in table
    assert out["tpot_s"].tolist()[0] == pytest.approx(1.0)
    assert out["tpot_s"].isna().tolist() == [False, True, True, True]
    assert out["throughput_tok_s"].isna().tolist() == [False, True, False, True]
    reasons = out["metric_reason"].tolist()
    assert pd.isna(reasons[0]) and pd.isna(reasons[1])
    assert "no decode step" in reasons[2] and "under ttft_s" in reasons[3]
    assert all(out[c].dtype == "float64" for c in derived.DERIVED)


def test_add_metrics_names_missing_columns():
    with pytest.raises(derived.MetricError, match="'batch'"):
        derived.add_metrics(rows().drop(columns="batch"))
