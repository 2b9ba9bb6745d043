"""Sections 2, 3 and 6 through one real worker: formats, pruned shapes, single layers and installed
expert computations."""

from pathlib import Path

import pytest

from moebook.measure import run
from moebook.measure.store import Store
from moebook.results import table as results
from moebook.results.cells import of_sweep
from moebook.sections.fused_moe import plan as fused_moe
from moebook.sections.pruning import plan as pruning
from moebook.sections.quantization import plan as quantization

FLAGS = Path("/proc/cpuinfo").read_text()
AVX512, AMX = "avx512f" in FLAGS, "amx_tile" in FLAGS
SMALL = {"profile": "small", "batches": [2], "batch_tokens": 16, "lengths": [16]}


@pytest.fixture(scope="module")
def tables(tiny_cache, tmp_path_factory):
    """Summary by section, and how often the worker was asked to start an engine of a format that it
    lacks."""
    root = tmp_path_factory.mktemp("sections")
    plans = {
        "quantization": quantization.plan(
            quantization.Params(
                **SMALL,
                pair=["bf16", "fp8"],
                formats=["bf16", "fp8", "int8 experts", "int4 weights", "bf16 + fp8 KV"],
                formats_batches=[1, 2],
                formats_tokens=16,
                weights="dummy",
            )
        ),
        "pruning": pruning.plan(
            pruning.Params(
                profile="small",
                ratios_pct=[50],
                active_experts=[1, 4],
                batch=2,
                tokens=16,
                quality_target="tiny:test/aux-0.01",
                criteria=["routed_activation"],
                quality_sequences=3,
                quality_tokens=64,
            )
        ),
        "fused_moe": fused_moe.plan(
            fused_moe.Params(
                profile="small",
                layer_models=["tiny-mixtral"],
                layer_tokens=[1, 16],
                ladder_batches=[2],
                ladder_batch_tokens=16,
                ladder_lengths=[16],
                ladder_length_batch=2,
                quantized_tokens=[4],
            )
        ),
    }
    out, starts = {}, []
    with pytest.MonkeyPatch.context() as patch, run.WorkerHandle(root / "worker.log") as worker:
        patch.setenv("MOEBOOK_CACHE", str(tiny_cache))
        ask = worker.ask

        def watched(request: dict, limit_s: float) -> dict:
            if request["op"] == "start":
                starts.append(request["settings"]["quantization"])
            return ask(request, limit_s)

        worker.ask = watched
        for name, plan in plans.items():
            run.measure(plan, root, worker=worker)
            out[name] = results.summarize(results.assemble(plan, Store(root, plan).records()))
    return out, starts


def rows(table, sweep: str):
    return of_sweep(table, sweep).set_index("series")


@pytest.mark.engine
def test_every_format_runs_or_is_planned_not_to(tables):
    table, starts = tables[0]["quantization"], tables[1]
    found = rows(table, "formats")
    more = {"bf16 + fp8 KV": AVX512, "int8 experts": AMX, "int4 weights": AMX}
    assert set(found[found["status"] == "ok"].index) == {
        "bf16",
        *(name for name, has in more.items() if has),
    }
    assert set(found["status"]) <= {"ok", "infeasible"}
    assert found.loc["fp8", "reason"].str.contains("FP8 per tensor are in no build for CPUs").all()
    assert starts.count("fp8") == 0, "what this machine cannot do is planned so"


@pytest.mark.engine
@pytest.mark.skipif(not AMX, reason="the engine has these formats on a CPU with AMX only")
def test_memory_shrinks_with_the_format(tables):
    found = rows(tables[0]["quantization"], "formats").groupby(level=0).first()
    bytes_of = found["weights_bytes"].astype(float)
    assert bytes_of["int4 weights"] < bytes_of["int8 experts"] < bytes_of["bf16"]
    capacity = found["kv_capacity_tokens"]
    assert capacity["bf16 + fp8 KV"] == pytest.approx(2 * capacity["bf16"], rel=0.01)


@pytest.mark.engine
def test_pruned_shapes_run_at_every_top_k_they_allow(tables):
    table = of_sweep(tables[0]["pruning"], "pruning")
    assert set(table["status"]) == {"ok"} and len(table) == 6
    assert table.groupby("series")["num_experts"].first().to_dict() == {
        "baseline": 16,
        "inter 50 %": 8,
        "intra 50 %": 16,
    }


@pytest.mark.engine
def test_a_trained_model_is_pruned_in_both_ways_and_read(tables):
    found = of_sweep(tables[0]["pruning"], "quality").set_index("weights")["perplexity"]
    assert len(found) == 3 and found.notna().all() and found.nunique() == 3
    assert found.max() > found["tiny:test/aux-0.01"], (
        "taking half of the experts or of their width away costs something"
    )


@pytest.mark.engine
def test_layers_agree_with_the_reference_and_engines_hold_what_was_installed(tables):
    table = tables[0]["fused_moe"]
    layers = rows(table, "layer")
    timed = layers[layers["status"] == "ok"]
    assert set(timed.index) == {"expert loop", "grouped GEMM", "fused (engine's choice)"}
    assert (timed["relative_error"] < 2e-2).all() and (timed["layer_s"] > 0).all()
    assert (
        layers.loc["fused Triton", "reason"]
        .str.contains("does not support current device cpu")
        .all()
    )
    ladder = rows(table, "ladder_batch")
    assert set(ladder["status"]) == {"ok"}
    assert ladder["moe_backend"][["expert loop", "grouped GEMM"]].tolist() == [
        "moebook loop",
        "moebook grouped",
    ]
    assert rows(table, "layer_tuned")["reason"].str.contains("GPU").all()
    assert set(rows(table, "layer_quantized")["status"]) == {"ok" if AMX else "infeasible"}
