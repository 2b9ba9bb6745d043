"""Section 7 in the explorer: its figures as views."""

from moebook.explore.views import View
from moebook.plot.rows import layer_rows

STEP = "experts_per_step"
BALANCE = "balance_max_over_mean"
EVEN = {"log_x": False, "over": ("skew", 0.0)}
LAYER = {"metric": "layer_time_us", "table": layer_rows}
VIEWS = (
    View("balance", "balance", "series", "text", metric=BALANCE),
    View(
        "balance of expert-parallel ranks",
        "balance",
        "series",
        "text",
        metric="balance_ep8_max_over_mean",
    ),
    View("training", "training", "series", metric="perplexity"),
    View("experts of real batches", "real_batches", "batch", "series", "model", metric=STEP),
    View("importance of experts", "importance", "series", metric=BALANCE),
    View("skewed routing, one layer", "skew_layer", "skew", "tokens", "model", **LAYER, **EVEN),
    View("skewed routing, engine", "skew_engine", "skew", "batch", "model", **EVEN),
)
