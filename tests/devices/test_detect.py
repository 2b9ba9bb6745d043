"""Which device a plan is measured on, over machines with all sorts of cards."""

import subprocess
import sys

import pytest

from moebook import devices
from moebook.devices import nvml

T400, H200, RTX = "NVIDIA T400 4GB|4", "NVIDIA H200|140.4", "NVIDIA GeForce RTX 4090|24"
UUID = "GPU-{:08x}-1111".format


@pytest.mark.parametrize(
    ("here", "visible", "kind", "found"),
    [
        ([], None, "cpu", "cpu"),
        ([], None, None, "cpu"),
        ([], None, "h200", None),
        ([], None, "gpu", None),
        ([RTX], None, "cpu", "cpu"),
        ([RTX], None, None, "rtx-4090"),
        ([RTX], None, "gpu", "rtx-4090"),
        ([RTX], None, "h200", None),
        ([RTX], "-1", None, "cpu"),
        ([RTX], "-1", "gpu", None),
        ([RTX], "7", "rtx-4090", None),
        ([T400, H200], None, "h200", "h200"),
        ([T400, H200], None, None, "nvidia-t400-4gb"),
        ([T400, H200], None, "gpu", "h200"),
        ([T400, H200], UUID(1), "h200", "h200"),
        ([T400, H200], "0", "h200", None),
        ([T400, H200], UUID(1), None, "h200"),
        ([T400], None, "nvidia-t400-4gb", "nvidia-t400-4gb"),
        ([T400], None, "gpu", None),
        (["NVIDIA GH200 480GB|95.6"], None, "h200", None),
        (["NVIDIA GH200 480GB|95.6"], None, "gh200", "gh200"),
        (["NVIDIA H100 PCIe|79.6"], None, "h100", None),
    ],
)
def test_the_device_of_a_kind(machine, here, visible, kind, found):
    machine(*here, visible=visible)
    device = devices.detect(kind)
    assert (device and device.kind) == found


def test_cards_of_one_name_count_together_in_cudas_order(machine):
    machine(H200, T400, H200, H200, visible="3,1,0")
    device = devices.detect("h200")
    assert (device.count, device.uuids, device.name) == (2, (UUID(3), UUID(0)), "NVIDIA H200")
    assert device.environment() == {
        "CUDA_VISIBLE_DEVICES": f"{UUID(3)},{UUID(0)}",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }


def test_a_cpu_process_sees_no_card(machine):
    machine(H200)
    assert devices.detect("cpu").environment() == {"CUDA_VISIBLE_DEVICES": ""}


def test_a_device_that_is_not_here_is_refused_with_what_is(machine):
    machine(T400, H200, visible="0")
    with pytest.raises(
        ValueError,
        match="for device 'h200', this machine has 'nvidia-t400-4gb' .NVIDIA T400 4GB., "
        "1 more that CUDA_VISIBLE_DEVICES hides, 'cpu'",
    ):
        devices.require("h200")
    with pytest.raises(ValueError, match="'gpu' .an NVIDIA card of 16 GB or more.*'cpu'"):
        devices.require("gpu")


@pytest.mark.parametrize(
    ("here", "kind", "memory"),
    [
        ([], "h200", 150754820096),
        ([], "gpu", 16 * 2**30),
        ([], "cpu", None),
        ([RTX], "cpu", None),
        ([RTX], "gpu", 24 * 2**30),
        ([T400], "gpu", 16 * 2**30),
        ([T400], "nvidia-t400-4gb", 4 * 2**30),
        (["NVIDIA GH200 480GB|95.6"], "gh200", round(95.6 * 2**30)),
        ([RTX], "h200", 150754820096),
    ],
)
def test_the_memory_that_plans_are_made_with(machine, here, kind, memory):
    machine(*here)
    assert devices.memory_bytes(kind) == memory


def test_a_real_h200_has_the_published_memory(machine):
    machine({"name": "NVIDIA H200", "memory_bytes": 150754820096})
    assert devices.memory_bytes("h200") == devices.published("h200").memory_bytes


def test_kinds_of_cards_that_are_here_may_be_planned_for(machine):
    machine()
    assert devices.allowed() == [*devices.kinds(), "gpu"]
    machine(T400, H200)
    assert devices.allowed() == [*devices.kinds(), "gpu", "nvidia-t400-4gb"]


def test_a_machine_without_driver_has_its_cpu(machine, monkeypatch):
    machine(H200)
    monkeypatch.delenv("MOEBOOK_TEST_CARDS")
    devices.forget()
    assert devices.detect().kind == "cpu" and devices.detect("h200") is None


def test_a_card_without_memory_of_its_own_has_its_hosts(machine):
    machine({"name": "NVIDIA GB10", "memory_bytes": None})
    assert devices.detect().memory_bytes == devices.detect("cpu").memory_bytes


def test_an_instance_of_a_card_is_a_device_of_its_own(machine):
    part = {
        "name": "NVIDIA H200 MIG 1g.18gb",
        "uuid": "MIG-77",
        "memory_bytes": 16 * 2**30,
        "used_bytes": 0,
    }
    machine({"name": "NVIDIA H200", "memory_bytes": 140 * 2**30, "mig": [part]})
    device = devices.detect("gpu")
    assert (
        device.name == "NVIDIA H200 MIG 1g.18gb"
        and device.environment()["CUDA_VISIBLE_DEVICES"] == "MIG-77"
    )
    assert devices.detect("h200") is None


def test_the_state_is_that_of_the_card_in_use(machine):
    busy, idle = (
        {
            "name": "NVIDIA H200",
            "memory_bytes": 1,
            "clocks": clocks,
            "temperature": t,
            "power_mw": 700_000,
            "throttled": mask,
        }
        for clocks, t, mask in (([1980, 3201], 70, 0), ([345, 3201], 30, 0x4 | 0x40 | 0x1))
    )
    machine(busy, idle, visible="1")
    assert devices.gpu_state(devices.detect("h200")) == {
        "throttled": ["power cap", "temperature (hardware)"],
        "sm_clock_mhz": 345,
        "memory_clock_mhz": 3201,
        "power_limit_w": 700.0,
        "temperature_c": 30,
    }
    assert devices.gpu_state(devices.detect("cpu")) == {}


def test_what_a_card_does_not_tell_is_null(machine):
    machine(RTX)
    assert set(devices.gpu_state(devices.detect("rtx-4090")).values()) == {None}


def test_memory_in_use_is_asked_anew(machine):
    machine({"name": "NVIDIA H200", "memory_bytes": 100, "used_bytes": 7, "pids": [11, 12]})
    assert nvml.memory_use(UUID(0)) == (7, 100, (11, 12))


def test_provenance_names_the_cards_that_are_used_and_the_cores(machine):
    machine(H200, H200)
    told = devices.provenance(devices.detect("h200"), 2)
    assert told["device_uuid"] == f"{UUID(0)},{UUID(1)}" and told["device_count"] == 2
    assert devices.provenance(devices.detect("h200"))["device_uuid"] == UUID(0)
    told = devices.provenance(devices.detect("cpu"))
    assert (
        told["device_uuid"] is None
        and told["device_cores"] == devices.cores()
        and "cores" not in told["device"]
    )


def test_no_torch_is_imported():
    program = "import sys, moebook.devices as d; d.detect(); print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"
