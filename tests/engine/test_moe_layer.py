"""One MoE layer alone on this machine's CPU: right against float64, timed, refused in the engine's
words, in a child."""

import itertools
import json
import os
import signal
import threading
from pathlib import Path

import pytest
import torch
import warm

from moebook.engine.base import EngineFailed
from moebook.engine.layer import LayerProcess
from moebook.engine.layer.moe_layer import LayerBench, calls_per_repeat
from moebook.engine.layer.tuning import (
    SPACE,
    candidates,
    fits,
    search,
    sensible,
    shipped_configs,
)
from moebook.engine.layer.variants import OWN, draw, draw_weights, reference, relative_error

SMALL = {"hidden_size": 64, "expert_ffn_dim": 128, "num_experts": 8, "top_k": 2}
MANY = {"hidden_size": 128, "expert_ffn_dim": 64, "num_experts": 16, "top_k": 4}
TOKENS = (1, 7, 64)
LIMITS = {"float32": 1e-5, "bfloat16": 2e-2}
REQUEST = {
    "shape": SMALL,
    "dtype": "float32",
    "quantization": None,
    "backend": "loop",
    "seed": 0,
    "tokens": 7,
    "repeats": 2,
}


def drawn(shape, tokens=7, dtype=torch.float32, seed=0):
    return draw(shape, tokens, dtype, "cpu", seed), draw_weights(shape, dtype, "cpu", seed)


def compute(name, inputs, weights):
    return OWN[name](inputs.x, *weights, inputs.topk_weights, inputs.topk_ids)


def dense(inputs, w13, w2):
    """Every expert on every token, weighted by a matrix that is zero for those not routed to."""
    gate, up = torch.einsum("th,eih->tei", inputs.x, w13).chunk(2, -1)
    out = torch.einsum("tei,ehi->teh", torch.nn.functional.silu(gate) * up, w2)
    return torch.einsum(
        "teh,te->th",
        out,
        torch.zeros(inputs.logits.shape).scatter(1, inputs.topk_ids.long(), inputs.topk_weights),
    )


@pytest.mark.parametrize("shape", [SMALL, MANY])
def test_the_reference_is_every_expert_weighted(shape):
    inputs, weights = drawn(shape)
    ref = reference(inputs.x, *weights, inputs.topk_weights, inputs.topk_ids, 5)
    assert ref.dtype == torch.float64 and len(ref) == 5
    assert relative_error(dense(inputs, *weights), ref) < 1e-5


@pytest.mark.parametrize(
    ("dtype", "shape", "tokens"), [*itertools.product(LIMITS, (SMALL, MANY), TOKENS)]
)
def test_own_variants_agree_with_the_reference_and_each_other(dtype, shape, tokens):
    inputs, weights = drawn(shape, tokens, getattr(torch, dtype))
    ref = reference(inputs.x, *weights, inputs.topk_weights, inputs.topk_ids, 64)
    loop, grouped = (compute(name, inputs, weights) for name in OWN)
    assert (
        loop.shape == grouped.shape == inputs.x.shape
        and loop.dtype == grouped.dtype == inputs.x.dtype
    )
    assert max(relative_error(out, ref) for out in (loop, grouped)) < LIMITS[dtype]
    assert relative_error(loop, grouped.double()) < LIMITS[dtype]


def test_experts_without_tokens_are_no_trouble():
    inputs, weights = drawn(MANY, tokens=3)
    one = torch.full_like(inputs.topk_ids, 5)
    loop, grouped = (f(inputs.x, *weights, inputs.topk_weights, one) for f in OWN.values())
    assert relative_error(loop, grouped.double()) < 1e-5


def test_a_draw_is_reproducible_and_its_seed_and_routing_count():
    (a, wa), (b, wb), (c, wc) = drawn(MANY), drawn(MANY), drawn(MANY, seed=1)
    assert (
        torch.equal(a.x, b.x) and torch.equal(a.topk_ids, b.topk_ids) and torch.equal(wa[0], wb[0])
    )
    assert not torch.equal(a.x, c.x) and not torch.equal(wa[1], wc[1])
    assert (
        torch.allclose(a.topk_weights.sum(1), torch.ones(7))
        and a.topk_weights.dtype == torch.float32
    )
    assert all(len(set(row)) == MANY["top_k"] for row in a.topk_ids.tolist())
    assert wa[0].std().item() == pytest.approx(128**-0.5, rel=0.02) and wa[
        1
    ].std().item() == pytest.approx(1 / 8, rel=0.02)


def test_the_routing_is_the_same_in_every_dtype():
    full, half = (draw(MANY, 64, dtype, "cpu", 0) for dtype in (torch.float32, torch.bfloat16))
    assert torch.equal(full.topk_ids, half.topk_ids) and torch.equal(
        full.topk_weights, half.topk_weights
    )


def test_inputs_in_turn_do_equal_work_on_other_experts():
    bench = LayerBench(MANY, "float32", None, "grouped", 0)
    first, *others = bench.inputs(7)
    sizes = torch.bincount(first.topk_ids.reshape(-1), minlength=16)
    for other in others:
        assert not torch.equal(other.topk_ids, first.topk_ids) and not torch.equal(other.x, first.x)
        assert torch.equal(
            torch.bincount(other.topk_ids.reshape(-1), minlength=16).sort()[0], sizes.sort()[0]
        )
        assert torch.equal(other.logits.topk(4).indices, other.topk_ids.long()), (
            "the logits give the same routing"
        )


@pytest.mark.parametrize("backend", OWN)
def test_a_measurement_has_its_repeats_and_facts(backend):
    found = LayerBench(MANY, "bfloat16", None, backend, 3).measure(7, repeats=3)
    assert len(found["repeats"]) == 3 and all(0 < row["layer_s"] < 1 for row in found["repeats"])
    assert (
        all(row["layer_graph_s"] is None for row in found["repeats"])
        and "CPU" in found["graph_reason"]
    )
    assert found["experts_hit"] == len(
        set(draw(MANY, 7, torch.bfloat16, "cpu", 3).topk_ids.flatten().tolist())
    )
    assert 0 < found["relative_error"] < 2e-2 and found["chosen_backend"] == backend
    assert json.dumps(found)


def test_a_repeat_lasts_about_20_ms_within_its_limits():
    assert (
        calls_per_repeat(1e-3) == 20
        and calls_per_repeat(1e-6) == 200
        and calls_per_repeat(1.0) == 3
    )


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"dtype": "int8"}, "'int8'; allowed are bfloat16, float16, float32"),
        ({"quantization": "fp8"}, "only null"),
        ({"shape": {**SMALL, "top_k": 9}}, "1 to 8"),
        ({"backend": "triton_tuned"}, "needs a GPU: Triton has no CPU backend"),
    ],
)
def test_what_cannot_be_measured_is_infeasible_with_a_reason(change, told):
    asked = {
        **{k: REQUEST[k] for k in ("shape", "dtype", "quantization", "backend", "seed")},
        **change,
    }
    with pytest.raises(EngineFailed, match=told) as error:
        LayerBench(**asked)
    assert error.value.status == "infeasible"


def test_the_search_keeps_the_fastest_and_skips_what_does_not_run():
    seconds = {16: 3.0, 32: 1.0, 64: 2.0}

    def time_of(config):
        if config["m"] == 128:
            raise RuntimeError("out of resource: shared memory")
        return seconds[config["m"]]

    assert search(iter([{"m": m} for m in (16, 128, 32, 64)]), time_of, 9.0) == ({"m": 32}, 1.0, 3)
    with pytest.raises(ValueError, match="no kernel configuration ran"):
        search(iter([{"m": 128}]), time_of, 9.0)
    assert search(itertools.repeat({"m": 16}), time_of, 0.05)[0] == {"m": 16}, (
        "an endless search ends"
    )


def test_candidates_are_shipped_first_fit_and_are_none_twice():
    shipped = dict(zip(SPACE, (16, 64, 128, 1, 4, 3), strict=True))
    found = list(candidates([shipped, shipped], 8.0, 2, 227 * 1024, None, seed=0))
    assert found[0] == shipped and len({tuple(c.items()) for c in found}) == len(found) > 50
    assert all(fits(c, 2, 227 * 1024, None) and sensible(c, 8.0) for c in found[1:])
    assert max(c["BLOCK_SIZE_M"] for c in found) == 32 and {c["GROUP_SIZE_M"] for c in found} == {1}
    assert (
        found
        == list(candidates([shipped], 8.0, 2, 227 * 1024, None, seed=0))
        != list(candidates([shipped], 8.0, 2, 227 * 1024, None, seed=1))
    )
    blocked = list(candidates([], 512.0, 1, 227 * 1024, [128, 128], seed=0))
    assert blocked and all(c["BLOCK_SIZE_K"] == 128 and c["BLOCK_SIZE_N"] <= 128 for c in blocked)


def test_shipped_configurations_are_of_the_device_and_format(tmp_path):
    one, two = (dict(zip(SPACE, (m, 64, 64, 1, 4, 3), strict=True)) for m in (16, 64))
    for name, config in {
        "E=8,N=1,device_name=X": one,
        "E=9,N=1,device_name=X": two,
        "E=9,N=2,device_name=X": two,
        "E=8,N=1,device_name=Y": one,
        "E=8,N=1,device_name=X,dtype=fp8_w8a8": one,
    }.items():
        (tmp_path / f"{name}.json").write_text(
            json.dumps({"triton_version": "3", "16": config, "4096": {}})
        )
    assert shipped_configs(tmp_path, "E=1,N=1,device_name=X.json", 60) == [two, one]
    assert shipped_configs(tmp_path, "E=1,N=1,device_name=X.json", 4000) == []


@pytest.mark.engine
@pytest.mark.parametrize(("dtype", "shape"), [*itertools.product(LIMITS, (SMALL, MANY))])
def test_the_engines_layer_agrees_with_the_reference(dtype, shape):
    bench = LayerBench(shape, dtype, None, "auto", 0)
    own = LayerBench(shape, dtype, None, "grouped", 0, weights=bench.weights)
    for tokens in TOKENS:
        found = bench.measure(tokens, repeats=1)
        assert found["relative_error"] < LIMITS[dtype] and found["chosen_backend"] == "CPU"
        assert found["experts_hit"] == own.measure(tokens, repeats=1)["experts_hit"]
    inputs = bench.inputs(64)[3]
    with bench.layer.running():
        assert relative_error(bench.layer(inputs), own.layer(inputs).double()) < LIMITS[dtype]


@pytest.mark.engine
def test_a_quantized_layers_error_includes_the_quantization():
    try:
        plain, quantized = (
            LayerBench(MANY, "bfloat16", q, "auto", 0).measure(64, 1)
            for q in (None, "int8_experts")
        )
    except EngineFailed as error:
        assert error.status == "infeasible" and "No Int8 MoE backend" in str(error)
        pytest.skip("this CPU's engine has no INT8 experts (it has no AMX)")
    assert 2 * plain["relative_error"] < quantized["relative_error"] < 0.1


@pytest.mark.engine
@pytest.mark.parametrize(
    ("backend", "quantization", "told"),
    [
        ("magic", None, "'magic'; allowed are loop, grouped, triton_tuned, auto, triton, .*marlin"),
        ("triton", None, "kernel does not support current device cpu"),
        ("cutlass", None, "not supported for unquantized MoE"),
        ("auto", "fp8", "fp8"),
        ("deep_gemm", "fp8", "does not support current device cpu"),
        ("auto", "int4", "can be quantized to fp8, .*int8_per_channel_weight_only"),
    ],
)
def test_what_the_engine_has_not_is_infeasible_in_its_words(backend, quantization, told):
    with pytest.raises(EngineFailed, match=told) as error:
        LayerBench(SMALL, "bfloat16", quantization, backend, 0)
    assert error.value.status == "infeasible"


def test_a_process_answers_refuses_and_is_replaced_when_killed():
    layers = LayerProcess()
    first = layers.ask(REQUEST)
    assert first["ok"] and len(first["repeats"]) == 2 and "ending" not in first
    process = layers.process
    refused = layers.ask({**REQUEST, "quantization": "fp8"})
    assert (
        not refused["ok"] and refused["status"] == "infeasible" and "only null" in refused["reason"]
    )
    assert layers.ask({**REQUEST, "backend": "grouped"})["experts_hit"] == first["experts_hit"]
    assert layers.process is process, "a refusal keeps the process"
    threading.Timer(0.5, os.kill, (process.pid, signal.SIGKILL)).start()
    died = layers.ask({**REQUEST, "repeats": 100_000})
    assert not died["ok"] and died["status"] == "failed" and "SIGKILL" in died["reason"]
    assert (
        layers.ask(REQUEST)["relative_error"] == first["relative_error"]
        and layers.process.pid != process.pid
    )
    layers.stop()
    layers.stop()
    assert layers.process is None


@pytest.mark.engine
def test_installed_variants_give_the_engines_tokens(tmp_path):
    """In a Mixtral, and in a Qwen2-MoE with a shared expert beside."""
    script = Path(__file__).parent / "installed_tokens.py"
    done = warm.run([str(script), str(tmp_path)], "warm_engine", timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    models = json.loads(done.stdout.strip().splitlines()[-1])
    for found in models.values():
        for name in OWN:
            assert found[name]["tokens"] == found["engine"] and found[name]["difference"] < 1e-5
            assert found[name]["calls"] == 16 * 2, "16 steps, 2 layers"
        assert found["nothing"]["difference"] == pytest.approx(1.0)
    assert models["tiny-mixtral"]["nothing"]["tokens"] != models["tiny-mixtral"]["engine"]
