"""Published figures carry their sources, and a roofline is the floor with them in place of measured
ceilings."""

from dataclasses import replace
from math import ceil

import pytest

from moebook import devices
from moebook.models import catalog, costs, sizes
from moebook.models.edit import language_part
from moebook.sections.accelerator_comparison import accelerators
from moebook.sections.accelerator_comparison.accelerators import DTYPES, load, names, roofline

SCOUT = language_part(catalog.load("Llama-4-Scout-17B-16E-Instruct"), chunked=False)
QWEN = catalog.load("Qwen3-30B-A3B")
FIGURES = ("memory_bytes", "bandwidth_bytes_per_s", "link_bytes_per_s", "power_w", *DTYPES)


@pytest.mark.parametrize("name", names())
def test_every_figure_has_a_source_or_the_reason_why_there_is_none(name):
    one = load(name)
    for figure in FIGURES:
        value = one.flops_per_s[figure] if figure in DTYPES else getattr(one, figure)
        assert (value is not None and value > 0 and len(one.sources[figure]) > 10) != (
            figure in one.reasons
        ), figure
    assert one.memory_bytes and one.bandwidth_bytes_per_s
    assert one.flops_at_most is None or "flops_at_most" in one.sources
    assert not one.spans or "spans" in one.sources


@pytest.mark.parametrize(("name", "kind"), [("H100 SXM", "h100"), ("H200 SXM", "h200")])
def test_cards_that_profiles_run_on_have_one_source_of_truth(name, kind):
    one, published = load(name), devices.published(kind)
    assert (one.memory_bytes, one.bandwidth_bytes_per_s, one.flops_per_s["bf16"]) == (
        published.memory_bytes,
        published.bandwidth_bytes_per_s,
        published.bf16_flops_per_s,
    )
    assert one.sources["memory_bytes"] == published.source


def test_peaks_are_dense():
    """NVIDIA prints FP8 with 2:4 sparsity, twice the dense rate; dense FP8 is twice dense bf16 on
    these cards."""
    assert load("H100 SXM").flops_per_s["fp8"] == 3958e12 / 2
    assert load("B200").flops_per_s["fp8"] == 72e15 / 8 / 2
    for name in ("H100 SXM", "H200 SXM", "B200", "MI300X", "MI325X"):
        rates = load(name).flops_per_s
        assert rates["fp8"] == pytest.approx(2 * rates["bf16"], rel=1e-3)
    assert load("Gaudi 3").flops_per_s["fp8"] == load("Gaudi 3").flops_per_s["bf16"]


def test_an_unknown_name_is_told_the_nearest():
    with pytest.raises(ValueError, match="nearest: 'H100 SXM'"):
        load("H100 SMX")


def test_a_roofline_is_bytes_over_bandwidth_or_flops_over_rate():
    card = load("H200 SXM")
    found = roofline(SCOUT, 1, 1024, 2, card, quantization="fp8")
    prefill = costs.prefill_cost(SCOUT, 1, 1024, quantization="fp8")
    step = costs.decode_cost(SCOUT, 1, 1025, quantization="fp8")
    assert found.devices == 1 and found.note == ""
    assert found.floor.floor_ttft_s == pytest.approx(
        max(prefill.total_bytes / 4.8e12, prefill.total_flops / 1.979e15)
    )
    assert found.floor.floor_tpot_s == pytest.approx(step.total_bytes / 4.8e12)


def test_formats_multiply_in_the_rate_their_units_have():
    long = (16, 4096, 2)  # prefill of 65536 tokens computes
    flops = costs.prefill_cost(QWEN, 16, 4096).total_flops
    for name, quantization, rate in (
        ("H100 SXM", None, 9.895e14),
        ("H200 SXM", "int4", 9.895e14),
        ("H200 SXM", "fp8", 1.979e15),
        ("Gaudi 3", None, 1.835e15),
        ("Gaudi 3", "fp8", 1.835e15),
    ):
        found = roofline(QWEN, *long, load(name), quantization=quantization)
        assert found.floor.floor_ttft_s == pytest.approx(flops / rate, rel=1e-6), (
            name,
            quantization,
        )


def test_what_does_not_fit_has_no_roofline():
    with pytest.raises(ValueError, match="take 110 GB, its memory is 86 GB"):
        roofline(SCOUT, 1, 128, 128, load("H100 SXM"), quantization="fp8")
    assert roofline(SCOUT, 1, 128, 128, load("H100 SXM"), quantization="int4").devices == 1


def test_what_is_not_published_has_no_roofline():
    with pytest.raises(ValueError, match="EPYC 9654: no dense bf16 rate is published"):
        roofline(QWEN, 1, 128, 128, load("EPYC 9654"))
    with pytest.raises(ValueError, match="no rate is kept for float32"):
        roofline(QWEN, 1, 128, 128, load("H100 SXM"), dtype="float32")


def test_a_model_over_wafers_passes_them_in_turn():
    wafer = load("CS-3")
    need = sizes.weight_bytes(SCOUT, "bfloat16", "fp8") + 256 * sizes.kv_bytes_per_token(SCOUT)
    one, many = (roofline(SCOUT, b, 128, 128, wafer, quantization="fp8") for b in (1, 16))
    assert one.devices == ceil(need / 44e9) == 3
    assert "1.25e+17 FLOP/s, as printed" in one.note
    step = costs.decode_cost(SCOUT, 1, 192, quantization="fp8").total_bytes / 2.1e16
    assert one.floor.floor_tpot_s == pytest.approx(
        step, rel=1e-2
    )  # not over 3: one sequence is on one wafer
    alone = roofline(SCOUT, 16, 128, 128, replace(wafer, memory_bytes=1e12), quantization="fp8")
    assert many.floor.floor_e2e_s == pytest.approx(alone.floor.floor_e2e_s / many.devices)


def test_rooflines_stay_under_what_was_measured_for_the_same_work():
    """A card's published figures are over its measured ceilings, so its roofline is under its
    measured floor."""
    from cases import floor

    from moebook.predict.roofline import Ceilings

    measured = floor(QWEN, 1, 512, 512, Ceilings("NVIDIA H100", 3.0e12, 8e14, "bfloat16"))
    assert roofline(QWEN, 1, 512, 512, load("H100 SXM")).floor.floor_e2e_s < measured.floor_e2e_s


def test_the_module_needs_no_engine():
    assert not {"vllm", "torch"} & {name.split(".")[0] for name in vars(accelerators)}
