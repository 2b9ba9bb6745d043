"""A plan over a Ray cluster of two nodes on this machine, with workers that measure nothing:
records come home once, from all nodes, whatever is killed underneath."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from moebook import sections
from moebook.measure import run
from moebook.measure.executors import choose, node, ray_cluster, ray_nodes
from moebook.measure.executors.ray_cluster import RayCluster
from moebook.measure.progress import Progress
from moebook.measure.store import Store
from moebook.models import catalog
from moebook.results import table as results
from moebook.study.params import build
from moebook.study.plan import EngineSettings

ray = ray_nodes.import_ray()
sys.path.insert(0, str(Path(__file__).parent))
import scripted_worker  # noqa: E402

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
SECTION = sections.find("01")


def patiently(start):
    """Ray gives a node's agents 15 s to start (ray-project/ray, issue 65983), too little for a busy
    machine."""
    for _ in range(4):
        try:
            return start()
        except Exception as error:
            assert "timed out during startup" in str(error)
    pytest.skip("four times no Ray node started within 15 s: this machine is too busy")


def node_with(tmp_path_factory) -> dict:
    """A node with device locks of its own: both stand for machines of their own."""
    return {**NODE, "env_vars": {"MOEBOOK_LOCKS": str(tmp_path_factory.mktemp("locks"))}}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_health_check_failure_threshold", "2")
        patch.setenv("RAY_health_check_period_ms", "1000")
        ray.cloudpickle.register_pickle_by_value(scripted_worker)
        started = patiently(
            lambda: Cluster(initialize_head=True, head_node_args=node_with(tmp_path_factory))
        )
        patiently(lambda: started.add_node(**node_with(tmp_path_factory)))
        ray.init(address=started.address, log_to_driver=False, logging_level="ERROR")
        yield started
        ray.shutdown()
        started.shutdown()


@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    return tmp_path_factory.mktemp("workers")


@pytest.fixture
def executor(cluster, workers, tmp_path):
    (tmp_path / "worker").mkdir()
    (workers / "folder").write_text(
        str(tmp_path / "worker")
    )  # of this test: processes outlive tests
    with RayCluster(
        cluster.address, start=scripted_worker.Start(workers), patience_s=5.0
    ) as chosen:
        yield chosen


@pytest.fixture
def plan():
    small = {
        "ffn_dims": [128, 256],
        "expert_counts": [4],
        "active_experts": [1, 2],
        "grid_routings": ["model"],
        "routing_models": [],
        "comparison_models": ["tiny-qwen2-moe"],
        "comparison_active_experts": [1],
        "batches": [1, 2],
        "lengths": [32],
        "validation_model": None,
    }
    return SECTION.plan(build(SECTION.params, small, "test"))


def told(tmp_path, **said) -> None:
    for name, value in said.items():
        (tmp_path / "worker" / name).write_text(str(value))


def asked(tmp_path) -> list[list[str]]:
    return [line.split() for line in (tmp_path / "worker" / "done").read_text().splitlines()]


def test_all_points_come_home_once_from_both_nodes(executor, plan, tmp_path, capsys):
    told(tmp_path, slow=0.3)
    counts = run.measure(plan, tmp_path, executor=executor)
    assert counts == {"ok": len(plan.measured), "skipped": 0}
    requests = asked(tmp_path)
    assert [r[0] for r in requests].count("measure") == len(plan.measured)
    assert [r[0] for r in requests].count("start") == plan.num_builds == 3, "a build is one task"
    assert len({r[1] for r in requests if r[0] == "measure"}) == 2, "one process a node"
    lines = [line for line in capsys.readouterr().out.splitlines() if "left" in line]
    assert len(lines) == len(plan.measured) and lines[0].startswith(f"[1/{len(plan.measured)}]"), (
        "one view"
    )
    store = Store(tmp_path, plan)
    assert store.ceilings(run.devices.detect().name)["copy_bytes_per_s"] == 1e10
    table = results.assemble(plan, store.records())
    assert set(table.status) == {"ok"} and table.e2e_s.notna().all()
    assert all(r["provenance"]["node"] for r in store.records().values())
    assert run.measure(plan, tmp_path, executor=executor) == {"skipped": len(plan.measured)}


def test_a_killed_task_is_tried_again_without_the_points_that_are_home(
    executor, plan, tmp_path, capsys
):
    told(tmp_path, dies=1)
    counts = run.measure(plan, tmp_path, executor=executor)
    assert counts == {"ok": len(plan.measured), "skipped": 0}
    assert [r[0] for r in asked(tmp_path)].count("measure") == len(plan.measured) + 1
    assert "a task was lost (WorkerCrashedError" in capsys.readouterr().out


def test_a_point_lost_too_often_is_a_row_and_the_rest_goes_on(executor, plan, tmp_path):
    """The last loss is of another point, which is tried again."""
    one = plan.only(["batch_topk"])
    told(tmp_path, dies=ray_cluster.RETRIES + 2)
    counts = run.measure(one, tmp_path, executor=executor)
    assert counts["failed"] == 1 and counts["ok"] == len(one.measured) - 1
    bad = results.assemble(one, Store(tmp_path, plan).records()).query("status == 'failed'").iloc[0]
    assert "lost 3 times in a row" in bad.reason and "WorkerCrashedError" in bad.reason
    assert run.measure(one, tmp_path, executor=executor, retry=["failed"])["ok"] == 1


def test_an_error_before_anything_came_home_ends_the_run_and_later_it_is_a_loss(
    executor, plan, tmp_path, capsys
):
    alone = replace(plan, points=plan.measured[:1])  # a second task, cancelled as it begins, may
    told(tmp_path, refuses=1)  # take a refusal after the run it was of
    with pytest.raises(RuntimeError, match="no engine on this node"):
        run.measure(alone, tmp_path, executor=executor)
    assert run.measure(alone, tmp_path, executor=executor)["ok"] == 1
    told(tmp_path, refuses=1)
    assert run.measure(plan, tmp_path, executor=executor) == {
        "ok": len(plan.measured) - 1,
        "skipped": 1,
    }
    assert "a task was lost (RuntimeError: no engine on this node)" in capsys.readouterr().out


def test_points_of_an_endpoint_are_left_to_the_local_executor(executor, plan, tmp_path, capsys):
    one, other, *_ = plan.measured
    both = replace(plan, points=(one, replace(other, method="endpoint")))
    assert run.measure(both, tmp_path, executor=executor) == {"ok": 1, "not_run": 1, "skipped": 0}
    assert "1 points are of an endpoint and not run: they need its key" in capsys.readouterr().out


def test_a_task_asks_for_the_gpus_that_its_points_need(plan, monkeypatch):
    chosen, options = RayCluster(), []
    monkeypatch.setattr(
        chosen,
        "ray",
        SimpleNamespace(remote=lambda **given: options.append(given) or (lambda f: f)),
    )
    chosen.facts = {"device_kind": "h100"}
    point = replace(plan.measured[0], engine=EngineSettings(tensor_parallel=4))
    for method in ("training", "layer", "full"):
        (build,) = ray_cluster.builds([replace(point, method=method)])
        chosen._remote(node.measure, build.need)
    assert [given["num_gpus"] for given in options] == [0, 1, 4] and {
        given["num_cpus"] for given in options
    } == {0}
    assert ["runtime_env" in given for given in options] == [True, False, False], (
        "Ray must not hide the GPUs of the node"
    )


def test_expert_counts_come_home_with_their_record(executor, tmp_path):
    section = sections.find("07")
    plan = section.plan(build(section.params, {}, "test"))
    point = replace(
        next(p for p in plan.measured if p.method == "routing"),
        architecture=catalog.load("tiny-mixtral"),
        engine=EngineSettings(),
        text=str(tmp_path / "text"),
    )
    (tmp_path / "text").write_text("some text")
    assert run.measure(replace(plan, points=(point,)), tmp_path, executor=executor)["ok"] == 1
    assert (
        Store(tmp_path, plan).counts_file(point.key).read_bytes()
        == f"counts of {tmp_path / 'text'}".encode()
    )


def test_a_plan_of_another_device_starts_nothing(executor, tmp_path):
    elsewhere = SECTION.plan(build(SECTION.params, {"device": "h100", "profile": "h100"}, "test"))
    with pytest.raises(ValueError, match="'h100'; devices of this Ray cluster: cpu"):
        run.measure(elsewhere, tmp_path, executor=executor)
    assert not (tmp_path / "worker" / "done").exists()


def test_a_node_with_another_device_is_left_out(executor, plan, tmp_path, monkeypatch, capsys):
    found = ray_nodes.probe(ray, "cpu")
    other = next(iter(found))
    found[other] = {**found[other], "device_kind": "h100", "device": "NVIDIA H100"}
    monkeypatch.setattr(ray_nodes, "probe", lambda ray, kind: found)
    told(tmp_path, slow=0.2)
    assert run.measure(plan, tmp_path, executor=executor)["ok"] == len(plan.measured)
    assert "a node is not used: it has NVIDIA H100" in capsys.readouterr().out
    assert len({r[1] for r in asked(tmp_path) if r[0] == "measure"}) == 1


def test_results_come_from_what_most_nodes_of_the_kind_have(monkeypatch):
    chosen = RayCluster()
    kinds = {
        "a": ("cpu", "a CPU", "none"),
        "b": ("h100", "H100 PCIe", "vllm 1"),
        "c": ("h100", "H100", "vllm 1"),
        "d": ("h100", "H100", "vllm 1"),
        **{name: ("h100", "H100", "none") for name in "efg"},
    }
    facts = {
        name: {
            **dict(zip(("device_kind", "device", "engine_version"), kind, strict=True)),
            "device_memory_bytes": 80 * 10**9,
        }
        for name, kind in kinds.items()
    }
    monkeypatch.setattr(ray_nodes, "probe", lambda ray, kind: facts)
    assert chosen.source("h100") == ("H100", "vllm 1")
    assert set(chosen.unfit) == set("abefg")
    assert chosen.source("gpu") == ("H100", "vllm 1")
    with pytest.raises(ValueError, match="'h200'; devices of this Ray cluster: cpu .a CPU., h100"):
        chosen.source("h200")


def test_a_node_of_another_device_gives_no_number(executor, plan, tmp_path, monkeypatch):
    source = executor.source("cpu")
    monkeypatch.setattr(
        executor,
        "_task",
        lambda job: node.Task("cpu", ("another", source[1]), 1.0, start=executor.start),
    )
    monkeypatch.setattr(executor, "ceilings", lambda dtype, job: None)
    counts = run.measure(plan, tmp_path, executor=executor)
    assert counts["failed"] == len(plan.measured)
    reasons = {r["reason"] for r in Store(tmp_path, plan).records().values()}
    assert len(reasons) == 1 and "results come from another" in reasons.pop()


def test_stop_after_begins_no_further_point(executor, plan, tmp_path):
    counts = run.measure(plan, tmp_path, executor=executor, stop_after_s=-1)
    assert counts["not_run"] == len(plan.measured)
    assert "measure" not in {r[0] for r in asked(tmp_path)}


class Interrupting(Progress):
    def advance(self, point, record):
        super().advance(point, record)
        if self.done == 2:
            raise KeyboardInterrupt


def test_ctrl_c_ends_the_tasks_and_the_same_command_resumes(executor, plan, tmp_path, capsys):
    told(tmp_path, slow=0.3)
    with pytest.raises(KeyboardInterrupt):
        run.measure(plan, tmp_path, executor=executor, progress=Interrupting())
    assert "2 of" in capsys.readouterr().out and executor.running == {}
    time.sleep(0.5)
    ended = len(asked(tmp_path))
    time.sleep(0.5)  # a point takes 0.3
    assert len(asked(tmp_path)) == ended, "nothing measures on"
    assert run.measure(plan, tmp_path, executor=executor) == {
        "ok": len(plan.measured) - 2,
        "skipped": 2,
    }


def test_a_node_lost_in_mid_sweep(executor, cluster, plan, tmp_path, capsys):
    lost = patiently(lambda: cluster.add_node(**NODE))
    cluster.wait_for_nodes()
    told(tmp_path, slow=1)
    store = Store(tmp_path, plan)

    def lose() -> None:
        while not list(store.points_folder.glob("*.json")):
            time.sleep(0.05)
        cluster.remove_node(lost, allow_graceful=False)

    losing = threading.Thread(target=lose)
    losing.start()
    counts = run.measure(plan, tmp_path, executor=executor)
    losing.join()
    assert counts == {"ok": len(plan.measured), "skipped": 0}
    assert "a task was lost (" in capsys.readouterr().out
    assert [r[0] for r in asked(tmp_path)].count("measure") > len(plan.measured)


def test_points_that_no_node_can_hold_are_left_to_another_run(
    executor, plan, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(executor, "_rooms", lambda: [])
    monkeypatch.setattr(
        executor,
        "_remote",
        lambda function, need, **options: ray.remote(num_gpus=1, **options)(function),
    )
    monkeypatch.setattr(ray_cluster, "POLL_S", 0.5)
    executor.patience_s = 1.0
    counts = run.measure(plan, tmp_path, executor=executor)
    assert counts["not_run"] == len(plan.measured)
    out = capsys.readouterr().out
    assert (
        "peaks could not be measured" in out
        and "no node is left" in out
        and "they are left to another run" in out
    )


def test_an_address_where_nothing_answers_is_told_at_once(monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # this process has a cluster
    with pytest.raises(ValueError, match="no Ray cluster at 127.0.0.1:1: "):
        RayCluster("127.0.0.1:1").__enter__()


def test_another_clusters_address_is_refused_where_one_is_joined():
    joined = SimpleNamespace(gcs_address="127.0.0.1:6379")
    inside = SimpleNamespace(get_runtime_context=lambda: joined)
    for same in (None, "auto", "127.0.0.1:6379", "localhost:6379"):
        ray_nodes.check_joined(inside, same)
    with pytest.raises(ValueError, match="given '127.0.0.1:1'.* in the Ray cluster at 127.0.0.1:6"):
        ray_nodes.check_joined(inside, "127.0.0.1:1")


def test_a_client_address_is_refused_with_what_to_give(monkeypatch):
    with pytest.raises(ValueError, match="ray://head:10001 .*give HOST:PORT"):
        RayCluster("ray://head:10001")
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    with pytest.raises(ValueError, match="give HOST:PORT"):
        RayCluster()


def test_an_ipv6_address_is_tried_without_its_brackets(monkeypatch):
    tried = []
    monkeypatch.setattr(
        ray_nodes.socket,
        "create_connection",
        lambda address, timeout: tried.append(address) or SimpleNamespace(close=lambda: None),
    )
    ray_nodes.check_reachable("[::1]:6379")
    ray_nodes.check_reachable("head:6379")
    assert tried == [("::1", 6379), ("head", 6379)]


def test_without_ray_the_message_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install -e '\.\[cluster\]'"):
        choose("ray", None, Path("worker.log"))


def test_plans_and_imports_know_nothing_of_ray():
    program = (
        "import sys, moebook, moebook.cli, moebook.measure.run, moebook.study.estimates, "
        "moebook.measure.executors.ray_cluster, "
        "moebook.sections.hyperparameter_scaling.plan; print('ray' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=dict(os.environ),
    )
    assert done.stdout.strip() == "False"
