"""How a number was got: the same words in tables, figures, commentary, the explorer and reports."""

WORDS = {  # a method, or what is drawn of it -> the word of its kind
    "full": "measured",
    "sampled": "sampled",
    "depth": "extrapolated",
    "graph": "under a captured graph",
    "calls": "plain calls",
    "measured": "measured",
    "composed": "composed",
    "computed": "computed",
    "published": "published",
    "predicted": "predicted",
}
MEANINGS = {
    "measured": "every step was run",
    "sampled": "decode steps were timed in windows: at the first and last contexts of a run, of "
    "energy around the middle",
    "extrapolated": "from engines of fewer layers",
    "composed": "of other measured parts",
    "predicted": "by the calibrated model",
    "published": "printed by others",
}


def method_kind(method: str) -> str:
    """The kind of a method, a key of WORDS where it has a word: everything extrapolated over depth
    is `depth`, and energy is of windows of steps."""
    if method == "energy":
        return "sampled"
    return "depth" if str(method).startswith("depth") else str(method)


def word(method: str) -> str:
    """`extrapolated` of `depth+sampled`; a method without a word is its own."""
    return WORDS.get(method_kind(method), str(method))
