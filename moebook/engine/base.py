"""What the library asks of an engine, whichever it is: the protocol, and what failures mean.

An engine is built from settings, measured on workloads one after another, and stopped. One runs at
a time in a process. Seconds are of the host's clock, memory is in bytes, lengths are in tokens.

A repeat of a measurement is a dict of metrics:

    ttft_s, e2e_s                     the whole batch: to one token each, to all of them
    request_ttft_p50_s, _p99_s        of the requests of the batch, each from its submission; the
    request_e2e_p50_s, _p99_s         same of its last token
    step_p50_s, step_p99_s            time in which every sequence gains a token (`full`)
    step_first_s, step_last_s         mean step at the contexts step_first_context and
                                      step_last_context, in tokens (`sampled`)
    tokens_per_step                   tokens a sequence gains in a step: 1 without speculation
    acceptance_rate, accepted_pos1 …  shares of draft tokens accepted, in all and by position
    energy_per_request_j, …           of the method `energy`, with the powers (W) and the windows
                                      (s) that they were measured over
"""

from pathlib import Path
from typing import Protocol

import numpy as np

from moebook.study.settings import EngineSettings, Workload


class EngineFailed(RuntimeError):
    """The engine did not start, or died; the text is the engine's own reason.

    status: `oom` (memory ran out), `busy` (others hold the device's memory: nothing is recorded),
    `infeasible` (this machine or engine lacks what was asked for: not tried again), `failed` (all
    else)."""

    def __init__(self, status: str, reason: str):
        super().__init__(reason)
        self.status = status


class Engine(Protocol):
    """A running engine. Every method but `stop` raises EngineFailed; after one the engine is not
    to be trusted with another workload, unless the text says that the batch exceeds its cache."""

    @classmethod
    def prepare(cls, on_gpu: bool) -> None:
        """Import what engines need, once in a process, before the first."""

    def __init__(
        self,
        settings: EngineSettings,
        config: dict,
        folder: Path,
        log: Path | None = None,
        draft_config: dict | None = None,
        on_gpu: bool = False,
    ):
        """Start. config, draft_config: Hugging Face configs of the model and of the draft that
        speculates for it; folder: for files of this engine; log: where this process' output goes,
        in which the engine's reasons are found."""

    def facts(self) -> dict:
        """What the engine chose, in its own words, with `engine_start_s` and
        `kv_capacity_tokens`."""

    def switch(self, top_k: int, routing: str | None) -> None:
        """Route every token to `top_k` experts from now on, at most as many as the engine was
        started with, chosen as `routing` says (study.routing; None: by the routers). What is
        measured is what a fresh engine of that kind would give."""

    def measure(self, workload: Workload, method: str, repeats: int) -> list[dict]:
        """One dict of metrics per repeat. method: `full` (every token is generated), `sampled`
        (decode steps at the first and the last contexts) or `energy`."""

    def read(self, method: str, **request) -> dict:
        """What trained weights make of a text: `repeats`, and `facts` of all of them. method: one
        that study/methods.py says reads; request: workload, text, repeats, and counts_file, where
        expert choices are counted."""

    def peak_memory_bytes(self) -> int | None:
        """The most that the engine held since the last call, KV cache included."""

    def stop(self) -> None:
        """End the engine and free what it held; a second call does nothing."""


def percentiles(name: str, seconds: np.ndarray) -> dict[str, float]:
    """`{name}_p50_s` and `{name}_p99_s`."""
    return {f"{name}_p{q}_s": float(np.percentile(seconds, q)) for q in (50, 99)}
