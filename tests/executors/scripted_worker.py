"""A double of WorkerHandle that measures nothing, for processes that a test cannot reach: what it
does, files say.

It works in the folder that the file `folder` names. There, `done` gets a line for each request: op,
process, batch. A file `slow` makes each point take that many seconds; `dies` tells how many more
points end the process that asks, as if the system had killed it; `refuses` how many more points end
with an error that no worker answers for."""

import os
import signal
import time
from pathlib import Path

REPEATS = [{"ttft_s": 0.1, "e2e_s": e} for e in (1.0, 1.01, 1.02)]


class ScriptedWorker:
    def __init__(self, root: Path):
        self.root, self.count = root, 1

    @property
    def folder(self) -> Path:
        return Path((self.root / "folder").read_text())

    def ask(self, request: dict, limit_s: float) -> dict:
        op = request["op"]
        with (self.folder / "done").open("a") as file:
            file.write(f"{op} {os.getpid()} {request.get('workload', {}).get('batch')}\n")
        if op == "ceilings":
            return {
                "ok": True,
                "ceilings": {
                    "copy_bytes_per_s": 1e10,
                    "matmul_flops_per_s": 1e11,
                    "dtype": "bfloat16",
                },
            }
        if op == "read":
            Path(request["counts_file"]).write_bytes(b"counts of " + request["text"].encode())
            return {"ok": True, "repeats": [], "facts": {}}
        if op != "measure":
            return {"ok": True, "facts": {"engine_start_s": 1.0}}
        time.sleep(float(self._said("slow") or 0))
        if self._one_more("dies"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self._one_more("refuses"):
            raise RuntimeError("no engine on this node")
        return {"ok": True, "repeats": REPEATS, "peak_memory_bytes": 1}

    def _one_more(self, name: str) -> bool:
        left = int(self._said(name) or 0)
        if left:
            (self.folder / name).write_text(str(left - 1))
        return left > 0

    def _said(self, name: str) -> str:
        file = self.folder / name
        return file.read_text() if file.exists() else ""

    def kill(self) -> None:
        pass


class Start:
    """What a task makes its worker with."""

    def __init__(self, root: Path):
        self.root = root

    def __call__(self, log: Path, device) -> ScriptedWorker:
        return ScriptedWorker(self.root)
