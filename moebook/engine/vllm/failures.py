"""Why vLLM did not start or died: a status and its own words, from exceptions and logs."""

import re

from moebook.engine.base import EngineFailed
from moebook.study.settings import OWN_BACKENDS, EngineSettings

OOM_TEXTS = (
    "out of memory",
    "No available memory for the cache blocks",
    "larger than the available KV cache memory",
    "Available KV cache memory",
    "Failed to allocate",
)
# What vLLM says where other processes hold, or have just let go of, memory of its card.
BUSY_TEXTS = (
    "less than desired GPU memory utilization",
    "less than the engine's budget after excluding",
    "when other processes sharing the same container release GPU memory",
)
# What vLLM says where a device, a build or a shape lacks a format or a kernel.
UNSUPPORTED_TEXTS = (
    "not support",
    "unsupported",
    "No FP8 MoE backend",
    "NotImplementedError",
    "not implemented",
    "Unknown quantization",
    "Invalid quantization",
    "is not available",
    "No module named",
    "requires",
    "Failed to find a kernel",
    "must be divisible",
    "Declaration: _C::",  # an operator of the extension that this build only declares
)
RANK_LINE = re.compile(r"^\(Worker\S* pid=\d+\) ERROR \S+ \S+ \[[^]]*\] ?(.*)$", re.MULTILINE)
SOURCE_AND_ERROR = re.compile(
    r"^ +([^\s^].*)\n(?: +\^+\n)?(\w+(?:Error|Exception)\b.*)$", re.MULTILINE
)
COLOUR = r"\x1b\[[0-9;]*m"  # of a log written for a terminal, as a notebook's is


def explain(error: Exception, logged: str) -> EngineFailed:
    """From an exception and what the engine wrote to its log since it was started."""
    text = f"{type(error).__name__}: {error}"
    lines = (text + "\n" + logged).splitlines()
    if busy := [line for line in lines if any(t in line for t in BUSY_TEXTS)]:
        return EngineFailed("busy", clean(busy[-1]))
    found = [line for line in lines if any(t in line for t in OOM_TEXTS)]
    if found and not ("Available KV cache memory" in found[-1] and len(found) == 1):
        return EngineFailed("oom", clean(found[-1]))
    errors = re.findall(r"^.*\b(?:\w+Error|\w+Exception): .+$", logged, re.MULTILINE)
    told = _of_a_rank(logged) or (errors[-1] if errors and "root cause" in text else text)
    if told.rstrip().endswith("Reasons:"):
        told += " " + clean(logged.partition(told.strip())[2].strip().split("\n")[0])
    return EngineFailed("failed", clean(told))


def _of_a_rank(logged: str) -> str | None:
    """What one of several ranks died of; the exception elsewhere is only that it is gone."""
    logged = re.sub(COLOUR, "", logged)
    if died := re.findall(r"Worker proc \S+ died unexpectedly \(exit code: [^)]*\)", logged):
        return died[-1] + ": segmentation fault" * ("Segfault encountered" in logged)
    lines = "\n".join(RANK_LINE.findall(logged))
    raised = SOURCE_AND_ERROR.findall(lines)
    return f"{raised[-1][1]} ({raised[-1][0]})" if raised else None


def unsupported(failure: EngineFailed, settings: EngineSettings) -> EngineFailed:
    """A start that failed because this machine lacks the number format or kernel asked for is no
    fault: infeasible."""
    backend = None if settings.moe_backend in OWN_BACKENDS else settings.moe_backend
    asked = settings.quantization or backend or settings.kv_cache_dtype != "auto"
    lacks = failure.status == "failed" and any(t in str(failure) for t in UNSUPPORTED_TEXTS)
    return EngineFailed("infeasible", str(failure)) if asked and lacks else failure


def clean(line: str) -> str:
    """One log line without colours, prefixes and paths, at most 300 characters."""
    line = re.sub(COLOUR, "", line)
    line = re.sub(r"^(\(\w+ pid=\d+\)\s*)?(\w+ \d\d-\d\d [\d:]+ \[[^]]*\]\s*)?", "", line.strip())
    return re.sub(r"(?<![\w:/])/[\w./-]*/([\w.-]+)", r"\1", line).strip()[:300]
