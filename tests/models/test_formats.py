"""Number formats: what the engine is told, what a checkpoint says, how many bytes an element
takes."""

import pytest

from moebook.models import formats, sizes
from moebook.models.catalog import load
from moebook.study.settings import MOE_BACKENDS, OWN_BACKENDS

MIXTRAL = load("Mixtral-8x7B-v0.1")
LINEAR = {"attention", "experts", "shared_experts", "dense_ffn", "linear_attention"}


def test_every_series_has_a_known_format_and_known_widths():
    for dtype, quantization, kv in formats.SERIES.values():
        assert quantization in (*formats.FORMATS, formats.OWN) and formats.dtype_bytes(dtype)
        assert kv == "auto" or formats.dtype_bytes(kv) == 1
    assert all(known.covers and known.bits < 16 for q, known in formats.FORMATS.items() if q)


def test_series_are_different_combinations():
    assert len(set(formats.SERIES.values())) == len(formats.SERIES)


@pytest.mark.parametrize(
    ("quantization", "told"),
    [
        (None, {}),
        ("fp8", {"quantization": "fp8"}),
        ("fp8_per_channel", {"quantization": "fp8_per_channel"}),
        (
            "fp8_weight_only",
            {"quantization": "fp8", "moe_backend": "marlin", "linear_backend": "marlin"},
        ),
        ("int8_experts", {"quantization": "int8_per_channel_weight_only"}),
        ("int4", {}),
        ("own", {}),
    ],
)
def test_the_engine_is_told_its_own_words(quantization, told):
    assert formats.engine_arguments(quantization) == told


def test_arguments_are_a_copy():
    formats.engine_arguments("fp8")["quantization"] = "changed"
    assert formats.engine_arguments("fp8") == {"quantization": "fp8"}


def test_only_weight_only_fp8_needs_an_environment():
    needed = {
        q: formats.environment(q) for q in (*formats.FORMATS, "own") if formats.environment(q)
    }
    assert needed == {"fp8_weight_only": {"VLLM_TEST_FORCE_FP8_MARLIN": "1"}}


def test_dummy_int4_weights_say_so_in_the_config_and_others_leave_it_alone():
    config = {"model_type": "mixtral"}
    int4 = formats.with_format(config, "int4")["quantization_config"]
    weights = int4["config_groups"]["group_0"]["weights"]
    assert (int4["quant_method"], weights["num_bits"], weights["group_size"]) == (
        "compressed-tensors",
        4,
        128,
    )
    assert "re:.*gate$" in int4["ignore"] and config == {"model_type": "mixtral"}
    assert all(
        formats.with_format(config, q) == config for q in (None, "fp8", "int8_experts", "own")
    )


@pytest.mark.parametrize(
    ("quantization", "width", "covered"),
    [
        ("fp8", 1, LINEAR),
        ("fp8_per_channel", 1, LINEAR),
        ("fp8_weight_only", 1, LINEAR),
        ("int8_experts", 1, {"experts"}),
        ("int4", (4 + 20 / 128) / 8, LINEAR),
    ],
)
def test_bytes_per_element_and_what_a_format_covers(quantization, width, covered):
    assert formats.matrix_bytes(2, quantization) == pytest.approx(dict.fromkeys(covered, width))
    assert formats.matrix_bytes(4, quantization) == pytest.approx(dict.fromkeys(covered, width))


def test_a_format_never_takes_more_than_the_plain_dtype():
    assert (
        set(formats.matrix_bytes(1, "fp8").values()) == {1} and formats.matrix_bytes(2, None) == {}
    )
    assert set(formats.matrix_bytes(0.25, "fp8").values()) == {0.25}


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="'int3' is not known; allowed: None, fp8, .*int4"):
        formats.matrix_bytes(2, "int3")
    with pytest.raises(ValueError, match="'auto' has no known size; allowed: float32, .*bfloat16"):
        formats.dtype_bytes("auto")


def test_weights_of_mixtral_in_each_format():
    """8 x 3 x 4096 x 14336 expert elements a layer, 32 layers, are 45.1 of 46.7 billion."""
    experts = 32 * 8 * 3 * 4096 * 14336
    plain = sizes.component_bytes(MIXTRAL, "bfloat16")
    assert plain["experts"] == 2 * experts
    int8, fp8, int4 = (
        sizes.component_bytes(MIXTRAL, "bfloat16", q) for q in ("int8_experts", "fp8", "int4")
    )
    assert int8["experts"] == fp8["experts"] == experts and int8["attention"] == plain["attention"]
    assert int4["experts"] == pytest.approx(experts * (4 + 20 / 128) / 8)
    assert all(
        f[c] == plain[c]
        for f in (int8, fp8, int4)
        for c in ("embedding", "router", "norms", "lm_head")
    )


def test_only_formats_that_multiply_in_fp8_have_a_doubled_rate():
    assert {q for q, f in formats.FORMATS.items() if f.rate != 1} == {"fp8", "fp8_per_channel"}
    assert {formats.FORMATS[q].rate for q in ("fp8", "fp8_per_channel")} == {2.0}


def test_own_backends_are_none_of_the_engines():
    assert not set(OWN_BACKENDS) & set(MOE_BACKENDS) and MOE_BACKENDS[0] == "auto"
