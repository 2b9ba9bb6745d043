"""Counts against two independent ones: a table computed apart from moebook, and transformers' own
modules."""

from pathlib import Path

import pytest
import yaml

from moebook.models import catalog, families, sizes
from moebook.models.architecture import Architecture

TABLE = yaml.safe_load((Path(__file__).parent / "counts.yaml").read_text())
NOT_IN_TRANSFORMERS = {
    "deepseek-vl2",
    "deepseek-vl2-small",
    "deepseek-vl2-tiny",  # no such model type
    "MolmoE-1B-0924",  # no such model type
    "deepseek-vl2-tiny-textonly",  # its DeepSeek-V2 has MLA only, this model has none
}
BUILT = [name for name in catalog.names() if name not in NOT_IN_TRANSFORMERS]
CUT = ("ERNIE-4.5-21B-A3B-PT", "GLM-4.5-Air", "GLM-4.5-Air-FP8")  # named without the fraction
APPROXIMATE = {"MolmoE-1B-0924": 2.5e6}  # its vision connector is known approximately


def correction_biases(arch: Architecture) -> int:
    """DeepSeek's bias-balanced routers hold one bias per expert, which transformers keeps outside
    the parameters."""
    if arch.counts:
        return arch.counts.buffers
    held = families.family_of(arch.config) == "deepseek_v3"
    held = held or arch.config.get("topk_method") == "noaux_tc"
    return arch.num_moe_layers * arch.num_experts if held else 0


@pytest.mark.parametrize("name", BUILT)
def test_total_equals_the_modules_of_transformers(name, meta_parameters):
    arch = catalog.load(name)
    assert sizes.total_parameters(arch) == meta_parameters(arch.hf_config()) + correction_biases(
        arch
    )


def test_correction_biases_are_held_by_these_models():
    held = {name: correction_biases(catalog.load(name)) for name in BUILT}
    assert {n: b for n, b in held.items() if b} == {
        "DeepSeek-R1": 58 * 256,
        "DeepSeek-V3": 58 * 256,
        "deepseek-vl2-base-textonly": 29 * 72,
        "GLM-4.5-Air": 45 * 128,
        "GLM-4.5-Air-FP8": 45 * 128,
        "Kimi-K2-Instruct": 60 * 384,
        "Moonlight-16B-A3B": 26 * 64,
    }


@pytest.mark.parametrize("name", TABLE)
def test_counts_agree_with_the_table_to_its_last_digit(name):
    arch, row = catalog.load(name), TABLE[name]
    slack = APPROXIMATE.get(name, 0)
    counts = sizes.active_counts(arch)
    inner = sum(counts.values()) - counts["embedding"] - counts["lm_head"] - counts["vision"]
    assert sizes.total_parameters(arch) == pytest.approx(
        row["total"] * 1e9, rel=0, abs=0.51e6 + slack
    )
    assert sizes.active_parameters(arch) == pytest.approx(
        row["active"] * 1e9, rel=0, abs=5.1e6 + slack
    )
    assert inner == pytest.approx(row["active_inner"] * 1e9, rel=0, abs=5.1e6)


@pytest.mark.parametrize("name", TABLE)
def test_weight_bytes_agree_with_the_table(name):
    arch, row = catalog.load(name), TABLE[name]
    assert sizes.weight_bytes(arch, quantization=None) / 1e9 == pytest.approx(
        row["bf16"], rel=0, abs=0.051
    )
    assert sizes.weight_bytes(arch, quantization=None) / 2**30 == pytest.approx(
        row["bf16_gib"], rel=0, abs=0.051
    )
    for column, quantization in (("fp8", "fp8"), ("mxfp4", "own")):
        held = sizes.weight_bytes(arch, quantization=quantization) / 1e9
        assert held == pytest.approx(row.get(column, held), rel=0, abs=0.051)


def test_table_and_catalog_name_the_same_published_models():
    own = {n for n in catalog.names() if n.startswith("tiny-") or n.endswith("-textonly")}
    assert set(TABLE) == set(catalog.names()) - own


@pytest.mark.parametrize("name", TABLE)
def test_published_totals(name):
    """Within the rounding of what the authors print; the two tables state the same published
    text."""
    printed = TABLE[name]["published"]
    assert catalog.sources()[name]["published"] == printed
    total = printed.split("B")[0]
    digit = 10.0 ** -len(total.partition(".")[2])
    counted = sizes.total_parameters(catalog.load(name)) / 1e9
    if name in CUT:
        assert counted // digit == float(total) / digit
    elif name == "Kimi-K2-Instruct":  # "one trillion"
        assert counted == pytest.approx(1000, rel=0.03)
    else:
        assert counted == pytest.approx(float(total), rel=0, abs=digit / 2)


@pytest.mark.parametrize(
    "name, billions",
    [
        ("DeepSeek-V2-Lite", 2.4),
        ("deepseek-vl2-tiny", 1.0),
        ("gpt-oss-20b", 3.6),
        ("gpt-oss-120b", 5.1),
    ],
)
def test_published_active_counts_that_leave_out_the_input_embedding(name, billions):
    counts = sizes.active_counts(catalog.load(name))
    without = (sum(counts.values()) - counts["embedding"]) / 1e9
    assert without == pytest.approx(billions, rel=0, abs=0.06)
    assert sum(counts.values()) / 1e9 - billions > 0.06


@pytest.mark.parametrize(
    "small, large, language",
    [
        ("deepseek-vl2-tiny-textonly", "deepseek-vl2-tiny", {}),
        ("deepseek-vl2-small-textonly", "deepseek-vl2-small", {}),
        ("deepseek-vl2-base-textonly", "deepseek-vl2", {}),
        ("OLMoE-1B-7B-0924", "MolmoE-1B-0924", {"embedding": 128 * 2048}),
    ],
)
def test_multimodal_models_are_their_language_part_and_a_vision_part(small, large, language):
    text, whole = (sizes.parameter_counts(catalog.load(n)) for n in (small, large))
    differences = {c: whole[c] - text[c] for c in sizes.COMPONENTS if whole[c] != text[c]}
    vision = differences.pop("vision")
    assert differences == language
    assert 0.29e9 < vision < 0.46e9


def test_mixtral_by_hand():
    counts = sizes.parameter_counts(catalog.load("Mixtral-8x7B-v0.1"))
    assert counts == {
        "embedding": 32000 * 4096,
        "attention": 32 * (2 * 4096 * 4096 + 2 * 4096 * 1024),
        "router": 32 * 8 * 4096,
        "experts": 32 * 8 * 3 * 4096 * 14336,
        "shared_experts": 0,
        "dense_ffn": 0,
        "linear_attention": 0,
        "norms": 65 * 4096,
        "lm_head": 32000 * 4096,
        "vision": 0,
        "mtp": 0,
        "other": 0,
    }


def test_tied_head_counts_once():
    counts = sizes.parameter_counts(catalog.load("Qwen3-0.6B"))
    assert counts["lm_head"] == 0
    assert counts["embedding"] == 151936 * 1024


def test_active_differs_from_total_in_experts_only():
    for name in catalog.names():
        arch = catalog.load(name)
        total, active = sizes.parameter_counts(arch), sizes.active_counts(arch)
        assert {c for c in total if total[c] != active[c]} == (
            {"experts"} if arch.is_moe else set()
        )
        assert active["experts"] * arch.num_experts == total["experts"] * arch.top_k
