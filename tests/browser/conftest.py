"""JupyterLab on a copy of the notebooks, and a headless Chromium to look at it."""

import os
import shutil
import subprocess

import pytest
from lab import ROOT, running

CHROMIUM = shutil.which("chromium")


def pytest_collection_modifyitems(items):
    for item in items:
        if item.path.parent == ROOT / "tests" / "browser":
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    before = _changes()
    with running(tmp_path_factory.mktemp("lab")) as started:
        yield started
    assert _changes() == before, "the lab has changed this checkout"


@pytest.fixture(scope="session")
def browser():
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install -y chromium")
    playwright = pytest.importorskip(
        "playwright.sync_api",
        exc_type=ImportError,
        reason="needs playwright: pip install playwright",
    )
    with playwright.sync_playwright() as driver:
        args = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        with driver.chromium.launch(executable_path=CHROMIUM, args=args) as found:
            yield found


@pytest.fixture
def page(browser, lab):
    with browser.new_context(viewport={"width": 1400, "height": 1000}) as context:
        yield context.new_page()
    lab.end_kernels()


def _changes() -> str:
    what = ["git", "diff", "--stat", "HEAD", "--", "notebooks", "params", "outputs"]
    return subprocess.run(what, cwd=ROOT, capture_output=True, text=True, check=True).stdout
