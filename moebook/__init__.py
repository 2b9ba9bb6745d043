"""moebook: a workbook on the inference performance of Mixture-of-Experts models."""

__version__ = "0.1.0"
