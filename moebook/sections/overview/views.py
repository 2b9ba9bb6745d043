"""Section 0 in the explorer: what section 9 counts."""

from moebook.sections.model_comparison.views import COUNTED as VIEWS

__all__ = ["VIEWS"]
