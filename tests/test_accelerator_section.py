"""Section 8's plans, its bad input, and the table of several devices that its figures take."""

import shutil
from pathlib import Path

import accelerator_tables as t
import pandas as pd
import pytest

from moebook import devices
from moebook.models import catalog, costs, sizes
from moebook.models.edit import edit, language_part
from moebook.problems import ParameterError
from moebook.results.loading import load, unmeasured
from moebook.sections.accelerator_comparison import enrich
from moebook.sections.accelerator_comparison import plan as section
from moebook.study import estimates
from moebook.study.params import build

SCOUT = "Llama-4-Scout-17B-16E-Instruct"
PROFILES = ("cpu", "h100", "h200", "4xh100")


def plan(profile: str, **changes):
    return section.plan(t.params_of(profile, Path("outputs"), **changes))


def points(made, sweep: str) -> list:
    return [p for p in made.points if sweep in p.sweeps]


def given(**values):
    return build(section.Params, values, "test")


def test_the_small_profile_is_planned_for_under_two_minutes():
    made = plan("cpu")
    assert estimates.plan_s(made, devices.published("cpu")) < 100 and {
        p.status for p in made.points
    } == {"ready"}


def test_the_common_points_of_a_cpu_are_points_of_every_card():
    own, cards = (
        {
            (p.workload, p.method, p.architecture.shape, p.engine.dtype)
            for p in points(plan(profile), "common")
        }
        for profile in ("cpu", "h100")
    )
    assert own < cards and len(own) == 3
    keys = [{p.key for p in points(plan(profile), "common")} for profile in ("h100", "h200")]
    assert keys[0] == keys[1] and len(keys[0]) == 14


def test_scout_in_the_precision_that_fits():
    status = {
        profile: {(p.series, p.status) for p in points(plan(profile), "scout")}
        for profile in ("h100", "h200")
    }
    assert status == {
        "h100": {("int4 weights", "ready"), ("fp8", "oom")},
        "h200": {("int4 weights", "ready"), ("fp8", "ready")},
    }
    own = points(plan("h100"), "scout")
    assert {(p.workload.batch, p.workload.input_tokens) for p in own} == {
        *((1, n) for n in (128, 256, 512, 1024, 2048, 4096)),
        *((16, n) for n in (128, 512, 1024, 2048)),
    }
    assert {p.architecture.window for p in own} == {None} and {p.engine.graphs for p in own} == {
        "light"
    }


def test_longer_than_a_chunk_runs_chunked_under_the_engines_own_compilation():
    own = points(plan("h100"), "chunked")
    assert [p.workload.input_tokens for p in own] == [1024, 4096, 8192]
    assert {(p.architecture.window, p.engine.graphs, p.series) for p in own} == {
        (8192, "compiled", "int4 weights, chunked")
    }
    builds = {p.build_key for p in points(plan("h100"), "scout")}
    assert not builds & {p.build_key for p in own}


def test_the_language_part_is_the_model_without_its_vision():
    scout = catalog.load(SCOUT)
    whole, chunked = language_part(scout, chunked=False), language_part(scout)
    assert scout.vision_params and not whole.vision_params
    assert sizes.total_parameters(whole) == sizes.total_parameters(scout) - scout.vision_params
    assert (
        whole.hf_config()["architectures"] == ["Llama4ForCausalLM"]
        and whole.hf_config()["vocab_size"] == 202048
    )
    assert (whole.window, chunked.window, whole.max_positions) == (None, 8192, 16 * 8192)
    assert edit(whole, num_layers=4).num_layers == 4 and whole.source != chunked.source
    qwen = catalog.load("Qwen3-30B-A3B")
    assert language_part(qwen, chunked=False) is qwen


def test_chunked_costs_less_only_beyond_its_chunk():
    whole, chunked = (language_part(catalog.load(SCOUT), chunked=c) for c in (False, True))
    for context, same in ((8192, True), (8193, False)):
        assert (
            costs.decode_cost(whole, 1, context) == costs.decode_cost(chunked, 1, context)
        ) == same


def test_an_endpoint_is_planned_where_a_label_is_given_and_takes_nobodys_memory():
    assert not points(plan("h100"), "endpoint")
    made = plan("cpu", endpoint="CS-3, FP8")
    own = points(made, "endpoint")
    assert {(p.method, p.status, p.series) for p in own} == {("endpoint", "ready", "CS-3, FP8")}
    assert {p.engine.weights for p in own} == {"endpoint"}
    assert [p.workload.input_tokens for p in own] == [128, 256, 512, 1024, 2048, 4096]
    assert {p.architecture.name for p in own} == {SCOUT} and not any(p.needs_engine for p in own)
    assert {p.key for p in plan("cpu").points} == {
        p.key for p in made.points if p.method != "endpoint"
    }


@pytest.mark.parametrize(
    "values, told",
    [
        ({"precisions": ["int3"]}, "precisions: given 'int3'; allowed: bf16"),
        ({"beside": ["h100", "b200"]}, "beside: given 'b200'; allowed: cpu, h100, h200, 4xh100"),
        ({"beside": ["cpu"]}, "other profiles than this one"),
        ({"rooflines": ["CS3"]}, "nearest: 'CS-3'"),
        ({"endpoint": " "}, "a label that says device and precision"),
        ({"model": "Qwen3-0.6B"}, "is a dense model"),
        (
            {"model": SCOUT, "lengths": [8192]},
            "at most 4096: in and out together fit one attention chunk of 8192",
        ),
        ({"chunked_lengths": [64]}, "tiny-mixtral has no attention in chunks"),
        ({"common_layers": 17, "common_model": "nothing"}, "'nothing' is no catalog model"),
        ({"common_model": "deepseek-v2-lite", "common_layers": 1}, "use at least 2"),
        ({"endpoint_lengths": [10**8]}, "exceed its"),
        ({"endpoint_batch": 0}, "endpoint_batch"),
    ],
)
def test_bad_input_is_told(values, told):
    with pytest.raises(ParameterError) as error:
        given(**values)
    assert told in str(error.value)


def test_all_problems_at_once():
    with pytest.raises(ParameterError) as error:
        given(precisions=["int3"], rooflines=["CS3"], beside=["cpu"])
    assert len(error.value.problems) == 3


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    t.results("h100", folder, ("cpu", "h200"), endpoint="CS-3, FP8")
    return folder


def h100(root, **changes):
    params = t.params_of(
        "h100", root, **{"endpoint": "CS-3, FP8", "beside": ("cpu", "h200"), **changes}
    )
    return load(params, section.plan(params), t.SECTION.enrich)


def test_rows_of_several_devices_stand_in_one_table_and_claims_keep_to_ones_own(root):
    res = h100(root)
    assert set(res.summary["device"].dropna()) == {"synthetic H100"}
    shown = res.shown
    assert set(zip(shown["source_kind"], shown["device_label"], strict=True)) >= {
        ("measured", "H100"),
        ("measured", "H200"),
        ("measured", "CPU"),
        ("endpoint", "CS-3, FP8"),
        ("roofline", "CS-3"),
    }
    assert shown["profile"].iloc[0] == "h100"
    served = shown[shown["source_kind"] == "endpoint"]
    assert len(served) == 6 and served[list(enrich.MEASURED)].isna().all(axis=None)
    wafers = shown[(shown["device_label"] == "CS-3") & (shown["source_kind"] == "roofline")]
    assert set(wafers["series"]) == {"fp8"} and set(wafers["tensor_parallel"]) == {3}
    h100_roofline = shown[(shown["device_label"] == "H100") & (shown["source_kind"] == "roofline")]
    assert set(h100_roofline["series"]) == {"int4 weights"}


def test_what_others_measured_is_kept_for_machines_without_their_outputs(root, tmp_path):
    res = h100(root)
    before = res.shown
    assert not (root / "h100" / t.STEM / enrich.FILE).exists(), "reading writes nothing"
    (kept,) = enrich.files(res).items()
    (root / "h100" / t.STEM / kept[0]).write_bytes(kept[1])
    shutil.copytree(root / "h100", tmp_path / "h100")
    after = h100(tmp_path).shown
    columns = [
        "profile",
        "device_label",
        "source_kind",
        "series",
        "batch",
        "input_tokens",
        "e2e_s",
        "bend_compute",
    ]
    pd.testing.assert_frame_equal(after[columns], before[columns], check_dtype=False)
    assert not set(h100(tmp_path, beside=("h200",)).shown["profile"].dropna()) & {"cpu"}


def test_fresh_results_replace_kept_ones(root, tmp_path):
    shutil.copytree(root / "h100", tmp_path / "h100")
    t.write("cpu", tmp_path, sweeps=("common",))
    cpu = h100(tmp_path).shown.query("profile == 'cpu'")
    assert (cpu.loc[cpu["sweeps"] == "scout", "status"] == "not_run").all()
    assert (h100(tmp_path).shown.query("profile == 'h200'")["status"] == "ok").all()


def test_a_dry_run_reads_nothing_beside(root):
    params = t.params_of("h100", root, dry_run=True, beside=("h200",))
    shown = unmeasured(params, section.plan(params), "dry run", t.SECTION.enrich).shown
    assert set(shown["profile"]) == {"h100"} and set(shown["source_kind"]) == {"measured"}


def test_ceilings_that_an_engine_beats_are_none(root):
    res = h100(root, beside=())
    fast = res.summary.copy()
    at = fast.index[fast["status"] == "ok"][0]
    fast.loc[at, "ttft_s"] = fast.loc[at, "floor_ttft_s"] / 2
    rows = enrich._labelled(fast, res.plan, res.metadata["ceilings"])
    assert (
        rows.loc[at, ["floor_ttft_s", "floor_e2e_s"]].isna().all()
        and rows.loc[at, "floor_reason"] == enrich.BEATEN
    )
    assert rows["bend_compute"].isna().all() and rows["bend_bandwidth"].notna().any()
    assert rows["floor_ttft_s"].notna().sum() == res.summary["floor_ttft_s"].notna().sum() - 1


def test_sections_without_others_beside_show_their_own_summary(root):
    res = h100(root)
    assert res.shown is not res.summary
    plain = type("P", (), {})()
    assert type(res)(res.plan, plain, res.table, res.summary, {}, "").shown is res.summary
