"""What a visitor does: `make lab`, open a notebook, set `profile`, Run All. Notebook 01 is visited
in test_explorer.py."""

import pytest
from lab import Notebook

VISITS = [
    ("00_overview", "h200", 1),
    ("07_load_balancing", "h100", 6),
]


@pytest.mark.parametrize(("stem", "profile", "figures"), VISITS, ids=[stem for stem, *_ in VISITS])
def test_one_edit_shows_a_profile_and_the_explorer_a_picture(lab, page, stem, profile, figures):
    notebook = Notebook(lab, page, stem)
    notebook.set_profile(profile)
    notebook.run_all()
    notebook.assert_shown(profile, figures)
    points = notebook.explorer.locator(".scatterlayer .points path")
    points.first.wait_for(timeout=60_000)
    assert points.count() > 0
