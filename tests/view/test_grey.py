"""Filled bars of different things are told apart without colour: by hatch or darkness."""

from itertools import combinations

import matplotlib as mpl
import numpy as np
import pytest
import shipped
from matplotlib.patches import Rectangle

from moebook import sections
from moebook.sections.hyperparameter_scaling.heatmaps import COLOUR_MAP
from moebook.sections.load_balancing import expert_maps
from moebook.sections.model_comparison import breakdown
from moebook.sections.parallelism import figures as parallelism

APART = 0.15  # of black to white
STACKED = [
    ("cpu", "00_overview", "fig01_parameter_breakdown"),
    ("h200", "05_parallelism", "step_parts"),
]


def grey(colour, alpha: float = 1.0) -> float:
    """How light a colour is on white paper when printed in grey (ITU-R BT.601)."""
    light = float(np.dot(mpl.colors.to_rgb(colour), (0.299, 0.587, 0.114)))
    return alpha * light + (1 - alpha)


def are_apart(first: Rectangle, second: Rectangle) -> bool:
    return (first.get_hatch() or "") != (second.get_hatch() or "") or abs(
        grey(first.get_facecolor()) - grey(second.get_facecolor())
    ) >= APART


def neighbours(ax) -> list[tuple[Rectangle, Rectangle]]:
    """Bars of which one begins where the other ends."""
    bars = [p for p in ax.patches if isinstance(p, Rectangle) and p.get_width() > 0]
    beside = [(a, b) for a in bars for b in bars if np.isclose(a.get_y(), b.get_y())]
    return [(a, b) for a, b in beside if np.isclose(a.get_x() + a.get_width(), b.get_x())]


@pytest.mark.parametrize(("profile", "stem", "figure"), STACKED)
@pytest.mark.parametrize("width", ["page", "column"])
def test_neighbours_in_a_stack_differ(profile, stem, figure, width):
    fig, _ = sections.find(stem).figures[figure](shipped.results(profile, stem).shown, width=width)
    pairs = [pair for ax in fig.axes for pair in neighbours(ax)]
    assert len(pairs) > 5 and all(are_apart(*pair) for pair in pairs)


def test_any_two_parts_of_a_model_differ():
    looks = [(c, h) for c, h in (*breakdown.LOOKS.values(), breakdown.POOLED_LOOK)]
    for (colour, hatch), (other, other_hatch) in combinations(looks, 2):
        assert hatch != other_hatch or abs(grey(colour) - grey(other)) >= APART, (colour, other)


def test_bars_alike_are_found():
    alike = [Rectangle((0, 0), 1, 1, facecolor=c) for c in ("#D55E00", "#0072B2")]
    assert not are_apart(*alike)
    alike[0].set_hatch(parallelism.PART_LOOKS["communication"]["hatch"])
    assert are_apart(*alike)


def test_bars_of_formats_differ():
    table = shipped.results("h100", "09_model_comparison").shown
    fig, _ = sections.find("09").figures["fig03_llms"](table)
    formats = fig.legends[0].get_patches()
    assert len(formats) == 2
    assert abs(np.subtract(*(grey(p.get_facecolor(), p.get_alpha()) for p in formats))) >= APART


@pytest.mark.parametrize("name", [COLOUR_MAP, expert_maps.COLOUR_MAP])
def test_colour_maps_run_from_dark_to_light(name):
    light = [grey(colour) for colour in mpl.colormaps[name](np.linspace(0, 1, 32))]
    assert (np.diff(light) > 0).all() and light[-1] - light[0] > 0.5
