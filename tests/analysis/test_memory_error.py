"""Tokens of cache against what engines of the reference said they hold."""

import runpy
from pathlib import Path

from moebook import paths
from moebook.predict.shipped import load

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_the_cache_of_every_measured_start_is_met_within_2_percent_in_the_median():
    script = runpy.run_path(str(BENCHMARKS / "memory_error.py"))
    found = script["errors"](script["read"](paths.reference()))
    assert len(found) > 100
    assert found["kv_pct"].abs().median() < 2
    assert found["weights_pct"].dropna().abs().median() < 0.5


def test_the_reserve_has_no_negative_term():
    assert all(factor >= 0 for factor in load("h200").reserve.values())
