"""Real vLLM engines on this machine's CPU, all in one worker, and what happens when it is hurt."""

import json
import os
import resource
import signal
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import warm

from moebook.measure import run
from moebook.measure.format_check import other_format
from moebook.models import catalog
from moebook.models.architecture import from_config
from moebook.models.edit import edit
from moebook.models.sharding import Split, cache_bytes
from moebook.study.plan import EngineSettings, Point, Workload

pytestmark = pytest.mark.engine
TINY = edit(catalog.load("tiny-mixtral"), num_layers=1, ffn_dim=128, num_experts=4)
SETTINGS = asdict(EngineSettings(graphs="eager", max_model_len=512, kv_cache_gib=1))
MOST_REPEATS = 12  # of a time that is compared with another, three at a time
WORK = {"batch": 4, "input_tokens": 64, "output_tokens": 128, "seed": 0}


def start(worker, arch=TINY, **settings) -> dict:
    return worker.ask(
        {"op": "start", "settings": {**SETTINGS, **settings}, "config": arch.hf_config()}, 300
    )


def measure(worker, method="full", limit_s=120.0, **work) -> dict:
    return worker.ask(
        {"op": "measure", "workload": {**WORK, **work}, "method": method, "repeats": 3}, limit_s
    )


@pytest.fixture(scope="module")
def worker(tmp_path_factory):
    with run.WorkerHandle(tmp_path_factory.mktemp("worker") / "worker.log") as handle:
        yield handle


@pytest.fixture(scope="module")
def facts(worker):
    reply = start(worker)
    assert reply["ok"], reply
    return reply["facts"]


@pytest.fixture(scope="module")
def full(worker, facts):
    return measure(worker)


def test_the_engine_tells_what_it_chose(facts):
    assert facts["attention_backend"] and facts["moe_backend"]
    assert facts["kv_capacity_tokens"] > 10_000 and facts["engine_start_s"] > 0


def test_full_measures_every_quantity_three_times(full):
    assert len(full["repeats"]) == 3 and full["peak_memory_bytes"] > 100e6
    for row in full["repeats"]:
        assert 0 < row["ttft_s"] < row["e2e_s"]
        assert 0 < row["request_ttft_p50_s"] <= row["request_ttft_p99_s"] <= 1.05 * row["ttft_s"]
        assert row["request_e2e_p50_s"] <= row["request_e2e_p99_s"] <= 1.05 * row["e2e_s"]
        assert 0 < row["step_p50_s"] <= row["step_p99_s"]


def test_steps_add_up_to_the_whole(worker, full):
    """In one repeat of some: a machine that does other work stalls single steps, which no median
    shows."""

    def off(row: dict) -> float:
        steps = row["step_p50_s"] * (WORK["output_tokens"] - 1)
        return abs((steps + row["ttft_s"]) / row["e2e_s"] - 1)

    rows = [*full["repeats"]]
    while min(map(off, rows)) > 0.5 and len(rows) < MOST_REPEATS:
        rows += measure(worker)["repeats"]
    assert min(map(off, rows)) <= 0.5


def test_sampled_is_near_full(worker, full):
    """A busy machine only adds time: the calmest repeats are compared, and more are made while they
    are apart."""
    rows = {"sampled": measure(worker, "sampled")["repeats"], "full": [*full["repeats"]]}

    def off() -> float:
        sampled, whole = (min(r["e2e_s"] for r in rows[method]) for method in ("sampled", "full"))
        return abs(sampled / whole - 1)

    while off() > 0.6 and len(rows["full"]) < MOST_REPEATS:
        for method, found in rows.items():
            found += measure(worker, method)["repeats"]
    assert off() <= 0.6
    assert all(r["step_first_context"] < r["step_last_context"] for r in rows["sampled"])


def test_a_batch_beyond_the_cache_is_out_of_memory_and_the_engine_lives_on(worker, facts):
    reply = measure(worker, batch=100_000)
    assert not reply["ok"] and reply["status"] == "oom" and "would preempt" in reply["reason"]
    assert measure(worker, output_tokens=4)["ok"]


def test_a_context_beyond_the_model_gives_the_engines_reason(worker, facts):
    reply = measure(worker, input_tokens=600)
    assert not reply["ok"] and reply["status"] == "failed" and "512" in reply["reason"]


def test_a_config_the_engine_refuses_is_a_reply_and_the_worker_lives_on(worker):
    before = worker.count
    reply = worker.ask(
        {
            "op": "start",
            "settings": SETTINGS,
            "config": {**TINY.hf_config(), "num_attention_heads": 7},
        },
        300,
    )
    assert not reply["ok"] and reply["status"] == "failed" and reply["reason"]
    assert start(worker)["ok"] and worker.count == before


def test_more_active_experts_than_experts_is_a_reply_and_the_worker_lives_on(worker):
    """A plan refuses this; an engine on a CPU starts with it and fails at the first tokens."""
    before = worker.count
    reply = worker.ask(
        {
            "op": "start",
            "settings": SETTINGS,
            "config": {**TINY.hf_config(), "num_experts_per_tok": 8},
        },
        300,
    )
    reply = measure(worker, output_tokens=4) if reply["ok"] else reply
    assert not reply["ok"] and reply["status"] == "failed" and "range" in reply["reason"]
    assert start(worker)["ok"] and worker.count == before


def test_the_kv_cache_of_one_engine_does_not_pass_to_the_next(worker, facts):
    twice = start(worker, kv_cache_gib=2)["facts"]["kv_capacity_tokens"]
    assert twice == pytest.approx(2 * facts["kv_capacity_tokens"], rel=0.01)
    assert (
        start(worker, kv_cache_gib=None)["facts"]["kv_capacity_tokens"]
        == facts["kv_capacity_tokens"]
    )


def test_a_latent_cache_is_whole_on_each_of_two_ranks(worker):
    """As many tokens as one rank holds (tests/models/test_sharding.py has other models)."""
    latent = catalog.load("tiny-deepseek-v2")
    tokens = start(worker, latent, tensor_parallel=2)["facts"]["kv_capacity_tokens"]
    held = [cache_bytes(latent, Split(tensor=2), 1, n) for n in (tokens, tokens + 16)]
    assert held[0] <= 2**30 < held[1]


def test_an_engines_memory_is_free_when_another_has_taken_its_place(worker):
    def resident() -> int:
        pages = Path(f"/proc/{worker.process.pid}/statm").read_text().split()[1]
        return int(pages) * resource.getpagesize()

    assert start(worker)["ok"]
    before = resident()
    assert all(start(worker)["ok"] for _ in range(2))
    assert resident() < before + 2**29, "each holds a KV cache of 2^30 bytes"


def test_ceilings_are_measured_once_in_a_worker(worker):
    first, second = (worker.ask({"op": "ceilings", "dtype": "float32"}, 300) for _ in range(2))
    assert first["ok"] and first == second


def test_the_engine_tells_which_number_formats_it_runs(worker):
    """An INT8 checkpoint whose attention alone is quantized, in its own format and in bf16 for
    which its entry is taken out of the config."""
    group = {
        "targets": ["re:.*self_attn.*"],
        "weights": {"num_bits": 8, "type": "int", "strategy": "channel", "symmetric": True},
        "input_activations": {"num_bits": 8, "type": "int", "strategy": "token", "dynamic": True},
    }
    entry = {
        "quant_method": "compressed-tensors",
        "format": "int-quantized",
        "ignore": ["lm_head"],
        "config_groups": {"group_0": group},
    }
    arch = from_config({**TINY.hf_config(), "quantization_config": entry}, "int8", "a test")
    asked = EngineSettings(quantization="own")
    point = Point("test", arch, asked, Workload(1, 8, 8))
    assert point.number_format == "INT8 per channel, INT8 activations (attention only)"
    own = start(worker, arch, quantization="own")["facts"]["runs"]
    assert (own["quantization"], own["experts_dtype"]) == ("compressed-tensors", "bfloat16")
    assert own["attention_method"] == "CompressedTensorsW8A8Int8"
    assert other_format(point, own) is None
    assert "is asked for, the engine runs quantization" in other_format(
        replace(point, engine=EngineSettings()), own
    )
    plain = start(worker, arch, quantization=None)["facts"]["runs"]
    assert (plain["quantization"], plain["attention_dtype"]) == (None, "bfloat16")
    assert plain["kv_cache_dtype"] == "bfloat16"
    assert other_format(replace(point, engine=EngineSettings()), plain) is None
    assert "plain weights" in other_format(point, plain)


def test_a_killed_worker_is_told_and_replaced(worker):
    assert start(worker)["ok"]
    before, process = worker.count, worker.process
    threading.Timer(0.5, os.killpg, (process.pid, signal.SIGKILL)).start()
    with pytest.raises(run.WorkerDied, match="SIGKILL"):
        for _ in range(50):
            measure(worker, output_tokens=256)
    assert process.poll() is not None
    assert start(worker)["ok"] and worker.count == before + 1


def test_a_point_over_its_limit_ends_the_worker(worker):
    assert start(worker)["ok"]
    process = worker.process
    with pytest.raises(run.WorkerTimeout, match=r"within 0 s"):
        measure(worker, output_tokens=256, limit_s=0.05)
    deadline = time.monotonic() + 10
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    assert process.poll() is not None


def test_a_switched_engine_gives_the_tokens_of_a_fresh_one(tmp_path):
    """Dummy weights are equal in every engine, so greedy tokens tell whether routing is."""
    script = Path(__file__).parent / "greedy_tokens.py"
    done = warm.run([str(script), str(tmp_path)], "warm_engine", timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    tokens = json.loads(done.stdout.strip().splitlines()[-1])
    assert tokens["switched_to_1"] == tokens["fresh_1"] != tokens["fresh_4"]
    assert tokens["routed_to_1"] == 1 and tokens["routed_to_4"] == 4
