"""A model's own number format in the plans of sections: what runs by default, what another format
asks for, what a device or a checkpoint refuses."""

import json
from dataclasses import replace

import pytest

from moebook import devices, sections
from moebook.models import catalog, fitting, formats
from moebook.models.architecture import from_config
from moebook.study import estimates
from moebook.study.params import build
from moebook.study.plan import EngineSettings, Plan, Point, Workload

OSS = "gpt-oss-20b"
MODELOPT = {
    "producer": {"name": "modelopt", "version": "0.29.0"},
    "quantization": {
        "quant_algo": "NVFP4",
        "kv_cache_quant_algo": "FP8",
        "group_size": 16,
        "exclude_modules": ["lm_head", "model.layers.*.self_attn*"],
    },
}


def plan(section: str, **given) -> Plan:
    found = sections.find(section)
    return found.plan(build(found.params, {"device": "h200", "profile": "h200", **given}, "test"))


def formats_of(model: str, *formats: str) -> Plan:
    alone = {"models": [], "pair": [], "weights": None, "formats_batches": [1]}
    return plan("02", formats_model=model, formats=list(formats), **alone)


def folder(tmp_path, name: str, config: dict, **files: dict) -> str:
    path = tmp_path / name
    path.mkdir()
    for file, content in {"config": config, **files}.items():
        (path / f"{file}.json").write_text(json.dumps(content))
    return str(path)


def test_formats_of_gpt_oss_are_different_engines_with_different_weights():
    made = formats_of(OSS, "own", "bf16", "fp8", "int8 experts")
    frame = estimates.to_frame(made, devices.published("h200"))
    held = dict(zip(frame["number_format"], (frame["weights_bytes"] / 1e9).round(1), strict=True))
    assert held == {
        "MXFP4": 13.8,
        "bfloat16": 41.8,
        "FP8 per tensor": 22.1,
        "INT8 per channel (experts only)": 22.7,
    }
    assert list(frame["series"]) == ["MXFP4", "bf16", "fp8", "int8 experts"]
    assert len({p.engine_key for p in made.measured}) == 4


@pytest.mark.parametrize("flags, amx", [(("avx512f",), False), (("amx_tile",), True)])
def test_formats_whose_experts_a_cpu_does_not_run_are_planned_so(monkeypatch, flags, amx):
    monkeypatch.setattr(devices, "flags", lambda: frozenset(flags))
    given = {"device": "cpu", "profile": "cpu", "graphs": "eager", "tensor_parallel": 1}
    asked = ["own", "bf16", "fp8", "int8 experts"]
    own = {"MXFP4": amx, "bf16": True, "fp8": False, "int8 experts": amx}
    alone = {"models": [], "pair": [], "weights": None, "formats_batches": [1]}
    made = plan("02", formats_model=OSS, formats=asked, **given, **alone)
    checked = {p.series: estimates.check_engine(p, "cpu") for p in made.points}
    assert {name: p.status == "ready" for name, p in checked.items()} == own
    assert "FP8 per tensor are in no build for CPUs" in checked["fp8"].reason
    assert amx or "MXFP4 need a CPU with AMX, which this one lacks" in checked["MXFP4"].reason


@pytest.mark.parametrize(
    "entry, runs",
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, {"amx_tile"}),
        ({"quant_method": "fp8"}, set()),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, {"amx_tile"}),
        ({"quant_method": "awq", "bits": 8, "group_size": 128}, set()),
        (None, {"", "amx_tile"}),
    ],
)
def test_a_checkpoint_s_own_format_needs_the_cpu_that_the_engine_asks_for(entry, runs):
    config = {**catalog.load("tiny-mixtral").hf_config(), "quantization_config": entry}
    arch = from_config(config, "made", "a test")
    found = {f for f in ("", "amx_tile") if not formats.refusal_on_cpu(arch, "own", {f} - {""})}
    assert found == runs


def test_two_series_that_are_the_same_are_planned_once():
    made = formats_of("OLMoE-1B-7B-0125", "own", "bf16", "fp8")
    assert [p.series for p in made.points] == ["bf16", "fp8"]
    only = formats_of("OLMoE-1B-7B-0125", "bf16", "fp8")
    assert [p.key for p in made.points] == [p.key for p in only.points]


@pytest.mark.parametrize("profile", ["cpu", "gpu", "h100", "h200", "4xh100"])
@pytest.mark.parametrize("stem", ["02_quantization", "09_model_comparison"])
def test_shipped_formats_have_a_models_own(profile, stem):
    from moebook.sections import parameters_of

    params, made = parameters_of(sections.find(stem), f"params/{profile}/{stem}.yaml")
    assert "own" in params.formats
    plain = [p for p in made.points if p.architecture.number_format is None]
    assert plain and not [p for p in plain if p.engine.quantization == "own"]


@pytest.mark.parametrize(
    ("section", "given"),
    [
        ("01", {"comparison_models": [OSS], "grid_model": None, "validation_model": None}),
        ("04", {"target": OSS, "drafts": [OSS], "trained_target": None}),
        ("05", {"models": [OSS]}),
        ("08", {"common_model": OSS, "model": None, "beside": []}),
        ("09", {"llms": [OSS], "vlms": [], "uniform_routing": [], "imposing_check": None}),
    ],
)
def test_sections_run_a_model_in_its_own_format(section, given):
    own = [p for p in plan(section, **given).points if OSS in p.architecture.name]
    formats = {p.number_format for p in own if p.series not in ("fp32", "bf16")}
    assert own and formats == {"MXFP4"}


def test_a_loop_over_experts_needs_plain_weights():
    made = plan("06", ladder_model=OSS, quantized_models=[])
    engines = [p for p in made.points if p.needs_engine]
    assert engines and {p.number_format for p in engines if OSS in p.architecture.name} == {
        engines[0].engine.dtype
    }


def test_nvfp4_is_for_devices_that_multiply_it(tmp_path):
    config = catalog.load("Qwen3-30B-A3B").hf_config()
    arch = catalog.load(folder(tmp_path, "fp4", config, hf_quant_config=MODELOPT))
    point = Point("02", arch, EngineSettings(quantization="own"), Workload(1, 8, 8))
    assert point.number_format == "NVFP4"
    h200, b200 = (estimates.check(point, kind) for kind in ("h200", "b200"))
    assert (h200.status, b200.status) == ("infeasible", "ready")
    assert h200.reason.startswith("NVFP4 is multiplied by tensor cores from compute capability")
    assert estimates.check(point, "cpu").status == "infeasible"
    bf16 = replace(point, engine=EngineSettings())
    kv, plain_kv = (estimates.memory_bytes(p)["kv_bytes"] for p in (point, bf16))
    assert 2 * kv == plain_kv  # the file names an FP8 cache, which the engine takes
    assert estimates.check(bf16, "h200").status == "ready"


def test_a_checkpoint_is_read_in_the_format_it_is_stored_in(tmp_path):
    path = folder(tmp_path, "stored", catalog.load(OSS).hf_config())
    asked = (EngineSettings(quantization=q, weights=path) for q in ("own", None, "fp8"))
    work = Workload(1, 8, 8)
    points = [Point("02", catalog.load(path), settings, work) for settings in asked]
    own, bf16, fp8 = (estimates.check(p, "h200") for p in points)
    assert (own.status, bf16.status, fp8.status) == ("ready", "infeasible", "infeasible")
    assert bf16.reason == (
        "the checkpoint's weights are stored in MXFP4, and plain weights are asked: ask for the "
        "format 'own', or give a checkpoint of plain weights"
    )


def test_a_format_that_is_not_asked_for_refuses_no_split():
    """768 channels of Qwen3-30B-A3B-FP8 over 8 ranks are no whole blocks; in bf16 they are 96."""
    arch = catalog.load("Qwen3-30B-A3B-FP8")
    own, bf16 = (
        estimates.check(
            Point("05", arch, EngineSettings(quantization=q, tensor_parallel=8), Workload(1, 8, 8)),
            "h200",
        )
        for q in ("own", None)
    )
    assert own.status == "infeasible" and "no whole blocks" in own.reason
    assert "blocks" not in (bf16.reason or "")


def test_what_is_told_of_a_model_has_its_format_and_the_devices_that_lack_it(tmp_path):
    config = catalog.load("Qwen3-30B-A3B").hf_config()
    arch = catalog.load(folder(tmp_path, "fp4", config, hf_quant_config=MODELOPT))
    told = fitting.facts(arch)
    assert told["number_format"] == "NVFP4" and 16e9 < told["weight_bytes"] < 20e9
    refused = {row["device"]: row["refused"] for row in fitting.fits(arch)}
    assert "tensor cores" in refused["h200"] and refused["b200"] is None
