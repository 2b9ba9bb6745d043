"""What a visitor does: `make lab`, open a notebook, set `profile`, Run All, move the explorer."""

import os
import shutil
import subprocess

import pytest
from lab import ROOT, Notebook, running

CHROMIUM = shutil.which("chromium")
playwright = pytest.importorskip(
    "playwright.sync_api", exc_type=ImportError, reason="needs playwright: pip install playwright"
)
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install -y chromium"),
]
PNG = b"\x89PNG\r\n\x1a\n"
VISITS = [
    ("00_overview", "h200", 1),
    ("01_hyperparameter_scaling", "h200", 8),
    ("04_speculative_decoding", "h200", 7),
    ("07_load_balancing", "h100", 6),
    ("09_model_comparison", "h200", 4),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    before = _changes()
    with running(tmp_path_factory.mktemp("lab")) as started:
        yield started
    assert _changes() == before, "the lab has changed this checkout"


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        args = ["--disable-dev-shm-usage", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        with driver.chromium.launch(executable_path=CHROMIUM, args=args) as found:
            yield found


@pytest.fixture
def page(browser, lab):
    with browser.new_context(viewport={"width": 1400, "height": 1000}) as context:
        yield context.new_page()
    lab.end_kernels()


@pytest.mark.parametrize(("stem", "profile", "figures"), VISITS, ids=[stem for stem, *_ in VISITS])
def test_one_edit_shows_a_profile_and_the_explorer_a_picture(lab, page, stem, profile, figures):
    notebook = Notebook(lab, page, stem)
    notebook.set_profile(profile)
    notebook.run_all()
    cells = [cell for cell in notebook.saved().cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert [o for o in outputs if o.output_type == "error"] == []
    assert f"params/{profile}/{stem}.yaml" in "".join(o.get("text", "") for o in outputs)
    widths = notebook.figures()
    assert len(widths) >= figures and min(widths) > 400, f"{len(widths)} pictures, {widths}"
    before = notebook.explorers_picture()
    assert before.startswith(PNG) and len(before) > 4000
    notebook.choose("metric", 1)
    after = notebook.explorers_picture()
    assert after.startswith(PNG) and after != before


def _changes() -> str:
    what = ["git", "diff", "--stat", "HEAD", "--", "notebooks", "params", "outputs"]
    return subprocess.run(what, cwd=ROOT, capture_output=True, text=True, check=True).stdout
