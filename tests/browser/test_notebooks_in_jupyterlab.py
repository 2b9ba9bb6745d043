"""What a visitor does: `make lab`, open a notebook, set `profile`, Run All."""

import pytest
from lab import Notebook

VISITS = [
    ("00_overview", "h200", 1),
    ("01_hyperparameter_scaling", "h200", 8),
    ("04_speculative_decoding", "h200", 7),
    ("07_load_balancing", "h100", 6),
    ("09_model_comparison", "h200", 4),
]


@pytest.mark.parametrize(("stem", "profile", "figures"), VISITS, ids=[stem for stem, *_ in VISITS])
def test_one_edit_shows_a_profile_and_the_explorer_a_picture(lab, page, stem, profile, figures):
    notebook = Notebook(lab, page, stem)
    notebook.set_profile(profile)
    notebook.run_all()
    cells = [cell for cell in notebook.saved().cells if cell.cell_type == "code"]
    outputs = [output for cell in cells for output in cell.outputs]
    assert [o for o in outputs if o.output_type == "error"] == []
    said = "".join(o.get("text", "") + o.get("data", {}).get("text/html", "") for o in outputs)
    assert f"params/{profile}/{stem}.yaml" in said
    widths = notebook.figures()
    assert len(widths) >= figures and min(widths) > 400, f"{len(widths)} pictures, {widths}"
    points = notebook.explorer.locator(".scatterlayer .points path")
    points.first.wait_for(timeout=60_000)
    assert points.count() > 0
