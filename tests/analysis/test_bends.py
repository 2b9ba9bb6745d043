"""Bends by hand: from shapes against the formulas, from measured points against planted curves."""

from dataclasses import replace

import numpy as np
import pytest
from cases import case as case_of

from moebook.models import catalog, sharding, sizes
from moebook.models.sharding import Split
from moebook.predict.case import Case
from moebook.predict.roofline import Ceilings
from moebook.sections.accelerator_comparison import knees

ARCH = catalog.load("Qwen3-30B-A3B")
LIMITS = Ceilings("NVIDIA test", 3e12, 8e14, "bfloat16")


def case(batch: int = 1, **more) -> Case:
    return case_of(ARCH, batch, 1, 1, **more)


def intensity(found: Case, tokens: int) -> float:
    cost = replace(found, workload=replace(found.workload, input_tokens=tokens)).prefill()
    return cost.total_flops / cost.total_bytes


@pytest.mark.parametrize(("batch", "quantization"), [(1, None), (16, None), (1, "fp8")])
def test_compute_bound_where_flops_per_byte_pass_the_devices_own(batch, quantization):
    found = case(batch, quantization=quantization)
    ridge = 8e14 * (2 if quantization == "fp8" else 1) / 3e12  # FLOP per byte
    tokens = knees.compute_bound_from(found, LIMITS)
    assert intensity(found, tokens) > ridge >= intensity(found, tokens - 1)


def test_a_batch_is_compute_bound_at_about_its_share_of_the_prompt():
    one, many = (knees.compute_bound_from(case(b), LIMITS) for b in (1, 16))
    assert many < one and 16 * many == pytest.approx(one, rel=0.25)


def test_no_prompt_is_compute_bound_where_reading_costs_nothing_less():
    """With a rate so high that even endless prompts read longer than they compute there is no
    bend."""
    assert knees.compute_bound_from(case(), replace(LIMITS, matmul_flops_per_s=1e30)) is None


@pytest.mark.parametrize("batch", [1, 16])
def test_kv_reads_equal_weight_reads_at_weights_over_kv_bytes(batch):
    found = case(batch)
    rest = found.decode(1).total_bytes - found.decode(1).bytes["kv_cache"]
    per_token = batch * sizes.kv_bytes_per_token(ARCH)
    assert (
        knees.kv_over_weights_from(found) == int(np.ceil(rest / per_token)) - 1
    )  # its own token is written, too


def test_an_attention_window_puts_that_off_or_does_away_with_it():
    scout = catalog.load("Llama-4-Scout-17B-16E-Instruct")
    full, chunked = scout.attention_groups
    whole = replace(scout, attention_groups=(replace(full, layers=scout.num_layers),))
    contexts = [
        knees.kv_over_weights_from(case_of(a, 1, 1, 1, quantization="int4")) for a in (whole, scout)
    ]
    assert contexts[0] < contexts[1]
    everywhere = replace(scout, attention_groups=(replace(chunked, layers=scout.num_layers),))
    assert knees.kv_over_weights_from(case_of(everywhere, 1, 1, 1)) is None


def test_capacity_is_what_the_weights_leave():
    weights, per_token = sizes.weight_bytes(ARCH), sizes.kv_bytes_per_token(ARCH)
    assert knees.fits_until(case(16), weights + 16 * 1000 * per_token + 1) == 1000
    assert knees.fits_until(case(1), weights) == 0
    assert knees.fits_until(case(1), weights - 1) is None
    assert knees.fits_until(case(1, kv_cache_dtype="fp8"), weights + 1000 * per_token) == 2000


def test_capacity_of_several_devices_is_that_of_each():
    latent = case_of(catalog.load("DeepSeek-V3"), 16, 1, 1, quantization="fp8", tensor_parallel=8)
    weights = sharding.weight_bytes(latent.arch, Split(tensor=8), quantization="fp8")
    per_token = 16 * sizes.kv_bytes_per_token(latent.arch)  # MLA's cache is whole on each
    assert knees.fits_until(latent, weights + 1000 * per_token) == 1000


def test_local_exponents_of_powers_are_the_powers():
    lengths = [128, 256, 1024]
    found = knees.local_exponents(lengths, [3 * n**1.5 for n in lengths])
    assert found["exponent"].tolist() == pytest.approx([1.5, 1.5])
    assert found["length"].tolist() == pytest.approx([(128 * 256) ** 0.5, 512])


def test_a_planted_bend_is_found_whatever_the_order():
    lengths, seconds = [8, 1, 4, 2], [32, 1, 8, 2]  # 1, 2, 8, 32: exponents 1, 2, 2
    found = knees.measured_knee(lengths, seconds)
    assert (found.length, found.below, found.above) == (2, pytest.approx(1), pytest.approx(2))


def test_the_steepest_of_several_rises():
    assert (
        knees.measured_knee([1, 2, 4, 8], [1, 2, 4 * 2**0.2, 16]).length == 4
    )  # exponents 1, 1.2, 1.8


def test_straight_flattening_and_short_curves_do_not_bend():
    assert knees.measured_knee([1, 2, 4], [1, 2, 4]) is None
    assert knees.measured_knee([1, 2, 4], [1, 4, 8]) is None
    assert knees.measured_knee([1, 2, 4], [1, 2, 2 * 2 ** (1 + knees.LEAST_RISE / 2)]) is None
    assert knees.measured_knee([1, 2], [1, 4]) is None


@pytest.mark.parametrize("lengths", [[128], [128, 128]])
def test_exponents_need_different_lengths(lengths):
    with pytest.raises(ValueError, match="two or more different lengths"):
        knees.local_exponents(lengths, [1.0] * len(lengths))
