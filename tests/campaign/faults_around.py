"""Faults of what stands around a run: its environment and streams, changed parameters, job arrays,
tables, and the folders of trained models."""

import io
import json
import os
import resource
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pandas as pd
from frame import POINTS, injection, limit
from safetensors.numpy import save_file

from moebook.models import cache_folder
from moebook.models.tiny import family
from moebook.results import parquet


@injection(
    "odd environment",
    optimised={"PYTHONOPTIMIZE": "2"},
    warnings={"PYTHONWARNINGS": "error::DeprecationWarning"},
    narrow={"COLUMNS": "1", "LINES": "1"},
    no_language={"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    unknown_language={"LC_ALL": "xx_YY.none"},
    dumb={"TERM": "dumb", "NO_COLOR": "1"},
)
def odd_environment(s, environment):
    s.hurt(**environment)


@injection("a standard stream is closed", stdin=0, stderr=2)
def closed_stream(s, number):
    s.hurt(prepare=lambda: os.close(number))


@injection("permissions of new files", narrow=0o077, none=0o777, all=0)
def mask(s, value):
    s.hurt(prepare=lambda: os.umask(value))


@injection("processor time limit", seconds=1)
def processor_time(s, seconds):
    ended = s.measure(prepare=limit(resource.RLIMIT_CPU, seconds))
    s.judge(ended)
    s.rerun("--retry", "failed")


@injection("one core")
def one_core(s):
    s.hurt(prepare=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}))


@injection("odd host name", long="x" * 300, signs="höst name", empty="")
def host_name(s, name):
    def prepare():
        socket.gethostname = lambda: name

    s.hurt(prepare=prepare)


@injection(
    "parameters changed between runs",
    order={"ffn_dims": [256, 128], "active_experts": [2, 1]},
    fewer={"ffn_dims": [128]},
)
def other_parameters(s, values):
    whole_ = s.complete()
    s.params(**values)
    ended = s.measure()
    s.judge(ended, expect=1)
    s.kept(whole_)
    if s.times("measure") > POINTS:
        s.seen["doubled"].append(f"{s.times('measure')} measurements of {POINTS} points")
    s.params()
    s.rerun()


@injection("an answer without end")
def endless_answer(s):
    def prepare():
        from moebook.measure import worker_handle

        worker_handle.MOST_PENDING = 1 << 20

    s.tell(measure={"3": {"do": "endless", "mb": 4}})
    s.hurt(say="has no end", retry="failed", prepare=prepare)


MANY = {"ffn_dims": [64 * n for n in range(1, 17)], "expert_counts": [4, 5, 6, 7]}


@injection("job array: all jobs at once", of_5=(5, {}, POINTS), of_64=(64, MANY, 129))
def whole_array(s, count, values, points):
    s.params(**values)
    s.limit_s = 600.0
    own = {"MOEBOOK_LOCKS": str(s.root / "tmp")}
    pids = {}
    for number in range(1, count + 1):
        locks = {"MOEBOOK_LOCKS": str(s.root / f"tmp/locks-{number}")}
        said = f"said-{number}"
        pids[said] = s.start(*s.command("--shard", f"{number}/{count}"), said=said, **locks)
    for said, pid in pids.items():
        ended = s.end(pid, said=said)
        s.judge(ended, expect=0)
        if ended.code:
            s.seen["unclear"].append(f"{said}: exit {ended.code}: {ended.last}")
    if s.times("measure") > points:
        s.seen["doubled"].append(f"{s.times('measure')} measurements of {points} points")
    s.environment |= own
    s.rerun(expect=points)


def table() -> bytes:
    frame = pd.DataFrame({"key": ["a"], "e2e_s": [1.0]})
    return parquet.frame_bytes(frame, {})


TABLES = {
    "empty": lambda d: b"",
    "garbage": lambda d: b"PAR1" + bytes(range(256)),
    "truncated": lambda d: d[: len(d) // 2],
    "other": lambda d: _plain_parquet(),
}


def _plain_parquet() -> bytes:
    out = io.BytesIO()
    pd.DataFrame({"x": [1]}).to_parquet(out)
    return out.getvalue()


@injection("results table damaged", **TABLES)
def table_damaged(s, change):
    path = s.root / "results.parquet"
    path.write_bytes(change(table()))
    try:
        parquet.read_frame(path)
    except ValueError as error:
        if str(path) not in str(error):
            s.seen["unclear"].append(str(error))
    else:
        s.seen["silent"].append("a damaged table was read")


def member(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / family.RECORD).write_text(json.dumps(dict.fromkeys(family.RECORDED, 1)))
    (folder / "config.json").write_text("{}")
    save_file({"a": np.zeros(100, np.float32)}, folder / "model.safetensors")
    return folder


HALF = {
    "record_truncated": (family.RECORD, lambda d: d[: len(d) // 2]),
    "record_gone": (family.RECORD, None),
    "record_list": (family.RECORD, lambda d: b"[]"),
    "config_gone": ("config.json", None),
    "config_truncated": ("config.json", lambda d: b"{"),
    "weights_gone": ("model.safetensors", None),
    "weights_truncated": ("model.safetensors", lambda d: d[:-100]),
    "weights_garbage": ("model.safetensors", lambda d: bytes(len(d))),
    "weights_empty": ("model.safetensors", lambda d: b""),
}


@injection("trained member damaged", **HALF)
def member_damaged(s, file, change):
    folder = member(s.root / "member")
    if why := family.damage(folder):
        s.seen["lost"].append(f"a whole member counts as damaged: {why}")
    path = folder / file
    path.unlink() if change is None else path.write_bytes(change(path.read_bytes()))
    if family.damage(folder) is None:
        s.seen["silent"].append("a damaged member counts as whole")


@injection("a model's folder is replaced by a process that is killed", kill=9, term=15)
def replaced(s, sig):
    """Pruning and training put whole folders in their place (cache_folder.building)."""
    folder = s.root / "model"
    folder.mkdir()
    (folder / "old").touch()
    for when in ("building", "replacing"):
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            if when == "replacing":
                cache_folder._exchange = lambda *_: os.kill(os.getpid(), sig)
            with cache_folder.building(folder, replace=True) as partial:
                (partial / "new").touch()
                if when == "building":
                    os.kill(os.getpid(), sig)
                    time.sleep(5)
            os._exit(0)
        os.waitpid(pid, 0)
        if [p.name for p in folder.iterdir()] not in (["old"], ["new"]):
            s.seen["lost"].append(f"killed while {when}: {list(folder.iterdir())}")
    with cache_folder.building(folder, replace=True) as partial:
        (partial / "new").touch()
    left = [p.name for p in s.root.glob(".model*")]
    s.seen["left"] += left
    if [p.name for p in folder.iterdir()] != ["new"]:
        s.seen["unrecovered"].append("the next one does not take its place")
