"""The schema of what is stored: point records, ceilings, completion records. It is checked before
anything is written and whenever it is read, so that no number that cannot have been measured counts
as one.

A record's file is named by the digest of its key, device and engine; the file of expert choices of
a routing or ablation point is named by its hash in the record (`counts_sha256`)."""

import hashlib
import json
import math
import os
import re
import statistics
from typing import Annotated, Any, Literal, Required

from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    JsonValue,
    StrictStr,
    TypeAdapter,
    ValidationError,
)
from typing_extensions import TypedDict

from moebook.devices.nvml import POWER_CAP
from moebook.study.methods import METHODS

VERSION = 1  # of these files; raise it where an older moebook would misread them
STATUSES = ("ok", "oom", "failed", "timeout", "infeasible", "not_run")
IMPOSSIBLE = "impossible measurement"
HELD_UP = 3.0  # times the median of its point's repeats
LOAD = 0.1  # of the host's cores
MAY_LACK = ("layer_graph_s",)
SEAL = b',"sha256":"%b"}'
STRICT = {"__pydantic_config__": ConfigDict(extra="allow", strict=True)}


class Newer(ValueError):
    """A file of a newer moebook."""


class NotValid(ValueError):
    """Not of this schema; the text says where."""


def repeat_problems(method: str, repeats: list[dict], planned: int) -> list[str]:
    """Why these repeats of a method cannot have been measured, with the values."""
    if not isinstance(repeats, list) or not all(isinstance(row, dict) for row in repeats):
        return [f"repeats are {repeats!r:.60}, no list of rows"]
    if method not in METHODS:
        return [f"method {method!r} is none of {', '.join(METHODS)}"]
    if method == "routing":
        return []
    wanted = 1 if method == "training" else planned
    found = [] if len(repeats) == wanted else [f"{len(repeats)} repeats of {wanted} planned"]
    needed = METHODS[method].has
    for number, row in enumerate(repeats):
        for name in needed:
            if row.get(name) is None:
                found.append(f"{name} is missing in repeat {number}")
        for name, value in row.items():
            plain = type(value) is float and 0 < value < math.inf  # as nearly all are
            if not plain and not _possible(name, value):
                found.append(f"{name} = {value!r} in repeat {number}")
    return found or _out_of_order(repeats)


def _possible(name: str, value: object) -> bool:
    if name == "output_digests":
        return isinstance(value, str)
    if value is None:
        return name in MAY_LACK
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return False
    return value > 0 if name.endswith("_s") or name == "perplexity" else value >= 0


def _out_of_order(repeats: list[dict]) -> list[str]:
    """The two are timed in runs of their own, so one repeat may be out of order, where something
    held it up (the table marks it); all of them cannot."""
    both = [r for r in repeats if "ttft_s" in r and "e2e_s" in r]
    if not both:
        return []
    ttft, e2e = (min([row[name] for row in both]) for name in ("ttft_s", "e2e_s"))
    return [f"ttft_s {ttft:g} over e2e_s {e2e:g} in every repeat"] if ttft > e2e else []


def impossible(record: dict) -> str | None:
    """Why an `ok` record's numbers cannot be, for its reason. Stricter than what is read: the
    medians must be in order, too."""
    repeats = record["repeats"]
    found = repeat_problems(record["method"], repeats, record["repeats_planned"])
    if not found and all("ttft_s" in row and "e2e_s" in row for row in repeats) and repeats:
        ttft, e2e = (statistics.median(r[n] for r in repeats) for n in ("ttft_s", "e2e_s"))
        found = [f"ttft_s {ttft:g} over e2e_s {e2e:g}"] if ttft > e2e else []
    return f"{IMPOSSIBLE}: {'; '.join(found[:4])}" if found else None


def marks(record: dict) -> dict[str, str]:
    """What may have disturbed an `ok` record's numbers, by kind, in words: a repeat that something
    held up (the point's value is a median, so it is not averaged in), a driver that throttled the
    card, other processes on the host."""
    found, repeats = {}, record["repeats"]
    for name in repeats[0] if len(repeats) > 2 else ():
        times = [row[name] for row in repeats if name.endswith("_s") and row.get(name) is not None]
        middle = statistics.median(times) if times else 0
        for number, seconds in enumerate(times):
            if seconds > HELD_UP * middle:
                found.setdefault(
                    "held_up",
                    f"repeat {number} was held up: {name} {seconds:.3g} of {middle:.3g} s",
                )
    reasons = record["provenance"].get("throttled") or []
    if POWER_CAP in reasons:
        found["power_cap"] = "the card ran at its power limit"
    if others := [reason for reason in reasons if reason != POWER_CAP]:
        found["throttled"] = f"the driver throttled the card: {', '.join(others)}"
    if (others := record.get("other_cores") or 0) > max(0.5, LOAD * (os.cpu_count() or 1)):
        found["load"] = f"other processes kept {others:.1f} cores of the host busy"
    return found


def _whole(record: dict) -> dict:
    if record["status"] != "ok":
        if not record["reason"] or record["repeats"]:
            raise ValueError(f"status {record['status']} needs a reason and no repeats")
        return record
    found = repeat_problems(record["method"], record["repeats"], record["repeats_planned"])
    if found:
        raise ValueError(f"{IMPOSSIBLE}: {'; '.join(found[:4])}")
    return record


class Provenance(TypedDict):
    __pydantic_config__ = STRICT["__pydantic_config__"]
    device: Annotated[str, Field(min_length=1)]
    engine_version: Annotated[str, Field(min_length=1)]
    started_at: StrictStr


class Record(TypedDict, total=False):
    __pydantic_config__ = STRICT["__pydantic_config__"]
    schema: int
    key: Annotated[str, Field(min_length=1)]
    method: StrictStr
    status: Literal["ok", "oom", "failed", "timeout", "infeasible", "not_run"]
    reason: str | None
    repeats: list[dict[str, JsonValue]]
    repeats_planned: Annotated[int, Field(ge=1)]
    engine: dict[str, Any]
    provenance: Provenance
    facts: dict[str, Any]
    counts_sha256: StrictStr
    sha256: StrictStr
    marks: dict[str, str]


REQUIRED = ("key", "method", "status", "reason", "repeats", "repeats_planned", "engine")


def _required(record: dict) -> dict:
    if lacking := [name for name in (*REQUIRED, "provenance") if name not in record]:
        raise ValueError(f"without {', '.join(lacking)}")
    return _whole(record)


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Ceilings(TypedDict):
    """The device's measured copy bandwidth (bytes/s) and matrix rate (FLOP/s)."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)
    device: Annotated[str, Field(min_length=1)]
    copy_bytes_per_s: Positive
    matmul_flops_per_s: Positive
    dtype: StrictStr


class Done(TypedDict):
    """DONE.json. points: of the plan by status; unfinished: those that keep it from being whole."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)
    notebook: StrictStr
    profile: StrictStr
    points: dict[str, Annotated[int, Field(ge=0)]]
    unfinished: dict[str, Annotated[int, Field(ge=0)]]
    reference: bool
    figures: list[str]
    finished_at: StrictStr


class Table(TypedDict, total=False):
    """What a table says of itself, besides its parameters."""

    __pydantic_config__ = STRICT["__pydantic_config__"]
    schema_version: Required[int]
    moebook_version: Required[str]
    ceilings: Ceilings | None


RECORD = TypeAdapter(Annotated[Record, AfterValidator(_required)])
CEILINGS = TypeAdapter(Ceilings)
DONE = TypeAdapter(Done)
TABLE = TypeAdapter(Table)


def parse(schema: TypeAdapter, data: bytes) -> dict:
    """What a file holds. Newer, NotValid."""
    try:
        found = schema.validate_json(data)
    except ValidationError as error:
        if newer := _newer(data):
            raise Newer(newer) from None
        raise NotValid(told(error)) from None
    if found.get("schema", 1) > VERSION:
        raise Newer(_newer(data))
    return found


def _newer(data: bytes) -> str:
    """What to say of a file that names a later version; empty of others."""
    try:
        found = TypeAdapter(dict[str, Any]).validate_json(data).get("schema", 1)
    except ValidationError:
        return ""
    later = isinstance(found, int) and found > VERSION
    return (
        f"is of a newer moebook (schema {found}; this one reads {VERSION}): update it"
        if later
        else ""
    )


def sealed(record: dict) -> bytes:
    """A record's file: its JSON with, last, the digest of all else."""
    data = json.dumps(record, separators=(",", ":"), sort_keys=True, allow_nan=False).encode()
    return data[:-1] + SEAL % hashlib.sha256(data).hexdigest().encode()


def unsealed(data: bytes) -> dict:
    """The record of a file, whose digest, where it has one (those of before have none), must be
    its content's. Newer, NotValid."""
    record = parse(RECORD, data)
    told = record.pop("sha256", None)
    if told is not None:
        body = data.removesuffix(SEAL % told.encode()) + b"}"
        if hashlib.sha256(body).hexdigest() != told:
            raise NotValid("changed since it was written")
    return record


def of_table(data: bytes) -> dict:
    """A table's metadata, of any version of its schema. NotValid."""
    try:
        return TABLE.validate_json(data)
    except ValidationError as error:
        raise NotValid(f"its metadata: {told(error)}") from None


def checked(schema: TypeAdapter, found: dict) -> dict:
    """What is about to be written, as it was given. NotValid."""
    try:
        schema.validate_python(found)
    except ValidationError as error:
        raise NotValid(told(error)) from None
    return found


def told(error: ValidationError) -> str:
    """The first of what is wrong, in a line."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(map(str, first["loc"]))
    return (f"{where}: " if where else "") + first["msg"].removeprefix("Value error, ")[:300]


def device_name(name: str) -> str:
    """The name without the count of cores, which results of the first edition carry: the same CPU
    all the same."""
    return re.sub(r" \(\d+ cores\)$", "", name)
