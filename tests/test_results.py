"""The table: rows per repeat, failures as rows, depth points from what they rest on, file and
back."""

import runpy
import shutil
from dataclasses import replace

import pandas as pd
import pytest

from moebook import paths, sections, workbook
from moebook.measure.store import Store
from moebook.results import loading, parquet
from moebook.results import table as results
from moebook.results.cells import of_sweep
from moebook.study.params import build, load
from moebook.study.plan import Plan, describe

SECTION = sections.find("01")


def record(point, status="ok", e2e=(1.0, 1.1, 1.2), ttft=0.1):
    repeats = [{"ttft_s": ttft, "e2e_s": e} for e in e2e] if status == "ok" else []
    return {
        **describe(point),
        "status": status,
        "reason": None if status == "ok" else "the engine said no",
        "repeats": repeats,
        "engine": {"attention_backend": "A"},
        "provenance": {
            "device": "test device",
            "device_kind": "cpu",
            "engine_version": "vllm 0",
            "started_at": "2026-01-01T00:00:00+00:00",
        },
    }


@pytest.fixture(scope="module")
def plan() -> Plan:
    return SECTION.plan(build(SECTION.params, {}, "defaults"))


def test_a_row_per_repeat_and_one_row_for_what_is_missing(plan):
    done, failed = plan.measured[:2]
    table = results.assemble(plan, {done.key: record(done), failed.key: record(failed, "oom")})
    assert table[table.key == done.key]["repeat"].tolist() == [0, 1, 2]
    row = table[table.key == failed.key].iloc[0]
    assert (
        row.status == "oom"
        and row.reason == "the engine said no"
        and pd.isna(row.e2e_s)
        and pd.isna(row["repeat"])
    )
    assert set(table[~table.key.isin([done.key, failed.key])].status) <= {"not_run", "infeasible"}
    assert table.key.nunique() == len(plan.points)


def test_unstable_points_are_flagged(plan):
    steady, loose = plan.measured[:2]
    records = {
        steady.key: record(steady, e2e=(1, 1.01, 1.02)),
        loose.key: record(loose, e2e=(1, 1.3, 1)),
    }
    table = results.assemble(plan, records)
    assert not table[table.key == steady.key].unstable.any()
    assert table[table.key == loose.key].unstable.all()


def test_summary_holds_the_median_of_a_start_and_its_interval(plan):
    point = plan.measured[0]
    summary = results.summarize(results.assemble(plan, {point.key: record(point, e2e=(3, 1, 2))}))
    row = summary[summary.key == point.key].iloc[0]
    assert (row.e2e_s, row.n_repeats, row.n_records) == (2, 3, 1)
    assert row.e2e_s_lo < 2 < row.e2e_s_hi and row.e2e_s_lo * row.e2e_s_hi == pytest.approx(4)
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
    parquet.write(table, tmp_path / "r.parquet", {"parameters": {"a": 1}})
    back, meta = parquet.read(tmp_path / "r.parquet")
    pd.testing.assert_frame_equal(back, table, check_dtype=False)
    assert meta["parameters"] == {"a": 1} and meta["moebook_version"]


def test_a_damaged_results_file_is_a_clear_error(tmp_path):
    (tmp_path / "r.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(ValueError, match="no results table"):
        parquet.read(tmp_path / "r.parquet")


def test_select_matches_whole_sweep_names(plan):
    summary = results.summarize(results.assemble(plan, {}))
    chosen = of_sweep(summary, "batch_topk")
    assert len(chosen) and all("batch_topk" in s.split(",") for s in chosen.sweeps)
    assert of_sweep(summary, "batch").empty


def test_point_id_depends_on_device_engine_and_every_setting(plan):
    point = plan.measured[0]
    ids = {
        point.point_id("a", "1"),
        point.point_id("b", "1"),
        point.point_id("a", "2"),
        replace(point, repeats=4).point_id("a", "1"),
        replace(point, engine=replace(point.engine, dtype="bfloat16")).point_id("a", "1"),
        replace(point, workload=replace(point.workload, seed=1)).point_id("a", "1"),
    }
    assert len(ids) == 6


def test_the_reference_is_shown_where_nothing_was_measured_and_named_as_such(tmp_path, capsys):
    params = load_of(tmp_path)
    run = workbook.Run(SECTION, params)
    run.measure()
    res = run.results
    assert "Nothing is measured" in capsys.readouterr().out
    assert res.is_reference and res.counts()["ok"] > 100
    assert res.origin.startswith(
        "reference results that ship with moebook, measured on NVIDIA H200"
    )
    assert res.footer == "reference results of moebook: NVIDIA H200, vllm 0.26.0"
    assert (
        res.source_folder == paths.reference() / "h200" / SECTION.stem
        and res.folder == tmp_path / "h200" / SECTION.stem
    )
    assert not list(tmp_path.iterdir()), "reading writes nothing"
    run.show()
    assert "Read from outputs/reference/h200/01_hyperparameter_scaling." in capsys.readouterr().out
    with pytest.raises(loading.NoResults, match="other parameters"):
        workbook.Run(SECTION, params.model_copy(update={"seed": 7})).read()


def test_ones_own_results_stand_before_the_reference(tmp_path):
    params = load_of(tmp_path)
    plan = SECTION.plan(params)
    point = plan.measured[0]
    mine = {**record(point), "status": "ok"}
    mine["provenance"] = {
        **mine["provenance"],
        "device": "NVIDIA H200",
        "engine_version": "vllm 0.99.0",
    }
    store = Store(tmp_path, plan)
    store.write(store.path(point, "NVIDIA H200", "vllm 0.99.0"), mine)
    res = workbook.Run(SECTION, params).read()
    assert (
        not res.is_reference
        and res.footer == ""
        and res.origin.startswith("measured on NVIDIA H200 with vllm 0.99.0")
    )
    assert res.counts()["ok"] == 1


def test_of_two_engines_the_newest_decides_and_the_older_is_told_and_can_be_set_aside(tmp_path):
    params = load_of(tmp_path)
    plan = SECTION.plan(params)
    store = Store(tmp_path, plan)
    for point, versions in zip(plan.measured, (("0.9.0", "0.10.0"), ("0.9.0",)), strict=False):
        for version in versions:
            of_one = {
                **record(point),
                "provenance": {**record(point)["provenance"], "engine_version": f"vllm {version}"},
            }
            store.write(
                store.path(point, of_one["provenance"]["device"], f"vllm {version}"), of_one
            )
    res = workbook.Run(SECTION, params).read()
    assert (
        res.counts()["ok"] == 1
        and "Left out, as the newest engine's are used: 2 points of vllm 0.9.0" in res.origin
    )
    assert len(store.discard("vllm 0.10.0")) == 1 and store.found().older == ()
    assert workbook.Run(SECTION, params).read().counts()["ok"] == 2
    assert len(list(store.folder.glob("discarded/vllm-0.10.0/*.json"))) == 1


def test_a_table_alone_is_read_where_the_points_are_not_at_hand(tmp_path):
    shutil.copytree(
        paths.reference() / "h200" / SECTION.stem,
        tmp_path / "h200" / SECTION.stem,
        ignore=shutil.ignore_patterns("points", "figures"),
    )
    params = load_of(tmp_path)
    res = workbook.Run(SECTION, params).read()
    assert (
        not res.is_reference and "from results.parquet" in res.origin and res.counts()["ok"] > 100
    )
    with pytest.raises(loading.NoResults, match="other parameters"):
        workbook.Run(SECTION, params.model_copy(update={"seed": 7})).read()


def load_of(outputs):
    params = load(SECTION.params, paths.params_file("h200", SECTION.stem))
    return params.model_copy(update={"output_root": str(outputs)})


LAYERS = sections.find("06")
QUALITY = sections.find("02")


def layer_record(point, layer_s, graph_s=None, **facts) -> dict:
    repeats = [
        {"layer_s": s, "layer_graph_s": g}
        for s, g in zip(layer_s, graph_s or [None] * 3, strict=True)
    ]
    return {
        **record(point),
        "method": "layer",
        "engine": {},
        "repeats": repeats,
        "peak_memory_bytes": 10**9,
        "chosen_backend": "TRITON",
        "moe_config_tuned": False,
        "relative_error": 0.004,
        "experts_hit": 7,
        "graph_reason": None,
        **facts,
    }


@pytest.fixture(scope="module")
def layers() -> Plan:
    small = {
        "layer_tokens": [1, 4],
        "layer_backends": ["triton", "loop"],
        "tuned_model": "tiny-mixtral",
        "tuned_tokens": [16],
        "ladder": ["fused"],
    }
    return LAYERS.plan(build(LAYERS.params, small, "test"))


def of(plan: Plan, series: str, batch: int):
    return next(p for p in plan.points if (p.series, p.workload.batch) == (series, batch))


def test_a_layer_row_tells_its_kernel_and_its_times(layers):
    point = of(layers, "fused Triton", 4)
    table = results.assemble(
        layers, {point.key: layer_record(point, (3e-4, 1e-4, 2e-4), (9e-5, 7e-5, 8e-5))}
    )
    own = table[table.key == point.key]
    assert own["layer_s"].tolist() == [3e-4, 1e-4, 2e-4] and own["layer_graph_s"].tolist() == [
        9e-5,
        7e-5,
        8e-5,
    ]
    row = own.iloc[0]
    assert (row.moe_backend, row.moe_config_tuned, row.relative_error, row.experts_hit) == (
        "TRITON",
        False,
        0.004,
        7,
    )
    assert (row.asked_moe_backend, row.batch, row.method, row.peak_memory_bytes) == (
        "triton",
        4,
        "layer",
        10**9,
    )
    assert own["e2e_s"].isna().all() and pd.isna(row.default_layer_s) and pd.isna(row.configs_tried)


def test_a_tuned_layer_tells_its_default_and_the_configurations_tried(layers):
    point = of(layers, "fused Triton, tuned here", 16)
    facts = {
        "default_layer_s": 3e-4,
        "default_layer_graph_s": 2e-4,
        "configs_tried": 40,
        "moe_config_tuned": None,
    }
    row = (
        results.assemble(layers, {point.key: layer_record(point, (1e-4,) * 3, **facts)})
        .query("key == @point.key")
        .iloc[0]
    )
    assert (row.default_layer_s, row.default_layer_graph_s, row.configs_tried) == (3e-4, 2e-4, 40)
    assert pd.isna(row.moe_config_tuned)


def test_the_spread_of_a_layer_is_that_of_its_calls(layers):
    steady, loose = (of(layers, "fused Triton", n) for n in (1, 4))
    records = {
        steady.key: layer_record(steady, (1e-4, 1.01e-4, 1.02e-4), (1e-5, 9e-5, 5e-5)),
        loose.key: layer_record(loose, (1e-4, 2e-4, 3e-4)),
    }
    table = results.assemble(layers, records)
    assert (
        not table[table.key == steady.key].unstable.any()
        and table[table.key == loose.key].unstable.all()
    )
    summary = results.summarize(table).set_index("key")
    row = summary.loc[loose.key]
    assert (row.layer_s, row.layer_s_lo, row.layer_s_hi, row.n_repeats) == (2e-4, 1e-4, 3e-4, 3)
    assert row.spread_pct == pytest.approx(100) and summary.loc[
        steady.key
    ].spread_pct == pytest.approx(100 * 2 / 101)


def test_runs_and_layers_of_one_table_have_each_their_own_spread(layers):
    layer, engine = of(layers, "fused Triton", 1), of(layers, "fused", 1)
    records = {
        layer.key: layer_record(layer, (1e-4, 1e-4, 1.5e-4)),
        engine.key: record(engine, e2e=(1, 1.1, 1.2)),
    }
    spread = results.summarize(results.assemble(layers, records)).set_index("key")["spread_pct"]
    assert spread[layer.key] == pytest.approx(50) and spread[engine.key] == pytest.approx(
        100 * 0.2 / 1.1
    )
    assert spread.drop([layer.key, engine.key]).isna().all()


def test_a_layer_that_the_machine_lacks_is_a_row_with_its_reason_and_no_facts(layers):
    point = of(layers, "fused Triton", 1)
    lacking = {
        **record(point),
        "method": "layer",
        "status": "infeasible",
        "reason": "no GPU",
        "repeats": [],
    }
    row = results.assemble(layers, {point.key: lacking}).query("key == @point.key").iloc[0]
    assert (
        (row.status, row.reason) == ("infeasible", "no GPU")
        and pd.isna(row.moe_backend)
        and pd.isna(row.layer_s)
    )


def test_layer_rows_survive_the_file(layers, tmp_path):
    point = of(layers, "expert loop", 4)
    facts = {"moe_config_tuned": None, "graph_reason": "the host reads the routing"}
    table = results.assemble(layers, {point.key: layer_record(point, (1e-4,) * 3, **facts)})
    parquet.write(table, tmp_path / "r.parquet", {})
    back, _ = parquet.read(tmp_path / "r.parquet")
    pd.testing.assert_frame_equal(back, table, check_dtype=False)
    assert back.query("key == @point.key")["graph_reason"].unique().tolist() == [
        "the host reads the routing"
    ]


def test_perplexity_rows():
    member = "tiny:cpu/aux-0.01"
    given = {"weights": member, "formats": ["bf16", "fp16"]}
    plan = QUALITY.plan(build(QUALITY.params, given, "test"))
    bf16, fp16 = (p for p in plan.points if p.method == "perplexity")
    done = {**record(bf16), "repeats": [{"perplexity": v} for v in (6.0, 6.2, 6.1)]}
    table = results.assemble(plan, {bf16.key: done})
    own = table[table.key == bf16.key]
    assert own["perplexity"].tolist() == [6.0, 6.2, 6.1]
    assert own["weights"].unique().tolist() == [member]
    assert not own["unstable"].any() and own["e2e_s"].isna().all()
    summary = results.summarize(table).set_index("key")
    row = summary.loc[bf16.key]
    assert (row.perplexity, row.perplexity_lo, row.perplexity_hi, row.sweeps) == (
        6.1,
        6.0,
        6.2,
        "quality",
    )
    assert summary.loc[fp16.key, "status"] == "not_run" and pd.isna(row.spread_pct)


def test_dummy_weights_have_a_row_per_format_that_says_why_there_is_no_perplexity():
    plan = QUALITY.plan(
        build(QUALITY.params, {"formats": ["bf16", "fp8"], "weights": "dummy"}, "test")
    )
    rows = of_sweep(results.summarize(results.assemble(plan, {})), "quality")
    assert rows["series"].tolist() == ["bf16", "fp8"] and set(rows["status"]) == {"infeasible"}
    assert rows["reason"].str.contains("dummy weights have no quality").all()


def test_points_of_another_campaign_become_further_records(tmp_path):
    script = runpy.run_path("benchmarks/add_records.py")
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for folder, text in ((ours, "1"), (theirs, "2")):
        (folder / "points").mkdir(parents=True)
        (folder / "points/a.json").write_text(text)
    (theirs / "points/b.json").write_text("3")
    assert script["add"](theirs, ours) == {"new": 1, "further": 1}
    assert (ours / "records/a/2.json").read_text() == "2"
    assert script["add"](theirs, ours) == {"there": 2}
