"""devices.yaml: which kind a card is of, what is published, and what is wrong with a file that is
not right."""

import pytest

from moebook import devices
from moebook.devices import facts

WHOLE = {
    "names": "[X]",
    "memory_bytes": "80000000000",
    "bandwidth_bytes_per_s": "1.0e+12",
    "bf16_flops_per_s": "null",
    "compute_capability": "null",
    "source": "a datasheet",
}


def text(kind="x1", **changed) -> str:
    entry = {**WHOLE, **changed}
    return f"{kind}:\n" + "".join(
        f"  {key}: {value}\n" for key, value in entry.items() if value is not None
    )


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("NVIDIA H200", "h200"),
        ("NVIDIA H200 NVL", "h200-nvl"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("NVIDIA GH200 144G HBM3e", "gh200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H100 NVL", "h100-nvl"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA A100-PCIE-40GB", "a100-40gb"),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100 80GB PCIe", "a100-80gb"),
        ("NVIDIA B200", "b200"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 5090", "rtx-5090"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA A10", "a10"),
        ("NVIDIA T400 4GB", "nvidia-t400-4gb"),
        ("NVIDIA L40", "nvidia-l40"),
        ("NVIDIA A10G", "nvidia-a10g"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "nvidia-geforce-rtx-4090-laptop-gpu"),
        ("Tesla T4", "nvidia-tesla-t4"),
        ("NVIDIA H200 MIG 1g.18gb", "nvidia-h200-mig-1g-18gb"),
    ],
)
def test_a_card_is_of_the_kind_with_exactly_its_name(name, kind):
    assert facts.kind_of(name) == kind


def test_what_plans_of_the_study_are_made_with():
    assert devices.published("h200").memory_bytes == 150754820096
    assert devices.published("h100").memory_bytes == 85520809984
    assert devices.published("cpu").memory_bytes is None


def test_published_figures_name_the_document_they_are_from():
    for kind in devices.kinds():
        one = devices.published(kind)
        figures = (one.memory_bytes, one.bandwidth_bytes_per_s, one.bf16_flops_per_s)
        if kind != "cpu" and any(figures):
            assert any(word in one.source for word in ("datasheet", "whitepaper")), kind


@pytest.mark.parametrize("kind", ["gpu", "nvidia-t400-4gb"])
def test_of_any_card_and_of_an_unlisted_one_nothing_is_published(kind):
    one = devices.published(kind)
    assert (one.memory_bytes, one.bandwidth_bytes_per_s, one.bf16_flops_per_s) == (None, None, None)
    assert "measured peaks" in one.source


@pytest.mark.parametrize("kind", ["h10", "H200", "other", ""])
def test_no_kind(kind):
    with pytest.raises(ValueError, match="unknown device kind.*known: cpu, h100.*gpu"):
        devices.published(kind)


@pytest.mark.parametrize(
    ("kind", "of", "gb", "suits"),
    [
        ("h200", "h200", 150, True),
        ("h200", "gh200", 150, False),
        ("gpu", "rtx-4090", 25.8, True),
        ("gpu", "nvidia-t400-4gb", 4.3, False),
        ("gpu", "nvidia-x", 16, True),
        ("gpu", "cpu", 64, False),
        ("cpu", "cpu", 8, True),
        ("cpu", "h200", 150, False),
    ],
)
def test_which_card_suits_which_plan(kind, of, gb, suits):
    assert devices.suits(kind, of, int(gb * 1e9)) is suits


def test_a_right_file():
    entry = facts.parse(text())["x1"]
    assert entry.names == ["X"] and entry.bf16_flops_per_s is None


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (text(memory_bytes=None), "x1.memory_bytes: is missing"),
        (
            text(memory_bytes="'80GB'"),
            "x1.memory_bytes: given '80GB'; input should be a valid integer",
        ),
        (text(memory_bytes="80"), "x1.memory_bytes: given 80; input should be greater than or"),
        (text(bandwidth_bytes_per_s=".inf"), "x1.bandwidth_bytes_per_s: given inf"),
        (text() + text(), "x1: stands twice"),
        (text(bandwith="1"), "x1.bandwith: unknown key; allowed: names, memory_bytes"),
        (text(names="X"), "x1.names: given 'X'; input should be a valid list"),
        (text(source="''"), "x1.source"),
        (text("null"), "None: a kind is a name"),
        (text("H 200"), "'H 200': a kind is a name"),
        ("x1: null\n", "x1: given None; a mapping of names"),
        (text() + text("x2"), "the name 'X' stands under two kinds"),
    ],
)
def test_what_is_wrong_with_a_file_is_told(written, told):
    with pytest.raises(facts.BadFacts) as error:
        facts.parse(written)
    assert told in str(error.value)


def test_all_problems_of_a_file_at_once():
    with pytest.raises(facts.BadFacts) as error:
        facts.parse(text(memory_bytes=None, watts="3") + "y: 1\n")
    assert all(
        f"x1.{key}" in str(error.value) for key in ("memory_bytes", "watts")
    ) and "y: given 1" in str(error.value)
