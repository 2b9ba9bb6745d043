"""One vLLM engine: started from settings, stopped; in between timed (timing.py) and read with text
(texts.py).

vLLM 0.26 on a GPU, 0.32 on a CPU; nothing here differs between them but the environment that
arguments.py sets. On a GPU this process never touches CUDA, so that vLLM's own engine process can
be forked from it with everything imported: 5.5-8 s an engine, all memory back when it exits. On a
CPU engines live inside: 1-3 s against 20 s."""

import multiprocessing
import re
import time
from contextlib import ExitStack, nullcontext
from pathlib import Path

from moebook.engine.base import EngineFailed
from moebook.engine.vllm import energy, patches, patches_routers, texts
from moebook.engine.vllm.arguments import (
    engine_arguments,
    engine_environment,
    environment_of,
    set_environment,
)
from moebook.engine.vllm.failures import explain, unsupported
from moebook.engine.vllm.timing import WorkloadTimer
from moebook.models.tiny import family
from moebook.study.settings import OWN_BACKENDS, EngineSettings, Workload

LOG_READ = 4 << 20  # bytes of a log's end in which an engine's words are looked for


class VllmEngine:
    """See engine.base.Engine."""

    @classmethod
    def prepare(cls, on_gpu: bool) -> None:
        set_environment(on_gpu)
        if on_gpu:
            multiprocessing.set_start_method("fork", force=True)
        import vllm  # noqa: F401

    def __init__(
        self,
        settings: EngineSettings,
        config: dict,
        folder: Path,
        log: Path | None = None,
        draft_config: dict | None = None,
        on_gpu: bool = False,
    ):
        self.log, self._log_from = log, log.stat().st_size if log and log.exists() else 0
        self.settings, self.llm, self._environment = settings, None, ExitStack()
        self.on_gpu = on_gpu
        self._environment.enter_context(environment_of(engine_environment(settings, config)))
        started = time.perf_counter()
        try:
            self._start(engine_arguments(settings, config, folder, draft_config, on_gpu), on_gpu)
            self.chosen = {**self.rpc(patches.inspect_worker), **self._chosen_in_log()}
            if family.is_tiny(settings.weights):
                self.chosen["training"] = family.training_id(settings.weights)
            self._install(settings.moe_backend)
            self.rpc(patches_routers.patch_bias)
            if settings.routing is not None:
                self.rpc(patches_routers.impose, settings.routing)
                self.rpc(patches.recapture)
        except Exception as error:
            self._environment.close()
            raise unsupported(self._failure(error), settings) from error
        self.start_s = time.perf_counter() - started
        self.kv_capacity_tokens = patches.kv_capacity_tokens(self.llm)
        self.vocab_size = config["vocab_size"]
        self.num_draft_tokens = settings.speculation.num_tokens if settings.speculation else 0

    def _start(self, arguments: dict, on_gpu: bool) -> None:
        from vllm import LLM

        patches.patch_scan()
        with nullcontext() if on_gpu else patches.uncollected():  # a GPU's engine is forked
            self.llm = LLM(**arguments)

    def rpc(self, function, *args):
        """What `function(worker, *args)` returns in the engine's process."""
        return self.llm.collective_rpc(function, args=args)[0]

    def _install(self, variant: str | None) -> None:
        """One of moebook's own expert computations in place of the engine's kernel."""
        if variant in OWN_BACKENDS:
            from moebook.engine.vllm.patches_variants import install_variant

            self.rpc(install_variant, variant)
            self.rpc(patches.recapture)
            self.chosen |= {"moe_backend": f"moebook {variant}", "moe_config_tuned": None}

    def stop(self) -> None:
        llm, self.llm = self.llm, None
        if llm is not None:
            with patches.uncollected():
                patches.shut_down(llm)
            del llm
        self._environment.close()
        patches.collect()

    def facts(self) -> dict:
        return {
            "engine_start_s": self.start_s,
            "kv_capacity_tokens": self.kv_capacity_tokens,
            **self.chosen,
        }

    def switch(self, top_k: int, routing: str | None) -> None:
        """Weights, KV cache and kernels are those of a fresh engine with that top-k (tests compare
        both), start-up is saved. Start with the largest: workspaces are sized then."""
        started = time.perf_counter()
        if not self._in_own_words(self.rpc, patches.set_top_k, top_k):
            raise EngineFailed(
                "failed", "no router was found in the running engine whose top-k could be switched"
            )
        self._in_own_words(self.rpc, patches_routers.impose, routing)
        self._in_own_words(self.rpc, patches.recapture)
        self.chosen["top_k_switched"] = True
        self.start_s = time.perf_counter() - started

    def peak_memory_bytes(self) -> int | None:
        return self._in_own_words(self.rpc, patches.read_peak_memory)

    def measure(self, workload: Workload, method: str, repeats: int) -> list[dict]:
        def timed() -> list[dict]:
            timer = WorkloadTimer(self, workload)
            if method == "energy":
                meter = energy.Meter.of(self.settings.num_devices, self.on_gpu)
                return [energy.measure(timer, meter) for _ in range(repeats)]
            return timer.sampled(repeats) if method == "sampled" else timer.full(repeats)

        return self._in_own_words(timed)

    def read(self, method: str, **request) -> dict:
        return self._in_own_words(texts.METHODS[method], self, **request)

    def _in_own_words(self, function, *args, **kwargs):
        """What the function returns; its exceptions as EngineFailed, in the engine's words."""
        try:
            return function(*args, **kwargs)
        except EngineFailed:
            raise
        except Exception as error:
            raise self._failure(error) from error

    def run_prompts(
        self, windows: list[list[int]], output_tokens: int, temperature: float
    ) -> tuple[float, list]:
        """(seconds, outputs) of continuing every prompt by exactly `output_tokens`. EngineFailed
        where one is shorter."""
        seconds, outputs = self.generate(
            windows, temperature=temperature, ignore_eos=True, max_tokens=output_tokens
        )
        lengths = [len(o.outputs[0].token_ids) for o in outputs]
        short = sum(length != output_tokens for length in lengths)
        if short or len(outputs) != len(windows):
            raise EngineFailed(
                "failed",
                f"{len(outputs)} of {len(windows)} sequences returned, {short} shorter than "
                f"{output_tokens}",
            )
        return seconds, outputs

    def generate(self, windows: list[list[int]], **sampling) -> tuple[float, list]:
        """(seconds, vLLM's outputs) for prompts of token ids; sampling: fields of its
        SamplingParams."""
        from vllm import SamplingParams

        prompts = [{"prompt_token_ids": ids} for ids in windows]
        params = SamplingParams(detokenize=False, **sampling)
        started = time.perf_counter()
        outputs = self.llm.generate(prompts, params, use_tqdm=False)
        return time.perf_counter() - started, outputs

    def _failure(self, error: Exception) -> EngineFailed:
        """The engine's own reason, from the exception or, when a child died, from its log."""
        return explain(error, self._log_slice())

    def _log_slice(self) -> str:
        if not self.log or not self.log.exists():
            return ""
        size = self.log.stat().st_size
        begin = self._log_from if self._log_from <= size else 0  # it was cut meanwhile
        with self.log.open("rb") as handle:
            handle.seek(max(begin, size - LOG_READ))
            return handle.read().decode(errors="replace")

    def _chosen_in_log(self) -> dict:
        """What the engine says of its kernels; in-process engines say it once, so absence there
        means nothing."""
        logged, chosen = self._log_slice(), {}
        if found := re.search(r"Using '?(\w+)'? \w+ MoE backend", logged, re.IGNORECASE):
            chosen["moe_backend"] = found[1]
        if "Using default MoE config" in logged:
            chosen["moe_config_tuned"] = False
        elif "Using configuration from" in logged:
            chosen["moe_config_tuned"] = True
        return chosen
