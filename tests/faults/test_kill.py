"""A sweep hurt from outside, in processes as a user has them but with the scripted engine in the
worker: interrupted, or its worker killed. Nothing measured is lost, nothing is left running. (What
a kill does to a real engine: tests/engine/test_worker.py.)"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

SCRIPTED = Path(__file__).parents[1] / "engine" / "scripted"
SMALL = {
    "profile": "hurt",
    "ffn_dims": [128, 256],
    "expert_counts": [4],
    "active_experts": [1, 2],
    "grid_tokens": 64,
    "grid_batch": 4,
    "grid_routings": ["model"],
    "routing_models": [],
    "comparison_models": ["tiny-qwen2-moe"],
    "comparison_active_experts": [4],
    "batches": [1],
    "comparison_tokens": 32,
    "lengths": [32],
    "validation_model": None,
}


def sweep(tmp_path: Path) -> subprocess.Popen:
    file = tmp_path / "01_hyperparameter_scaling.yaml"
    file.write_text(yaml.safe_dump({**SMALL, "output_root": str(tmp_path / "outputs")}))
    path = os.pathsep.join(filter(None, [str(SCRIPTED), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", "moebook", "measure", str(file)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        start_new_session=True,
        preexec_fn=_take_ctrl_c,
    )


def _take_ctrl_c() -> None:
    """A shell's background job has Ctrl-C ignored, and its children with it."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def points(tmp_path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (tmp_path / "outputs").rglob("points/*.json")}


def wait_for_points(tmp_path: Path, count: int, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 300  # a busy machine takes long to import
    while len(points(tmp_path)) < count:
        if time.monotonic() > deadline or process.poll() is not None:
            process.kill()
            pytest.fail(f"no {count} points in 300 s: {process.communicate()[0]}")
        time.sleep(0.02)


def workers(of: Path) -> list[int]:
    """Processes that run a worker logging below `of`."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
        except OSError:
            continue
        if b"moebook.measure.worker" in command and str(of).encode() in command:
            found.append(int(folder.name))
    return found


def test_ctrl_c_keeps_what_is_measured_and_the_same_command_resumes(tmp_path):
    process = sweep(tmp_path)
    wait_for_points(tmp_path, 1, process)
    os.killpg(process.pid, signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "points are kept" in said and "Traceback" not in said
    assert workers(tmp_path) == []
    kept = points(tmp_path)
    assert kept and all(b'"engine_start_s":0.05' in point for point in kept.values()), "scripted"
    again = sweep(tmp_path)
    said, _ = again.communicate(timeout=200)
    assert again.returncode == 0, said
    assert f"{len(kept)} points present" in said
    assert kept.items() <= points(tmp_path).items()
    assert len(points(tmp_path)) == 5


def test_a_worker_killed_in_mid_sweep_costs_one_point(tmp_path):
    process = sweep(tmp_path)
    wait_for_points(tmp_path, 1, process)
    (worker,) = workers(tmp_path)
    os.kill(worker, signal.SIGKILL)
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 1
    assert '"failed": 1' in said and '"ok": 4' in said
    assert "SIGKILL" in said and len(points(tmp_path)) == 5


def test_a_killed_sweep_takes_its_worker_with_it(tmp_path):
    process = sweep(tmp_path)
    wait_for_points(tmp_path, 1, process)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while workers(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert workers(tmp_path) == []
