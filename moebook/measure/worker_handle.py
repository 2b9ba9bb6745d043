"""The library's end of the channel to the worker process: start, ask within a time limit, replace
after death.

Requests and answers go over two pipes of their own, which nothing but the worker holds: an engine
that writes to its standard output or reads its input meets the log and an empty file. Each request
has a number that its answer repeats; any other line is left out."""

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

from moebook import devices, paths
from moebook.devices import host
from moebook.measure import scratch
from moebook.measure.files import Unwritable
from moebook.problems import Told

LOG_BYTES = 32 << 20  # a log that has grown past this keeps its end alone
TIMED = ("measure", "layer", "read", "endpoint")
SHORTEST_S = 0.5  # the kernel counts core time in hundredths
LOG_KEPT = 1 << 20
END_S = 20.0  # what a worker gets to end by itself
MOST_PENDING = 64 << 20  # bytes of one answer
START_LIMIT_S = 600.0  # worker import, or one engine; compilation with default graphs takes minutes


class NoWorker(Told, RuntimeError):
    """The worker process ends before it is ready: no point of any plan could be measured here."""


class WorkerDied(RuntimeError):
    pass


class WorkerTimeout(RuntimeError):
    pass


class WorkerHandle:
    """A worker process started at first use and replaced after it dies. Use as a context manager.

    device: the one that it uses and sees no other than; by default the first visible card, else the
    CPU."""

    def __init__(self, log: Path, device: devices.Device | None = None):
        self.log, self.device = log, device or devices.detect()
        self.process: subprocess.Popen | None = None
        self.count, self.asked = 0, 0

    def __enter__(self) -> "WorkerHandle":
        return self

    def __exit__(self, *exc) -> None:
        if self.process is not None and not exc[0]:
            self._close()
        self.kill()

    def ask(self, request: dict, limit_s: float) -> dict:
        """The worker's reply. Raises WorkerDied or WorkerTimeout, after which the next call starts
        a new worker."""
        if self.process is None:
            self._start()
        self.asked += 1
        line = json.dumps({"id": self.asked, **request}).encode() + b"\n"
        try:
            self._send(line, limit_s)
        except (BrokenPipeError, ConnectionResetError):
            raise self._died() from None
        before = self._loads()
        reply = self._reply(limit_s)
        if request.get("op") in TIMED and reply.get("ok"):
            reply |= _others(before, self._loads())
        if request.get("op") == "start":
            scratch.note(self.scratch, self.process.pid)
        bounded_log(self.log)
        return reply

    def _loads(self) -> tuple[float, float | None, float]:
        """Now, and the core seconds of the machine and of the worker with its engine until now."""
        own = host.session_core_s(self.process.pid)
        return time.monotonic(), host.busy_core_s(), own + time.process_time()

    def _send(self, line: bytes, limit_s: float) -> None:
        """A worker that reads no more, stopped or stuck, must not keep this process."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.requests, selectors.EVENT_WRITE)
            deadline = time.monotonic() + limit_s
            while line:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise self._late(limit_s)
                line = line[os.write(self.requests, line[:4096]) :]

    def _start(self) -> None:
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            log = self.log.open("ab")
        except OSError as error:
            raise Unwritable(f"cannot write {self.log}: {error.strerror}") from None
        bounded_log(self.log)
        scratch.clean()
        self.scratch = scratch.make()
        theirs_in, self.requests = os.pipe()
        self.replies, theirs_out = os.pipe()
        os.set_blocking(self.requests, False)
        command = [
            sys.executable,
            "-m",
            "moebook.measure.worker",
            self.device.kind,
            str(theirs_in),
            str(theirs_out),
            str(self.log.resolve()),
        ]
        environment = {
            **os.environ,
            **self.device.environment(),
            "PYTHONPATH": paths.library(),
            "TMPDIR": str(self.scratch),
        }
        with log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[theirs_in, theirs_out],
                start_new_session=True,
                env=environment,
            )
        os.close(theirs_in)
        os.close(theirs_out)
        self.pending, self.searched = bytearray(), 0
        self.count += 1
        self.asked = 0
        try:
            self._reply(START_LIMIT_S)
        except WorkerDied as error:
            lines = _end(self.log, LOG_KEPT).decode(errors="replace").splitlines()
            last = next((line for line in reversed(lines) if line.strip()), "")
            raise NoWorker(
                f"{error}; it did not get as far as its first request: {last}. `moebook doctor` "
                "says what is missing; nothing was recorded"
            ) from None

    def _reply(self, limit_s: float) -> dict:
        deadline = time.monotonic() + limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.replies, selectors.EVENT_READ)
            while (reply := self._answer()) is None:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise self._late(limit_s)
                chunk = os.read(self.replies, 1 << 16)
                if not chunk:
                    raise self._died()
                if len(self.pending) > MOST_PENDING:
                    self.kill()
                    most = f"over {MOST_PENDING >> 20} MiB"
                    raise WorkerDied(f"the worker's answer has no end ({most}); it was killed")
                self.pending += chunk
        return reply

    def _answer(self) -> dict | None:
        """The answer to the last request, where it is among the lines that have come."""
        while (end := self.pending.find(b"\n", self.searched)) >= 0:
            line = bytes(self.pending[:end])
            del self.pending[: end + 1]
            self.searched = 0
            try:
                reply = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(reply, dict) and reply.pop("id", None) == self.asked:
                return reply
        self.searched = len(self.pending)
        return None

    def _late(self, limit_s: float) -> WorkerTimeout:
        self.kill()
        return WorkerTimeout(f"no answer within {limit_s:.0f} s")

    def _died(self) -> WorkerDied:
        try:
            code = self.process.wait(timeout=END_S)
        except subprocess.TimeoutExpired:  # it has closed its channel and goes on
            code = -signal.SIGKILL
        self.kill()
        cause = f"signal {signal_name(-code)}" if code < 0 else f"exit code {code}"
        return WorkerDied(f"the worker process ended ({cause}); its log is {self.log.name}")

    def _close(self) -> None:
        os.close(self.requests)
        self.requests = -1
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=END_S)

    def kill(self) -> None:
        """End the worker and every engine it started."""
        process, self.process = self.process, None
        if process is None:
            return
        scratch.note(self.scratch, process.pid)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        scratch.wait(process.pid)
        for handle in (self.requests, self.replies):
            if handle >= 0:
                os.close(handle)
        scratch.remove(self.scratch)


def _others(before: tuple, after: tuple) -> dict:
    """Cores that other processes kept busy between two times."""
    seconds, everything, own = (
        None if one is None else other - one for one, other in zip(before, after, strict=True)
    )
    if everything is None or seconds < SHORTEST_S:
        return {}
    return {"other_cores": round(max(0.0, everything - own) / seconds, 2)}


def signal_name(number: int) -> str:
    """SIGKILL of 9; the number of a signal without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)


def _end(path: Path, most: int) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - most))
        return file.read()


def bounded_log(path: Path) -> None:
    """Cut a log that has outgrown LOG_BYTES down to its end. Its writers append, so they go on."""
    try:
        if path.stat().st_size > LOG_BYTES:
            kept = _end(path, LOG_KEPT)
            path.write_bytes(b"[the beginning of this log was cut off]\n" + kept)
    except OSError:  # removed meanwhile, or read-only: it is not needed
        pass
