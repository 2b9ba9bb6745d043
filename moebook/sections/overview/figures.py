"""Section 0's figure: where the parameters of models are (Fig 1)."""

from moebook.sections.model_comparison.parameter_figures import VIEWS, parameter_shares_of_table_1

__all__ = ["VIEWS", "parameter_shares_of_table_1"]
