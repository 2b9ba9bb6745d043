"""Others' measurements against what is predicted of them: they entered no fit."""

import runpy
from pathlib import Path

BENCHMARK = Path(__file__).parents[1] / "benchmarks/published_points.py"


def test_published_points_lie_in_their_intervals_and_near_the_prediction():
    script = runpy.run_path(str(BENCHMARK))
    rows = script["compared"]()
    found = script["score"](rows)
    assert found["n"] == 73 and set(rows["metric"]) == set(script["COMPARED"])
    assert found["inside_95"] >= 0.9 and found["median_pct"] <= 10
