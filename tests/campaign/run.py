"""The campaigns: faults and bad inputs, each in a folder of its own, and a table of counts.

python tests/campaign/run.py [--fast] [--only NAME,...] [--list] [--work FOLDER] [--jobs 2]

--fast: one case of each fast kind. Exits 1 where anything is lost, changed, doubled, told wrong,
silent, hangs or ends in a traceback, or more than MOST_LEFT injections leave something behind, are
unclear or do not recover."""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
import traceback
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # the commands are forks of this process
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[2])]

import frame  # noqa: E402
import kinds  # noqa: E402

from moebook import cli, sections  # noqa: E402, F401
from moebook.measure import executors, run  # noqa: E402, F401
from moebook.study import params  # noqa: E402

NONE_OF = ("lost", "changed", "doubled", "wrong", "silent", "hang", "traceback")
MOST_LEFT = 5


def chosen(fast: bool, only: list[str]) -> list[frame.Injection]:
    found = [i for i in kinds.all() if not only or any(i.name.startswith(n) for n in only)]
    if not fast:
        return found
    first = {}
    for one in found:
        if one.group == "fast":
            first.setdefault(one.kind, one)
    return list(first.values())


def inject(number: int, work: str) -> dict:
    """What was seen of the n-th injection of all."""
    one = kinds.all()[number]
    site, started = frame.Site(Path(work) / str(number)), time.monotonic()
    told = {"folder": number, "kind": one.kind, "name": one.name, "skipped": "", "broken": ""}
    try:
        one.run(site, *one.given)
    except frame.Skip as why:
        told["skipped"] = str(why)
    except Exception:
        told["broken"] = traceback.format_exc(limit=3)
    finally:
        site.end_all()
    return {**told, "seconds": round(time.monotonic() - started, 1), **site.seen}


def line(row: dict) -> str:
    wrong = [f"{name}: {row[name][0]}" for name in frame.COUNTS if row[name]]
    told = row["skipped"] and f"skipped: {row['skipped']}" or row["broken"] or "; ".join(wrong)
    return f"{row['seconds']:5.1f} s  {row['name']:44} {told or 'ok'}"


def table(rows: list[dict]) -> str:
    ran = [r for r in rows if not r["skipped"] and not r["broken"]]
    head = f"{len(ran)} injections of {len({r['kind'] for r in ran})} kinds"
    counts = [f"  {name:12} {sum(bool(r[name]) for r in ran)}" for name in frame.COUNTS]
    apart = [f"  {what:12} {sum(bool(r[what]) for r in rows)}" for what in ("skipped", "broken")]
    return "\n".join([head, *counts, *apart])


def passed(rows: list[dict]) -> bool:
    none = not any(r[name] for r in rows for name in (*NONE_OF, "broken"))
    left = sum(bool(r["left"] or r["unclear"] or r["unrecovered"]) for r in rows)
    return none and left <= MOST_LEFT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--only", default="", help="beginnings of names: a,b")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--work", help="keep the folders of the injections here")
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    found = chosen(given.fast, [name for name in given.only.split(",") if name])
    if given.list:
        print("\n".join(f"{i.group:5} {i.name:44} {i.kind}" for i in found))
        print(f"{len(found)} injections of {len({i.kind for i in found})} kinds")
        return
    section = sections.find("01")  # what planning reads is read once, before the forks
    section.plan(params.build(section.params, frame.SMALL, "small"))
    work = given.work or tempfile.mkdtemp(prefix="campaign-")  # sockets need short paths
    numbers = [kinds.all().index(one) for one in found]
    rows = []
    with ProcessPoolExecutor(given.jobs, multiprocessing.get_context("fork")) as pool:
        for row in pool.map(inject, numbers, [work] * len(numbers)):
            rows.append(row)
            print(line(row), flush=True)
    if given.work:
        (Path(work) / "seen.json").write_text(json.dumps(rows, indent=1))
    else:
        shutil.rmtree(work, ignore_errors=True)
    print(table(rows))
    sys.exit(0 if passed(rows) else 1)


if __name__ == "__main__":
    main()
