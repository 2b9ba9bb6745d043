"""Faults of the machine: disks, limits, permissions, terminals, other load."""

import ctypes
import os
import resource
import shutil
import subprocess
import sys
from contextlib import contextmanager

from frame import Skip, as_stream, injection, limit


@contextmanager
def mounted(s, options: str):
    folder = s.root / "outputs"
    folder.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True).returncode:
        raise Skip("needs the right to mount")
    try:
        yield lambda more: subprocess.run(
            ["mount", "-o", f"remount,{more}", str(folder)], check=True
        )
    finally:
        s.end_all()
        subprocess.run(["umount", "-l", str(folder)], check=False)


@injection("disk full", bytes="size=16k", inodes="size=10m,nr_inodes=9")
def disk_full(s, options):
    with mounted(s, options) as remount:
        ended = s.measure()
        s.judge(ended, "No space left on device")
        before = s.ok()
        remount("size=50m,nr_inodes=10000")
        s.rerun()
        s.kept(before)


@injection("folder read-only", at_start=False, whole=True)
def read_only(s, whole):
    with mounted(s, "size=10m") as remount:
        before = s.complete() if whole else {}
        remount("ro")
        ended = s.measure()
        s.judge(ended, "cannot write|Read-only")
        remount("rw")
        s.rerun()
        s.kept(before)


@injection("file size limit")
def file_size(s):
    s.hurt(say="File too large", prepare=limit(resource.RLIMIT_FSIZE, 1000))


@injection("too many open files", at_12=12, at_16=16, at_24=24)
def open_files(s, number):
    s.hurt(prepare=limit(resource.RLIMIT_NOFILE, number))
    s.measure("--retry", "failed")


@injection("memory limit", "slow", small=300 << 20, large=2 << 30)
def memory(s, size):
    ended = s.measure(prepare=limit(resource.RLIMIT_AS, size))
    s.judge(ended)
    s.rerun("--retry", "failed,oom")


@injection("nobody reads what is said", full="/dev/full", closed=None)
def nobody_reads(s, where):
    def prepare():
        read, write = os.pipe()
        os.close(read)
        os.dup2(os.open(where, os.O_WRONLY) if where else write, 1)
        sys.stdout = as_stream(1)

    ended = s.measure(prepare=prepare)
    s.judge(ended)
    s.rerun()


@injection("standard output knows ASCII alone")
def ascii_only(s):
    def prepare():
        sys.stdout = as_stream(1, "ascii")

    s.params(comparison_models=["tiny-qwen2-moe"])
    s.tell(measure={"3": {"do": "failed", "reason": "µ → 結果"}})
    s.hurt(say="failed", retry="failed", prepare=prepare)


PATHS = {
    "unicode": "aus gäbe/結果",
    "space": "a b/ c",
    "newline": "a\nb",
    "dash": "./-x",
    "percent": "100%/{a}",
    "quote": 'it\'s "q"',
    "glob": "[ab]*?",
    "long": "/".join(["x" * 200] * 12),
    "too_long": "/".join(["x" * 250] * 18),
    "name_too_long": "x" * 300,
    "variable": "$HOME/out",
    "address": "s3://bucket/out",
    "nul": "a\0b",
}


@injection("strange output folders", **PATHS)
def strange_path(s, name):
    ended = s.measure("--output-root", name)
    found = len([p for p in s.root.rglob("points/*.json") if p.is_file()])
    if "Traceback" in ended.said:
        s.seen["traceback"].append(ended.last)
    if ended.code == 0 and found != 5:
        s.seen["wrong"].append(f"exit 0 with {found} points")
    if ended.code and not ended.last.startswith("moebook:"):
        s.seen["unclear"].append(ended.last)


@injection("outputs is a link", folder="elsewhere", dangling="nowhere", loop="outputs")
def link(s, target):
    (s.root / "elsewhere").mkdir()
    (s.root / "outputs").symlink_to(target)
    ended = s.measure()
    s.judge(ended, "" if target == "elsewhere" else "moebook: |ok")


@injection(
    "something in a folder's or a file's place",
    log="worker.log",
    lock=".lock",
    points="points",
    folder="",
)
def in_place(s, name):
    path = s.folder / name
    if name in ("points", ""):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    else:
        path.mkdir(parents=True)
    ended = s.measure()
    s.judge(ended, "moebook: cannot write")
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    s.rerun()


@injection(
    "no home, no temporary folder",
    home={"HOME": "/dev/null/x"},
    temporary={"TMPDIR": "/nonexistent/tmp"},
    path={"PATH": "/nonexistent"},
)
def homeless(s, environment):
    ended = s.measure(**environment)
    s.judge(ended)
    s.rerun()


@injection("temporary folder removed in mid-run")
def tmp_removed(s):
    s.tell(measure={"2": {"do": "sleep", "s": 0.5}})
    pid = s.start(*s.command())
    s.asked("measure", 2)
    shutil.rmtree(s.root / "tmp")
    s.judge(s.end(pid))
    (s.root / "tmp").mkdir()
    s.rerun("--retry", "failed")


@injection(
    "git missing or odd",
    missing="",
    broken="#!/bin/sh\necho garbage; exit 0\n",
    fails="#!/bin/sh\nexit 128\n",
    hangs="#!/bin/sh\nexec sleep 20\n",
)
def git(s, script):
    own = s.root / "bin"
    own.mkdir()
    if script:
        (own / "git").write_text(script)
        (own / "git").chmod(0o755)
    path = str(own) if not script else f"{own}:{os.environ['PATH']}"
    s.hurt(PATH=path)


@injection("the clock", zone={"TZ": "Pacific/Kiritimati"}, odd_zone={"TZ": "Nowhere/Land"})
def clock(s, environment):
    s.hurt(**environment)
    if any(not r["provenance"]["started_at"].endswith("+00:00") for r in s.records().values()):
        s.seen["wrong"].append("a time without its zone")


@injection("the clock jumps", back=-400 * 86400, forth=400 * 86400)
def clock_jumps(s, shift):
    def prepare():
        import time

        real = time.time
        time.time = lambda: real() + (shift if (s.root / "done").exists() else 0)

    s.hurt(prepare=prepare)


@injection("permission lost", start="start", mid_run="mid", one_point="one")
def permission(s, when):
    if os.geteuid() != 0:
        raise Skip("needs root, to run as another")

    def as_another():
        """Without CAP_DAC_OVERRIDE, _READ_SEARCH and CAP_FOWNER (linux/capability.h)."""
        libc = ctypes.CDLL(None)
        header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
        refused = libc.capget(header, data)
        data[0], data[1] = data[0] & ~0b1110, data[1] & ~0b1110  # effective, permitted
        if refused or libc.capset(header, data):
            raise RuntimeError("capabilities cannot be dropped")

    for folder in (s.root, s.root / "tmp"):
        folder.chmod(0o777)
    if when == "one":
        whole = s.complete()
        whole.pop(s.first().name)  # set aside as what is damaged, and measured again
        s.first().chmod(0)
        for path in (s.folder, *s.folder.iterdir()):
            path.chmod(0o777)
    elif when == "start":
        (s.root / "outputs").mkdir(mode=0o555)
    s.tell(measure={"3": {"do": "sleep", "s": 0.5}})
    (s.root / "done").write_text("")
    (s.root / "done").chmod(0o666)
    pid = s.start(*s.command(), prepare=as_another)
    if when == "mid":
        s.asked("measure", 3)
        (s.folder / "points").chmod(0o555)
    ended = s.end(pid)
    s.judge(ended, "cannot|Permission denied")
    for path in s.root.rglob("outputs/**/*"):
        path.chmod(0o777)
    (s.root / "outputs").chmod(0o777)
    s.rerun()
    if when == "one":
        s.kept(whole)
