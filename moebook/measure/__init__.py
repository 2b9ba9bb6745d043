"""From a plan to records: the run, the store, the worker process, executors, progress."""
