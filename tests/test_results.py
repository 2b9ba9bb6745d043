"""The table: rows per repeat, failures as rows, depth points from what they rest on, file and back."""

from dataclasses import replace

import pandas as pd
import pytest

from moebook import results, sections
from moebook.params import build
from moebook.plan import Plan

SECTION = sections.find("01")


def record(point, status="ok", e2e=(1.0, 1.1, 1.2), ttft=0.1):
    repeats = [{"ttft_s": ttft, "e2e_s": e} for e in e2e] if status == "ok" else []
    return {"key": point.key, "status": status, "reason": None if status == "ok" else "the engine said no",
            "repeats": repeats, "num_layers": point.architecture.num_layers, "engine": {"attention_backend": "A"},
            "provenance": {"device": "test device", "device_kind": "cpu", "engine_version": "vllm 0"}}


@pytest.fixture(scope="module")
def plan() -> Plan:
    return SECTION.plan(build(SECTION.params, {}, "defaults"))


def test_a_row_per_repeat_and_one_row_for_what_is_missing(plan):
    done, failed = plan.measured[:2]
    table = results.assemble(plan, {done.key: record(done), failed.key: record(failed, "oom")})
    assert table[table.key == done.key]["repeat"].tolist() == [0, 1, 2]
    row = table[table.key == failed.key].iloc[0]
    assert row.status == "oom" and row.reason == "the engine said no" and pd.isna(row.e2e_s) and pd.isna(row["repeat"])
    assert set(table[~table.key.isin([done.key, failed.key])].status) <= {"not_run", "infeasible"}
    assert table.key.nunique() == len(plan.points)


def test_unstable_points_are_flagged(plan):
    steady, loose = plan.measured[:2]
    records = {steady.key: record(steady, e2e=(1, 1.01, 1.02)), loose.key: record(loose, e2e=(1, 1.3, 1))}
    table = results.assemble(plan, records)
    assert not table[table.key == steady.key].unstable.any()
    assert table[table.key == loose.key].unstable.all()


def test_summary_holds_median_and_range(plan):
    point = plan.measured[0]
    summary = results.summarize(results.assemble(plan, {point.key: record(point, e2e=(3, 1, 2))}))
    row = summary[summary.key == point.key].iloc[0]
    assert (row.e2e_s, row.e2e_s_lo, row.e2e_s_hi, row.n_repeats) == (2, 1, 3, 3)
    assert row.spread_pct == pytest.approx(100)
    assert len(summary) == len(plan.points)


def test_depth_point_is_the_line_through_its_supports(plan):
    derived = next(p for p in plan.points if p.method == "depth")
    outputs = derived.workload.output_tokens
    by_key = {p.key: p for p in plan.points}
    records = {}
    for key in derived.own:
        layers = by_key[key].architecture.num_layers
        ttft, step = 0.01 + 0.002 * layers, 0.001 + 0.0005 * layers
        records[key] = record(by_key[key], e2e=[ttft + step * (outputs - 1)] * 3, ttft=ttft)
    table = results.assemble(plan, records)
    row = table[table.key == derived.key].iloc[0]
    full = derived.architecture.num_layers
    assert row.ttft_s == pytest.approx(0.01 + 0.002 * full)
    assert row.e2e_s == pytest.approx(row.ttft_s + (0.001 + 0.0005 * full) * (outputs - 1))


def test_anchor_gives_the_intercept():
    # t = 3 + 0.5 L for the anchor, t = 3 + 2 L for the cell
    assert results.at_anchor([16, 32, 16], [35, 19, 11], 32) == pytest.approx(67)


def test_depth_point_of_a_failed_support_says_so(plan):
    derived = next(p for p in plan.points if p.method == "depth")
    by_key = {p.key: p for p in plan.points}
    records = {k: record(by_key[k], "oom" if k == derived.own[0] else "ok") for k in derived.own}
    row = results.assemble(plan, records).query("key == @derived.key").iloc[0]
    assert row.status == "oom" and "rests on" in row.reason


def test_file_and_back_with_provenance(plan, tmp_path):
    point = plan.measured[0]
    table = results.assemble(plan, {point.key: record(point)})
    results.write(table, tmp_path / "r.parquet", {"parameters": {"a": 1}})
    back, meta = results.read(tmp_path / "r.parquet")
    pd.testing.assert_frame_equal(back, table, check_dtype=False)
    assert meta["parameters"] == {"a": 1} and meta["moebook_version"]


def test_a_damaged_results_file_is_a_clear_error(tmp_path):
    (tmp_path / "r.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(ValueError, match="no results table"):
        results.read(tmp_path / "r.parquet")


def test_select_matches_whole_sweep_names(plan):
    summary = results.summarize(results.assemble(plan, {}))
    chosen = results.select(summary, "batch_topk")
    assert len(chosen) and all("batch_topk" in s.split(",") for s in chosen.sweeps)
    assert results.select(summary, "batch").empty


def test_point_id_depends_on_device_engine_and_every_setting(plan):
    point = plan.measured[0]
    ids = {point.point_id("a", "1"), point.point_id("b", "1"), point.point_id("a", "2"),
           replace(point, repeats=4).point_id("a", "1"),
           replace(point, engine=replace(point.engine, dtype="float32")).point_id("a", "1"),
           replace(point, workload=replace(point.workload, seed=1)).point_id("a", "1")}
    assert len(ids) == 6


def test_committed_results_are_read_where_the_device_is_not(tmp_path):
    """Only results.parquet, no point files, as a clone without them has it."""
    import shutil
    from pathlib import Path

    from moebook import workbook
    from moebook.params import load

    params = load(SECTION.params, "params/h200/01_hyperparameter_scaling.yaml").model_copy(
        update={"output_root": str(tmp_path)})
    plan = SECTION.plan(params)
    with pytest.raises(workbook.NoResults, match="run it on such a device"):
        workbook.get_results(params, plan)
    folder = tmp_path / "h200/01_hyperparameter_scaling"
    folder.mkdir(parents=True)
    shutil.copy(Path("outputs/h200/01_hyperparameter_scaling/results.parquet"), folder)
    res = workbook.get_results(params, plan)
    assert "committed results, measured on NVIDIA H200" in res.origin and res.counts()["ok"] > 100
    assert not (folder / "points").exists()
    other = SECTION.plan(params.model_copy(update={"seed": 7}))
    with pytest.raises(workbook.NoResults, match="other parameters"):
        workbook.load(params, other)
