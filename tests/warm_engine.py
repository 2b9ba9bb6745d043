"""What warm.py's process imports before it forks engines, in the environment of an engine on a
CPU."""

from moebook.engine.vllm.arguments import set_environment

set_environment(on_gpu=False)

import torch  # noqa: E402, F401
import transformers  # noqa: E402, F401
import vllm.benchmarks.serve  # noqa: E402
import vllm.entrypoints.llm  # noqa: E402
import vllm.v1.worker.cpu_worker  # noqa: E402, F401

import moebook.engine.vllm.engine  # noqa: E402, F401
