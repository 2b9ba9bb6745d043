"""Faults of a Ray cluster on this machine: of the asking command, a task, a node, the head."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

from frame import HERE, Skip, injection

START_S = 120.0
TRIES = 3  # Ray gives a node's agents 15 s to start, too little for a busy machine


@contextmanager
def cluster(s, nodes: int):
    """Yields what hurt/ray_cluster.py tells."""
    s.limit_s = 300.0
    environment = {
        **os.environ,
        "PYTHONPATH": f"{HERE / 'hurt'}:{HERE.parents[1]}",
        "CAMPAIGN_SITE": str(s.root),
        "TMPDIR": str(s.root / "tmp"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_health_check_failure_threshold": "2",
        "RAY_health_check_period_ms": "1000",
    }
    told, command = s.root / "cluster.json", [sys.executable, HERE / "hurt/ray_cluster.py"]
    for _ in range(TRIES):
        with (s.root / "cluster.log").open("ab") as log:
            own = subprocess.Popen(
                [*command, str(nodes), s.root],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        s.wait(lambda own=own: told.exists() or own.poll() is not None, START_S)
        if told.exists():
            break
    else:
        raise Skip(f"{TRIES} times no Ray node started: this machine is too busy")
    try:
        yield json.loads(told.read_text())
    finally:
        end(s, own)


def end(s, own: subprocess.Popen) -> None:
    """The whole cluster; what is looked for afterwards is moebook's."""
    own.terminate()
    deadline = time.monotonic() + 20
    while own.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    s.end_all()
    own.wait()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def at_point(s, found: dict, number: int = 2) -> tuple[int, int]:
    """Process ids of the command and of the worker that measures its n-th point."""
    s.tell(measure={"*": {"slow": 1.0}})
    pid = s.start(*s.command("--executor", "ray", "--address", found["address"]))
    return pid, s.asked("measure", number)


def finish(s, pid: int, say: str = "") -> None:
    before = s.ok()
    s.judge(s.end(pid), say)
    s.kept(before)


def again(s) -> None:
    """A run that has a point to measure: its worker's start cleans up after the cluster's end."""
    s.first().unlink()
    s.rerun("--retry", "failed")


@injection(
    "Ray's driver killed",
    "slow",
    kill=signal.SIGKILL,
    term=signal.SIGTERM,
    int=signal.SIGINT,
)
def ray_driver(s, sig):
    with cluster(s, 1) as found:
        pid, _ = at_point(s, found)
        os.killpg(pid, sig) if sig == signal.SIGINT else os.kill(pid, sig)
        finish(s, pid)
        s.workers_end()
    again(s)


@injection("a process of Ray's killed", "slow", task="task", worker="worker")
def ray_task(s, who):
    with cluster(s, 1) as found:
        pid, worker = at_point(s, found)
        os.kill(worker if who == "worker" else parent_of(worker), signal.SIGKILL)
        finish(s, pid, "SIGKILL" if who == "worker" else "a task was lost")
    again(s)


@injection("Ray's node killed", "slow", other=1, heads=0)
def ray_node(s, number):
    with cluster(s, 2) as found:
        pid, _ = at_point(s, found, 1)
        os.kill(found["raylets"][number], signal.SIGKILL)
        finish(s, pid)
    again(s)


@injection("Ray's head killed", "slow")
def ray_head(s):
    with cluster(s, 1) as found:
        pid, _ = at_point(s, found)
        os.kill(found["gcs_server"], signal.SIGKILL)
        finish(s, pid)
        s.workers_end()
    again(s)


@injection("Ray's cluster is not there", "slow")
def no_cluster(s):
    ended = s.measure("--executor", "ray", "--address", "127.0.0.1:1")
    s.judge(ended, "no Ray cluster at 127.0.0.1:1")
    s.rerun()
