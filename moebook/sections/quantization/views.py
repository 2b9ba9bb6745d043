"""Section 2 in the explorer: its figures as views."""

from moebook.explore.views import View

GAIN = {"over": ("series", "bf16")}
VIEWS = (
    View("Fig 10: gain over batch", "quant_batch", "batch", "series", "model", **GAIN),
    View("Fig 10: gain over length", "quant_length", "input_tokens", "series", "model", **GAIN),
    View("throughput over batch", "quant_batch", "batch", "series", "model"),
    View("formats", "formats", "batch", "series", "model", **GAIN),
    View("memory", "formats", "series", None, "batch", "weights_bytes"),
    View("quality", "quality", "series", metric="perplexity"),
)
