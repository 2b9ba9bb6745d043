"""The worker: a process of its own that imports the engine once and starts engines one after
another.

`python -m moebook.measure.worker KIND IN OUT LOG` reads one JSON request per line from one file
descriptor and writes one JSON reply per line, with the request's `id`, on the other. Neither is
passed on to programs that it starts; standard output and error go to the log, where the engine
writes. KIND: of the device that its environment shows it.

    {"op": "start", "settings": {...}, "config": {...}}          an engine
    {"op": "switch", "top_k": 2, "routing": "same"}              that engine, routing otherwise
    {"op": "measure", "workload": {...}, "method": "full", ...}  a workload in it
    {"op": "read", "method": "perplexity", "text": "...", ...}   a text in it
    {"op": "training", "reference": "tiny:cpu/aux-0.01"}         what training recorded
    {"op": "endpoint", "workload": {...}, "repeats": 3}          a workload at a server elsewhere
    {"op": "layer", "shape": {...}, "backend": "triton", ...}    a single layer
    {"op": "ceilings", "dtype": "bfloat16"}                      measured peaks of the device
    {"op": "stop"}                                               no engine any more

A reply is {"ok": true} with `repeats`, `facts` or `ceilings`, or {"ok": false, "status": "oom",
"reason": "..."}."""

import json
import os
import sys
import tempfile
import traceback
from pathlib import Path

from moebook import engine as engines
from moebook.engine.base import Engine, EngineFailed
from moebook.study.settings import EngineSettings, Speculation, Workload


class Worker:
    """Answers requests. engine_class: see engine.base.Engine."""

    def __init__(self, engine_class: type[Engine], log: Path, on_gpu: bool = False):
        self.engine_class, self.log, self.on_gpu = engine_class, log, on_gpu
        self.engine, self.layers = None, None
        self.started = 0
        self.folder = Path(tempfile.mkdtemp(prefix="moebook-"))
        self.ceilings_in: dict[str, dict] = {}  # by dtype: the device is the same for all plans

    def start(self, settings: dict, config: dict, draft_config: dict | None = None) -> dict:
        self.stop()
        if self.on_gpu:  # the process that measures layers holds memory of the GPU
            self.close()
        self.started += 1
        folder = self.folder / str(self.started)
        self.engine = self.engine_class(
            _settings(settings), config, folder, self.log, draft_config, self.on_gpu
        )
        return {"facts": self.engine.facts()}

    def switch(self, top_k: int, routing: str | None) -> dict:
        self.engine.switch(top_k, routing)
        return {"facts": self.engine.facts()}

    def measure(self, workload: dict, method: str, repeats: int) -> dict:
        rows = self.engine.measure(Workload(**workload), method, repeats)
        return {"repeats": rows, "peak_memory_bytes": self.engine.peak_memory_bytes()}

    def read(self, workload: dict, **request) -> dict:
        return self.engine.read(workload=Workload(**workload), **request)

    def training(self, reference: str) -> dict:
        """What training a member of the tiny family recorded; nothing runs."""
        from moebook.models.tiny.family import training_facts

        return training_facts(reference)

    def endpoint(self, workload: dict, repeats: int) -> dict:
        """A server elsewhere under load, without an engine here."""
        from moebook.engine.endpoint import bench

        self.close()
        return bench(Workload(**workload), repeats, self.folder)

    def layer(self, **request) -> dict:
        """One MoE layer alone, without an engine beside it."""
        self.stop()
        if self.layers is None:
            from moebook.engine.layer import LayerProcess

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

    def close(self) -> None:
        """End the engine and the process that measures layers."""
        self.stop()
        layers, self.layers = self.layers, None
        if layers is not None:
            layers.stop()

    def answer(self, request: dict) -> dict:
        op = request.pop("op")
        try:
            return {"ok": True, **getattr(self, op)(**request)}
        except EngineFailed as error:
            traceback.print_exc()
            return {"ok": False, "status": error.status, "reason": str(error)}


def _settings(given: dict) -> EngineSettings:
    """Of the fields that came through the pipe."""
    speculation = given["speculation"]
    return EngineSettings(
        **{**given, "speculation": None if speculation is None else Speculation(**speculation)}
    )


def main() -> None:
    on_gpu, log = sys.argv[1] != "cpu", Path(sys.argv[4])
    read, write = (int(number) for number in sys.argv[2:4])
    for handle in (read, write):
        os.set_inheritable(handle, False)
    engines.die_with_parent()
    os.register_at_fork(after_in_child=engines.die_with_parent)
    engine_class = engines.load()
    engine_class.prepare(on_gpu)
    worker = Worker(engine_class, log, on_gpu)
    with os.fdopen(read, encoding="utf-8") as requests, os.fdopen(write, "w") as replies:

        def say(reply: dict) -> None:
            """On a line of its own, whatever another has begun."""
            print("\n" + json.dumps(reply), file=replies, flush=True)

        say({"id": 0, "ok": True, "ready": True})
        for line in requests:
            request = json.loads(line)
            number = request.pop("id")
            say({**worker.answer(request), "id": number})
    worker.close()


if __name__ == "__main__":
    main()
