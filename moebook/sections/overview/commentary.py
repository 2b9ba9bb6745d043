"""Section 0 in words: Fig 1 alone, which section 9 computes."""

from moebook.sections.model_comparison.parameter_commentary import parameter_shares

__all__ = ["parameter_shares"]
