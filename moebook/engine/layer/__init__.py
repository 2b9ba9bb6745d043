"""One MoE layer alone, without an engine."""
