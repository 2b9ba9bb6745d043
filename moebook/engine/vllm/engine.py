"""One vLLM engine: built from settings, timed on a workload.

What is timed, in seconds on the host's clock around `LLM.generate` of the whole batch:
  TTFT   a run limited to one output token
  E2E    a run of all output tokens
  step   the time between two consecutive outputs of the engine in which every sequence gains one
         token Two regimes: prefill computes (FLOPs of B x S tokens), decode reads (weights of the
         experts hit, KV cache). Every shape is run once before it is timed, every sequence has a
         prompt of its own, sampling is at temperature 1 so that sequences do not fall into one
         path, and prefix caching is off.

vLLM 0.26 on a GPU, 0.32 on a CPU; nothing here differs between them but the environment the worker
sets."""

import re
import time
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from moebook.engine.failures import EngineFailed, explain, unsupported
from moebook.engine.layer.variants import OWN, install_variant
from moebook.engine.vllm import garbage
from moebook.engine.vllm.arguments import engine_arguments
from moebook.engine.vllm.inside import inspect_worker, read_peak_memory, recapture, set_top_k
from moebook.engine.vllm.routing import impose, mend_bias
from moebook.engine.vllm.speculative import Counters, mend_scan
from moebook.engine.vllm.trace import STEPS_DISCARDED, Trace, traced
from moebook.models.tiny import family
from moebook.study.settings import skew_of

SPREAD = 1.35  # the luckiest of 64 sequences gains this much over the mean of 50 speculative steps
STEPS_PER_WINDOW = 16  # decode steps averaged into one repeat of a sampled measurement


class Engine:
    def __init__(
        self,
        settings: dict,
        hf_config: dict,
        folder: Path,
        log: Path | None = None,
        draft_config: dict | None = None,
        on_gpu: bool = False,
    ):
        """Start an engine. settings: fields of plan.EngineSettings; folder: where its config.json
        is written."""
        from vllm import LLM

        self.log, self._log_from = log, log.stat().st_size if log and log.exists() else 0
        started = time.perf_counter()
        mend_scan()
        try:
            with nullcontext() if on_gpu else garbage.uncollected():  # a GPU's engine is forked
                self.llm = LLM(
                    **engine_arguments(settings, hf_config, folder, draft_config, on_gpu)
                )
            self.chosen = {**self.rpc(inspect_worker), **self._chosen_in_log()}
            if family.is_tiny(settings["weights"]):
                self.chosen["training"] = family.training_id(settings["weights"])
            self._install(settings["moe_backend"])
            self._install_routing(skew_of(settings["routing"]))
        except Exception as error:
            raise unsupported(self.failure(error), settings) from error
        self.start_s = time.perf_counter() - started
        cache = self.llm.llm_engine.vllm_config.cache_config
        self.kv_capacity_tokens = cache.num_gpu_blocks * cache.block_size
        self.vocab_size = hf_config["vocab_size"]
        speculation = settings["speculation"] or {"num_tokens": 0, "acceptance": None}
        self.num_draft_tokens, self.set_acceptance = (
            speculation["num_tokens"],
            speculation["acceptance"],
        )
        self.routed_experts = settings["routed_experts"]

    def rpc(self, function, *args):
        """What `function(worker, *args)` returns in the engine's process."""
        return self.llm.collective_rpc(function, args=args)[0]

    def _install_routing(self, skew: float | None) -> None:
        """Routers as the model asks for, or imposed choices in their place."""
        self.rpc(mend_bias)
        if skew is not None:
            self.rpc(impose, skew, 0)
            self.rpc(recapture)

    def _install(self, variant: str | None) -> None:
        """One of moebook's own expert computations in place of the engine's kernel."""
        if variant in OWN:
            self.rpc(install_variant, variant)
            self.rpc(recapture)
            self.chosen |= {"moe_backend": f"moebook {variant}", "moe_config_tuned": None}

    def stop(self) -> None:
        if getattr(self, "llm", None) is not None:
            with garbage.uncollected():
                self.llm.llm_engine.engine_core.shutdown()
            del self.llm
        garbage.collect()

    def facts(self) -> dict:
        return {
            "engine_start_s": self.start_s,
            "kv_capacity_tokens": self.kv_capacity_tokens,
            **self.chosen,
        }

    def switch_top_k(self, top_k: int) -> None:
        """Route every token to `top_k` experts from now on, in the running engine: weights, KV
        cache and kernels are those of a fresh engine with that top-k (tests compare both), start-up
        is saved. Build with the largest first: workspaces are sized at start."""
        started = time.perf_counter()
        try:
            layers = self.rpc(set_top_k, top_k)
        except Exception as error:
            raise self.failure(error) from error
        if not layers:
            raise EngineFailed(
                "failed", "no router was found in the running engine whose top-k could be switched"
            )
        self.chosen["top_k_switched"] = True
        self.start_s = time.perf_counter() - started

    def peak_memory_bytes(self) -> int | None:
        return self.rpc(read_peak_memory)

    def measure(self, workload: dict, method: str, repeats: int) -> list[dict]:
        """One dict of metrics per repeat. Raises EngineFailed when the engine dies or the batch
        exceeds its cache."""
        return self._told(self._measure, workload, method, repeats)

    def read(self, method: str, **request) -> dict:
        """A text method of texts.py: its `repeats` and `facts`. Raises EngineFailed."""
        from moebook.engine.vllm import texts

        function = {
            "perplexity": texts.perplexity,
            "acceptance": texts.acceptance,
            "routing": texts.route,
            "ablation": texts.ablate,
        }[method]
        return self._told(function, self, **request)

    def _told(self, function, *args, **kwargs):
        try:
            return function(*args, **kwargs)
        except EngineFailed:
            raise
        except Exception as error:
            raise self.failure(error) from error

    def _measure(self, workload: dict, method: str, repeats: int) -> list[dict]:
        b, s_in, s_out = workload["batch"], workload["input_tokens"], workload["output_tokens"]
        need = b * (s_in + s_out)
        if need > self.kv_capacity_tokens:
            raise EngineFailed(
                "oom",
                f"the batch needs a KV cache of {need} tokens, the engine has "
                f"{self.kv_capacity_tokens}: it would preempt sequences",
            )
        rng = np.random.default_rng(workload["seed"])
        self.temperature = 1.0 if workload.get("temperature") is None else workload["temperature"]
        if method == "sampled":
            return self._sampled(rng, b, s_in, s_out, repeats)
        return self._full(rng, b, s_in, s_out, repeats)

    def _full(self, rng, b: int, s_in: int, s_out: int, repeats: int) -> list[dict]:
        self._run(rng, b, s_in, min(s_out, 2 * STEPS_PER_WINDOW))
        rows = [self._ttft(rng, b, s_in) for _ in range(repeats)]
        for row in rows:
            before = Counters.of(self.llm)
            e2e, requests, trace = self._run(rng, b, s_in, s_out)
            steps = trace.steady_steps(b)
            row |= {
                "e2e_s": e2e,
                **_percentiles("request_e2e", requests["e2e_s"]),
                **Counters.of(self.llm).since(before),
            }
            row |= _percentiles("step", steps) if len(steps) else {}
        return rows

    def _sampled(self, rng, b: int, s_in: int, s_out: int, repeats: int) -> list[dict]:
        """Decode windows at the first and last contexts; a step's cost between them is taken as
        linear in context. With speculation a step yields several tokens a sequence: their mean over
        both windows."""
        steps = STEPS_DISCARDED + STEPS_PER_WINDOW * repeats
        outputs = self._outputs_for(steps + self._stagger(b, s_in + s_out) + 2)
        before = Counters.of(self.llm)
        early = self._windows(rng, b, s_in, outputs, repeats)
        late = self._windows(rng, b, max(1, s_in + s_out - outputs), outputs, repeats)
        gained = Counters.of(self.llm).since(before)
        self._ttft(
            rng, b, s_in
        )  # the first run to one token of a fresh engine can be seconds slower
        rows = []
        for (c0, t0), (c1, t1) in zip(early, late, strict=True):
            slope = (t1 - t0) / (c1 - c0)
            step = t0 + slope * (s_in + (s_out - 1) / 2 - c0)
            row = self._ttft(rng, b, s_in)
            decode = step * (s_out - 1) / gained["tokens_per_step"]
            rows.append(
                {
                    **row,
                    "e2e_s": row["ttft_s"] + decode,
                    "step_first_s": t0,
                    "step_last_s": t1,
                    "step_first_context": c0,
                    "step_last_context": c1,
                    **gained,
                }
            )
        return rows

    def _outputs_for(self, steps: int) -> int:
        """Tokens to ask of every sequence so that all are still there after `steps` steps."""
        if not self.num_draft_tokens:
            return steps
        per_step = sum((self.set_acceptance or 1.0) ** i for i in range(self.num_draft_tokens + 1))
        return int(SPREAD * steps * per_step) + self.num_draft_tokens

    def _stagger(self, b: int, tokens: int) -> int:
        """Steps by which the first sequence leads the last, since a batch longer than the budget
        prefills in chunks."""
        budget = self.llm.llm_engine.vllm_config.scheduler_config.max_num_batched_tokens
        return -(-b * tokens // budget)

    def _windows(
        self, rng, b: int, context: int, outputs: int, count: int
    ) -> list[tuple[float, float]]:
        """`count` pairs (context of the window's middle in tokens, mean step in s)."""
        before = Counters.of(self.llm)
        _, _, trace = self._run(rng, b, context, outputs)
        per_step = Counters.of(self.llm).since(before)["tokens_per_step"]
        steps = trace.steady_steps(b)[: STEPS_PER_WINDOW * count]
        if len(steps) < STEPS_PER_WINDOW * count:
            raise EngineFailed(
                "failed",
                f"only {len(steps)} steps with all {b} sequences in step were seen at context "
                f"{context}; {STEPS_PER_WINDOW * count} are needed",
            )
        windows = steps.reshape(count, STEPS_PER_WINDOW)
        lead = self._stagger(b, context) / 2
        middles = (
            context
            + lead
            + per_step * (STEPS_DISCARDED + STEPS_PER_WINDOW * (np.arange(count) + 0.5))
        )
        return list(zip(middles.tolist(), windows.mean(axis=1).tolist(), strict=True))

    def _ttft(self, rng, b: int, s_in: int) -> dict:
        ttft, requests, _ = self._run(rng, b, s_in, 1)
        return {"ttft_s": ttft, **_percentiles("request_ttft", requests["ttft_s"])}

    def _run(self, rng, b: int, s_in: int, s_out: int) -> tuple[float, dict, Trace]:
        """Generate `s_out` tokens for `b` fresh prompts: (seconds, per-request seconds, step
        trace)."""
        with traced(self.llm) as trace:
            seconds, outputs = self.run_prompts(
                rng.integers(0, self.vocab_size, (b, s_in)).tolist(), s_out, self.temperature
            )
        return seconds, _request_times(outputs), trace

    def run_prompts(
        self, windows: list[list[int]], s_out: int, temperature: float
    ) -> tuple[float, list]:
        """(seconds, outputs) of continuing every prompt by exactly `s_out` tokens. EngineFailed
        where one is shorter."""
        from vllm import SamplingParams

        prompts = [{"prompt_token_ids": ids} for ids in windows]
        sampling = SamplingParams(
            temperature=temperature, ignore_eos=True, max_tokens=s_out, detokenize=False
        )
        started = time.perf_counter()
        outputs = self.llm.generate(prompts, sampling, use_tqdm=False)
        seconds = time.perf_counter() - started
        short = [
            len(o.outputs[0].token_ids) for o in outputs if len(o.outputs[0].token_ids) != s_out
        ]
        if short or len(outputs) != len(windows):
            raise EngineFailed(
                "failed",
                f"{len(outputs)} of {len(windows)} sequences returned, {len(short)} shorter than "
                f"{s_out}",
            )
        return seconds, outputs

    def failure(self, error: Exception) -> EngineFailed:
        """The engine's own reason, from the exception or, when a child died, from its log."""
        return explain(error, self._log_slice())

    def _log_slice(self) -> str:
        if not self.log or not self.log.exists():
            return ""
        with self.log.open("rb") as handle:
            handle.seek(self._log_from)
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


def _request_times(outputs) -> dict[str, np.ndarray]:
    """Per-request seconds from submission: to the first token (ttft_s) and to the last (e2e_s)."""
    first = np.array([o.metrics.first_token_latency for o in outputs])
    decode = np.array([o.metrics.last_token_ts - o.metrics.first_token_ts for o in outputs])
    return {"ttft_s": first, "e2e_s": first + decode}


def _percentiles(name: str, seconds: np.ndarray) -> dict:
    return {f"{name}_p{q}_s": float(np.percentile(seconds, q)) for q in (50, 99)}
