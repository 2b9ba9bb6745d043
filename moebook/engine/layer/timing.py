"""Seconds per call of a layer, called back to back: launched by the host, or replayed from a
captured CUDA graph."""

import math
import time

import torch

REPEAT_S = 0.02  # one repeat lasts about this long
CALLS = (3, 200)  # and has at least and at most so many calls
WARM_UP = 3


class Timer:
    """Times `call(inputs)`, rotating over a list of inputs, so that no call finds the weights of
    the one before in a cache. `per_call_s` is the estimate from which the number of calls
    follows."""

    def __init__(self, call, inputs: list, on_gpu: bool):
        self.call, self.inputs, self.on_gpu = call, inputs, on_gpu
        for i in range(max(WARM_UP, len(inputs))):  # compilation, workspaces, allocator
            call(inputs[i % len(inputs)])
        self.calls = calls_per_repeat(self._run(WARM_UP))

    def repeat_s(self) -> float:
        """Mean of one repeat's calls."""
        return self._run(self.calls)

    def _run(self, calls: int) -> float:
        def run():
            for i in range(calls):
                self.call(self.inputs[i % len(self.inputs)])

        return self._clock(run) / calls

    def _clock(self, run) -> float:
        """By events on the GPU, by the host's clock on a CPU."""
        if not self.on_gpu:
            started = time.perf_counter()
            run()
            return time.perf_counter() - started
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        start.record()
        run()
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end) / 1e3

    def graph_repeats(self, repeats: int) -> list[float]:
        """Mean seconds per call of each repeat, replayed from one graph of a call per input. Raises
        what capture does."""
        graph = self._capture()
        per_replay = len(self.inputs)
        self._clock(graph.replay)
        replays = max(1, calls_per_repeat(self._clock(graph.replay) / per_replay) // per_replay)
        return [
            self._clock(lambda: [graph.replay() for _ in range(replays)]) / (replays * per_replay)
            for _ in range(repeats)
        ]

    def _capture(self):
        graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for inputs in self.inputs:
                self.call(inputs)
        torch.cuda.current_stream().wait_stream(side)
        with torch.cuda.graph(graph):
            for inputs in self.inputs:
                self.call(inputs)
        return graph


def calls_per_repeat(seconds: float) -> int:
    least, most = CALLS
    return min(most, max(least, math.ceil(REPEAT_S / seconds)))
