"""Section 6 in the explorer: its figures as views."""

from moebook.explore.views import View
from moebook.plot.rows import layer_rows

LAYER = {"metric": "layer_time_us", "table": layer_rows}
OVER = {"over": ("series", "expert loop")}
VIEWS = (
    View("one layer", "layer", "tokens", "series", "model", **LAYER),
    View("one layer, against the loop", "layer", "tokens", "series", "model", **LAYER, **OVER),
    View("one quantized layer", "layer_quantized", "tokens", "series", "model", **LAYER),
    View("Fig 14: batch", "ladder_batch", "batch", "series", "model", **OVER),
    View("Fig 14: length", "ladder_length", "input_tokens", "series", "model", **OVER),
)
