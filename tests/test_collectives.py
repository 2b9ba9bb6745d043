"""benchmarks/collectives.py over two gloo ranks: a whole table, and plain words where there is
nothing to measure."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from moebook import devices
from moebook.devices import lock

SCRIPT = Path("benchmarks/collectives.py")


@pytest.fixture(scope="module")
def collectives():
    spec = importlib.util.spec_from_file_location("collectives", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_two_ranks_give_a_row_per_collective_and_size(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            str(SCRIPT),
            "--profile",
            "cpu",
            "--output-root",
            str(tmp_path),
            "--ranks",
            "2",
            "--smallest",
            "10",
            "--largest",
            "12",
            "--repeats",
            "3",
        ],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    table = json.loads((tmp_path / "cpu/05_parallelism/collectives.json").read_text())
    rows = table["rows"]
    assert {(r["op"], r["bytes"]) for r in rows if r["ranks"] == 2} == {
        (op, 2**n)
        for op in ("all_reduce", "all_gather", "all_to_all", "send")
        for n in (10, 11, 12)
    }
    assert all(0 < r["seconds_lo"] <= r["seconds"] <= r["seconds_hi"] for r in rows)
    assert (
        table["backend"] == "gloo"
        and table["device"] == devices.detect("cpu").name
        and table["torch"]
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (
            ["--profile", "2xh100"],
            "--profile 2xh100: this plan is for device 'h100', this machine has .*'cpu'",
        ),
        (["--profile", "none"], "--profile none: no profile of section 5; profiles: 2xh100"),
        (
            ["--profile", "cpu", "--output-root", "outputs/reference"],
            "--output-root outputs/reference: holds the results",
        ),
        (
            ["--profile", "cpu", "--output-root", "outputs/x/../reference/h100"],
            "which nothing writes",
        ),
    ],
)
def test_a_profile_that_cannot_be_measured_here_is_refused(
    collectives, machine, monkeypatch, given, told
):
    machine("NVIDIA T400 4GB|4")
    monkeypatch.setattr(collectives, "measure", lambda *_: pytest.fail("something was measured"))
    with pytest.raises(SystemExit, match=told):
        collectives.main(given)


def test_the_profile_decides_the_device_and_its_lock_is_taken(
    collectives, machine, monkeypatch, tmp_path
):
    machine("NVIDIA H100 80GB HBM3|79.6", "NVIDIA H100 80GB HBM3|79.6")
    assert collectives.device_of("2xh100").count == 2 and collectives.device_of("cpu").kind == "cpu"
    seen = []
    monkeypatch.setattr(
        collectives, "_rows", lambda *_: seen.append(os.environ["CUDA_VISIBLE_DEVICES"]) or []
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    collectives.main(["--profile", "cpu", "--output-root", str(tmp_path), "--ranks", "2"])
    assert seen == [""] and (tmp_path / "cpu/05_parallelism/collectives.json").is_file()
    with (
        lock.held(devices.detect("cpu"), "other"),
        pytest.raises(SystemExit, match="in use by process .*measuring other"),
    ):
        collectives.main(["--profile", "cpu", "--output-root", str(tmp_path)])


def test_one_rank_is_told_that_there_is_nothing_to_measure(collectives):
    with pytest.raises(SystemExit, match="need 2 ranks or more, and here is 1 device"):
        collectives.rank_counts(None, 1)


def test_ranks_are_powers_of_two_unless_asked_for(collectives):
    assert collectives.rank_counts(None, 2) == [2]
    assert collectives.rank_counts(None, 8) == [2, 4, 8]
    assert collectives.rank_counts(None, 6) == [2, 4]
    assert collectives.rank_counts([3], 4) == [3]
    with pytest.raises(SystemExit, match="--ranks 8: here are 4 devices; allowed: 2 to 4"):
        collectives.rank_counts([2, 8], 4)


def test_each_number_of_ranks_has_its_own_time(collectives, tmp_path, monkeypatch):
    clock, left = iter((0.0, 100.0)), []

    def spawn(function, args, nprocs):
        ranks, folder, asked = args
        left.append(asked.stop_at)
        Path(folder, f"rows{ranks}.json").write_text("[]")

    monkeypatch.setattr(collectives.mp, "spawn", spawn)
    monkeypatch.setattr(collectives, "time", SimpleNamespace(time=lambda: next(clock)))
    asked = collectives.arguments(["--profile", "x", "--stop-after-seconds", "60"])
    for ranks in (2, 4):
        collectives._rows(ranks, tmp_path, asked)
    assert left == [60.0, 160.0]
