"""When an engine's steps delivered: what step times are read from."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

STEPS_DISCARDED = 4  # after the last sequence joins: the first replay of a decode graph is slower


@dataclass
class Trace:
    """Times (s) at which the engine's steps delivered, how many sequences gained a token in each,
    how many had one by then, and whether any has ended."""

    times: list[float] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    joined: list[int] = field(default_factory=list)
    ended: list[bool] = field(default_factory=list)

    def steady_steps(self, batch: int) -> np.ndarray:
        """Seconds of consecutive steps in which all `batch` sequences advance; the first few are
        left out. A pipeline's micro-batches deliver in turn: there a step is the time in which as
        many tokens as sequences come."""
        times = np.array([t for t, n in zip(self.times, self.tokens, strict=True) if n == batch])
        if not len(times):
            times = self._rounds(batch)
        return np.diff(times)[STEPS_DISCARDED:]

    def _rounds(self, batch: int) -> np.ndarray:
        """Times at which another `batch` tokens were there, from the last sequence's first token to
        the first one's last."""
        steady = [
            i
            for i, (n, over) in enumerate(zip(self.joined, self.ended, strict=True))
            if n == batch and not over
        ]
        times, had = np.array(self.times)[steady], np.cumsum(np.array(self.tokens)[steady])
        if not len(had):
            return times
        return times[np.searchsorted(had, np.arange(batch, had[-1] + 1, batch))]


@contextmanager
def traced(llm) -> Iterator[Trace]:
    """Records every delivery of the engine core while the block runs."""
    core, trace = llm.llm_engine.engine_core, Trace()
    plain, seen, over = core.get_output, set(), False

    def telling():
        nonlocal over
        out = plain()
        gained = [o for o in out.outputs if o.new_token_ids]
        if gained:
            seen.update(o.request_id for o in gained)
            over = over or any(o.finish_reason is not None for o in gained)
            trace.times.append(time.perf_counter())
            trace.tokens.append(len(gained))
            trace.joined.append(len(seen))
            trace.ended.append(over)
        return out

    core.get_output = telling
    try:
        yield trace
    finally:
        core.get_output = plain
