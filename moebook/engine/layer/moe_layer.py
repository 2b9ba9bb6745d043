"""One MoE layer alone, routed experts only, its routing given: seconds per call over token counts
and backends.

What is timed is what follows the router: sorting tokens by expert, both products, the activation,
the weighted sum. `layer_s` counts the host's launches, which is all of an expert loop's cost at few
tokens; `layer_graph_s` replays a captured graph, as an engine decodes. Routing is near uniform,
drawn once per token count and given to every backend."""

import math
import time
from contextlib import contextmanager, nullcontext

import torch

from moebook.engine.base import EngineFailed
from moebook.engine.layer.tuning import search
from moebook.engine.layer.variants import OWN, Inputs, draw, draw_weights, reference, relative_error
from moebook.engine.vllm.failures import OOM_TEXTS, UNSUPPORTED_TEXTS, clean
from moebook.engine.vllm.patches_layer import (
    TUNED,
    EngineLayer,
    candidates_for,
    check_backend,
    configured,
)

# inputs in turn: equal group sizes on other experts, so an L2 cache of 50 MB helps none
ROTATION = 4
REFERENCE_ROWS = 64
REPEAT_S = 0.02  # one repeat lasts about this long
CALLS = (3, 200)  # and has at least and at most so many calls
WARM_UP = 3
DTYPES = {name: getattr(torch, name) for name in ("bfloat16", "float16", "float32")}
OOM = (*OOM_TEXTS, "can't allocate memory", "not enough memory")


class OwnLayer:
    """moebook's variants with the engine layer's interface."""

    def __init__(self, name: str, weights):
        self.compute, self.weights, self.chosen_backend = OWN[name], weights, name
        self.weight_bytes = sum(w.numel() * w.element_size() for w in weights)

    running = staticmethod(torch.inference_mode)

    def __call__(self, inputs: Inputs):
        return self.compute(inputs.x, *self.weights, inputs.topk_weights, inputs.topk_ids)

    def triton_facts(self, tokens: int) -> dict:
        return {"moe_config_tuned": None, "kernel_config": None}


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


class LayerBench:
    """One (shape, dtype, quantization, backend), with weights; measured at any number of tokens.

    shape: hidden_size, expert_ffn_dim, num_experts, top_k. weights: (w13, w2) of draw_weights,
    drawn from the seed if not given. EngineFailed: infeasible where the engine refuses, oom,
    failed."""

    def __init__(
        self,
        shape: dict,
        dtype: str,
        quantization: str | None,
        backend: str,
        seed: int,
        weights=None,
    ):
        if dtype not in DTYPES:
            raise EngineFailed("infeasible", f"dtype is {dtype!r}; allowed are {', '.join(DTYPES)}")
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.shape, self.dtype, self.backend, self.seed = shape, DTYPES[dtype], backend, seed
        with as_engine_failure("infeasible"):
            self._check(quantization)
            self.weights = weights or draw_weights(shape, self.dtype, self.device, seed)
            if backend in OWN:
                self.layer = OwnLayer(backend, self.weights)
            else:
                self.layer = EngineLayer(
                    shape, self.dtype, quantization, backend, self.weights, self.device
                )

    def _check(self, quantization: str | None) -> None:
        check_backend(self.backend)
        if self.backend in OWN and quantization is not None:
            raise EngineFailed(
                "infeasible",
                f"quantization is {quantization!r}; {self.backend} computes with plain "
                "weights, only null is allowed",
            )
        if self.backend == TUNED and self.device == "cpu":
            raise EngineFailed("infeasible", f"{TUNED} needs a GPU: Triton has no CPU backend")
        k, experts = self.shape["top_k"], self.shape["num_experts"]
        if not 1 <= k <= experts:
            raise EngineFailed("infeasible", f"top_k is {k}; 1 to {experts} experts can be active")

    def measure(
        self, tokens: int, repeats: int, tune_seconds: float = 20.0, skew: float | None = None
    ) -> dict:
        """What was measured at so many tokens:

        repeats            `layer_s` and, where a graph could be captured, `layer_graph_s`, each the
                           mean of one repeat's calls, in seconds
        relative_error     against float64 with the unquantized weights, on at most 64 rows, so it
                           includes quantization
        experts_hit        distinct experts of one call
        peak_memory_bytes  the layer's weights and what calls add; null on a CPU
        default_layer_s, default_layer_graph_s, configs_tried: of triton_tuned, before the search
        """
        with as_engine_failure("failed"), self.layer.running():
            inputs = self.inputs(tokens, skew)
            before = self._reset_peak()
            timer = Timer(self.layer, inputs, self.device == "cuda")
            facts = {**self.layer.triton_facts(tokens), "peak_memory_bytes": self._peak(before)}
            if self.backend == TUNED:
                facts |= self._tune(timer, tokens, tune_seconds)
            with configured(facts["kernel_config"]) if self.backend == TUNED else nullcontext():
                facts["relative_error"] = self._error(inputs[0])
                return {
                    **facts,
                    **self._timed(timer, repeats),
                    "chosen_backend": self.layer.chosen_backend,
                    "experts_hit": len(inputs[0].topk_ids.unique()),
                }

    def inputs(self, tokens: int, skew: float | None = None) -> list[Inputs]:
        """The drawn input, and others whose experts are shifted by a quarter of them each:
        different weights, same work."""
        first = draw(self.shape, tokens, self.dtype, self.device, self.seed, skew)
        step = max(1, self.shape["num_experts"] // ROTATION)
        others = (first.rotated(first.x.roll(i, dims=1), i * step) for i in range(1, ROTATION))
        return [first, *others]

    def _timed(self, timer: Timer, repeats: int) -> dict:
        # before the graphs: a failed capture cannot spoil them
        plain = [timer.repeat_s() for _ in range(repeats)]
        graphs, reason = self._graphs(timer, repeats)
        rows = [{"layer_s": p, "layer_graph_s": g} for p, g in zip(plain, graphs, strict=True)]
        return {"repeats": rows, "graph_reason": reason}

    def _graphs(self, timer: Timer, repeats: int) -> tuple[list, str | None]:
        """(seconds per call under a graph, or nulls; the reason for nulls)."""
        if self.device == "cpu":
            return [None] * repeats, "a CPU has no CUDA graphs"
        if self.backend == "loop":
            return [None] * repeats, "the host reads the routing, which a graph cannot capture"
        try:
            return timer.graph_repeats(repeats), None
        except Exception as error:
            return [None] * repeats, clean(f"{type(error).__name__}: {error}")

    def _tune(self, timer: Timer, tokens: int, budget_s: float) -> dict:
        default = self._timed(timer, 1)["repeats"][0]
        captured = default["layer_graph_s"] is not None

        def seconds_of(config: dict | None) -> float:
            with configured(config):
                trial = Timer(self.layer, timer.inputs, on_gpu=True)
                if captured:
                    return min(trial.graph_repeats(2))
                return min(trial.repeat_s(), trial.repeat_s())

        found = candidates_for(self.layer, tokens, self.shape["num_experts"], self.seed)
        own = self.layer.triton_facts(tokens)["kernel_config"]
        best, _, tried = search(iter([own, *found]), seconds_of, budget_s)
        return {
            "kernel_config": best,
            "configs_tried": tried,
            "default_layer_s": default["layer_s"],
            "default_layer_graph_s": default["layer_graph_s"],
        }

    def _error(self, inputs: Inputs) -> float:
        given = inputs.x, *self.weights, inputs.topk_weights, inputs.topk_ids
        return relative_error(self.layer(inputs), reference(*given, REFERENCE_ROWS))

    def _reset_peak(self) -> int:
        if self.device == "cpu":
            return 0
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()

    def _peak(self, before: int) -> int | None:
        if self.device == "cpu":
            return None
        return self.layer.weight_bytes + torch.cuda.max_memory_allocated() - before


@contextmanager
def as_engine_failure(status: str):
    """Any exception as EngineFailed: oom where memory ran out, failed where the device did, else
    `status`."""
    try:
        yield
    except EngineFailed:
        raise
    except Exception as error:
        text = clean(f"{type(error).__name__}: {error}")
        if isinstance(error, torch.OutOfMemoryError) or any(t in str(error) for t in OOM):
            status = "oom"
        elif "CUDA error" in text:
            status = "failed"
        elif isinstance(error, NotImplementedError | ImportError):
            status = "infeasible"
        elif status == "infeasible" and not (
            isinstance(error, ValueError) or any(t in text for t in UNSUPPORTED_TEXTS)
        ):
            status = "failed"  # a fault, and not the engine's word that it lacks something
        raise EngineFailed(status, text) from error
