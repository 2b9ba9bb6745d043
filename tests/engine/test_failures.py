"""Why an engine did not start: status and words, from exceptions and logs as vLLM writes them."""

import pytest

from moebook.engine.base import EngineFailed
from moebook.engine.vllm.failures import clean, explain, unsupported
from moebook.study.settings import EngineSettings

PLAIN, FP8 = EngineSettings(), EngineSettings(quantization="fp8")
ROOT = RuntimeError("Engine core initialization failed. See root cause above.")
CACHE = "INFO 07-01 12:00:00 [worker.py:10] Available KV cache memory: 10.00 GiB"


@pytest.mark.parametrize(
    "line",
    [
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB",
        "ValueError: No available memory for the cache blocks. Try increasing "
        "`gpu_memory_utilization`",
        "ValueError: the model needs 12 GiB KV cache, which is larger than the available KV cache "
        "memory (3 GiB)",
        "RuntimeError: Failed to allocate 8 GiB",
    ],
)
def test_every_way_to_lack_memory_is_oom_with_that_line(line):
    told = explain(ROOT, f"INFO starting\n(EngineCore pid=12) {line}\nINFO done")
    assert told.status == "oom" and str(told) == line


@pytest.mark.parametrize(
    "line",
    [
        "ValueError: Free memory on device cuda:0 (7/139 GiB) on startup is less than desired GPU "
        "memory utilization (0.92, "
        "128.6 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.",
        "ValueError: Free memory on device cuda:0 (7/139 GiB) on startup is less than the engine's "
        "budget after excluding "
        "external process's weights (0.92, 128.6 GiB).",
        "AssertionError: Error in memory profiling. Initial free memory 7 GiB, current free memory "
        "9 GiB. This happens when "
        "other processes sharing the same container release GPU memory while vLLM is profiling "
        "during initialization.",
    ],
)
@pytest.mark.parametrize("more", ["", "\ntorch.OutOfMemoryError: CUDA out of memory"])
def test_memory_that_others_hold_is_busy_and_not_oom(line, more):
    told = explain(ROOT, f"INFO starting\n(EngineCore pid=12) {line}{more}\nINFO done")
    assert told.status == "busy" and str(told) == line[:300]
    assert explain(ValueError(line.partition(": ")[2]), "").status == "busy"
    assert unsupported(told, FP8) is told


def test_an_exception_that_tells_it_itself_needs_no_log():
    assert explain(MemoryError("out of memory on the host"), "").status == "oom"


def test_a_log_that_only_states_free_cache_memory_is_no_oom():
    told = explain(ValueError("no such kernel"), CACHE)
    assert (told.status, str(told)) == ("failed", "ValueError: no such kernel")
    assert (
        explain(ROOT, f"{CACHE}\nValueError: No available memory for the cache blocks.").status
        == "oom"
    )


def test_the_root_cause_in_the_log_is_told_in_place_of_the_pointer_to_it():
    log = (
        "ERROR x\nNotImplementedError: FP8 is not implemented here\nINFO y\nValueError: last "
        "one\nINFO z"
    )
    assert str(explain(ROOT, log)) == "ValueError: last one"
    assert str(explain(KeyError("own words"), log)) == "KeyError: 'own words'"
    assert "root cause" in str(explain(ROOT, "nothing of use"))


def test_reasons_on_the_line_after_are_told_too():
    text = "Failed to find a kernel that can implement the layer. Reasons:"
    told = explain(
        ValueError(text), f"ValueError: {text}\n MarlinLinearKernel needs a multiple of 64\nmore"
    )
    assert str(told) == f"ValueError: {text} MarlinLinearKernel needs a multiple of 64"


@pytest.mark.parametrize(
    "settings", [{"quantization": "fp8"}, {"moe_backend": "cutlass"}, {"kv_cache_dtype": "fp8"}]
)
def test_a_format_or_kernel_that_the_machine_lacks_is_infeasible(settings):
    failure = EngineFailed(
        "failed", "ValueError: CUTLASS does not support the deployment configuration"
    )
    told = unsupported(failure, EngineSettings(**settings))
    assert (told.status, str(told)) == ("infeasible", str(failure))


@pytest.mark.parametrize(
    ("failure", "settings"),
    [
        (EngineFailed("failed", "ValueError: x is not supported"), PLAIN),
        (
            EngineFailed("oom", "CUDA out of memory; FP8 not supported"),
            FP8,
        ),
        (
            EngineFailed("failed", "RuntimeError: illegal memory access"),
            FP8,
        ),
    ],
)
def test_a_plain_engine_memory_or_a_crash_stays_what_it_is(failure, settings):
    assert unsupported(failure, settings) is failure


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "\x1b[1;36m(EngineCore_DP0 pid=77)\x1b[0m ERROR 07-01 12:00:00 [core.py:936] "
            "ValueError: no",
            "ValueError: no",
        ),
        (
            "  ValueError: see /home/someone/.cache/vllm/model.py for it ",
            "ValueError: see model.py for it",
        ),
        ("rate 3/4 and https://a.b/c", "rate 3/4 and https://a.b/c"),
        ("x" * 400, "x" * 300),
    ],
)
def test_a_line_loses_colours_prefixes_and_paths(line, told):
    assert clean(line) == told


def test_what_one_of_several_ranks_died_of_is_told():
    prefix = "(Worker_PP1 pid=17796) ERROR 11-24 20:53:27 [multiproc_executor.py:1063] "
    raised = "\n".join(
        prefix + line
        for line in (
            "Traceback (most recent call last):",
            '  File "runner.py", line 3174, in gather',
            "    assert self.tensors is not None",
            "           ^^^^^^^^^^^^",
            "AssertionError",
        )
    )
    coloured = raised.replace("(Worker_PP1 pid=17796)", "\x1b[0;36m(Worker_PP1 pid=17796)\x1b[0;0m")
    for log in (raised, coloured):
        assert (
            str(explain(KeyError("0-9f54b5a8"), log))
            == "AssertionError (assert self.tensors is not None)"
        )
    died = (
        "ERROR [multiproc_executor.py:315] Worker proc VllmWorker-0 died unexpectedly (exit code: "
        "-11), shutting down."
    )
    told = str(explain(RuntimeError("cancelled"), f"!!!!!!! Segfault encountered !!!!!!!\n{died}"))
    assert told == "Worker proc VllmWorker-0 died unexpectedly (exit code: -11): segmentation fault"
    assert (
        explain(
            RuntimeError("cancelled"), f"{died}\ntorch.OutOfMemoryError: CUDA out of memory"
        ).status
        == "oom"
    )
