"""vLLM as an engine: everything that imports it or reaches into its objects."""
