"""Accuracy of a checkpoint on standard tasks, through lm-eval (extra `quality`): with vLLM on a
GPU, transformers on a CPU.

Perplexity of held-out text needs no extra: it is a point of section 2 (method `perplexity`).
"""

import importlib.util
from pathlib import Path

from moebook import devices

TASKS = (
    "arc_challenge",
    "arc_easy",
    "boolq",
    "hellaswag",
    "mmlu",
    "openbookqa",
    "rte",
    "winogrande",
)


class QualityError(ValueError):
    """lm-eval is missing, or the checkpoint or the tasks are not to be had."""


def evaluate(
    checkpoint: str | Path,
    tasks: tuple[str, ...] = TASKS,
    *,
    engine_arguments: dict | None = None,
    limit: int | None = None,
    include_path: str | None = None,
) -> dict[str, dict]:
    """By task its metrics (fractions) and their standard errors, from a Hugging Face folder.

    engine_arguments: of vLLM's LLM, e.g. {"quantization": "fp8"}, on a GPU; limit: examples a task;
    include_path: a folder with task files of one's own. Raises QualityError."""
    if not (Path(checkpoint) / "config.json").is_file():
        raise QualityError(f"{checkpoint} is no checkpoint folder: config.json is missing")
    if importlib.util.find_spec("lm_eval") is None:
        raise QualityError(
            "lm-eval is not installed; install the extra: pip install 'moebook[quality]'"
        )
    on_gpu = devices.detect().kind != "cpu"
    if engine_arguments and not on_gpu:
        raise QualityError(
            f"{engine_arguments}: lm-eval drives vLLM on a GPU only; here tasks run in "
            "transformers, in the checkpoint's own dtype: leave the quantization out"
        )
    import lm_eval
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=include_path)
    if unknown := [t for t in tasks if t not in manager.all_tasks]:
        raise QualityError(
            f"lm-eval has no task {', '.join(unknown)}; the study's are {', '.join(TASKS)}"
        )
    arguments = {"pretrained": str(checkpoint), **(engine_arguments or {})}
    found = lm_eval.simple_evaluate(
        model="vllm" if on_gpu else "hf",
        device="cuda" if on_gpu else "cpu",
        limit=limit,
        model_args=arguments,
        tasks=list(tasks),
        task_manager=manager,
    )
    return {
        task: {k: v for k, v in metrics.items() if isinstance(v, (int, float))}
        for task, metrics in found["results"].items()
    }
