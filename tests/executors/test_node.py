"""What a task does on a node, without a cluster: its messages, its worker, and what is left when it
ends."""

import os
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from moebook import devices, engine, sections
from moebook.measure.executors import node
from moebook.measure.worker_handle import WorkerDied
from moebook.study.params import build

SECTION = sections.find("01")
OK = {
    "ok": True,
    "facts": {},
    "repeats": [{"ttft_s": 0.1, "e2e_s": 1.0}],
    "ceilings": {"dtype": "bfloat16"},
}


class Recorded:
    """A worker that answers everything, and with what stands in `told` the request of that
    number."""

    def __init__(self, log: Path, told: dict):
        self.log, self.told, self.ops, self.count, self.kills = log, told, [], 1, 0

    def ask(self, request: dict, limit_s: float) -> dict:
        self.ops.append(request["op"])
        told = self.told.get(len(self.ops), OK)
        if isinstance(told, BaseException):
            raise told
        if "counts_file" in request:
            Path(request["counts_file"]).write_bytes(b"counts")
        return told

    def kill(self) -> None:
        self.kills += 1


@pytest.fixture
def workers(monkeypatch):
    """The workers that tasks start here, in order."""
    monkeypatch.setattr(node, "_kept", {})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return []


@pytest.fixture
def task(workers):
    def make(told=(), stop_at=None, source=None, environment=()):
        def start(log, device):
            workers.append(Recorded(log, dict(told)))
            return workers[-1]

        here = devices.detect("cpu").name, engine.version("cpu")
        return node.Task(
            "cpu", source or here, 10.0, stop_at, start, "outputs/here", dict(environment)
        )

    return make


@pytest.fixture
def points():
    small = {
        "ffn_dims": [128],
        "expert_counts": [4],
        "active_experts": [1, 2],
        "comparison_models": ["tiny-qwen2-moe"],
        "comparison_active_experts": [1],
        "batches": [1, 2],
        "lengths": [32],
        "validation_model": None,
    }
    measured = SECTION.plan(build(SECTION.params, small, "test")).measured
    return [p for p in measured if p.build_key == measured[-1].build_key]


def test_a_message_for_each_point_and_the_engine_is_ended(task, workers, points):
    messages = list(node.measure(points, task()))
    assert [m.key for m in messages] == [p.key for p in points]
    assert all(m.record["status"] == "ok" and m.record["provenance"]["node"] for m in messages)
    (worker,) = workers
    assert worker.ops[0] == "start" and worker.ops[-1] == "stop" and worker.kills == 0
    assert str(os.getpid()) in worker.log.name and worker.log.parent != Path.cwd()


def test_the_worker_outlives_its_task_on_the_same_devices_only(task, workers, points, monkeypatch):
    list(node.measure(points, task()))
    list(node.measure(points, task()))
    assert len(workers) == 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    list(node.measure(points, task()))
    assert len(workers) == 2 and workers[0].kills == 1


def test_after_a_failure_the_worker_does_not_keep_the_device(task, workers, points):
    messages = list(
        node.measure(points[:1], task({2: WorkerDied("the worker process ended (signal SIGKILL)")}))
    )
    assert messages[0].record["status"] == "failed" and "SIGKILL" in messages[0].record["reason"]
    assert workers[0].kills == 1 and "stop" not in workers[0].ops


def test_a_task_that_is_cancelled_kills_its_worker(task, workers, points):
    with pytest.raises(KeyboardInterrupt):
        list(node.measure(points, task({2: KeyboardInterrupt()})))
    assert workers[0].kills == 1


def test_what_is_said_comes_with_the_next_record(task, points):
    told = {1: OK, 2: {"ok": False, "status": "failed", "reason": "no"}}
    plan = SECTION.plan(
        build(
            SECTION.params,
            {"ffn_dims": [128], "expert_counts": [4], "active_experts": [1, 2]},
            "test",
        )
    )
    two = [p for p in plan.measured if p.architecture.expert_ffn_dim == 128][:2]
    assert len({p.engine_key for p in two}) == 2 and len({p.build_key for p in two}) == 1
    messages = list(node.measure(two, task({3: {**told[2]}})))
    assert messages[0].said == () and "could not switch" in messages[1].said[0]


def test_after_its_time_a_task_begins_nothing(task, workers, points):
    assert list(node.measure(points, task(stop_at=time.time() - 1))) == []
    assert workers == []


def test_another_device_or_engine_is_refused_before_anything_starts(task, workers, points):
    with pytest.raises(node.WrongNode, match="results come from NVIDIA H100 with vllm 0.26.0"):
        list(node.measure(points, task(source=("NVIDIA H100", "vllm 0.26.0"))))
    assert workers == []


def test_ceilings_carry_the_device(task):
    asked = task({2: {"ok": False, "status": "failed", "reason": "no kernel"}})
    found, said = node.ceilings("bfloat16", asked)
    assert found == {"device": devices.detect("cpu").name, "dtype": "bfloat16"} and said == []
    found, said = node.ceilings("bfloat16", asked)
    assert found is None and "no kernel" in said[0]


def test_variables_of_the_user_go_along_and_keys_do_not(task, points, monkeypatch):
    monkeypatch.setenv("MOEBOOK_TEXT", "a.txt")
    monkeypatch.setenv("MOEBOOK_ENDPOINT_KEY", "secret")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    given = node.environment()
    assert (
        given["MOEBOOK_TEXT"] == "a.txt"
        and "secret" not in given.values()
        and given["OMP_NUM_THREADS"] is None
    )
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("VLLM_TEST", "before")
    list(node.measure(points, task(environment={"OMP_NUM_THREADS": None, "VLLM_TEST": "2"})))
    assert "OMP_NUM_THREADS" not in os.environ and os.environ["VLLM_TEST"] == "2"


def test_what_is_of_one_machine_or_secret_stays_there(monkeypatch):
    for name in ("MOEBOOK_ENDPOINT_URL", "MOEBOOK_ENDPOINT_MODEL", "VLLM_HOST_IP", "VLLM_API_KEY"):
        monkeypatch.setenv(name, "mine")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    given = node.environment()
    assert "mine" not in given.values() and given["HF_HUB_OFFLINE"] == "1"


def test_what_vllm_was_told_on_the_node_itself_stands(task, points, monkeypatch):
    monkeypatch.setenv("VLLM_TEST", "of the node")
    monkeypatch.setattr(node, "_own", frozenset({"VLLM_TEST"}))
    list(node.measure(points, task(environment={"VLLM_TEST": "2"})))
    assert os.environ["VLLM_TEST"] == "of the node"


@pytest.mark.parametrize("asked", ["provenance", "measure", "ceilings"])
def test_a_process_that_is_used_again_looks_at_its_devices_again(asked, task, points, monkeypatch):
    told, seen = task(), []
    devices.detect("h200")
    pynvml = SimpleNamespace(
        nvmlInit=lambda: seen.append(os.environ.get("VLLM_TEST")),
        nvmlDeviceGetCount=lambda: 0,
        NVMLError=RuntimeError,
    )
    monkeypatch.setitem(sys.modules, "pynvml", pynvml)
    told = replace(told, kind="h200")
    monkeypatch.setenv("VLLM_TEST", "before")
    if asked == "provenance":
        node.provenance({"VLLM_TEST": "2"}, "h200")
    else:
        told = replace(told, environment={"VLLM_TEST": "2"})
        list(node.measure(points, told)) if asked == "measure" else node.ceilings("bfloat16", told)
    assert seen == ["2"], "once, and in the environment of the task"
