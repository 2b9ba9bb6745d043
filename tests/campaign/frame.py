"""The frame of the campaigns: injections, and what is asked after each.

    @injection("worker killed in mid-point", kill=9, term=15)
    def worker_killed(s, sig): ...

One function is a kind with a case for each keyword; `s` is a Site: a folder of its own in which the
real command runs, in a fork of this process, with a worker as a user has it but an engine that
fails on demand (hurt/hurt_engine.py). What is wrong goes into `s.seen`, by what it is:

    lost, changed, doubled   a finished record is gone, other than it was, or there twice
    wrong                    success was told that is none
    silent                   a bad input was accepted without a word
    left                     processes, shared memory or temporary files stay after a re-run
    unclear                  the message does not say what happened
    unrecovered              a plain re-run does not end with all points
    hang, traceback          it did not end, or ended in Python's words"""

import json
import os
import re
import resource
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from moebook import devices
from moebook.__main__ import main

HERE = Path(__file__).parent
COUNTS = (
    *("lost", "changed", "doubled", "wrong", "silent", "left"),
    *("unclear", "unrecovered", "hang", "traceback"),
)
SMALL = {
    "profile": "hurt",
    "ffn_dims": [128, 256],
    "expert_counts": [4],
    "active_experts": [1, 2],
    "grid_tokens": 64,
    "grid_batch": 4,
    "grid_routings": ["model"],
    "routing_models": [],
    "comparison_models": ["tiny-qwen2-moe"],
    "comparison_active_experts": [4],
    "batches": [1],
    "comparison_tokens": 32,
    "lengths": [32],
    "validation_model": None,
    "point_limit_minutes": 0.5,
}
POINTS = 5
STEM = "01_hyperparameter_scaling"
LIMIT_S = 60.0


@dataclass(frozen=True)
class Injection:
    kind: str
    name: str
    group: str
    run: Callable
    given: tuple


INJECTIONS: list[Injection] = []


class Skip(Exception):
    """The machine cannot have this fault; the text says why."""


def injection(kind: str, group: str = "fast", **cases) -> Callable:
    """group: fast (one case of the kind is run by `make test`), slow (by `make campaign` alone).
    cases: name -> what the function takes besides the site, a tuple or one value."""

    def add(function: Callable) -> Callable:
        for name, given in (cases or {"": ()}).items():
            given = given if isinstance(given, tuple) else (given,)
            full = function.__name__ + (f"-{name}" if name else "")
            INJECTIONS.append(Injection(kind, full, group, function, given))
        return function

    return add


@dataclass
class Ended:
    code: int
    said: str

    @property
    def last(self) -> str:
        return next((x for x in reversed(self.said.splitlines()) if x.strip()), "")[:200]


@dataclass
class Site:
    root: Path
    seen: dict[str, list[str]] = field(default_factory=lambda: {name: [] for name in COUNTS})
    environment: dict[str, str] = field(default_factory=dict)
    sessions: set[int] = field(default_factory=set)

    limit_s: float = LIMIT_S

    def __post_init__(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)
        (self.root / "tmp").mkdir(parents=True)
        self.params()
        self.shared = set(os.listdir("/dev/shm"))

    def params(self, stem: str = STEM, **values) -> Path:
        """The parameter file of a notebook."""
        file = self.root / f"{stem}.yaml"
        own = SMALL if stem == STEM else {"profile": "hurt"}
        given = {**own, "output_root": str(self.root / "outputs"), **values}
        file.write_text(yaml.safe_dump(given))
        self.folder = self.root / "outputs/hurt" / stem
        return file

    def tell(self, **plan) -> None:
        (self.root / "plan.json").write_text(json.dumps(plan))

    # -- commands
    def start(
        self, *command: str, prepare: Callable = lambda: None, said: str = "said", **env: str
    ) -> int:
        """Process id of `moebook COMMAND`, in a session of its own. prepare: run in it first."""
        pid = os.fork()
        if pid:
            self.sessions.add(pid)
            return pid
        try:
            os.setsid()
            for number, path in enumerate(("/dev/null", self.root / said, self.root / said)):
                os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644), number)
            for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(name, signal.SIG_DFL)
            os.chdir(self.root)
            path = f"{HERE / 'hurt'}:{HERE.parents[1]}"
            os.environ |= {"PYTHONPATH": path, "CAMPAIGN_SITE": str(self.root)}
            os.environ |= {"TMPDIR": str(self.root / "tmp"), "MOEBOOK_LOCKS": str(self.root)}
            os.environ |= {**self.environment, **env}
            sys.stdout, sys.stderr = as_stream(1), as_stream(2)
            sys.argv = ["moebook", *map(str, command)]
            devices.forget()
            prepare()
            signal.signal(signal.SIGINT, signal.default_int_handler)
            main()
            code = 0
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(error.code is not None)
            if isinstance(error.code, str):
                print(error.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
            code = 1
        finally:
            try:
                for stream in filter(None, (sys.stdout, sys.stderr)):
                    stream.flush()
            except (OSError, ValueError):
                code = code or 120
            finally:
                os._exit(code)

    def end(self, pid: int, said: str = "said") -> Ended:
        deadline = time.monotonic() + self.limit_s
        while not (found := os.waitpid(pid, os.WNOHANG))[0]:
            if time.monotonic() > deadline:
                self.seen["hang"].append(f"no end within {self.limit_s:.0f} s")
                os.kill(pid, signal.SIGKILL)
                found = os.waitpid(pid, 0)
                break
            time.sleep(0.01)
        text = (self.root / said).read_bytes().decode(errors="replace")
        return Ended(os.waitstatus_to_exitcode(found[1]), text)

    def run(self, *command: str, **given) -> Ended:
        (self.root / "said").unlink(missing_ok=True)
        return self.end(self.start(*command, **given))

    def command(self, *options: str, stem: str = STEM) -> tuple[str, ...]:
        return ("measure", f"{stem}.yaml", *options)

    def measure(self, *options: str, stem: str = STEM, **given) -> Ended:
        return self.run(*self.command(*options, stem=stem), **given)

    def complete(self) -> dict[str, bytes]:
        """All points measured; what their files hold."""
        ended = self.measure()
        if ended.code:
            raise RuntimeError(f"cannot be measured: {ended.said}")
        return self.ok()

    # -- moments
    def wait(self, test: Callable, limit_s: float = 30.0):
        deadline = time.monotonic() + limit_s
        while not (found := test()):
            if time.monotonic() > deadline:
                raise RuntimeError(f"the moment did not come: {(self.root / 'said').read_text()}")
            time.sleep(0.005)
        return found

    def asked(self, op: str, number: int) -> int:
        """The worker's process id, once it is asked for the n-th of these."""

        def found() -> int | None:
            done = self.root / "done"
            lines = done.read_text().splitlines() if done.exists() else []
            pids = [int(line.split()[2]) for line in lines if line.startswith(f"{op} {number} ")]
            return pids[0] if pids else None

        return self.wait(found)

    def times(self, op: str) -> int:
        done = self.root / "done"
        return done.read_text().split().count(op) if done.exists() else 0

    # -- what is there
    def files(self) -> dict[str, bytes]:
        found = sorted(self.folder.glob("points/*.json"))
        return {p.name: p.read_bytes() for p in found if p.is_file()}

    def records(self, files: dict[str, bytes] | None = None) -> dict[str, dict]:
        found = {}
        for name, data in (self.files() if files is None else files).items():
            try:
                record = json.loads(data)
            except (ValueError, RecursionError):
                continue
            if isinstance(record, dict) and "status" in record:
                found[name] = record
        return found

    def ok(self) -> dict[str, bytes]:
        files = self.files()
        return {n: files[n] for n, r in self.records(files).items() if r["status"] == "ok"}

    def first(self, number: int = 0) -> Path:
        return sorted(self.folder.glob("points/*.json"))[number]

    def mine(self) -> dict[int, str]:
        """Living processes of this site."""
        found = {}
        mark = f"CAMPAIGN_SITE={self.root}\0".encode()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                state, session = (folder / "stat").read_text().rsplit(")", 1)[1].split()[0:4:3]
                marked = mark in (folder / "environ").read_bytes()
                command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if state != "Z" and (marked or int(session) in self.sessions):
                found[int(folder.name)] = command[:100]
                self.sessions.add(int(session))
        return found

    # -- the verdict
    def judge(self, ended: Ended, say: str = "", expect: int = POINTS) -> None:
        """What is asked after every command."""
        if "Traceback (most recent call last)" in ended.said:
            self.seen["traceback"].append(ended.last)
        if say and not re.search(say, ended.said):
            self.seen["unclear"].append(f"nothing said of {say!r}: {ended.last}")
        if ended.code == 0 and len(self.ok()) < expect:
            counts = dict(Counter(r["status"] for r in self.records().values()))
            self.seen["wrong"].append(f"exit 0 with {counts} of {expect} points: {ended.last}")
        for name, record in self.records().items():
            rows = record["repeats"] if isinstance(record.get("repeats"), list) else []
            times = [row.get(m) for row in rows for m in ("ttft_s", "e2e_s")]
            bad = [t for t in times if not isinstance(t, float) or not 0 < t < 1e9]
            if record["status"] == "ok" and (bad or len(rows) != 3) and ended.code == 0:
                self.seen["wrong"].append(f"{name} is ok with {rows}")

    def kept(self, before: dict[str, bytes]) -> None:
        now = self.files()
        self.seen["lost"] += [name for name in before if name not in now]
        self.seen["changed"] += [n for n in before if n in now and now[n] != before[n]]

    def rerun(self, *options: str, stem: str = STEM, expect: int = POINTS) -> Ended:
        """Without the fault: all points ok, nothing finished touched, nothing left."""
        (self.root / "plan.json").unlink(missing_ok=True)
        before = self.ok()
        ended = self.measure(*options, stem=stem)
        self.kept(before)
        self.judge(ended, expect=expect)
        if ended.code or len(self.ok()) != expect:
            self.seen["unrecovered"].append(f"exit {ended.code}: {ended.last}")
        keys = Counter(r["key"] for r in self.records().values())
        self.seen["doubled"] += [key for key, count in keys.items() if count > 1]
        self.nothing_left()
        return ended

    def hurt(self, *, say: str = "", retry: str = "", before: dict | None = None, **given) -> Ended:
        """A measurement under the fault that was told, judged; then one without. retry: statuses
        that the first leaves, over which a plain re-run must not succeed."""
        before = self.ok() if before is None else before
        ended = self.measure(**given)
        self.judge(ended, say)
        self.kept(before)
        if retry:
            plain = self.measure()
            if plain.code == 0:
                self.seen["wrong"].append(f"a plain re-run over {retry} exits 0: {plain.last}")
        self.rerun(*(("--retry", retry) if retry else ()))
        return ended

    def nothing_left(self) -> None:
        deadline = time.monotonic() + 5
        while (left := self.mine()) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.seen["left"] += [f"process {command}" for command in left.values()]
        shared = set(os.listdir("/dev/shm")) - self.shared
        noted = self.root / "shared"
        if noted.exists() and noted.read_text() in shared:
            self.seen["left"].append(f"/dev/shm/{noted.read_text()}")
        hidden = [p for p in self.root.glob("outputs/**/.*") if not p.name.startswith(".lock")]
        self.seen["left"] += [f"temporary file {path.name}" for path in hidden]
        logs = f"moebook-{os.getuid()}"  # of a node's workers, which stay to be read
        found = [p.name for p in (self.root / "tmp").glob("moebook*") if p.name != logs]
        self.seen["left"] += [f"tmp/{name}" for name in found]

    def workers_end(self, limit_s: float = 15.0) -> None:
        """Without the command, a worker on another machine ends, too."""
        deadline = time.monotonic() + limit_s
        while left := [c for c in self.mine().values() if "measure.worker" in c]:
            if time.monotonic() > deadline:
                self.seen["left"].append(f"goes on without its command: {left[0]}")
                break
            time.sleep(0.1)

    def end_all(self) -> None:
        for pid in self.mine():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue


def as_stream(number: int, encoding: str = "utf-8"):
    return open(number, "w", encoding=encoding, closefd=False)  # noqa: SIM115


def limit(what: int, value: int) -> Callable:
    """For `prepare`: a resource limit of the command and all that it starts."""
    return lambda: resource.setrlimit(what, (value, value))
