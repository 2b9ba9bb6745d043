"""Faults of vLLM itself on this CPU: an engine in its worker's process, and one of two ranks, each
a child of the worker's. Tiny models; a minute an injection."""

import os
import signal
import time

from frame import HERE, STEM, injection

ENGINE = {"dtype": "float32", "graphs": "eager", "kv_cache_gib": 1, "point_limit_minutes": 5}
RANKS = {
    **ENGINE,
    "num_devices": 2,
    "models": ["tiny-mixtral"],
    "modes": ["TP"],
    "device_counts": [1, 2],
    "shard_device_counts": [],
    "batches": [8],
    "tp_batches": [1, 2],
    "tokens": 64,
}
PARALLEL = "05_parallelism"
PLANNED, OF_ONE = 6, 3  # points, and those that one device measures first
CHILDREN = ("multiprocessing.spawn import spawn_main", "VLLM::Worker")  # by age
LIMIT_S = 600.0


def real(s, stem: str = STEM, **values) -> None:
    """Commands of this site start vLLM, and not the engine that is hurt."""
    s.environment["PYTHONPATH"] = str(HERE.parents[1])
    s.params(stem, **values)
    s.limit_s = LIMIT_S


def measured(s, number: int) -> None:
    s.wait(lambda: len(s.ok()) >= number, LIMIT_S)


def worker(s) -> int:
    return next(pid for pid, command in s.mine().items() if "moebook.measure.worker" in command)


def ranks(s) -> list[int]:
    """Process ids of the engine's ranks, the first rank's first."""
    return sorted(
        pid for pid, command in s.mine().items() if any(name in command for name in CHILDREN)
    )


@injection(
    "vLLM on a CPU killed",
    "slow",
    worker_kill=("worker", signal.SIGKILL),
    worker_abort=("worker", signal.SIGABRT),
    command_kill=("command", signal.SIGKILL),
    command_term=("command", signal.SIGTERM),
)
def vllm_killed(s, who, sig):
    real(s, **ENGINE)
    pid = s.start(*s.command())
    measured(s, 1)
    before = s.ok()
    os.kill(worker(s) if who == "worker" else pid, sig)
    s.judge(s.end(pid))
    s.kept(before)
    s.rerun(*(("--retry", "failed") if who == "worker" else ()))


@injection("vLLM on a CPU stopped and continued", "slow")
def vllm_stopped(s):
    """The worker sleeps for seconds, again and again: what it slept through is marked."""
    real(s, **ENGINE)
    pid = s.start(*s.command())
    measured(s, 1)
    hit = worker(s)
    for _ in range(6):
        try:
            os.kill(hit, signal.SIGSTOP)
            time.sleep(1.5)
            os.kill(hit, signal.SIGCONT)
        except ProcessLookupError:
            break
        time.sleep(0.3)
    s.judge(s.end(pid))
    s.rerun("--retry", "failed")


def two_ranks(s, **values) -> int:
    """The command's process id, once its engine of two ranks has measured a point."""
    real(s, PARALLEL, **{**RANKS, **values})
    pid = s.start(*s.command(stem=PARALLEL))
    measured(s, OF_ONE + 1)
    if len(ranks(s)) != 2:
        raise RuntimeError(f"{len(ranks(s))} ranks: {s.mine()}")
    return pid


def after_ranks(s, pid: int, say: str = "", retry: str = "failed,timeout") -> None:
    before = s.ok()
    ended = s.end(pid)
    s.judge(ended, say, expect=PLANNED)
    s.kept(before)
    s.rerun("--retry", retry, stem=PARALLEL, expect=PLANNED)


@injection("a rank of two killed", "slow", first=(0, signal.SIGKILL), second=(1, signal.SIGSEGV))
def rank_killed(s, number, sig):
    pid = two_ranks(s)
    os.kill(ranks(s)[number], sig)
    after_ranks(s, pid)


@injection("a rank of two hangs", "slow", first=0, second=1)
def rank_hangs(s, number):
    """Stopped for good: the other waits for it, until the point's limit."""
    pid = two_ranks(s, point_limit_minutes=1)
    os.kill(ranks(s)[number], signal.SIGSTOP)
    after_ranks(s, pid)


@injection("worker of two ranks killed", "slow")
def worker_of_ranks(s):
    pid = two_ranks(s)
    os.kill(worker(s), signal.SIGKILL)
    after_ranks(s, pid, "SIGKILL")


@injection("command killed over two ranks", "slow", kill=signal.SIGKILL, term=signal.SIGTERM)
def command_of_ranks(s, sig):
    pid = two_ranks(s)
    os.kill(pid, sig)
    after_ranks(s, pid)


@injection("Ctrl-C over two ranks", "slow")
def ctrl_c_over_ranks(s):
    pid = two_ranks(s)
    os.killpg(pid, signal.SIGINT)
    after_ranks(s, pid, "interrupted")


@injection("killed as two ranks start", "slow", command="command", rank="rank")
def starting_ranks(s, who):
    real(s, PARALLEL, **RANKS)
    pid = s.start(*s.command(stem=PARALLEL))
    s.wait(lambda: len(ranks(s)) == 2, LIMIT_S)
    os.kill(pid if who == "command" else ranks(s)[1], signal.SIGKILL)
    after_ranks(s, pid)
