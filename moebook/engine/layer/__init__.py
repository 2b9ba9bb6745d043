"""One MoE layer alone, without an engine; measured in a process of its own: the worker must not
touch CUDA, and a crash takes only the child.

On a GPU the child is forked, with vLLM imported; on a CPU it is a fresh program, since a fork after
OpenMP has run deadlocks. It keeps the weights of the last (shape, dtype, seed) and the last layer
built from them."""

import gc
import multiprocessing
import signal
import traceback

from moebook.engine import die_with_parent
from moebook.engine.base import EngineFailed

END_S = 10.0  # what a child gets to end by itself


class LayerProcess:
    """A process started at the first request.

    A request has shape, dtype, quantization, backend, seed, tokens and repeats (and tune_seconds,
    skew); the reply is {"ok": True, **LayerBench.measure(...)} or {"ok": False, "status",
    "reason"}."""

    def __init__(self, on_gpu: bool = False):
        self.on_gpu = on_gpu
        self.process, self.connection = None, None

    def ask(self, request: dict) -> dict:
        """A child that died is told as `failed` and replaced at the next request."""
        if self.process is None or not self.process.is_alive():
            self.stop()
            self._start()
        try:
            self.connection.send(request)
            reply = self.connection.recv()
        except (EOFError, OSError):
            return {
                "ok": False,
                "status": "failed",
                "reason": f"the process that measures layers {self._end()}",
            }
        if reply.pop("ending"):
            self.stop()
        return reply

    def stop(self) -> None:
        if self.process is not None:
            self.connection.close()  # the child reads the end and leaves
            self.process.join(END_S)
            if self.process.is_alive():
                self.process.kill()
                self.process.join()
        self.process, self.connection = None, None

    def _start(self) -> None:
        context = multiprocessing.get_context("fork" if self.on_gpu else "spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, self.connection), daemon=True)
        self.process.start()
        theirs.close()

    def _end(self) -> str:
        self.process.join(END_S)
        code = self.process.exitcode
        self.stop()
        if code is None or code >= 0:
            return f"ended with code {code}"
        memory = " (out of host memory?)" if code == -signal.SIGKILL else ""
        named = {one.value: one.name for one in signal.Signals}
        return f"was ended by {named.get(-code, f'signal {-code}')}{memory}"


def _serve(requests, parents_end) -> None:
    """The child: replies until the parent closes its end, or the device is lost to this process."""
    die_with_parent()
    parents_end.close()  # a copy came along; with it open the parent's end would never be seen
    keeper = Keeper()
    while True:
        try:
            request = requests.recv()
        except EOFError:
            return
        reply = keeper.answer(request)
        requests.send(reply)
        if reply["ending"]:
            return


class Keeper:
    """Holds one layer at a time: its weights for other backends, the layer itself for other token
    counts."""

    def __init__(self):
        self.weights_key, self.weights, self.bench_key, self.bench = None, None, None, None

    def answer(self, request: dict) -> dict:
        options = {k: request[k] for k in ("tune_seconds", "skew") if k in request}
        try:
            bench = self._bench(request)
            measured = bench.measure(request["tokens"], request["repeats"], **options)
        except EngineFailed as error:
            traceback.print_exc()
            self._forget(weights=error.status == "oom")
            return {
                "ok": False,
                "status": error.status,
                "reason": str(error),
                "ending": "CUDA error" in str(error),
            }
        # A capture that failed half-way may leave its memory pool behind: the next request gets a
        # fresh process.
        spoiled = measured["graph_reason"] is not None and measured["peak_memory_bytes"] is not None
        return {"ok": True, **measured, "ending": spoiled and request["backend"] != "loop"}

    def _bench(self, request: dict):
        from moebook.engine.layer.moe_layer import LayerBench

        fields = {
            name: request[name] for name in ("shape", "dtype", "quantization", "backend", "seed")
        }
        weights_key = [fields[name] for name in ("shape", "dtype", "seed")]
        if self.bench_key != fields:
            self._forget(weights=self.weights_key != weights_key)
            self.bench = LayerBench(**fields, weights=self.weights)
            self.weights, self.weights_key, self.bench_key = self.bench.weights, weights_key, fields
        return self.bench

    def _forget(self, weights: bool) -> None:
        self.bench, self.bench_key = None, None
        if weights:
            self.weights, self.weights_key = None, None
        gc.collect()
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()
