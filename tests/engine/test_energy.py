"""Energy of a point: what a counter that goes with the clock must give."""

import json
from pathlib import Path

import pytest
import warm
from metered import CLOCK_MHZ, POWER_W

from moebook import devices, sections
from moebook.measure import records
from moebook.study.params import build

SCRIPT = Path(__file__).parent / "metered.py"


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    out = tmp_path_factory.mktemp("metered") / "found.json"
    done = warm.run([str(SCRIPT), str(out)], "warm_engine")
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text())


@pytest.mark.engine
def test_energy_is_power_times_the_time_of_the_same_windows(found):
    (row,) = found["rows"]
    for name in ("idle", "prefill", "decode"):
        assert row[f"{name}_power_w"] == pytest.approx(POWER_W, rel=1e-3)
    assert row["energy_per_request_j"] == pytest.approx(POWER_W * row["e2e_s"] / 2, rel=1e-3)
    per_token = row["energy_per_request_j"] / 64
    assert row["energy_per_output_token_j"] == pytest.approx(per_token, rel=1e-9)
    assert abs(row["energy_net_per_request_j"]) < 0.01 * row["energy_per_request_j"]
    assert row["decode_window_s"] >= 1.0 and row["prefill_window_s"] >= 0.2
    assert row["ttft_s"] < row["e2e_s"] and row["sm_clock_before_mhz"] == CLOCK_MHZ
    net = {name: max(0.0, value) for name, value in row.items()}  # noise about nothing
    assert records.repeat_problems("energy", [net], 1) == []


@pytest.mark.engine
def test_what_cannot_be_metered_is_said(found):
    assert found["refused"].startswith("infeasible: energy needs a GPU")
    assert found["short"].startswith("infeasible: 6 output tokens are too few steps")


@pytest.mark.parametrize("stem", ["01", "02", "03", "04", "09"])
def test_points_of_energy_are_twins_that_a_cpu_refuses(stem):
    section = sections.find(stem)
    given = {"energy_batches": [1, 4, 8, 16]}
    params = build(section.params, given, "test")
    points = [p for p in section.plan(params).points if p.sweeps == ("energy",)]
    assert points and {p.method for p in points} == {"energy"}
    assert {p.status for p in points} == {"infeasible"}
    assert all("no such counter" in p.reason for p in points)
    assert {p.repeats for p in points} == {1} and devices.published("cpu").kind == "cpu"
