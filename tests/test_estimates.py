"""Estimates: bytes and seconds of points, and of points that need no engine."""

from dataclasses import replace

import pytest

from moebook import devices
from moebook.models import sizes
from moebook.models.catalog import load
from moebook.study import estimates
from moebook.study.plan import EngineSettings, Plan, Point, Workload
from moebook.study.settings import Speculation

MIXTRAL, DSV2 = load("Mixtral-8x7B-v0.1"), load("DeepSeek-V2-Lite")
SCOUT = load("Llama-4-Scout-17B-16E-Instruct")
EVERY_OTHER = replace(SCOUT, name="every other", num_dense_layers=SCOUT.num_layers // 2)
H100, CPU = devices.published("h100"), devices.published("cpu")
MIXTRAL_EXPERTS = 8 * 3 * 4096 * 14336  # elements of one layer
DSV2_EXPERTS = 64 * 3 * 2048 * 1408


def layer(arch=MIXTRAL, tokens=16, quantization=None, backend="triton") -> Point:
    engine = EngineSettings(quantization=quantization, moe_backend=backend, graphs="eager")
    return Point("06_fused_moe", arch, engine, Workload(tokens, 1, 1), method="layer")


def run(batch=16, tokens=512, method="full", **given) -> Point:
    return Point(
        "x", MIXTRAL, EngineSettings(**given), Workload(batch, tokens, tokens), method=method
    )


def plan(*points: Point) -> Plan:
    return Plan("x", "h100", "h100", points)


@pytest.mark.parametrize(
    ("arch", "experts"),
    [
        (MIXTRAL, MIXTRAL_EXPERTS),
        (DSV2, DSV2_EXPERTS),
        (EVERY_OTHER, 16 * 3 * 5120 * 8192),  # dense layers between, as Llama 4 Maverick's
    ],
    ids=lambda v: str(v)[:9],
)
def test_a_layer_point_takes_the_experts_of_one_layer(arch, experts):
    parts = estimates.memory_bytes(layer(arch))
    assert parts["weights_bytes"] == 2 * experts and parts["kv_bytes"] == 0


def test_a_quantized_layer_takes_its_experts_twice_as_drawn_and_in_the_format():
    assert estimates.memory_bytes(layer(quantization="fp8"))["weights_bytes"] == 3 * MIXTRAL_EXPERTS
    int4 = estimates.memory_bytes(layer(quantization="int4"))["weights_bytes"]
    assert int4 == pytest.approx(MIXTRAL_EXPERTS * (2 + (4 + 20 / 128) / 8))


def test_a_layers_activations_grow_with_its_tokens_not_with_depth():
    few, many = (estimates.memory_bytes(layer(tokens=n))["activation_bytes"] for n in (1024, 8192))
    assert many > 4 * few
    deep = replace(MIXTRAL, num_layers=320)
    assert estimates.memory_bytes(layer(deep)) == estimates.memory_bytes(layer())


def test_a_layer_too_large_for_the_device_says_what_it_needs():
    told = estimates.check_fit(layer(), 2 * 10**9)
    assert (
        told.status == "oom"
        and "weights 2.8 GB, kv 0.0 GB" in told.reason
        and "1.8 GB usable" in told.reason
    )
    assert (
        estimates.check_fit(layer(), 80 * 10**9).status
        == estimates.check_fit(layer(), None).status
        == "ready"
    )


def test_fp8_halves_weights_and_fp8_kv_halves_the_cache():
    plain, fp8 = (estimates.memory_bytes(run(quantization=q)) for q in (None, "fp8"))
    assert plain["weights_bytes"] == sizes.weight_bytes(MIXTRAL, "bfloat16")
    assert 0.5 < fp8["weights_bytes"] / plain["weights_bytes"] < 0.51
    kv = estimates.memory_bytes(run(kv_cache_dtype="fp8"))
    assert kv["kv_bytes"] == plain["kv_bytes"] / 2 and kv["weights_bytes"] == plain["weights_bytes"]
    assert plain["kv_bytes"] == 32 * 2 * 1024 * 2 * 16 * 1024


def test_devices_share_weights_and_cache():
    one, four = (estimates.memory_bytes(run(tensor_parallel=n)) for n in (1, 4))
    assert four["weights_bytes"] == pytest.approx(one["weights_bytes"] / 4, rel=1e-3)
    assert four["kv_bytes"] == one["kv_bytes"] // 4


def test_a_layer_point_takes_a_second_whatever_its_size():
    assert {
        estimates.estimate_s(layer(a, n), d)
        for a in (MIXTRAL, DSV2)
        for n in (1, 8192)
        for d in (H100, CPU)
    } == {estimates.LAYER_POINT_S}


def test_full_runs_grow_with_output_and_sampled_ones_hardly():
    full = [estimates.estimate_s(run(1, n), H100) for n in (512, 2048)]
    sampled = [estimates.estimate_s(run(1, n, "sampled"), H100) for n in (512, 2048)]
    assert full[1] > 3.5 * full[0] and sampled[1] < 1.5 * sampled[0] and sampled[1] < full[1]


def test_a_plan_of_layers_starts_no_engine():
    points = [layer(tokens=n, backend=b) for n in (1, 2, 4) for b in ("loop", "triton")]
    assert plan(*points).num_builds == plan(*points).num_engines == 0
    assert estimates.plan_s(plan(*points), H100) == pytest.approx(6 * estimates.LAYER_POINT_S)


def test_a_plan_counts_each_build_once_and_leaves_out_what_is_not_run():
    small, large = run(1), run(16)
    other = run(1, quantization="fp8")
    gone = replace(run(64), status="oom", reason="too large")
    derived = replace(run(32), method="depth", own=(small.key,))
    points = [small, large, other, layer(), gone, derived]
    measured = sum(estimates.estimate_s(p, H100) for p in points[:4])
    assert plan(*points).num_builds == 2
    assert estimates.plan_s(plan(*points), H100) == pytest.approx(
        2 * estimates.ENGINE_START_S["gpu"] + measured
    )
    assert estimates.plan_s(plan(small), CPU) == pytest.approx(
        estimates.ENGINE_START_S["cpu"] + estimates.estimate_s(small, CPU)
    )


def test_the_table_has_no_seconds_for_what_is_not_measured():
    gone = replace(run(64), status="infeasible", reason="no such kernel")
    frame = estimates.to_frame(
        plan(run(1), replace(run(2), method="depth", own=("x",)), gone, layer()), H100
    )
    assert frame["estimate_s"].isna().tolist() == [False, True, True, False]
    assert frame["reason"].tolist()[2] == "no such kernel" and (frame["weights_bytes"] > 0).all()
    assert list(estimates.to_frame(plan(), H100).columns) == ["status", "reason", "estimate_s"]


@pytest.mark.parametrize(
    ("given", "device", "status", "reason"),
    [
        ({"tensor_parallel": 2}, "cpu", "ready", None),
        (
            {"tensor_parallel": 2, "expert_parallel": True},
            "cpu",
            "infeasible",
            "segmentation fault with expert",
        ),
        ({"pipeline_parallel": 2}, "cpu", "infeasible", "KeyError with pipeline"),
        ({"pipeline_parallel": 2, "expert_parallel": True}, "cpu", "infeasible", "KeyError"),
        ({"pipeline_parallel": 2, "tensor_parallel": 2}, "h100", "ready", None),
        ({"tensor_parallel": 4, "expert_parallel": True}, "h100", "ready", None),
        ({}, "h100", "oom", "which have 78.7 GB usable"),
        ({}, "h200", "ready", None),
        ({}, "cpu", "ready", None),
    ],
)
def test_what_the_devices_engine_and_memory_cannot_do_is_known_before(
    machine, given, device, status, reason
):
    machine()
    point = run(**given)
    told = estimates.check(point, device)
    assert told.status == status and told.key == point.key
    assert told.reason is None if reason is None else reason in told.reason


def test_what_is_known_already_stays_and_a_server_elsewhere_is_not_judged(machine):
    machine()
    gone = replace(run(pipeline_parallel=2), status="infeasible", reason="needs 2 devices")
    assert estimates.check(gone, "cpu") is gone
    elsewhere = replace(run(weights="endpoint"), method="endpoint")
    assert estimates.check(elsewhere, "h100") is elsewhere


def test_the_plan_takes_the_memory_of_the_card_that_is_here(machine):
    machine("NVIDIA H100 80GB HBM3|139")
    assert estimates.check(run(), "h100").status == "ready"
    machine("NVIDIA GeForce RTX 4090|24")
    assert "which have 23.7 GB usable" in estimates.check(run(), "gpu").reason


def test_a_gpu_without_published_rates_is_not_estimated_as_a_cpu():
    unknown = devices.published("nvidia-t400-4gb")
    assert (
        estimates.estimate_s(run(), H100)
        < estimates.estimate_s(run(), unknown)
        < estimates.estimate_s(run(), CPU) / 10
    )


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"tensor_parallel": 3}, "32 attention heads do not split evenly over 3 ranks"),
        ({"tensor_parallel": 4, "expert_parallel": True}, None),
        ({"pipeline_parallel": 3}, None),  # the engine gives one stage fewer layers
        ({"quantization": "int4", "tensor_parallel": 16}, None),
        ({"quantization": "int4", "tensor_parallel": 32}, "no whole groups of 128"),
    ],
)
def test_what_the_engine_refuses_is_in_the_plan(machine, given, told):
    machine()
    point = estimates.check(run(batch=1, **given), "h200")
    assert point.status == ("infeasible" if told else "ready")
    assert told is None or told in point.reason


def test_a_draft_must_split_as_its_target_does(machine):
    machine()
    speculation = Speculation("draft_model", 2, "Qwen3-0.6B")  # 16 heads
    target = replace(load("Qwen3-30B-A3B"), num_heads=32)
    engine = EngineSettings(tensor_parallel=32, speculation=speculation)
    told = estimates.check(Point("x", target, engine, Workload(1, 8, 8)), "h200")
    assert told.status == "infeasible" and "Qwen3-0.6B: its 16 attention heads" in told.reason
