"""Words of the report that no result decides, and Markdown as HTML."""

ABOUT = (
    "What MoE-Inference-Bench claims of the inference of Mixture-of-Experts models, measured again "
    "with vLLM: a verdict on each claim, then each section's figures with the rows behind them."
)
KINDS = (
    "Kinds of number: measured (full: every step was run), sampled (decode steps at the first and "
    "last contexts of a run), depth-extrapolated (from engines of fewer layers), composed (of "
    "other measured parts), predicted (by the calibrated model), published (printed by others)."
)


def as_html(text: str) -> str:
    """A commentary's Markdown, with its tables, as HTML."""
    from nbconvert.filters import markdown2html

    return markdown2html(text)
