"""Expert choices of models that run in transformers."""
