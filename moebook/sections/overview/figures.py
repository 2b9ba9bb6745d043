"""Section 0's figure: where the parameters of models are (Fig 1), which section 9 draws; and in the
explorer what section 9 counts."""

from moebook.sections.model_comparison.breakdown import parameter_breakdown
from moebook.sections.model_comparison.figures import COUNTED as VIEWS

__all__ = ["VIEWS", "parameter_breakdown"]
