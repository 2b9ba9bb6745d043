"""Pruning of checkpoints: scores, selection, writing."""
