"""Tests run from the repository's root, as the commands do; GPU tests are skipped with the
reason."""

import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path

import pytest

from moebook import devices

os.chdir(Path(__file__).parents[1])
STAND_IN = Path("tests/stand_in").resolve()
os.environ["MOEBOOK_LOCKS"] = tempfile.mkdtemp(prefix="moebook-test-locks-")  # of these tests alone


def pytest_collection_modifyitems(items):
    found = devices.detect()
    skip = pytest.mark.skip(reason=f"needs a GPU; this machine has {found.name}")
    for item in items:
        if item.get_closest_marker("gpu") and found.kind == "cpu":
            item.add_marker(skip)


def _card(index: int, given: str | dict) -> dict:
    """A card of the stand-in, from `name|GiB` or from what the driver tells of it."""
    if isinstance(given, str):
        name, gib = given.split("|")
        given = {"name": name, "memory_bytes": round(float(gib) * 2**30)}
    return {"uuid": f"GPU-{index:08x}-1111", "used_bytes": 0, **given}


@pytest.fixture
def machine(monkeypatch):
    """machine("NVIDIA H200|140.4", {"name": …}, visible="1"): the cards of this machine, also for
    processes started from here, and CUDA_VISIBLE_DEVICES, None for unset."""

    def has(*cards: str | dict, visible: str | None = None) -> None:
        given = [_card(index, one) for index, one in enumerate(cards)]
        monkeypatch.setenv("MOEBOOK_TEST_CARDS", json.dumps(given))
        if visible is None:
            monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        else:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        devices.forget()

    spec = importlib.util.spec_from_file_location("pynvml", STAND_IN / "pynvml.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, "pynvml", module)
    path = os.pathsep.join(filter(None, [str(STAND_IN), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    devices.forget()
    yield has
    monkeypatch.undo()
    devices.forget()
