"""The library's end of the pipe, against a process that speaks the worker's protocol and does what
it is told."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import pytest

from moebook import sections
from moebook.measure import run, scratch, worker_handle
from moebook.measure.files import Unwritable, is_alive
from moebook.measure.store import Store
from moebook.measure.worker_handle import NoWorker, WorkerDied, WorkerHandle, WorkerTimeout
from moebook.study.params import build

PYTHON = sys.executable
OBEYS = """
import json, os, pathlib, signal, subprocess, sys, time
out = os.fdopen(int(sys.argv[-2]), "w")
number = 0
def say(reply, end="\\n"):
    print(json.dumps({**reply, "id": number}), file=out, flush=True, end=end)
say({"ok": True, "ready": True})
for line in os.fdopen(int(sys.argv[-3])):
    request = json.loads(line)
    op, number = request["op"], request["id"]
    if op == "exit":
        sys.exit(request["code"])
    if op in ("kill", "measure"):
        os.kill(os.getpid(), signal.SIGKILL)
    if op == "sleep":
        time.sleep(60)
    if op == "pieces":
        out.write('{"ok": true, '); out.flush(); time.sleep(0.05)
        out.write('"op": "pieces", "id": %d}\\n' % number); out.flush()
    elif op == "noise":
        no_id, other = '{"ok": true, "repeats": [1]}', '{"ok": true, "id": 99}'
        for line in ("hello", "[1]", "\\0\\0", no_id, other):
            out.write(line + "\\n")
        say({"ok": True, "op": "noise"})
    elif op == "signal":
        os.kill(os.getpid(), 35)
    elif op == "spawn":
        say({"pid": subprocess.Popen(["sleep", "60"]).pid})
    elif op == "ceilings":
        say({"ok": True, "ceilings": {"copy_bytes_per_s": 1e10, "matmul_flops_per_s": 1e11,
                                      "dtype": "bfloat16"}})
    else:
        say({"ok": True, "op": op, "pid": os.getpid(), "facts": {}})
pathlib.Path(sys.argv[-1]).with_suffix(".closed").write_text("stopped by itself")
"""
ENDS = """
import sys
print("starting"); print("ModuleNotFoundError: No module named 'vllm'"); print()
sys.exit(3)
"""
ENDS_THE_SECOND_TIME = (
    """
import pathlib, sys
seen = pathlib.Path(sys.argv[-1]).with_suffix(".seen")
if seen.exists():
    sys.exit(3)
seen.touch()
"""
    + OBEYS
)


@pytest.fixture
def played_by(monkeypatch, tmp_path):
    """Make the worker a script of ours."""

    def play(text: str) -> None:
        script = tmp_path / "worker"
        script.write_text(f"#!{PYTHON} -S\n{text}")
        script.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(script))

    return play


@pytest.fixture
def handle(played_by, tmp_path):
    played_by(OBEYS)
    with WorkerHandle(tmp_path / "logs" / "worker.log") as worker:
        yield worker


@pytest.fixture
def plan():
    section = sections.find("06")
    small = {
        "layer_tokens": [1, 4],
        "layer_backends": ["loop"],
        "ladder": ["fused"],
        "ladder_batches": [1, 2],
        "ladder_lengths": [32],
    }
    return section.plan(build(section.params, small, "test")).only(["ladder_batch"])


def alive(pid: int) -> bool:
    """Whether a process runs; a dead one that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_one_process_answers_many_requests(handle):
    replies = [handle.ask({"op": name}, 10) for name in ("a", "b")]
    assert [r["op"] for r in replies] == ["a", "b"] and replies[0]["pid"] == replies[1]["pid"]
    assert handle.count == 1


def test_nothing_starts_before_the_first_request(handle):
    assert handle.process is None and handle.count == 0 and not handle.log.exists()


def test_a_reply_in_pieces_is_put_together(handle):
    assert handle.ask({"op": "pieces"}, 10) == {"ok": True, "op": "pieces"}


def test_what_else_is_written_on_the_channel_is_no_answer(handle):
    assert handle.ask({"op": "noise"}, 10) == {"ok": True, "op": "noise"}
    assert handle.ask({"op": "after"}, 10)["op"] == "after"


def test_a_log_keeps_its_end_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(worker_handle, "LOG_BYTES", 1000)
    monkeypatch.setattr(worker_handle, "LOG_KEPT", 100)
    log = tmp_path / "worker.log"
    log.write_text("x" * 2000 + "the end")
    worker_handle.bounded_log(log)
    assert log.stat().st_size < 200 and log.read_text().endswith("xthe end")


@pytest.mark.parametrize(
    ("request_", "cause"),
    [
        ({"op": "exit", "code": 7}, "exit code 7"),
        ({"op": "kill"}, "signal SIGKILL"),
        ({"op": "signal"}, "signal 35"),
    ],
)
def test_a_death_is_told_with_its_cause_and_the_next_request_has_a_new_worker(
    handle, request_, cause
):
    first = handle.ask({"op": "a"}, 10)["pid"]
    with pytest.raises(WorkerDied, match=f"{cause}.*worker.log"):
        handle.ask(request_, 10)
    assert handle.ask({"op": "a"}, 10)["pid"] != first and handle.count == 2


def test_no_answer_in_time_ends_the_worker(handle):
    pid = handle.ask({"op": "a"}, 10)["pid"]
    started = time.monotonic()
    with pytest.raises(WorkerTimeout, match="no answer within 0 s"):
        handle.ask({"op": "sleep"}, 0.2)
    assert time.monotonic() - started < 5 and not alive(pid)
    assert handle.ask({"op": "a"}, 10)["ok"]


def test_what_a_worker_has_started_ends_with_it(handle):
    child = handle.ask({"op": "spawn"}, 10)["pid"]
    assert alive(child)
    handle.kill()
    for _ in range(50):
        if not alive(child):
            break
        time.sleep(0.02)
    assert not alive(child) and handle.process is None
    handle.kill()


def test_a_worker_is_let_end_by_itself_but_not_after_an_error(played_by, tmp_path):
    played_by(OBEYS)
    with WorkerHandle(tmp_path / "calm.log") as worker:
        worker.ask({"op": "a"}, 10)
    assert (tmp_path / "calm.closed").exists()
    with pytest.raises(KeyError), WorkerHandle(tmp_path / "error.log") as worker:
        worker.ask({"op": "a"}, 10)
        raise KeyError
    assert worker.process is None and not (tmp_path / "error.closed").exists()


def test_a_worker_that_ends_before_it_is_ready_is_no_worker(played_by, tmp_path):
    played_by(ENDS)
    worker = WorkerHandle(tmp_path / "worker.log")
    with pytest.raises(
        NoWorker, match=r"exit code 3.*No module named 'vllm'.*moebook doctor.*nothing was recorded"
    ):
        worker.ask({"op": "a"}, 10)
    assert worker.process is None


def test_no_worker_stops_the_sweep_and_records_nothing(played_by, plan, tmp_path):
    played_by(ENDS)
    with pytest.raises(NoWorker):
        run.measure(plan, tmp_path)
    store = Store(tmp_path, plan)
    assert (
        not list(store.folder.rglob("*.json"))
        and "No module named" in (store.folder / "worker.log").read_text()
    )
    played_by(OBEYS)
    assert run.measure(plan, tmp_path, stop_after_s=-1)["not_run"] == len(plan.measured), (
        "the folder's lock is free again"
    )


def test_a_worker_that_cannot_be_replaced_stops_the_sweep_after_the_point_that_killed_it(
    played_by, plan, tmp_path
):
    played_by(ENDS_THE_SECOND_TIME)
    with pytest.raises(NoWorker):
        run.measure(plan, tmp_path)
    records = Store(tmp_path, plan).records()
    assert len(records) == 1 < len(plan.measured)
    only = records[plan.measured[0].key]
    assert only["status"] == "failed" and "SIGKILL" in only["reason"]


def test_a_log_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Unwritable, match="cannot write .*worker.log"):
        WorkerHandle(tmp_path / "file" / "worker.log").ask({"op": "a"}, 10)


def test_the_worker_finds_this_library_from_any_folder(played_by, tmp_path):
    played_by(OBEYS.replace('"facts": {}', '"facts": {}, "path": os.environ["PYTHONPATH"]'))
    with WorkerHandle(tmp_path / "worker.log") as worker:
        first = worker.ask({"op": "a"}, 10)["path"].split(os.pathsep)[0]
    assert (Path(first) / "moebook" / "measure" / "worker.py").is_file()


def test_a_workers_folder_is_short_enough_for_the_sockets_of_its_engine(tmp_path, monkeypatch):
    deep = tmp_path / ("deep" * 20)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    folder = scratch.make()
    try:
        assert folder.parent == scratch.SHORT and not list(deep.iterdir())
        server = socket.socket(socket.AF_UNIX)
        server.bind(f"{folder}/{uuid.uuid4()}")
        server.close()
        left = folder.with_name(f"{scratch.PREFIX}{2**31 - 1}-{folder.name}")  # of no process
        left.mkdir()
        scratch.clean()
        assert folder.exists() and not left.exists()
    finally:
        scratch.remove(folder)


def test_the_folder_of_a_process_that_nobody_buries_is_removed():
    ended = subprocess.Popen(["true"])
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    left = Path(tempfile.gettempdir()) / f"{scratch.PREFIX}{ended.pid}-left"
    left.mkdir()
    scratch.clean()
    assert not left.exists() and Path(f"/proc/{ended.pid}").exists()
    ended.wait()


def test_a_worker_is_gone_with_its_children_before_its_folder_is_removed(monkeypatch):
    shell = subprocess.Popen(["sh", "-c", "sleep 60 & sleep 60"], start_new_session=True)
    monkeypatch.setattr(scratch, "LAST_S", 0.05)
    started = time.monotonic()
    scratch.wait(shell.pid)  # nobody ended it: its time passes
    assert time.monotonic() - started >= 0.05
    monkeypatch.setattr(scratch, "LAST_S", 10)
    os.killpg(shell.pid, signal.SIGKILL)
    scratch.wait(shell.pid)
    assert time.monotonic() - started < 5 and not any(
        is_alive(pid) for pid in scratch._of_session(shell.pid)
    )
    shell.wait()
