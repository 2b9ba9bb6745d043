"""The CPU's name and cores, on Linux and where there is no sched_getaffinity."""

import os
import subprocess
import sys

import pytest

from moebook import devices
from moebook.devices import host

X86 = (
    "processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel name\t: AMD EPYC 9654 96-Core "
    "Processor\n\nprocessor\t: 1\n"
)
ARM = "processor\t: 0\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU part\t: 0xd4f\n"


@pytest.mark.parametrize(
    ("text", "machine", "name"),
    [
        (X86, "x86_64", "AMD EPYC 9654 96-Core Processor"),
        (ARM, "aarch64", "aarch64 CPU 0x41 0xd4f"),
        ("", "riscv64", "riscv64 CPU"),
    ],
)
def test_the_name_in_cpuinfo(text, machine, name):
    assert host.named_in(text, machine) == name


def test_a_machine_pinned_to_fewer_cores_is_the_same_cpu():
    program = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); from moebook import "
        "devices as d; "
        "print(d.detect('cpu').name); print(d.cores())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [devices.detect("cpu").name, "1"]


def test_without_affinity_all_cores_are_counted(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert devices.cores() == 6 and devices.core_ids() == [0, 1, 2, 3, 4, 5]
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert devices.cores() == 1


@pytest.mark.parametrize(("says", "name"), [("Apple M2 Pro\n", "Apple M2 Pro"), ("", "arm64 CPU")])
def test_the_name_on_macos(monkeypatch, tmp_path, says, name):
    monkeypatch.setattr(host, "CPUINFO", tmp_path / "none")
    monkeypatch.setattr(host.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(host.platform, "machine", lambda: "arm64")
    monkeypatch.setattr(
        host.subprocess, "run", lambda *a, **k: subprocess.CompletedProcess(a, 0, says, "")
    )
    assert host.cpu_name() == name


def test_everything_imports_where_there_is_no_affinity():
    program = (
        "import os; del os.sched_getaffinity; import moebook.cli, moebook.execute, "
        "moebook.engine.vllm.arguments, "
        "moebook.models.tiny.train_family, moebook.workbook, moebook.doctor; print('imported')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "imported", done.stderr


def test_a_machine_without_a_boot_id_has_none(monkeypatch, tmp_path):
    monkeypatch.setattr(host, "BOOT_ID", tmp_path / "boot_id")
    assert host.boot_id() is None
    (tmp_path / "boot_id").write_text("1f0c-22\n")
    assert host.boot_id() == "1f0c-22"
