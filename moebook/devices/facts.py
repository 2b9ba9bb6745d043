"""What is published about the device kinds that profiles name: devices.yaml, checked, and which
kind a card is of.

A card is matched by its exact name: a GH200 is no H200, an H100 PCIe no H100. One that devices.yaml
does not list has a kind of its own, a slug of its name, of which nothing is published.
"""

import functools
import re
from dataclasses import dataclass
from importlib import resources

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

ANY = "gpu"  # the kind of a plan for any one NVIDIA card from LEAST_BYTES on
GIGA = 10**9  # less of any rate or memory was meant in another unit
LEAST_BYTES = 16 * 10**9  # 16 GB as vendors count
ANY_BYTES = 16 * 2**30  # what a plan for ANY takes where no such card is
UNLISTED = "nvidia-"  # how the kind of a card that devices.yaml does not list begins
NOT_PUBLISHED = "not published here; measured peaks serve"


@dataclass(frozen=True)
class Published:
    """Vendor figures of one device kind: bytes, bytes/s, dense bf16 FLOP/s, CUDA compute capability
    (0 where there is no CUDA). Unpublished is None."""

    kind: str
    memory_bytes: int | None
    bandwidth_bytes_per_s: float | None
    bf16_flops_per_s: float | None
    compute_capability: float | None
    source: str


class Entry(BaseModel):
    """A kind as devices.yaml has it: every key but compute_capability stands there, null where
    nothing is published."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    names: list[str]
    memory_bytes: int | None = Field(ge=GIGA)
    bandwidth_bytes_per_s: float | None = Field(ge=GIGA, allow_inf_nan=False)
    bf16_flops_per_s: float | None = Field(ge=GIGA, allow_inf_nan=False)
    compute_capability: float | None = Field(None, ge=0)
    source: str = Field(min_length=1)


class BadFacts(ValueError):
    """devices.yaml does not say what it must; the message holds every problem."""


def parse(text: str, source: str = "devices.yaml") -> dict[str, Entry]:
    """Entries by kind. BadFacts with all that is wrong."""
    try:
        entries = yaml.safe_load(text) or {}
        root = yaml.compose(text)
    except yaml.YAMLError as error:
        words = " ".join(str(error).split())
        raise BadFacts(f"{source} is not right: no valid YAML: {words}") from None
    if not isinstance(entries, dict):
        raise BadFacts(f"{source} is not right: it must be a mapping of kinds")
    kinds = [key.value for key, _ in root.value] if root else []
    twice = dict.fromkeys(kind for kind in kinds if kinds.count(kind) > 1)
    found, problems = {}, [f"{kind}: stands twice" for kind in twice]
    for kind, entry in entries.items():
        if not isinstance(kind, str) or slug(kind) != kind:
            problems.append(f"{kind!r}: a kind is a name of small letters, digits and hyphens")
        elif not isinstance(entry, dict):
            keys = ", ".join(Entry.model_fields)
            problems.append(f"{kind}: given {entry!r}; a mapping of {keys}")
        else:
            problems += _problems(kind, entry, found)
    names = [name for entry in found.values() for name in entry.names]
    twice = {name for name in names if names.count(name) > 1}
    problems += [f"the name {name!r} stands under two kinds" for name in twice]
    if problems:
        raise BadFacts("\n  ".join([f"{source} is not right:", *problems]))
    return found


def _problems(kind: str, entry: dict, found: dict[str, Entry]) -> list[str]:
    """What is wrong with the entry of one kind; a right one is put into `found`."""
    try:
        found[kind] = Entry(**{str(key): value for key, value in entry.items()})
    except ValidationError as error:
        return [_told(kind, problem) for problem in error.errors()]
    return []


def _told(kind: str, problem: dict) -> str:
    key = f"{kind}.{problem['loc'][0]}"
    if problem["type"] == "missing":
        return f"{key}: is missing; null where nothing is published"
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; allowed: {', '.join(Entry.model_fields)}"
    return f"{key}: given {problem['input']!r}; {problem['msg'][0].lower()}{problem['msg'][1:]}"


@functools.cache
def _entries() -> dict[str, Entry]:
    return parse(resources.files("moebook.devices").joinpath("devices.yaml").read_text())


def kinds() -> list[str]:
    """The kinds that devices.yaml lists."""
    return list(_entries())


def published(kind: str) -> Published:
    """What devices.yaml has of the kind; of any GPU and of an unlisted card nothing. ValueError for
    no kind."""
    entries = _entries()
    if kind in entries:
        return Published(kind, **entries[kind].model_dump(exclude={"names"}))
    if kind == ANY or kind.startswith(UNLISTED):
        return Published(kind, None, None, None, None, NOT_PUBLISHED)
    raise ValueError(f"unknown device kind {kind!r}; known: {', '.join([*entries, ANY])}")


def kind_of(name: str) -> str:
    """The kind of a card that the driver calls so."""
    listed = (kind for kind, entry in _entries().items() if name in entry.names)
    return next(listed, UNLISTED + slug(name).removeprefix(UNLISTED))


def slug(name: str) -> str:
    """`NVIDIA T400 4GB` as `nvidia-t400-4gb`."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def suits(kind: str, card_kind: str, memory_bytes: int) -> bool:
    """Whether a plan for the device kind may be measured on a card of `card_kind` with so much
    memory."""
    if kind != ANY:
        return card_kind == kind
    return card_kind != "cpu" and memory_bytes >= LEAST_BYTES
