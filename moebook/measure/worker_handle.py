"""The library's end of the pipe to the worker process: start, ask within a time limit, replace
after death."""

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from pathlib import Path

import moebook
from moebook import devices
from moebook.measure.store import Unwritable

LIBRARY = Path(moebook.__file__).parents[1]  # where `import moebook` finds this one
START_LIMIT_S = 600.0  # worker import, or one engine; compilation with default graphs takes minutes


class NoWorker(RuntimeError):
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
        self.count = 0

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
        try:
            self.process.stdin.write(json.dumps(request).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise self._died() from None
        return self._reply(limit_s)

    def _start(self) -> None:
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            log = self.log.open("ab")
        except OSError as error:
            raise Unwritable(f"cannot write {self.log}: {error.strerror}") from None
        read, write = os.pipe()
        command = [
            sys.executable,
            "-m",
            "moebook.measure.worker",
            self.device.kind,
            str(write),
            str(self.log.resolve()),
        ]
        path = os.pathsep.join(filter(None, [str(LIBRARY), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, **self.device.environment(), "PYTHONPATH": path}
        with log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                pass_fds=[write],
                start_new_session=True,
                env=environment,
            )
        os.close(write)
        self.replies = os.fdopen(read, "rb", buffering=0)
        self.pending = b""
        self.count += 1
        try:
            self._reply(START_LIMIT_S)
        except WorkerDied as error:
            lines = self.log.read_text(errors="replace").splitlines()
            last = next((line for line in reversed(lines) if line.strip()), "")
            raise NoWorker(
                f"{error}; it did not get as far as its first request: {last}. `moebook doctor` "
                "says what is missing; nothing was recorded"
            ) from None

    def _reply(self, limit_s: float) -> dict:
        deadline = time.monotonic() + limit_s
        with selectors.DefaultSelector() as selector:
            selector.register(self.replies, selectors.EVENT_READ)
            while b"\n" not in self.pending:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    self.kill()
                    raise WorkerTimeout(f"no answer within {limit_s:.0f} s")
                chunk = os.read(self.replies.fileno(), 1 << 16)
                if not chunk:
                    raise self._died()
                self.pending += chunk
        line, self.pending = self.pending.split(b"\n", 1)
        return json.loads(line)

    def _died(self) -> WorkerDied:
        code = self.process.wait()
        self.kill()
        cause = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return WorkerDied(f"the worker process ended ({cause}); its log is {self.log.name}")

    def _close(self) -> None:
        self.process.stdin.close()
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            return

    def kill(self) -> None:
        """End the worker and every engine it started."""
        process, self.process = self.process, None
        if process is None:
            return
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()
        self.replies.close()
