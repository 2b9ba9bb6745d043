"""Section 0's figure: where the parameters of models are (Fig 1), which section 9 draws."""

from moebook.sections.model_comparison.breakdown import parameter_breakdown

__all__ = ["parameter_breakdown"]
