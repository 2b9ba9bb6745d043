"""Faults of the worker and its engine: it dies, hangs, lies, or writes where it should not."""

import os
import re
import signal

from frame import POINTS, injection

NAN, INF = float("nan"), float("inf")


def third(**what) -> dict:
    return {"measure": {"3": what}}


@injection(
    "worker killed in mid-point",
    **{
        name: getattr(signal, f"SIG{name.upper()}").value
        for name in ("kill", "term", "int", "hup", "segv", "abrt", "xcpu", "bus", "usr1")
    },
)
def worker_killed(s, sig):
    s.tell(**third(do="signal", sig=sig))
    s.hurt(say=f"signal {signal.Signals(sig).name}|exit code", retry="failed")


@injection("worker killed by a signal without a name", s35=35, s50=50)
def nameless_signal(s, sig):
    s.tell(**third(do="signal", sig=sig))
    s.hurt(say=f"signal {sig}", retry="failed")


@injection("worker ends by itself", zero=0, three=3)
def worker_exits(s, code):
    s.tell(**third(do="exit", code=code))
    s.hurt(say=f"exit code {code}", retry="failed")


@injection("worker stopped for good (SIGSTOP)")
def worker_stopped(s):
    s.tell(**third(do="signal", sig=signal.SIGSTOP))
    s.hurt(say="no answer within 1 s", retry="timeout", prepare=limits(point=1))


@injection("worker ends before it is ready", first=(1, {}), second=(2, third(do="exit", code=1)))
def no_boot(s, number, plan):
    s.tell(boot={str(number): {"do": "exit", "code": 3}}, **plan)
    say = "did not get as far as its first request.*No module named"
    s.hurt(say=say, retry="failed" if number > 1 else "")


@injection(
    "peaks cannot be measured",
    killed={"do": "signal", "sig": 9},
    failed={"do": "failed", "reason": "no kernel"},
    bug={"do": "raise", "what": "bug"},
)
def no_peaks(s, what):
    s.tell(ceilings={"1": what})
    s.hurt(say="peaks could not be measured")
    if not (s.folder / "ceilings.json").exists():
        s.seen["unrecovered"].append("ceilings are never measured again")


@injection("impossible peaks", zero=0.0, negative=-1.0, nan=NAN, inf=INF, text="fast", null=None)
def impossible_peaks(s, value):
    s.tell(peaks={"copy_bytes_per_s": value})
    s.hurt(say="peaks could not be measured")
    if not (s.folder / "ceilings.json").exists():
        s.seen["unrecovered"].append("ceilings are never measured again")


@injection(
    "engine does not start",
    killed={"do": "signal", "sig": 9},
    exits={"do": "exit", "code": 0},
    bug={"do": "raise", "what": "bug"},
    failed={"do": "failed"},
    oom={"do": "oom"},
)
def no_start(s, what):
    s.tell(start={"2": what})
    status = "oom" if what["do"] == "oom" else "failed"
    s.hurt(say=status, retry="failed,oom")


@injection(
    "engine gives impossible times",
    nan=NAN,
    inf=INF,
    negative=-1.0,
    zero=0.0,
    text="fast",
    null=None,
    list=[1.0],
    flag=True,
)
def impossible(s, value):
    s.tell(**third(set={"e2e_s": value}))
    s.hurt(say="impossible measurement", retry="failed")


@injection("one repeat is impossible", nan=NAN, negative=-0.2, zero=0.0)
def one_impossible(s, value):
    s.tell(**third(set={"e2e_s": value}, at=1))
    s.hurt(say="impossible measurement", retry="failed")


@injection("TTFT is impossible", nan=NAN, over_e2e=9.0, zero=0.0, negative=-1.0)
def impossible_ttft(s, value):
    s.tell(**third(set={"ttft_s": value}))
    s.hurt(say="impossible measurement: .*ttft_s", retry="failed")


ROW = {"ttft_s": 0.1, "e2e_s": 0.2}


@injection(
    "repeats are not whole",
    none=[],
    fewer=[ROW],
    more=[ROW] * 4,
    no_e2e=[{"ttft_s": 0.1}] * 3,
    no_ttft=[{"e2e_s": 0.1}] * 3,
    empty=[{}] * 3,
)
def rows_not_whole(s, rows):
    s.tell(**third(rows=rows))
    s.hurt(say="impossible measurement", retry="failed")


@injection("repeats are no rows", number=3, text="rows", null=None, numbers=[1, 2, 3])
def no_rows(s, rows):
    s.tell(**third(rows=rows))
    s.hurt(say="impossible measurement", retry="failed")


@injection("one repeat is held up", ttft={"ttft_s": 60.0}, e2e={"e2e_s": 60.0})
def outlier(s, values):
    s.tell(**third(set=values, at=1))
    s.hurt(say="held up")
    marked = [r for r in s.records().values() if r.get("marks")]
    if len(marked) != 1:
        s.seen["wrong"].append(f"{len(marked)} records are marked")


@injection("engine hangs")
def hangs(s):
    s.tell(**third(do="sleep", s=600))
    s.hurt(say="no answer within 1 s", retry="timeout", prepare=limits(point=1))


@injection("engine hangs as it switches")
def switch_hangs(s):
    s.tell(switch={"1": {"do": "sleep", "s": 600}})
    s.hurt(say="no answer within 3 s", prepare=limits(start=3))


def limits(point: float = 600.0, start: float = 600.0, stop: float = 60.0):
    """For `prepare`: seconds that these may take, of this run alone: under load also what does not
    hang takes more than a second."""

    def prepare():
        from moebook.measure import schedule, worker_handle

        schedule.Sweep.limit_s = property(lambda sweep: point, lambda sweep, value: None)
        schedule.START_LIMIT_S, schedule.STOP_LIMIT_S, worker_handle.END_S = start, stop, 1.0

    return prepare


@injection("engine hangs as it starts", "slow")
def start_hangs(s):
    s.tell(start={"1": {"do": "sleep", "s": 600}})
    s.hurt(say="no answer within", retry="timeout,failed", prepare=limits(start=1))


@injection("engine hangs at its end", between=1, last=3)
def stop_hangs(s, number):
    s.tell(stop={str(number): {"do": "sleep", "s": 600}})
    s.hurt(prepare=limits(stop=1))


@injection(
    "engine dies at its end",
    bug={"do": "raise", "what": "bug"},
    killed={"do": "signal", "sig": 9},
    failed={"do": "failed"},
)
def stop_dies(s, what):
    s.tell(stop={"1": what})
    s.hurt()


@injection("engine answers late")
def late(s):
    s.params(point_limit_minutes=0.1)
    s.tell(**third(do="sleep", s=2))
    s.hurt()


@injection(
    "engine prints to standard output",
    json='{"ok": true, "repeats": []}\n',
    binary="\0\x1b[2J\n",
    id='{"ok": true, "id": 4, "repeats": []}\n',
)
def prints(s, text):
    s.tell(**third(do="print", text=text))
    s.hurt()


@injection(
    "something else writes on the channel",
    garbage="hello\n",
    no_end="hello",
    list="[1, 2]\n",
    nul="\0\0",
    answer='{"ok": true, "repeats": [{"ttft_s": 1.0, "e2e_s": 2.0}]}\n',
    other_id='{"ok": true, "id": 99, "repeats": []}\n',
    deep="[" * 100000 + "\n",
)
def on_channel(s, text):
    s.tell(**third(do="reply", text=text))
    s.hurt()
    if any(row["e2e_s"] == 2.0 for r in s.records().values() for row in r["repeats"]):
        s.seen["wrong"].append("a line of the engine's was taken for an answer")


@injection("half an answer, then death")
def partial(s):
    s.tell(**third(do="partial"))
    s.hurt(say="exit code 3", retry="failed")


@injection("flood of log", start="start", measure="measure")
def flood(s, op):
    s.tell(**{op: {"1": {"do": "flood", "mb": 100}}})
    s.hurt()
    if (size := (s.folder / "worker.log").stat().st_size) > 64 << 20:
        s.seen["left"].append(f"a log of {size} bytes")


@injection(
    "engine fails at a point",
    failed={"do": "failed"},
    oom={"do": "oom"},
    memory={"do": "raise", "what": "memory"},
    bug={"do": "raise", "what": "bug"},
)
def point_fails(s, what):
    s.tell(**third(**what))
    s.hurt(say="without a number: 1 (failed|oom)", retry="failed,oom")


@injection("every point fails", failed="failed", oom="oom")
def all_fail(s, status):
    s.tell(measure={"*": {"do": status}})
    s.hurt(say=f"{POINTS} {status}", retry=status)


@injection("failed points are accepted on demand", failed="failed", oom="oom")
def allowed(s, status):
    s.tell(**third(do=status))
    ended = s.measure("--allow-failed")
    if ended.code:
        s.seen["unclear"].append(f"--allow-failed exits {ended.code}")
    s.rerun("--retry", status)


@injection(
    "odd reasons",
    signs="sep\0\x1b[31m \u2028 \U0001f600 \"'{}",
    long="x" * 20_000_000,
    empty="",
    lines="a\nb\n" * 5,
)
def odd_reason(s, reason):
    s.tell(**third(do="failed", reason=reason))
    ended = s.hurt(say="failed", retry="failed")
    if len(ended.said) > 20_000 or "\x1b" in ended.said:
        s.seen["unclear"].append(f"{len(ended.said)} signs said")


@injection("worker dies and leaves a child", spawned="child", forked="fork")
def leaves_child(s, how):
    s.tell(**third(do=how))
    s.hurt(say="SIGKILL", retry="failed")


@injection("engine's child killed")
def child_killed(s):
    s.tell(**third(do="child", kill="child"))
    s.hurt(say="a child of the engine ended", retry="failed")


@injection("shared memory of a killed engine", worker="worker", command="command")
def shared_memory(s, who):
    s.tell(start={"1": {"do": "shared"}}, measure={"2": {"do": "sleep", "s": 60}})
    pid = s.start(*s.command())
    worker = s.asked("measure", 2)
    os.kill(worker if who == "worker" else pid, 9)
    s.judge(s.end(pid))
    s.rerun("--retry", "failed")


@injection("what a worker leaves among temporary files", whole="whole", killed="killed")
def temporaries(s, how):
    if how == "killed":
        s.tell(**third(do="sleep", s=60))
        pid = s.start(*s.command())
        s.asked("measure", 3)
        os.kill(pid, 9)
        s.end(pid)
    s.rerun()


@injection("many faults in one sweep")
def many(s):
    s.tell(
        measure={"1": {"do": "signal", "sig": 9}, "2": {"do": "oom"}, "3": {"set": {"e2e_s": 0}}}
    )
    ended = s.hurt(retry="failed,oom")
    if not re.search('"failed": 2', ended.said):
        s.seen["unclear"].append(ended.last)
