"""The plan of section 9: what the shipped profiles hold, what fits, whose routing is imposed, and
bad parameters."""

from functools import cache
from pathlib import Path

import pytest

from moebook import devices, sections
from moebook.engine.vllm.arguments import engine_arguments, engine_environment
from moebook.models import catalog
from moebook.problems import ParameterError
from moebook.sections import parameters_of
from moebook.study import estimates
from moebook.study.params import build
from moebook.study.settings import EngineSettings

STEM = "09_model_comparison"
SIX = {
    "Mixtral-8x7B-v0.1",
    "Qwen1.5-MoE-A2.7B",
    "Qwen3-30B-A3B",
    "DeepSeek-V2-Lite",
    "Phi-3.5-MoE-instruct",
    "OLMoE-1B-7B-0125",
}
THREE = {f"deepseek-vl2-{size}-textonly" for size in ("tiny", "small", "base")}
PROFILES = ("cpu", "h100", "h200", "4xh100")


@cache
def shipped(profile: str):
    return parameters_of(sections.find(STEM), Path(f"params/{profile}/{STEM}.yaml"))


def points(profile: str, sweep: str) -> list:
    return [p for p in shipped(profile)[1].points if sweep in p.sweeps]


def model(point) -> str:
    return point.architecture.name.split("[")[0]


def plan(**given):
    found = sections.find(STEM)
    return found.plan(build(found.params, given, "test"))


@pytest.mark.parametrize("profile", PROFILES)
def test_every_shipped_file_plans_without_double_keys_and_costs_what_it_may(profile):
    params, made = shipped(profile)
    assert (
        params.profile == profile
        and made.notebook == STEM
        and len({p.key for p in made.points}) == len(made.points)
    )
    most = {"cpu": 100, "h100": 360, "h200": 1100, "4xh100": 3600}[profile]
    assert estimates.plan_s(made, devices.published(params.device)) < most


@pytest.mark.parametrize("profile", PROFILES[1:])
def test_nine_models_at_the_studys_workload(profile):
    llms, vlms = points(profile, "llms"), points(profile, "vlms")
    assert {model(p) for p in llms} == SIX and {model(p) for p in vlms} == THREE
    works = {
        (p.workload.batch, p.workload.input_tokens, p.workload.output_tokens)
        for p in (*llms, *vlms)
    }
    assert works == {(64, 2048, 2048)}
    assert all(
        p.engine.max_model_len == 4096 <= p.architecture.max_positions for p in (*llms, *vlms)
    )


def test_an_h100_has_all_six_in_fp8_and_those_in_bf16_that_fit_with_their_cache():
    llms = points("h100", "llms")
    fp8 = {model(p): p for p in llms if p.series == "fp8"}
    assert set(fp8) == SIX and {p.status for p in fp8.values()} == {"ready"}
    assert [m for m, p in fp8.items() if p.is_derived] == ["Mixtral-8x7B-v0.1"]
    bf16 = {model(p): p.status for p in llms if p.series == "bf16"}
    assert {m for m, status in bf16.items() if status == "ready"} == {
        "DeepSeek-V2-Lite",
        "OLMoE-1B-7B-0125",
    }
    assert all("kv" in p.reason for p in llms if p.status == "oom")
    own = [p for p in shipped("h100")[1].points if p.key in fp8["Mixtral-8x7B-v0.1"].own]
    assert [p.architecture.num_layers for p in own] == [8, 16] and {p.sweeps for p in own} == {
        ("support",)
    }


def test_an_h200_has_everything_whole_in_bf16():
    made = shipped("h200")[1].points
    assert {p.status for p in made} == {"ready"} and not any(p.is_derived for p in made)
    newer_ones = {model(p) for p in made if "newer" in p.sweeps}
    assert {p.series for p in made if model(p) not in newer_ones} == {"bf16"}
    newer = {model(p): p.series for p in made if "newer" in p.sweeps}
    assert newer["gpt-oss-120b"] == "MXFP4" and newer["ERNIE-4.5-21B-A3B-PT"] == "bf16"
    assert newer["Qwen3-Next-80B-A3B-Instruct-FP8"] == "FP8 blocks 128x128"


@pytest.mark.parametrize("profile", PROFILES)
def test_routing_is_imposed_where_named_on_all_of_the_deepseek_family_and_on_one_check(profile):
    params, made = shipped(profile)
    assert all(params.imposes(m) for m in map(model, made.points) if "deepseek" in m.lower())
    for point in made.points:
        imposed = point.engine.routing == "uniform"
        assert imposed == params.imposes(model(point)) or "imposing" in point.sweeps
    check = points(profile, "imposing")
    assert {model(p) for p in check} == {params.imposing_check} and {
        p.engine.routing for p in check
    } == {None, "uniform"}
    assert len({p.workload for p in check}) == 1


def test_the_check_shares_its_point_with_the_comparison():
    (routed,) = (p for p in points("h200", "imposing") if p.engine.routing == "uniform")
    assert set(routed.sweeps) == {"llms", "imposing", "graphs"}


def test_a_series_runs_under_the_engines_own_graphs_where_those_are_faster():
    checked = {(model(p), p.engine.graphs) for p in points("h200", "graphs")}
    assert len(checked) == 2 * len({name for name, _ in checked}) == 12
    used = {model(p): p.engine.graphs for p in points("h200", "llms")}
    assert {name for name, graphs in used.items() if graphs == "default"} == {"DeepSeek-V2-Lite"}


def test_image_tokens_are_part_of_the_prompt():
    made = plan(vlm_text_tokens=30, vlm_image_tokens=12, tokens=8)
    (vision,) = (p for p in made.points if "vlms" in p.sweeps)
    assert (vision.workload.input_tokens, vision.workload.output_tokens) == (42, 8)
    assert vision.engine.max_model_len == 50


def test_a_language_part_without_mla_tells_the_engine():
    """The smallest DeepSeek-VL2 has plain attention under a config that names a KV rank."""

    def environment(name):
        return engine_environment(EngineSettings(graphs="eager"), catalog.load(name).hf_config())

    assert environment("deepseek-vl2-tiny-textonly") == environment("Mixtral-8x7B-v0.1") | {
        "VLLM_MLA_DISABLE": "1"
    }
    assert environment("deepseek-vl2-small-textonly") == environment("Mixtral-8x7B-v0.1")


@pytest.mark.parametrize(
    "name, dtype, on_gpu, told",
    [
        ("tiny-deepseek-v2", "float32", False, "CPU_MLA"),
        ("tiny-deepseek-v2", "bfloat16", False, None),
        ("tiny-deepseek-v2", "float16", True, None),
        ("tiny-mixtral", "float32", False, None),
        ("deepseek-vl2-tiny-textonly", "float32", False, None),
    ],
)
def test_a_cpu_is_told_an_mla_kernel_where_the_fast_one_lacks_the_dtype(
    name, dtype, on_gpu, told, tmp_path
):
    made = engine_arguments(
        EngineSettings(dtype=dtype), catalog.load(name).hf_config(), tmp_path, on_gpu=on_gpu
    )
    assert made.get("attention_backend") == told


def test_no_check_and_no_vision_models_may_be_asked_for():
    made = plan(vlms=[], imposing_check=None, uniform_routing=[])
    assert {s for p in made.points for s in p.sweeps} == {"llms"}


@pytest.mark.parametrize(
    "given, told",
    [
        ({"llms": ["Mixtrall-8x7B"]}, "llms: given 'Mixtrall-8x7B'"),
        ({"formats": ["bf61"]}, "nearest: 'bf16'"),
        ({"vlm_format": "fp9"}, "vlm_format"),
        ({"depth_formats": ["fp8"]}, "allowed: fp32, own"),
        ({"depth_formats": ["bf16"]}, "two or more depths"),
        ({"tokens": 10**6}, "positions"),
        ({"vlm_image_tokens": 10**6}, "vlms: given 'tiny-deepseek-v2'"),
        ({"uniform_routing": ["OLMoE"]}, "uniform_routing: given 'OLMoE'; allowed: tiny-mixtral"),
        ({"imposing_check": "tiny-deepseek"}, "imposing_check"),
        ({"llms": ["Qwen3-0.6B"], "imposing_check": None}, "is a dense model"),
        ({"gpu_memory_utilization": 1.5}, "gpu_memory_utilization"),
        ({"accuracy_file": "nowhere.json"}, "cannot be read"),
    ],
)
def test_bad_parameters_are_told_with_what_is_allowed(given, told):
    with pytest.raises(ParameterError) as error:
        plan(**given)
    assert told in str(error.value)


def test_a_file_of_measured_accuracies_is_checked_when_planned(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('{"tiny-mixtral": {"boolq": {"acc,none": 0.5}}}')
    plan(accuracy_file=str(path))
    path.write_text('{"tiny-mixtral": {"boolq": {"acc,none": 50}}}')
    with pytest.raises(ParameterError, match="from 0 to 1"):
        plan(accuracy_file=str(path))


def test_a_model_too_large_for_two_cards_is_run_by_depth_and_shallower_ones_whole():
    plan = shipped("2xh200")[1]
    depths = {p.architecture.name: p.is_derived for p in plan.points}
    assert [name for name, derived in depths.items() if derived] == ["Qwen3-235B-A22B-FP8"]
    assert {"Qwen3-235B-A22B-FP8[L=32]", "Qwen3-235B-A22B-FP8[L=64]"} < set(depths)
    given = {**shipped("2xh200")[0].model_dump(), "reduced_layers": [32, 95]}
    with pytest.raises(ParameterError, match="95; at most the 94 layers of Qwen3-235B-A22B-FP8"):
        build(sections.find(STEM).params, given, "here")
