"""The committed H200 results: methods against better ones, switched top-k against fresh builds, the
loop against vLLM's."""

import json
from pathlib import Path

import pandas as pd
import pytest

from moebook.predict.columns import is_under
from moebook.results import parquet
from moebook.results import table as results
from moebook.results.cells import of_sweep
from moebook.sections.hyperparameter_scaling.tables import validation_table

ROOT = Path(__file__).parents[1]
DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def summary():
    table, meta = parquet.read(
        ROOT / "outputs/reference/h200/01_hyperparameter_scaling/results.parquet"
    )
    assert meta["profile"] == "h200" and meta["ceilings"]["device"] == "NVIDIA H200"
    assert table["device"].dropna().unique().tolist() == ["NVIDIA H200"]
    return results.summarize(table)


def errors(summary, method: str) -> dict[str, float]:
    table = validation_table(summary)
    return {r.label.split(" ")[0]: r.error_pct for r in table[table.method == method].itertuples()}


def test_sampled_is_within_3_pct_of_full(summary):
    assert abs(errors(summary, "sampled")["OLMoE-1B-7B-0125"]) < 3


def test_depth_by_anchor_is_within_3_pct(summary):
    assert abs(errors(summary, "depth+sampled")["Mixtral-8x7B-v0.1"]) < 3


def test_depth_from_a_quarter_and_half_of_16_layers_misses(summary):
    """4 and 8 layers of OLMoE stand at the host's floor, where time is not linear in depth: a kept
    miss."""
    assert errors(summary, "depth+sampled")["OLMoE-1B-7B-0125"] < -3


def test_the_grid_is_whole(summary):
    grid = of_sweep(summary, "grid")
    assert len(grid) == 64
    assert grid["status"].value_counts().to_dict() == {"ok": 52, "oom": 12}
    missing = grid.loc[grid.status == "oom", ["expert_ffn_dim", "num_experts"]].drop_duplicates()
    assert sorted(map(tuple, missing.to_numpy().tolist())) == [(7168, 64), (14336, 32), (14336, 64)]


def test_switched_top_k_equals_a_fresh_build(summary):
    fresh = json.loads((DATA / "fresh_builds_h200.json").read_text())["points"]
    now = summary.set_index("key")
    compared = 0
    for point in fresh:
        row = now.loc[point["key"]]
        assert row.top_k_switched
        assert row.e2e_s == pytest.approx(sorted(point["e2e_s"])[1], rel=0.03)
        compared += 1
    assert compared == 4


def test_another_host_repeats_section_4_but_for_batch_1_which_the_host_paces():
    points = json.loads((DATA / "other_host_h200.json").read_text())["points"]
    table, _ = parquet.read(ROOT / "outputs/reference/h200/04_speculative_decoding/results.parquet")
    here = table.groupby("key")["e2e_s"].median()
    slower = {
        (p["draft"], p["batch"], p["input_tokens"]): sorted(p["e2e_s"])[1] / here[p["key"]] - 1
        for p in points
    }
    assert (
        len(slower) == 14 and max(abs(s) for (_, batch, _), s in slower.items() if batch > 1) < 0.06
    )
    assert {draft: round(100 * s) for (draft, batch, _), s in slower.items() if batch == 1} == {
        None: 35,
        "Qwen3-0.6B": 15,
    }


def test_dummy_weights_in_fp8_do_not_route_near_uniform_and_are_told_by_their_floor():
    points = pd.DataFrame(json.loads((DATA / "own_routing_h200.json").read_text())["points"])
    under = is_under(points.assign(device_kind="h200"))
    assert set(zip(points["series"][under], points["batch"][under], strict=True)) == {
        ("fp8", 32),
        ("fp8", 64),
    }
    assert under.sum() == 6 and (points["series"] == "bf16").sum() == 8


def test_moebooks_loop_agrees_with_vllm_bench_latency():
    told = json.loads((DATA / "fidelity_h200.json").read_text())
    medians = [sorted(told[k])[len(told[k]) // 2] for k in ("moebook_e2e_s", "vllm_bench_e2e_s")]
    assert medians[0] / medians[1] == pytest.approx(1, abs=0.03)
    assert told["difference_pct"] == pytest.approx(100 * (medians[0] / medians[1] - 1), abs=0.01)


def test_cells_of_section_1_have_predictions_beside_them():
    from moebook import sections
    from moebook.study.params import load
    from moebook.workbook import Run

    section = sections.find("01")
    params = load(section.params, ROOT / "params/h200/01_hyperparameter_scaling.yaml")
    res = Run(section, params).read()
    seen = res.summary[res.summary["status"] == "ok"]
    assert set(seen["predicted_how"].dropna()) == {"left out", "calibrated"}
    assert ((seen["predicted_e2e_s"] / seen["e2e_s"] - 1).abs().median()) < 0.05
    of_model = seen[seen["model"] == "DeepSeek-V2-Lite"]
    assert of_model["predicted_e2e_s"].notna().all()
