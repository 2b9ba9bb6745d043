"""An engine that measures nothing and fails as plan.json of its site says.

    {"measure": {"3": {"do": "signal", "sig": 9}}, "start": {"*": {"do": "sleep", "s": 60}}}

At the third measure of all workers, at every start. Each request adds a line to `done`."""

import json
import os
import subprocess
import sys
import time
from multiprocessing import shared_memory
from pathlib import Path

import numpy as np

from moebook.engine import counts, peaks
from moebook.engine.base import EngineFailed

SITE = Path(os.environ["CAMPAIGN_SITE"])
ANSWERS = int(sys.argv[3])  # the worker's end of the channel
KEPT = []


def plan() -> dict:
    file = SITE / "plan.json"
    return json.loads(file.read_text()) if file.exists() else {}


def told(op: str) -> dict:
    done = SITE / "done"
    number = 1 + (done.read_text().split().count(op) if done.exists() else 0)
    with done.open("a") as file:
        file.write(f"{op} {number} {os.getpid()}\n")
    own = plan().get(op, {})
    return own.get(str(number)) or own.get("*") or {}


def act(op: str) -> dict:
    what = told(op)
    match what.get("do"):
        case "signal":
            os.kill(os.getpid(), what["sig"])
            time.sleep(5)
        case "exit":
            os._exit(what["code"])
        case "sleep":
            time.sleep(what["s"])
        case "hold":
            while not (SITE / "go").exists():
                time.sleep(0.01)
        case "failed" | "oom" | "infeasible" as status:
            raise EngineFailed(status, what.get("reason", "the engine said no"))
        case "raise":
            raise {"memory": MemoryError, "bug": KeyError}[what["what"]]("a fault of the worker")
        case "print":
            print(what["text"], flush=True)
            sys.stderr.write(what["text"])
        case "flood":
            for _ in range(what["mb"]):
                print("x" * 999 * 1000, flush=True)
        case "reply":
            os.write(ANSWERS, what["text"].encode())
        case "endless":
            for _ in range(what["mb"]):
                os.write(ANSWERS, b"x" * 1_000_000)
        case "partial":
            os.write(ANSWERS, b'{"ok": true, "rep')
            os._exit(3)
        case "child":
            child = subprocess.Popen(["sleep", "300"])
            time.sleep(what.get("s", 0.1))
            os.kill(child.pid if what.get("kill") == "child" else os.getpid(), 9)
            if what.get("kill") == "child":
                raise EngineFailed("failed", f"a child of the engine ended: {child.wait()}")
        case "fork":
            if os.fork() == 0:
                time.sleep(300)
                os._exit(0)
            time.sleep(what.get("s", 0.1))
            os.kill(os.getpid(), 9)
        case "shared":
            memory = shared_memory.SharedMemory(create=True, size=4096)
            KEPT.append(memory)
            (SITE / "shared").write_text(memory.name)
    return what


class HurtEngine:
    """See moebook.engine.base.Engine."""

    @classmethod
    def prepare(cls, on_gpu: bool) -> None:
        peaks.measure_in_child = measured_peaks
        what = told("boot")
        if what.get("do") == "exit":
            print("ModuleNotFoundError: No module named 'engine'", flush=True)
            os._exit(what["code"])

    def __init__(self, settings, config, folder, log=None, draft_config=None, on_gpu=False):
        self.config = config
        act("start")

    def facts(self) -> dict:
        return {"engine_start_s": 0.01, "kv_capacity_tokens": 100_000, "runs": None}

    def switch(self, top_k, routing) -> None:
        act("switch")

    def measure(self, workload, method, repeats) -> list[dict]:
        what = act("measure")
        time.sleep(what.get("slow", 0.01))
        if "rows" in what:
            return what["rows"]
        if "clocked" in what:
            return [clocked(what["clocked"]) for _ in range(repeats)]
        base = 0.05 + 0.01 * workload.batch
        rows = [{"ttft_s": base / 4 + i / 1e4, "e2e_s": base + i / 1e4} for i in range(repeats)]
        for row in rows if "at" not in what else rows[what["at"] : what["at"] + 1]:
            row.update(what.get("set", {}))
        return rows

    def read(self, method, counts_file=None, **request) -> dict:
        act("read")
        repeats = [{"perplexity": 30.0}] * request["repeats"]
        if method == "routing":
            layers, experts = self.config["num_hidden_layers"], 8
            rng = np.random.default_rng(0)
            chosen = rng.integers(0, experts, (layers, 32, 2))
            counts.write(counts_file, [chosen], layers, experts)
            repeats = []
        return {"repeats": repeats, "facts": {}}

    def peak_memory_bytes(self) -> int:
        return 1

    def stop(self) -> None:
        act("stop")


def clocked(seconds: float) -> dict:
    """A repeat that is really timed."""
    began = time.perf_counter()
    time.sleep(seconds / 4)
    first = time.perf_counter()
    time.sleep(seconds)
    return {"ttft_s": first - began, "e2e_s": time.perf_counter() - began}


def measured_peaks(dtype: str) -> dict:
    act("ceilings")
    found = {"copy_bytes_per_s": 1e10, "matmul_flops_per_s": 1e11, "dtype": dtype}
    return {**found, **plan().get("peaks", {})}
