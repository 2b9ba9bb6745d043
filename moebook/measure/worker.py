"""The worker: a process of its own that imports vLLM once and starts engines one after another.

`python -m moebook.measure.worker KIND REPLY_FD LOG` reads one JSON request per line on standard
input and writes one JSON reply per line on the file descriptor; standard output and error go to the
log, where vLLM writes. KIND: of the device that its environment shows it.

  {"op": "start", "settings": {...}, "config": {...}}             -> {"ok": true, "facts": {...}}
  {"op": "switch", "top_k": 2}                                    -> {"ok": true, "facts": {...}}
  {"op": "measure", "workload": {...}, "method": "full", ...}     -> {"ok": true, "repeats": [...],
                                                                  ...}
  {"op": "read", "method": "perplexity", "text": "...", ...}      -> {"ok": true, "repeats": [...],
                                                                  "facts": {...}}
  {"op": "training", "reference": "tiny:cpu/aux-0.01"}            -> {"ok": true, "repeats": [...],
                                                                  "facts": {...}}
  {"op": "endpoint", "workload": {...}, "repeats": 3}             -> {"ok": true, "repeats": [...],
                                                                  "facts": {...}}
  {"op": "layer", "shape": {...}, "backend": "triton", ...}       -> {"ok": true, "repeats": [...],
                                                                  ...}
  {"op": "ceilings", "dtype": "bfloat16"}                         -> {"ok": true, "ceilings": {...}}
  {"op": "stop"}                                                  -> {"ok": true}
  a failure                                                       -> {"ok": false, "status": "oom",
                                                                  "reason": "..."}

On a GPU this process never touches CUDA, so that vLLM's own engine process can be forked from it
with everything imported: 5.5-8 s an engine, all memory back when it exits. On a CPU engines live
inside: 1-3 s against 20 s."""

import ctypes
import json
import multiprocessing
import os
import signal
import sys
import tempfile
import traceback
from pathlib import Path

import moebook.measure.imports  # noqa: F401  first, also in ranks of an engine and the process of layers, which begin here


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent goes, so that no engine outlives a killed
    notebook."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def set_environment(on_gpu: bool) -> None:
    """What vLLM reads at import; a value the user has set stands."""
    common = {
        "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",  # functions sent to the engine's own process
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    gpu = {
        "VLLM_WORKER_MULTIPROCESSING_METHOD": "fork",
        "VLLM_USE_FLASHINFER_SAMPLER": "0",
        "VLLM_USE_DEEP_GEMM": "0",
        "VLLM_MEMORY_PROFILER_ESTIMATE_CUDAGRAPHS": "0",  # 1.5 s an engine for graphs of 0.05 GiB
    }
    cpu = {
        "VLLM_TARGET_DEVICE": "cpu",  # also where cards or another build of vLLM are
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        # libgomp's own count where threads outnumber cores: its default, 300 000, costs a step on
        # busy cores twentyfold
        "GOMP_SPINCOUNT": "1000",
    }
    for name, value in {**common, **(gpu if on_gpu else cpu)}.items():
        os.environ.setdefault(name, value)


class Worker:
    def __init__(self, log: Path, on_gpu: bool = False):
        self.log, self.on_gpu = log, on_gpu
        self.engine, self.layers = None, None
        self.before: dict[
            str, str | None
        ] = {}  # environment variables set for the engine, as they were
        self.started = 0
        self.folder = Path(tempfile.mkdtemp(prefix="moebook-"))
        self.ceilings_in: dict[str, dict] = {}  # by dtype: the device is the same for all plans
        self.default_kv_gib = os.environ.get("VLLM_CPU_KVCACHE_SPACE")

    def start(self, settings: dict, config: dict, draft_config: dict | None = None) -> dict:
        from moebook.engine.vllm.arguments import engine_environment
        from moebook.engine.vllm.engine import Engine

        self.stop()
        if self.on_gpu:  # the process that measures layers holds memory of the GPU
            self.close()
        if kv_gib := settings["kv_cache_gib"] or self.default_kv_gib:  # never the engine before's
            os.environ["VLLM_CPU_KVCACHE_SPACE"] = str(kv_gib)
        self._set(engine_environment(settings, config))
        self.started += 1
        self.engine = Engine(
            settings, config, self.folder / str(self.started), self.log, draft_config, self.on_gpu
        )
        return {"facts": self.engine.facts()}

    def switch(self, top_k: int) -> dict:
        self.engine.switch_top_k(top_k)
        return {"facts": self.engine.facts()}

    def measure(self, workload: dict, method: str, repeats: int) -> dict:
        rows = self.engine.measure(workload, method, repeats)
        return {"repeats": rows, "peak_memory_bytes": self.engine.peak_memory_bytes()}

    def read(self, **request) -> dict:
        return self.engine.read(**request)

    def training(self, reference: str) -> dict:
        """What training a member of the tiny family recorded; nothing runs."""
        from moebook.models.tiny.family import training_facts

        return training_facts(reference)

    def endpoint(self, workload: dict, repeats: int) -> dict:
        """A server elsewhere under load, without an engine here."""
        from moebook.engine.endpoint.bench import bench

        self.close()
        return bench(workload, repeats, self.folder)

    def layer(self, **request) -> dict:
        """One MoE layer alone, without an engine beside it."""
        self.stop()
        self._set({})
        if self.layers is None:
            from moebook.engine.layer.process import LayerProcess

            self.layers = LayerProcess(self.on_gpu)
        return self.layers.ask(request)

    def ceilings(self, dtype: str) -> dict:
        """Measured at the first request for this dtype."""
        from moebook.engine.peaks import measure_in_child

        if dtype not in self.ceilings_in:
            self.ceilings_in[dtype] = measure_in_child(dtype)
        return {"ceilings": self.ceilings_in[dtype]}

    def stop(self) -> dict:
        engine, self.engine = self.engine, None
        if engine is not None:
            engine.stop()
        return {}

    def _set(self, variables: dict[str, str]) -> None:
        """These environment variables, in place of those set for the engine before."""
        for name, value in self.before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
        self.before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)

    def close(self) -> None:
        """End the engine and the process that measures layers."""
        self.stop()
        layers, self.layers = self.layers, None
        if layers is not None:
            layers.stop()

    def answer(self, request: dict) -> dict:
        from moebook.engine.failures import EngineFailed

        op = request.pop("op")
        try:
            return {"ok": True, **getattr(self, op)(**request)}
        except EngineFailed as error:
            traceback.print_exc()
            return {"ok": False, "status": error.status, "reason": str(error)}


def main() -> None:
    on_gpu, reply_fd, log = sys.argv[1] != "cpu", int(sys.argv[2]), Path(sys.argv[3])
    _die_with_parent()
    os.register_at_fork(after_in_child=_die_with_parent)
    set_environment(on_gpu)
    if on_gpu:
        multiprocessing.set_start_method("fork", force=True)
    import vllm  # noqa: F401  once, before any engine

    worker = Worker(log, on_gpu)
    with os.fdopen(reply_fd, "w") as replies:
        print(json.dumps({"ok": True, "ready": True}), file=replies, flush=True)
        for line in sys.stdin:
            reply = worker.answer(json.loads(line))
            print(json.dumps(reply), file=replies, flush=True)
    worker.close()


if __name__ == "__main__":
    main()
