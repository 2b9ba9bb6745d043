import pandas as pd
import pytest

from moebook.results import derived


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


def test_known_values():
    made = derived.add_metrics(rows()).iloc[0]
    assert made[list(derived.DERIVED)].tolist() == pytest.approx([1.0, 9 / 39, 0.25, 12.0, 4.0])


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"e2e_s": [0.9]}, "e2e_s 0.9 is under ttft_s 1"),
        ({"e2e_s": [-1.0]}, "e2e_s -1: must be over 0"),
        ({"ttft_s": [0.0]}, "ttft_s 0: must be over 0"),
    ],
)
def test_times_that_cannot_be_have_no_metrics_and_are_told(given, why):
    made = derived.add_metrics(rows(**given)).iloc[0]
    assert made[list(derived.DERIVED)].isna().all() and why in made["metric_reason"]
