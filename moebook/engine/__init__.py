"""The only room that imports vLLM, and only inside the worker process."""
