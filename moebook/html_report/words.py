"""Words of the report that no result decides."""

ABOUT = (
    "What MoE-Inference-Bench claims of the inference of Mixture-of-Experts models, measured again "
    "with vLLM: a verdict on each claim, then each section's figures with the rows behind them."
)
KINDS = (
    "Kinds of number: measured (full: every step was run), sampled (decode steps at the first and "
    "last contexts of a run), depth-extrapolated (from engines of fewer layers), composed (of "
    "other measured parts), predicted (by the calibrated model), published (printed by others)."
)
