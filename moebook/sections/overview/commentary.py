"""Section 0 in words: how the source's claims fare, and Fig 1, of which section 9 speaks."""

from collections.abc import Iterable

import pandas as pd
from IPython.display import Markdown

from moebook.results.findings import Verdict
from moebook.sections.model_comparison.commentary import parameter_breakdown

__all__ = ["headline", "parameter_breakdown"]


def headline(verdicts: Iterable[Verdict]) -> Markdown:
    """How many of the claims have which verdict."""
    counts = pd.Series([verdict.verdict for verdict in verdicts], dtype=object).value_counts()
    if counts.empty:
        return Markdown("No claim was judged.")
    each = ", ".join(f"{n} {verdict}" for verdict, n in counts.items())
    return Markdown(f"**Finding.** Of {counts.sum()} claims: {each}.")
