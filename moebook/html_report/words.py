"""Words of the report that no result decides."""

from moebook.results.schema import KIND_MEANINGS

ABOUT = (
    "What MoE-Inference-Bench claims of the inference of Mixture-of-Experts models, measured again "
    "with vLLM: a verdict on each claim, then each section's figures with the rows behind them."
)
CARDS = (
    "Each line opens to a section's cards, each card to its cells, checks and rule. On other "
    "conditions: devices, lengths or models are not the source's."
)
LACKING = "Not in this report, as the profile has no results of:"
KINDS = f"Kinds of number: {', '.join(f'{word} ({of})' for word, of in KIND_MEANINGS.items())}."
