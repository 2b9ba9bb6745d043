"""Tests run from the repository's root, as the commands do; GPU tests are skipped with the
reason."""

import ast
import gc
import importlib.util
import json
import os
import sys
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

import moebook.engine  # noqa: F401  first, for what tests import
from moebook import devices

os.chdir(Path(__file__).parents[1])
STAND_IN = Path("tests/stand_in").resolve()
os.environ["MOEBOOK_LOCKS"] = tempfile.mkdtemp(prefix="moebook-test-locks-")  # of these tests alone
# groups of few tests
LONGEST = ("engine", "browser", "test_ray_cluster", "test_faults", "test_notebooks")
SIDE_BY_SIDE = (
    "PYTEST_XDIST_WORKER" in os.environ
)  # one of several processes, each of which has its share of the tests
if SIDE_BY_SIDE:
    os.environ.setdefault(
        "OMP_NUM_THREADS", "1"
    )  # each process has a core: threads of two would wait for each other


def pytest_collection_modifyitems(items):
    _skip_without_a_gpu(items)
    if SIDE_BY_SIDE:
        groups = [_group(item.path, item.originalname) for item in items]
        size = {**Counter(groups), **{name: len(items) - i for i, name in enumerate(LONGEST)}}
        order = sorted(
            range(len(items)), key=lambda i: (-size[groups[i]], groups[i])
        )  # what is short fills up the end
        items[:] = [items[i] for i in order]


def pytest_collection_finish():
    gc.collect()
    gc.freeze()  # of what was imported nothing goes: no collection need look at it


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """One process after another takes a group of tests and runs it whole. pytest-xdist's own
    `loadgroup` reads groups from names that pytest 9.2 no longer lets it change."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, test = nodeid.partition("::")
            return _group(config.rootpath / file, test.partition("[")[0])

    config.option.loadscopereorder = False
    return Groups(config, log)


@cache
def _group(file: Path, test: str) -> str:
    """What one process runs: all that starts engines, which would slow each other down, all that
    opens one JupyterLab, the files that load the shipped results of every profile, or what else a
    file has."""
    if test in _engine_tests(file):
        return "engine"
    if file.parent.name == "browser":
        return "browser"
    return "shipped" if "\nimport shipped\n" in file.read_text() else file.stem


@cache
def _engine_tests(file: Path) -> set[str]:
    """Names of the tests marked `engine`, also for a process that collects no tests."""
    body = ast.parse(file.read_text()).body
    if any(ast.unparse(node) == "pytestmark = pytest.mark.engine" for node in body):
        return {node.name for node in body if isinstance(node, ast.FunctionDef)}
    return {
        node.name
        for node in body
        if isinstance(node, ast.FunctionDef)
        and "pytest.mark.engine" in map(ast.unparse, node.decorator_list)
    }


def _skip_without_a_gpu(items: list) -> None:
    found = devices.detect()
    skip = pytest.mark.skip(reason=f"needs a GPU; this machine has {found.name}")
    for item in items:
        if item.get_closest_marker("gpu") and found.kind == "cpu":
            item.add_marker(skip)


class FailuresAsTheyHappen:
    """A line for each as soon as it is known, where pytest would tell it at the end of minutes of
    dots."""

    def __init__(self, config):
        self.config = config

    def pytest_runtest_logreport(self, report) -> None:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            said = crash.message.splitlines()[0] if crash and crash.message else ""
            terminal = self.config.pluginmanager.get_plugin("terminalreporter")
            if terminal:
                terminal.write_line(f"\nfailed: {report.nodeid} ({report.when}) {said[:200]}")


def pytest_configure(config):
    if not SIDE_BY_SIDE:
        config.pluginmanager.register(FailuresAsTheyHappen(config))


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


@pytest.fixture
def every_format_on_a_cpu(monkeypatch):
    """Plans of a CPU that runs every number format, as far as is known before it is asked."""
    monkeypatch.setattr("moebook.models.formats.refusal_on_cpu", lambda *asked: None)
