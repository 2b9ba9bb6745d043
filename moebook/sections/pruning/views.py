"""Section 3 in the explorer: its figures as views."""

from moebook.explore.views import View
from moebook.sections.pruning.pruned import SWEEP, perplexities

QUALITY = ("ratio_pct", "criterion", "kind", "increase_pct")
VIEWS = (
    View("gain", SWEEP, "top_k", "series", "model", over=("series", "baseline")),
    View("Fig 11: throughput", SWEEP, "top_k", "series", "model"),
    View("quality", None, *QUALITY, log_x=False, table=perplexities),
)
