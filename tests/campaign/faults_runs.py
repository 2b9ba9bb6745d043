"""Faults of the command that measures: signals, a crash at any write, other runs beside it."""

import errno
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable

from frame import POINTS, injection

SIGNALS = {"kill": 9, "term": 15, "hup": 1}


def hook(match: str, nth: int, do: Callable) -> Callable:
    """For `prepare`: the n-th time that a file whose path matches is put in its place, `do(go)`."""

    def install() -> None:
        seen = []

        def wrap(real):
            def wrapped(source, target, *args, **kwargs):
                def go():
                    return real(source, target, *args, **kwargs)

                if re.search(match, str(target)) and target not in seen[-1:]:
                    seen.append(target)
                return do(go) if len(seen) == nth and target == seen[-1] else go()

            return wrapped

        os.link, os.replace = wrap(os.link), wrap(os.replace)

    return install


def dies(sig: int, after: bool = False):
    def do(go):
        found = go() if after else None
        os.kill(os.getpid(), sig)
        time.sleep(0.2)
        return found if after else go()

    return do


def fails(number: int):
    def do(go):
        raise OSError(number, os.strerror(number))

    return do


def at_point(s, number: int = 3, op: str = "measure") -> int:
    """The command, once its worker is at the n-th point, which takes long."""
    s.tell(**{op: {str(number): {"do": "sleep", "s": 60}}})
    pid = s.start(*s.command())
    s.asked(op, number)
    time.sleep(0.05)
    return pid


def finish(s, pid: int, say: str = "", **rerun) -> int:
    """The code that the command ended with."""
    before = s.ok()
    ended = s.end(pid)
    s.judge(ended, say)
    s.rerun(**rerun)
    s.kept(before)
    return ended.code


@injection("command killed in mid-point", **SIGNALS)
def killed_mid_point(s, sig):
    pid = at_point(s)
    os.kill(pid, sig)
    finish(s, pid)


@injection("Ctrl-C in mid-point")
def ctrl_c(s):
    pid = at_point(s)
    os.killpg(pid, signal.SIGINT)
    code = finish(s, pid, "interrupted: 2 of 5 points are kept")
    if code != 128 + signal.SIGINT:
        s.seen["unclear"].append(f"Ctrl-C ends with {code}")


@injection("Ctrl-C twice", once_more=0.01, later=0.3)
def ctrl_c_twice(s, gap):
    pid = at_point(s)
    os.killpg(pid, signal.SIGINT)
    time.sleep(gap)
    try:
        os.killpg(pid, signal.SIGINT)
    except ProcessLookupError:
        pass
    finish(s, pid)


@injection("command killed as it starts", **SIGNALS, int=2)
def killed_at_start(s, sig):
    pid = s.start(*s.command())
    time.sleep(0.1)
    os.kill(pid, sig)
    finish(s, pid)


@injection("command killed as an engine or the peaks start", engine="start", peaks="ceilings")
def killed_at_engine(s, op):
    pid = at_point(s, 1, op)
    os.kill(pid, 9)
    finish(s, pid)


@injection("command killed between write and rename", kill=9, int=2, term=15)
def killed_at_write(s, sig):
    s.hurt(prepare=hook("points/", 3, dies(sig)))


@injection("command killed right after a rename", kill=9, int=2)
def killed_after_write(s, sig):
    s.hurt(prepare=hook("points/", 3, dies(sig, after=True)))


@injection("command killed as it writes the peaks", kill=9, int=2)
def killed_at_peaks(s, sig):
    s.hurt(prepare=hook("ceilings.json", 1, dies(sig)))
    if not (s.folder / "ceilings.json").exists():
        s.seen["unrecovered"].append("no ceilings.json after the re-run")


@injection(
    "a write fails in mid-run",
    quota=errno.EDQUOT,
    full=errno.ENOSPC,
    io=errno.EIO,
    nfs=errno.ESTALE,
    read_only=errno.EROFS,
)
def write_fails(s, number):
    s.hurt(say=re.escape(os.strerror(number)), prepare=hook("points/", 3, fails(number)))


@injection("file system without links")
def no_links(s):
    s.hurt(prepare=hook("points/", 2, fails(errno.EPERM)))


@injection("a lock cannot be had", enolck=errno.ENOLCK, eio=errno.EIO)
def no_locks(s, number):
    def refuse():
        def flock(*_):
            raise OSError(number, os.strerror(number))

        fcntl.flock = flock

    s.hurt(say="lock", prepare=refuse)


def beside(s, *options, gap: float = 0.0, first=(), say="", both_may=False, **env) -> None:
    """A second run while one measures; it is refused, or finds all there."""
    held = {"1": {"do": "hold"}} if gap == 0 else {}
    s.tell(measure={"*": {"slow": 0.5}, **held})
    pid = s.start(*s.command(*first))
    s.asked("measure", 1) if gap == 0 else time.sleep(gap)
    second = s.end(s.start(*s.command(*options), said="other", **env), said="other")
    (s.root / "go").touch()
    one = s.end(pid)
    for ended in (one, second):
        if "Traceback" in ended.said:
            s.seen["traceback"].append(ended.last)
    if say and not re.search(say, second.said + one.said):
        s.seen["unclear"].append(second.last)
    if s.times("measure") > POINTS:
        s.seen["doubled"].append(f"{s.times('measure')} measurements of {POINTS} points")
    if second.code == 0 and one.code == 0 and not both_may:
        s.seen["wrong"].append("both exit 0")
    s.rerun()


@injection("two runs at one folder", later=0.0, same_moment=0.001)
def two_runs(s, gap):
    beside(s, gap=gap, say="another run measures|in use")


@injection("two runs on one device, in two folders")
def one_device(s):
    beside(s, "--output-root", "other_outputs", say="is in use by process")


@injection("device's lock file removed under a run")
def device_lock_removed(s):
    s.tell(measure={"*": {"slow": 0.5}})
    pid = s.start(*s.command())
    s.asked("measure", 1)
    (s.root / "cpu").unlink()
    second = s.end(s.start(*s.command("--output-root", "elsewhere"), said="other"), said="other")
    s.judge(s.end(pid))
    if second.code == 0 or "is in use by" not in second.said:
        s.seen["doubled"].append(f"two runs on one device: {second.last}")
    s.rerun()


@injection("lock file removed under a run")
def lock_removed(s):
    s.tell(measure={"*": {"slow": 0.2}})
    pid = s.start(*s.command())
    s.asked("measure", 1)
    (s.folder / ".lock").unlink()
    other = s.start(*s.command(), said="other", MOEBOOK_LOCKS=str(s.root / "tmp/locks"))
    second = s.end(other, said="other")
    one = s.end(pid)
    s.judge(one)
    if second.code == 0 or s.times("measure") > POINTS:
        s.seen["doubled"].append(f"{s.times('measure')} measurements, second: {second.last}")
    shutil.rmtree(s.root / "tmp/locks", ignore_errors=True)
    s.rerun()


@injection("job array: a job is missing")
def shard_missing(s):
    ended = s.measure("--shard", "1/3")
    s.judge(ended, expect=0)
    s.rerun()


@injection("job array: the same job twice", same=("1/2", "1/2"), whole_beside=("1/2", None))
def shard_twice(s, first, second):
    options = ("--shard", second) if second else ()
    own = {"MOEBOOK_LOCKS": str(s.root / "tmp")}
    beside(s, *options, first=("--shard", first), say="another run measures", **own)


@injection("job array: counts changed between jobs", up=("1/2", "2/3"), down=("1/3", "1/2"))
def shard_counts(s, first, second):
    own = {"MOEBOOK_LOCKS": str(s.root / "tmp")}
    beside(s, "--shard", second, first=("--shard", first), say="same count", **own)


@injection("job array: a job is killed")
def shard_killed(s):
    s.tell(measure={"2": {"do": "sleep", "s": 60}})
    pid = s.start(*s.command("--shard", "1/2"))
    s.asked("measure", 2)
    os.kill(pid, 9)
    s.end(pid)
    s.rerun()


@injection("outputs removed in mid-run", outputs="outputs", folder="outputs/hurt", points=None)
def removed(s, what):
    s.tell(measure={"3": {"do": "sleep", "s": 1}})
    pid = s.start(*s.command())
    s.asked("measure", 3)
    shutil.rmtree(s.root / what if what else s.folder / "points")
    ended = s.end(pid)
    s.judge(ended, "removed|not_run")
    s.rerun()


@injection("parameter file changed in mid-run")
def params_changed(s):
    s.tell(measure={"3": {"do": "sleep", "s": 0.5}})
    pid = s.start(*s.command())
    s.asked("measure", 3)
    (s.root / "01_hyperparameter_scaling.yaml").write_text("profile: [")
    ended = s.end(pid)
    s.params()
    s.judge(ended)
    s.rerun()


@injection("stopped and continued (SIGSTOP)", command=False, worker=True)
def suspended(s, worker):
    s.tell(measure={"3": {"do": "sleep", "s": 0.3}})
    pid = s.start(*s.command())
    hit = s.asked("measure", 3) if worker else (s.asked("measure", 3), pid)[1]
    os.kill(hit, signal.SIGSTOP)
    time.sleep(1)
    os.kill(hit, signal.SIGCONT)
    ended = s.end(pid)
    s.judge(ended)
    s.rerun()


@injection("old completion record", measured="measured", folder="folder")
def old_done(s, how):
    s.complete()
    done = s.folder / "DONE.json"
    done.mkdir() if how == "folder" else done.write_text('{"points": {"ok": 5}}')
    s.first().unlink()
    s.tell(measure={"*": {"do": "failed"}})
    s.hurt(retry="failed")
    if done.is_file():
        s.seen["wrong"].append("DONE.json of an earlier run stands over a failed one")


@injection(
    "throttled by the driver",
    power=(["power cap"], "power_cap", "at its power limit"),
    heat=(["temperature (hardware)"], "throttled", "throttled the card: temperature"),
)
def throttled(s, reasons, mark, words):

    def prepare():
        from moebook import devices

        devices.gpu_state = lambda device: {"throttled": reasons}

    s.hurt(say=words, prepare=prepare)
    if any(mark not in r["marks"] for r in s.records().values()):
        s.seen["wrong"].append("a throttled point is not marked")


@injection("other load on the host")
def other_load(s):
    """A process that computes while one point is measured."""
    s.tell(measure={"*": {"slow": 1.0}})
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        s.hurt(say="other processes kept")
    finally:
        for process in busy:
            process.kill()
            process.wait()


@injection("repeat stopped by SIGSTOP")
def stopped_repeat(s):
    """The engine's own clock goes on: the repeat that was stopped is marked."""
    s.tell(measure={"3": {"clocked": 0.1}})
    pid = s.start(*s.command())
    worker = s.asked("measure", 3)
    time.sleep(0.15)
    os.kill(worker, signal.SIGSTOP)
    time.sleep(1.0)
    os.kill(worker, signal.SIGCONT)
    s.judge(s.end(pid), "held up")
    s.rerun()
    if sum("held_up" in r.get("marks", {}) for r in s.records().values()) != 1:
        s.seen["wrong"].append("the stopped repeat is not marked")


@injection("data cannot be brought to the disk", quota=errno.EDQUOT, io=errno.EIO)
def fsync_fails(s, number):
    """What was written is told to be lost only as it is made lasting: NFS, quotas."""

    def prepare():
        real, seen = os.fsync, []

        def fsync(handle):
            seen.append(handle)
            if len(seen) == 4:
                raise OSError(number, os.strerror(number))
            real(handle)

        os.fsync = fsync

    s.hurt(say=re.escape(os.strerror(number)), prepare=prepare)


@injection("a network file system answers late")
def slow_disk(s):
    def prepare():
        real = os.fsync
        os.fsync = lambda handle: (time.sleep(0.3), real(handle))

    s.hurt(prepare=prepare)


@injection("a link is made, and told not to be", there=errno.EEXIST, io=errno.EIO)
def link_told_wrong(s, number):
    """NFS: the answer is lost, and the request sent again meets its own work."""

    def prepare():
        real = os.link

        def link(source, target):
            real(source, target)
            raise OSError(number, os.strerror(number))

        os.link = link

    s.hurt(prepare=prepare)


@injection("results folder renamed in mid-run", notebook="", profile="..")
def renamed(s, what):
    s.tell(measure={"3": {"do": "sleep", "s": 1}})
    pid = s.start(*s.command())
    s.asked("measure", 3)
    before, folder = s.ok(), (s.folder / what).resolve()
    folder.rename(s.root / "elsewhere")
    ended = s.end(pid)
    s.judge(ended, "removed or replaced")
    shutil.rmtree(folder, ignore_errors=True)
    (s.root / "elsewhere").rename(folder)
    s.kept(before)
    s.rerun()


@injection("terminal closes")
def terminal_closes(s):
    pid = at_point(s)
    os.killpg(pid, signal.SIGHUP)
    finish(s, pid)


@injection("Ctrl-Z, and on in the foreground")
def ctrl_z(s):
    s.tell(measure={"3": {"do": "sleep", "s": 0.5}})
    pid = s.start(*s.command())
    s.asked("measure", 3)
    os.killpg(pid, signal.SIGSTOP)
    time.sleep(1.5)
    os.killpg(pid, signal.SIGCONT)
    s.judge(s.end(pid))
    s.rerun()


@injection(
    "files of other programs beside the points",
    backup="{}~",
    apple="._{}",
    conflict="{} (conflicted copy).json",
    nfs=".nfs0000000000000001",
    swap=".{}.swp",
)
def neighbours(s, name):
    whole = s.complete()
    first = s.first()
    other = first.with_name(name.format(first.name))
    other.write_bytes(first.read_bytes())
    s.hurt(before=whole)
    other.unlink(missing_ok=True)
    for aside in first.parent.glob("*.corrupt*"):
        aside.unlink()
    s.rerun()
