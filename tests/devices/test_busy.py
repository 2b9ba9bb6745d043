"""A card that others use is told before the engine starts."""

import json
import os

import pytest

from moebook import devices
from moebook.devices import lock

GIB = 2**30


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE_S", 0.0)


def card(used_gib: float, pids=None) -> dict:
    return {
        "name": "NVIDIA H200",
        "memory_bytes": 140 * GIB,
        "used_bytes": round(used_gib * GIB),
        "pids": pids,
    }


@pytest.mark.parametrize(
    ("used", "utilization"), [(0, 0.92), (0.7, 0.92), (11, 0.92), (69, 0.5), (139, 0.0)]
)
def test_a_card_with_room_is_free(machine, used, utilization):
    machine(card(used))
    lock.check_free(devices.detect("h200"), utilization)


@pytest.mark.parametrize(
    ("pids", "whose"), [([41, 42], "by process 41, 42"), ([], "by others"), (None, "by others")]
)
def test_a_card_without_room_is_busy(machine, impatient, pids, whose):
    machine(card(133, pids))
    with pytest.raises(devices.DeviceBusy) as error:
        lock.check_free(devices.detect("h200"), 0.92)
    told = str(error.value)
    assert "NVIDIA H200 (GPU-00000000-1111) has 133.0 of 140.0 GiB in use " + whose in told
    assert (
        "the engine takes 128.8 GiB (92%); nothing was recorded" in told
        and "CUDA_VISIBLE_DEVICES" in told
    )


def test_only_cards_that_are_used_are_asked(machine, impatient):
    machine(card(0), card(133))
    device = devices.detect("h200")
    lock.check_free(device, 0.92, used=1)
    with pytest.raises(devices.DeviceBusy, match="GPU-00000001"):
        lock.check_free(device, 0.92, used=2)


def test_memory_of_a_process_that_has_just_ended_is_waited_for(machine, monkeypatch):
    machine(card(133))

    def free(seconds):
        cards = json.loads(os.environ["MOEBOOK_TEST_CARDS"])
        monkeypatch.setenv("MOEBOOK_TEST_CARDS", json.dumps([{**cards[0], "used_bytes": 0}]))

    monkeypatch.setattr(lock.time, "sleep", free)
    lock.check_free(devices.detect("h200"), 0.92)


def test_a_cpu_is_never_busy(machine):
    machine(card(133))
    lock.check_free(devices.detect("cpu"), 0.92)
