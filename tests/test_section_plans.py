"""Plans of sections 2, 3 and 6: what the shipped profiles promise, and that committed results are
still of them."""

import json
from collections import Counter
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from made_up import write_checkpoint

from moebook import devices, sections
from moebook.problems import ParameterError
from moebook.sections import parameters_of
from moebook.sections.pruning import plan as pruning
from moebook.study import estimates
from moebook.study.params import build

OUTPUTS = Path("outputs/reference/h200")
STEMS = (
    "02_quantization",
    "03_pruning",
    "04_speculative_decoding",
    "06_fused_moe",
    "07_load_balancing",
)
FILES = sorted(f for s in STEMS for f in Path("params").glob(f"*/{s}.yaml"))
MIXTRAL, OLMOE, QWEN = "Mixtral-8x7B-v0.1", "OLMoE-1B-7B-0125", "Qwen1.5-MoE-A2.7B"
QUANTIZED = {MIXTRAL, OLMOE, "Qwen3-30B-A3B", "DeepSeek-V2-Lite"}
LAYERS = QUANTIZED | {QWEN, "Phi-3.5-MoE-instruct"}


@cache
def shipped(profile: str, stem: str):
    return parameters_of(sections.find(stem), Path("params") / profile / f"{stem}.yaml")


def points(profile: str, stem: str, sweep: str) -> list:
    return [p for p in shipped(profile, stem)[1].points if sweep in p.sweeps]


def plan(section: str, **given):
    found = sections.find(section)
    return found.plan(build(found.params, given, "test"))


def model(point) -> str:
    return point.architecture.name.split("[")[0]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_shipped_file_plans_and_all_but_quality_can_run(file):
    params, made = shipped(file.parent.name, file.stem)
    assert (params.profile, made.notebook) == (file.parent.name, file.stem)
    assert len({p.key for p in made.points}) == len(made.points)
    lacking = [p for p in made.points if p.status != "ready" and "CPU" not in p.reason]
    assert {p.method for p in lacking} <= {"perplexity"} or made.notebook.startswith("04")
    frame = estimates.to_frame(made, devices.published(params.device))
    assert (
        frame.loc[(frame.status == "ready") & ~frame.method.str.startswith("depth"), "estimate_s"]
        > 0
    ).all()
    assert (frame["weights_bytes"] > 0).all() and all(
        p.series for p in made.points if p.sweeps != ("support",)
    )


@pytest.mark.parametrize("stem", STEMS)
def test_the_small_profile_is_planned_for_about_a_minute(stem):
    assert estimates.plan_s(shipped("cpu", stem)[1], devices.published("cpu")) < 100


@pytest.mark.parametrize("profile", ["h100", "h200", "4xh100"])
def test_the_pair_is_planned_for_four_models_over_four_batches_and_five_lengths(profile):
    batch = {
        (model(p), p.series, p.workload.batch, p.workload.input_tokens)
        for p in points(profile, "02_quantization", "quant_batch")
    }
    assert batch == {
        (m, s, b, 2048) for m in QUANTIZED for s in ("bf16", "fp8") for b in (1, 16, 32, 64)
    }
    length = {
        (model(p), p.series, p.workload.batch, p.workload.input_tokens)
        for p in points(profile, "02_quantization", "quant_length")
    }
    assert length == {
        (m, s, 64, n)
        for m in QUANTIZED
        for s in ("bf16", "fp8")
        for n in (128, 256, 512, 1024, 2048)
    }
    assert {
        p.workload.input_tokens == p.workload.output_tokens
        for p in points(profile, "02_quantization", "quant_batch")
    } == {True}


@pytest.mark.parametrize("profile", ["h100", "h200", "4xh100"])
def test_the_pair_imposes_routing_where_dummy_weights_in_fp8_do_not_route_near_uniform(profile):
    pair = [
        p
        for sweep in ("quant_batch", "quant_length")
        for p in points(profile, "02_quantization", sweep)
    ]
    assert {model(p) for p in pair if p.engine.routing == "uniform"} == {
        "Qwen3-30B-A3B",
        "DeepSeek-V2-Lite",
    }
    assert {model(p) for p in pair if p.engine.routing is None} == {MIXTRAL, OLMOE}


def test_a_model_of_pair_and_formats_is_routed_alike_and_by_its_own_routers_where_it_is_read():
    made = plan("02", uniform_routing=["tiny-mixtral"]).points
    assert {p.engine.routing for p in made if "quality" not in p.sweeps} == {"uniform"}
    assert {p.engine.routing for p in made if "quality" in p.sweeps} == {None}


@pytest.mark.parametrize(("profile", "by_depth"), [("h100", True), ("h200", False)])
def test_mixtral_in_bf16_is_by_depth_on_80_gb_and_whole_on_141_gb(profile, by_depth):
    for sweep in ("quant_batch", "quant_length", "formats"):
        own = [
            p
            for p in points(profile, "02_quantization", sweep)
            if model(p) == MIXTRAL and p.series == "bf16"
        ]
        assert (
            own
            and {p.is_derived for p in own} == {by_depth}
            and {p.architecture.num_layers for p in own} == {32}
        )
    by_key = {p.key: p for p in shipped(profile, "02_quantization")[1].points}
    resting = [p for p in by_key.values() if p.is_derived]
    assert bool(resting) == by_depth
    for point in resting:
        own = [by_key[key] for key in point.own]
        assert [o.architecture.num_layers for o in own] == [8, 16] and {o.status for o in own} == {
            "ready"
        }
        assert {(o.engine, o.workload, o.series) for o in own} == {
            (point.engine, point.workload, point.series)
        }


def test_the_study_of_four_cards_runs_every_step_on_all_of_them():
    for stem in ("02_quantization", "03_pruning"):
        own = [p for p in shipped("4xh100", stem)[1].points if p.status == "ready"]
        assert {p.method for p in own} == {"full"} and {p.engine.tensor_parallel for p in own} == {
            4
        }
        assert {p.engine.graphs for p in own} == {"default"}


@pytest.mark.parametrize("profile", ["h100", "h200", "4xh100"])
def test_eight_formats_on_one_model_and_their_perplexity_with_what_it_lacks(profile):
    own = points(profile, "02_quantization", "formats")
    assert {model(p) for p in own} == {MIXTRAL} and len({p.series for p in own}) == 8
    assert Counter(p.series for p in own) == dict.fromkeys({p.series for p in own}, 3)
    quality = points(profile, "02_quantization", "quality")
    status = {p.series: p.status for p in quality}
    if profile == "4xh100":  # dummy weights: one card reads the tiny family
        assert set(status.values()) == {"infeasible"}
        assert all("`weights`" in p.reason and "`quality_text`" in p.reason for p in quality)
    else:
        assert len(status) == 8 and [s for s in status if status[s] != "ready"] == ["int4 weights"]


@pytest.mark.parametrize("profile", ["h100", "h200", "4xh100"])
def test_seven_series_of_each_model_over_powers_of_two_up_to_the_pretrained_top_k(profile):
    for name, trained in ((OLMOE, 8), (QWEN, 4)):
        own = [p for p in points(profile, "03_pruning", "pruning") if model(p) == name]
        series = {
            "baseline",
            *(f"{k} {r} %" for k in ("inter", "intra") for r in ("12.5", "25", "50")),
        }
        wanted = [2**i for i in range(trained.bit_length())]
        assert {(p.series, p.architecture.top_k) for p in own} == {
            (s, k) for s in series for k in wanted
        }
        assert len(own) == 7 * len(wanted) and {p.status for p in own} == {"ready"}
        assert {(p.workload.batch, p.workload.input_tokens) for p in own} == {(16, 2048)}


def test_pruned_shapes_are_what_their_names_say():
    shapes = {
        p.series: p.architecture.shape[:2]
        for p in points("h200", "03_pruning", "pruning")
        if model(p) == OLMOE
    }
    assert shapes == {
        "baseline": (1024, 64),
        "inter 12.5 %": (1024, 56),
        "inter 25 %": (1024, 48),
        "inter 50 %": (1024, 32),
        "intra 12.5 %": (896, 64),
        "intra 25 %": (768, 64),
        "intra 50 %": (512, 64),
    }


@pytest.mark.parametrize(
    ("profile", "tokens"),
    [
        ("h100", [4**i for i in range(7)]),
        ("h200", [4**i for i in range(7)]),
        ("4xh100", [2**i for i in range(13)]),
    ],
)
def test_single_layers_of_six_models_from_1_to_8192_tokens(profile, tokens):
    own = points(profile, "06_fused_moe", "layer")
    backends = {"loop", "grouped", "triton", "flashinfer_cutlass"}
    assert {(model(p), p.engine.moe_backend, p.workload.batch) for p in own} == {
        (m, b, n) for m in LAYERS for b in backends for n in (*tokens, 8192)
    }
    assert {p.method for p in own} == {"layer"} and {p.engine.tensor_parallel for p in own} == {1}
    if profile != "4xh100":
        assert len(own) == 6 * 4 * 8


def test_quantized_layers_take_16_bits_where_the_profile_has_32():
    assert {p.engine.dtype for p in points("cpu", "06_fused_moe", "layer_quantized")} == {
        "bfloat16"
    }
    assert {p.engine.dtype for p in points("cpu", "06_fused_moe", "layer")} == {"float32"}


@pytest.mark.parametrize("profile", ["h100", "h200"])
def test_quantized_and_tuned_layers_and_the_ladder(profile):
    quantized = points(profile, "06_fused_moe", "layer_quantized")
    assert {(p.engine.quantization, p.engine.moe_backend) for p in quantized} == {
        (q, b) for q in ("fp8", "fp8_per_channel") for b in ("triton", "cutlass", "marlin")
    }
    assert {model(p) for p in quantized} == {MIXTRAL, OLMOE, "Qwen3-30B-A3B"}
    tuned = points(profile, "06_fused_moe", "layer_tuned")
    assert [(model(p), p.workload.batch) for p in tuned] == [(OLMOE, 16), (OLMOE, 1024)]
    ladder = [
        *points(profile, "06_fused_moe", "ladder_batch"),
        *points(profile, "06_fused_moe", "ladder_length"),
    ]
    assert {(p.series, p.engine.moe_backend, p.engine.graphs) for p in ladder} == {
        ("fused", None, "light"),
        ("grouped GEMM", "grouped", "light"),
        ("fused, no graphs", None, "eager"),
        ("expert loop", "loop", "eager"),
    }
    assert {p.is_derived for p in ladder} == {profile == "h100"}


def test_layers_come_before_engines_and_need_none():
    made = shipped("cpu", "06_fused_moe")[1]
    kinds = [p.is_layer for p in made.measured]
    assert kinds == sorted(kinds, reverse=True) and made.num_builds == made.num_engines == 3
    assert made.only(["layer"]).num_builds == 0


@pytest.mark.parametrize("stem", ["01_hyperparameter_scaling", *STEMS])
def test_committed_points_are_of_the_plan(stem):
    """Keys did not change since they were measured. Section 6 has measured more token counts than
    are planned now."""
    profile = "h100" if stem[:2] in ("04", "07") else "h200"
    keys = {p.key for p in shipped(profile, stem)[1].points}
    files = sorted((OUTPUTS.parent / profile / stem / "points").glob("*.json"))
    assert files
    strays = [record for f in files if (record := json.loads(f.read_text()))["key"] not in keys]
    assert not strays or stem == "06_fused_moe"
    assert {r["method"] for r in strays} <= {"layer"}
    planned = {p.workload.batch for p in points(profile, stem, "layer")}
    assert not [r for r in strays if r["batch"] in planned]


def test_equal_parameters_give_equal_keys_and_another_seed_others():
    for section in ("02", "03", "06"):
        one, again, other = (plan(section, **given) for given in ({}, {}, {"seed": 1}))
        assert [p.key for p in one.points] == [p.key for p in again.points]
        assert not {p.key for p in one.points} & {p.key for p in other.points}


def test_formats_longer_than_the_pair_fit_their_engine():
    for point in plan("02", formats_tokens=256, lengths=[32], batch_tokens=32).points:
        assert (
            point.engine.max_model_len >= point.workload.input_tokens + point.workload.output_tokens
        )


def test_formats_become_engine_settings():
    made = plan(
        "02",
        pair=["bf16", "fp8"],
        formats=["bf16", "fp16", "fp8 + fp8 KV", "int4 weights"],
        weights="dummy",
    )
    by_series = {p.series: p.engine for p in made.points}
    told = {s: (e.dtype, e.quantization, e.kv_cache_dtype) for s, e in by_series.items()}
    assert told == {
        "bf16": ("bfloat16", None, "auto"),
        "fp8": ("bfloat16", "fp8", "auto"),
        "fp16": ("float16", None, "auto"),
        "fp8 + fp8 KV": ("bfloat16", "fp8", "fp8"),
        "int4 weights": ("bfloat16", "int4", "auto"),
    }


def test_active_experts_are_powers_of_two_and_the_pretrained_number():
    def counts(top_k: int, **given) -> list[int]:
        params = build(pruning.Params, given, "test")
        base = next(iter(plan("03").points)).architecture
        return pruning.active_counts(params, replace(base, top_k=top_k))

    assert (counts(8), counts(6), counts(1)) == ([1, 2, 4, 8], [1, 2, 4, 6], [1])
    assert counts(8, active_experts=[4, 1]) == [1, 4]


def test_a_ratio_that_leaves_too_few_experts_is_a_row_with_the_reason():
    own = [p for p in plan("03", ratios_pct=[80.0]).points if p.series == "inter 80 %"]
    assert own and all(
        p.status == "infeasible" and "fewer than the 4 each token uses" in p.reason for p in own
    )


def test_a_ladder_without_graphs_everywhere_plans_no_engine_twice():
    made = plan("06", graphs="eager", ladder=["fused", "fused, no graphs"])
    assert {p.series for p in made.points if not p.is_layer} == {"fused"}


def test_lengths_from_a_threshold_on_are_sampled():
    made = plan("06", sample_from_tokens=128, ladder_lengths=[64, 128, 256])
    assert {
        p.workload.input_tokens: p.method for p in made.points if "ladder_length" in p.sweeps
    } == {64: "full", 128: "sampled", 256: "sampled"}


def test_ratios_that_round_to_one_shape_are_told():
    with pytest.raises(ParameterError) as told:
        plan("03", ratios_pct=[12.5, 13.0])
    assert "13.0" in str(told.value) and "(inter) the shape of 12.5 %" in str(told.value)
    with pytest.raises(ParameterError, match="the shape of the whole model"):
        plan("03", ratios_pct=[0.5])


def test_a_pair_of_one_format_is_refused():
    with pytest.raises(ParameterError, match="two formats"):
        plan("02", pair=["bf16", "bf16"])


def test_a_format_that_must_come_packed_has_no_perplexity_from_16_bit_weights(tmp_path):
    folder = write_checkpoint(tmp_path / "checkpoint")
    (tmp_path / "text.txt").write_text("words " * 600)
    made = plan(
        "02",
        weights=str(folder),
        quality_text=str(tmp_path / "text.txt"),
        formats=["bf16", "int4 weights"],
    )
    status = {p.series: p.status for p in made.points if p.method == "perplexity"}
    assert status == {"bf16": "ready", "int4 weights": "infeasible"}


def test_the_key_of_a_perplexity_follows_the_text_itself(tmp_path):
    def key(words: str) -> str:
        text = tmp_path / "text.txt"
        text.write_text(words)
        point = next(p for p in plan("02").points if p.method == "perplexity")
        return replace(point, text=str(text)).key

    assert key("some words") == key("some words") != key("other words")


@pytest.mark.parametrize(
    "section, given, told",
    [
        ("02", {"quality_sequences": 2, "repeats": 3}, "at least repeats = 3"),
        ("02", {"quality_tokens": 10**6}, "positions"),
        ("06", {"quantized_formats": ["fp8_weight_only"]}, "fp8_weight_only"),
        ("06", {"quantized_formats": ["int4"]}, "int4"),
    ],
)
def test_what_the_engine_could_only_mislabel_is_refused(section, given, told):
    with pytest.raises(ParameterError, match=told):
        plan(section, **given)
