"""Section 7: how many experts the steps of real batches hit, between the two ends that routing can
be set to: every token takes the same K experts (0), or experts are drawn evenly (1).

A decode step reads the experts that some sequence of its batch chose, so this place between the
ends says which of the two a throughput under imposed routing stands nearer to."""

import numpy as np
import pandas as pd

from moebook.models.costs import distinct_experts
from moebook.plot.figure import Drawing, figure, one_per_place, rows_of, with_numbers
from moebook.plot.lines import Spec, lines
from moebook.sections.load_balancing.choices import array

SWEEP, COLUMN = "real_batches", "step_experts"
STEPS = 8  # decode steps of one point of the figure


def places(rows: pd.DataFrame) -> pd.DataFrame:
    """A row per point, repeat (other prompts) and decode step: its distinct `experts` of a layer,
    and `place`, 0 where all sequences share their K experts and 1 where experts are drawn evenly.
    Batches of one, whose ends are equal, have none."""
    parts = []
    for _, row in rows[rows["batch"] > 1].iterrows():
        courses, top_k = array(row[COLUMN]), row["top_k"]
        even = distinct_experts(row["num_experts"], top_k, row["batch"])
        repeat, step = np.indices(courses.shape)
        found = pd.DataFrame({"repeat": repeat.ravel(), "step": 1 + step.ravel()})
        found = found.assign(experts=courses.ravel(), even=even)
        found["place"] = (found["experts"] - top_k) / (even - top_k)
        parts.append(found.assign(**row[["model", "series", "batch", "top_k", "status"]]))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


@figure("real_batches")
def real_batches(summary: pd.DataFrame, *, width: str = "page") -> Drawing:
    """Distinct experts of a decode step, from those of one sequence (0) to those of evenly drawn
    choices (1), over the step: mean over 8 steps and the prompts of all repeats; a line per kind of
    prompt, a panel per model and batch. Continued greedily."""
    needed = ("model", "series", "batch", "top_k", "num_experts", COLUMN)
    rows = with_numbers(rows_of(summary, SWEEP, SWEEP, needed), SWEEP, [COLUMN])
    one_per_place(rows, SWEEP, ("model", "series", "batch"))
    found = places(rows)
    found["step"] = STEPS * ((found["step"] - 1) // STEPS) + (STEPS + 1) / 2
    at = ["model", "batch", "series", "status", "step"]
    found = found.groupby(at, sort=False)[["place", "experts", "even"]].mean().reset_index()
    found["panel"] = found["model"] + ", batch " + found["batch"].astype(str)
    ends = {"level": 1.0, "level_label": "experts drawn evenly", "kind": "kind"}
    axes = {"panel": "panel", "line": "series", "x": "step", "metric": "place"}
    words = {
        "x_label": "decode step (count)",
        "y_label": "experts of a step\n(0: the same for all)",
    }
    scales = {"log_x": False, "log_y": False, "marker_scale": 0.7}
    spec = Spec(SWEEP, None, **axes, **words, **ends, **scales)
    fig, _ = lines(found.assign(kind="full"), spec, width=width)
    return fig, found
