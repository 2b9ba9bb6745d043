"""The outputs folder of one notebook and profile: one JSON per measured point, written once, never changed.

points/<id>.json    a record: the point's identity, status, reason, repeats, engine facts, provenance
routing/<key>.npz   expert choices of a routing or ablation point, per sequence
ceilings.json       the device's measured copy bandwidth and matrix rate
.lock               held while something measures here, so that two runs cannot interleave; shared by the jobs of an
                    array, each of which holds its own, such as .lock.3of8
"""

import fcntl
import json
import os
import tempfile
from collections.abc import Callable
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from moebook.plan import Plan, Point

CEILINGS = ("device", "copy_bytes_per_s", "matmul_flops_per_s", "dtype")
STATUSES = ("ok", "oom", "failed", "timeout", "infeasible", "not_run")


class FolderInUse(RuntimeError):
    """Another run measures into this folder."""


class Unwritable(OSError):
    """The outputs folder cannot be written."""


def write_atomic(path: Path, data: bytes, place: Callable[[str, Path], None] = os.replace) -> None:
    """All of the file or none of it, also when the machine stops in between. place: puts the whole file where it belongs."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(temporary, 0o644)
        place(temporary, path)
    except OSError as error:
        raise Unwritable(f"cannot write {path}: {error.strerror}; choose another folder with "
                         f"`output_root` or make this one writable") from None


def _unless_there(temporary: str, path: Path) -> None:
    """As os.replace, but of several writers the first decides, also of two at the same moment."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:                         # a file system without links
        return os.replace(temporary, path)
    os.unlink(temporary)


class Store:
    def __init__(self, output_root: str | Path, plan: Plan):
        self.folder = Path(output_root) / plan.profile / plan.notebook
        self.points_folder = self.folder / "points"
        self.plan = plan

    def path(self, point: Point, device_name: str, engine_version: str) -> Path:
        return self.points_folder / f"{point.point_id(device_name, engine_version)}.json"

    def counts_file(self, key: str) -> Path:
        """Where the expert choices of a routing point are counted, per sequence (engine/counts.py)."""
        return self.folder / "routing" / f"{key}.npz"

    def read(self, path: Path) -> dict | None:
        """The record in a point file; None where there is none. A file that is no record is set aside by name, so
        that its point is measured again and the damaged file stays to be looked at."""
        try:
            record = json.loads(path.read_text())
        except FileNotFoundError:
            return None
        except (json.JSONDecodeError, UnicodeDecodeError):
            record = None
        if not _is_record(record):
            _set_aside(path, "is no complete point file", "its point counts as not measured")
            return None
        return record

    def write(self, path: Path, record: dict) -> None:
        write_atomic(path, json.dumps(record, separators=(",", ":"), sort_keys=True).encode())

    def records(self, device: str | None = None) -> dict[str, dict]:
        """Records by key, all of one device and engine; `device` (a name) chooses where the folder holds several."""
        found: dict[tuple, dict[str, dict]] = {}
        for path in sorted(self.points_folder.glob("*.json")):
            if (record := self.read(path)) is not None:
                source = (record["provenance"]["device"], record["provenance"]["engine_version"])
                found.setdefault(source, {})[record["key"]] = record
        if device is not None:
            found = {source: records for source, records in found.items() if source[0] == device}
        wanted = {p.key for p in self.plan.points}
        found = {source: records for source, records in found.items() if wanted & set(records)}
        if len(found) > 1:
            sources = "; ".join(" with ".join(source) for source in found)
            raise ValueError(f"{self.points_folder} holds points of this plan from several devices or engines "
                             f"({sources}): keep one, or use another profile name for the other")
        return next(iter(found.values()), {})

    def ceilings(self, device_name: str) -> dict | None:
        path = self.folder / "ceilings.json"
        if not path.exists():
            return None
        try:
            data = json.loads(path.read_text())
        except (json.JSONDecodeError, UnicodeDecodeError):
            data = None
        if not (isinstance(data, dict) and set(CEILINGS) <= set(data)):
            _set_aside(path, "holds no ceilings", "they count as not measured")
            return None
        return data if data["device"] == device_name else None

    def write_ceilings(self, ceilings: dict) -> None:
        """Of several jobs that measure them at once, the first to write decides; those of another device give way."""
        if self.ceilings(ceilings["device"]) is not None:
            return
        path = self.folder / "ceilings.json"
        write_atomic(path, json.dumps(ceilings, indent=1).encode(), os.replace if path.exists() else _unless_there)

    @contextmanager
    def locked(self, part: str | None = None):
        """part: the name of a shard, which shares the folder with other shards and with nothing else."""
        with ExitStack() as stack:
            stack.enter_context(self._held(".lock", fcntl.LOCK_EX if part is None else fcntl.LOCK_SH))
            if part is not None:
                stack.enter_context(self._held(f".lock.{part}", fcntl.LOCK_EX))
            yield

    @contextmanager
    def _held(self, name: str, how: int):
        path = self.folder / name
        with _lock_file(path) as handle:
            try:
                fcntl.flock(handle, how | fcntl.LOCK_NB)
            except BlockingIOError:
                raise FolderInUse(f"another run measures into {self.folder} ({name} is held); wait for it, or give this "
                                  f"one another `output_root` or `profile`") from None
            except OSError as error:
                raise Unwritable(f"cannot lock {path}: {error.strerror}; choose a file system that has locks with "
                                 f"`output_root`") from None
            yield


def _lock_file(path: Path) -> IO[str]:
    """Open to read and write: NFS turns `flock` into byte-range locks, whose shared kind needs a file that can be read."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return path.open("a+")
    except OSError as error:
        raise Unwritable(f"cannot write {path}: {error.strerror}; choose another folder with `output_root` "
                         f"or make this one writable") from None


def _set_aside(path: Path, what: str, so: str) -> None:
    aside = path.with_suffix(".json.corrupt")
    os.replace(path, aside)
    print(f"moebook: {path.name} {what}; set aside as {aside.name}, {so}", flush=True)


def _is_record(record: object) -> bool:
    return (isinstance(record, dict) and {"key", "status", "repeats", "provenance"} <= set(record)
            and record["status"] in STATUSES and isinstance(record["provenance"], dict)
            and {"device", "engine_version"} <= set(record["provenance"]))
