"""A workload timed in a running engine: TTFT, E2E and decode steps.

What is timed, in seconds on the host's clock around `LLM.generate` of the whole batch:

    TTFT   a run limited to one output token
    E2E    a run of all output tokens
    step   the time between two consecutive outputs of the engine in which every sequence gains one
           token

Two regimes: prefill computes (FLOPs of B x S tokens), decode reads (weights of the experts hit, KV
cache). Every shape is run once before it is timed, and prefix caching is off. Every sequence has a
prompt of its own and sampling is at temperature 1, so that sequences do not fall into one path,
unless the workload asks for identical ones."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from moebook.engine.base import EngineFailed, percentiles
from moebook.engine.vllm import patches
from moebook.study.settings import Workload

SPREAD = 1.35  # the luckiest of 64 sequences gains this much over the mean of 50 speculative steps
STEPS_PER_WINDOW = 16  # decode steps averaged into one repeat of a sampled measurement
STEPS_DISCARDED = 4  # after the last sequence joins: the first replay of a decode graph is slower
COUNTERS = "vllm:spec_decode_num_"


class WorkloadTimer:
    """Times one workload, B sequences of S_in random tokens continued by S_out. EngineFailed `oom`
    where the engine's cache does not hold it."""

    def __init__(self, engine, workload: Workload):
        self.engine, self.batch = engine, workload.batch
        self.input_tokens, self.output_tokens = workload.input_tokens, workload.output_tokens
        self.total_tokens = self.input_tokens + self.output_tokens
        self.rng = np.random.default_rng(workload.seed)
        asked = workload.temperature
        self.temperature = 1.0 if asked is None else asked
        self.identical = workload.identical
        if (need := self.batch * self.total_tokens) > engine.kv_capacity_tokens:
            raise EngineFailed(
                "oom",
                f"the batch needs a KV cache of {need} tokens, the engine has "
                f"{engine.kv_capacity_tokens}: it would preempt sequences",
            )

    def full(self, repeats: int) -> list[dict]:
        """Every token is generated."""
        self._run(self.input_tokens, min(self.output_tokens, 2 * STEPS_PER_WINDOW))
        rows = [self._ttft() for _ in range(repeats)]
        for row in rows:
            before = self.counters()
            seconds, requests, trace = self._run(self.input_tokens, self.output_tokens)
            gained = self.counters().since(before)
            row |= {"e2e_s": seconds, **percentiles("request_e2e", requests["e2e_s"]), **gained}
            if len(steps := trace.steady_steps(self.batch)):
                row |= percentiles("step", steps)
        return rows

    def sampled(self, repeats: int) -> list[dict]:
        """Decode windows at the first and last contexts; a step's cost between them is taken as
        linear in context. With speculation a step yields several tokens a sequence: their mean over
        both windows."""
        steps = STEPS_DISCARDED + STEPS_PER_WINDOW * repeats
        outputs = self._outputs_for(steps + self._lead(self.total_tokens) + 2)
        before = self.counters()
        early = self._windows(self.input_tokens, outputs, repeats)
        late = self._windows(max(1, self.total_tokens - outputs), outputs, repeats)
        gained = self.counters().since(before)
        self._ttft()  # the first run to one token of a fresh engine can be seconds slower
        return [
            self._integrated(first, last, gained) for first, last in zip(early, late, strict=True)
        ]

    def _integrated(self, first: tuple, last: tuple, gained: dict) -> dict:
        """The row of two windows, (context, step in s) each, and a TTFT."""
        (first_context, first_s), (last_context, last_s) = first, last
        slope = (last_s - first_s) / (last_context - first_context)
        middle = self.input_tokens + (self.output_tokens - 1) / 2
        step = first_s + slope * (middle - first_context)
        row = self._ttft()
        decode = step * (self.output_tokens - 1) / gained["tokens_per_step"]
        return {
            **row,
            "e2e_s": row["ttft_s"] + decode,
            "step_first_s": first_s,
            "step_last_s": last_s,
            "step_first_context": first_context,
            "step_last_context": last_context,
            **gained,
        }

    def _outputs_for(self, steps: int) -> int:
        """Tokens to ask of every sequence so that all are still there after `steps` steps."""
        speculation = self.engine.settings.speculation
        if speculation is None:
            return steps
        drafts = speculation.num_tokens
        per_step = sum((speculation.acceptance or 1.0) ** i for i in range(drafts + 1))
        return int(SPREAD * steps * per_step) + drafts

    def _lead(self, tokens: int) -> int:
        """Steps by which the first sequence leads the last, since a batch longer than the budget
        prefills in chunks."""
        return -(-self.batch * tokens // patches.tokens_per_prefill_step(self.engine.llm))

    def _windows(self, context: int, outputs: int, count: int) -> list[tuple[float, float]]:
        """`count` pairs (context of the window's middle in tokens, mean step in s)."""
        before = self.counters()
        _, _, trace = self._run(context, outputs)
        per_step = self.counters().since(before)["tokens_per_step"]
        need = STEPS_PER_WINDOW * count
        steps = trace.steady_steps(self.batch)[:need]
        if len(steps) < need:
            raise EngineFailed(
                "failed",
                f"only {len(steps)} steps with all {self.batch} sequences in step were seen at "
                f"context {context}; {need} are needed",
            )
        windows = steps.reshape(count, STEPS_PER_WINDOW)
        middle_steps = STEPS_DISCARDED + STEPS_PER_WINDOW * (np.arange(count) + 0.5)
        middles = context + self._lead(context) / 2 + per_step * middle_steps
        return list(zip(middles.tolist(), windows.mean(axis=1).tolist(), strict=True))

    def _ttft(self) -> dict:
        seconds, requests, _ = self._run(self.input_tokens, 1)
        return {"ttft_s": seconds, **percentiles("request_ttft", requests["ttft_s"])}

    def counters(self) -> "Counters":
        return Counters.of(self.engine.llm)

    def _run(
        self, input_tokens: int, output_tokens: int, trace: "Trace | None" = None
    ) -> tuple[float, dict, "Trace"]:
        """Generate for fresh prompts: (seconds, per-request seconds, step trace)."""
        trace, shape = trace or Trace(), (self.batch, input_tokens)
        with patches.delivering_to(self.engine.llm, trace.add):
            prompts = self.rng.integers(0, self.engine.vocab_size, shape)
            if self.identical:
                prompts[:] = prompts[0]
            seconds, outputs = self.engine.run_prompts(
                prompts.tolist(), output_tokens, self.temperature
            )
        return seconds, _request_times(outputs), trace


def _request_times(outputs) -> dict[str, np.ndarray]:
    """Per-request seconds from submission: to the first token (ttft_s) and to the last (e2e_s)."""
    first = np.array([o.metrics.first_token_latency for o in outputs])
    decode = np.array([o.metrics.last_token_ts - o.metrics.first_token_ts for o in outputs])
    return {"ttft_s": first, "e2e_s": first + decode}


@dataclass
class Trace:
    """Times (s) at which the engine's steps delivered, how many sequences gained a token in each,
    how many had one by then, and whether any has ended."""

    times: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    joined: list[int] = field(default_factory=list)
    ended: list[bool] = field(default_factory=list)
    _seen: set[str] = field(default_factory=set)

    def add(self, gained: list) -> None:
        """One delivery: the engine's outputs of sequences that gained a token."""
        self._seen.update(o.request_id for o in gained)
        over = any(o.finish_reason is not None for o in gained)
        self.times.append(time.perf_counter())
        self.tokens.append(len(gained))
        self.joined.append(len(self._seen))
        self.ended.append(over or self.ended[-1:] == [True])

    def steady_steps(self, batch: int) -> np.ndarray:
        """Seconds of consecutive steps in which all `batch` sequences advance; the first few are
        left out. A pipeline's micro-batches deliver in turn: there a step is the time in which as
        many tokens as sequences come."""
        times = np.array(self.times)[np.array(self.tokens) == batch]
        if not len(times):
            times = self._rounds(batch)
        return np.diff(times)[STEPS_DISCARDED:]

    def _rounds(self, batch: int) -> np.ndarray:
        """Times at which another `batch` tokens were there, from the last sequence's first token to
        the first one's last."""
        steady = (np.array(self.joined) == batch) & ~np.array(self.ended, dtype=bool)
        times, had = np.array(self.times)[steady], np.cumsum(np.array(self.tokens)[steady])
        if not len(had):
            return times
        return times[np.searchsorted(had, np.arange(batch, had[-1] + 1, batch))]


@dataclass(frozen=True)
class Counters:
    """vLLM's counters of speculative decoding since the engine's start: drafts proposed, draft
    tokens, draft tokens accepted, and these by position."""

    drafts: int = 0
    draft_tokens: int = 0
    accepted_tokens: int = 0
    accepted_tokens_per_pos: Sequence[int] = ()

    @classmethod
    def of(cls, llm) -> "Counters":
        found = {
            m.name.removeprefix(COUNTERS): getattr(m, "value", getattr(m, "values", None))
            for m in llm.get_metrics()
            if m.name.startswith(COUNTERS)
        }
        return cls(**{name: found[name] for name in cls.__dataclass_fields__ if name in found})

    def since(self, before: "Counters") -> dict:
        """What a run's row has: tokens a sequence gained per step, share of draft tokens accepted,
        by position."""
        drafts = self.drafts - before.drafts
        if not drafts:
            return {"tokens_per_step": 1.0}
        accepted = self.accepted_tokens - before.accepted_tokens
        positions = self.accepted_tokens_per_pos
        earlier = before.accepted_tokens_per_pos or (0,) * len(positions)
        return {
            "tokens_per_step": 1 + accepted / drafts,
            "acceptance_rate": accepted / (self.draft_tokens - before.draft_tokens),
            **{
                f"accepted_pos{i}": (now - then) / drafts
                for i, (now, then) in enumerate(zip(positions, earlier, strict=True), 1)
            },
        }
