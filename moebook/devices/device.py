"""The device that a plan of some kind is measured on, as this machine has it."""

import functools
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from moebook.devices import facts, host, nvml
from moebook.devices.nvml import VARIABLE
from moebook.problems import Refused


@dataclass(frozen=True)
class Device:
    """kind: a key of devices.yaml, or the slug of a card that it does not list. uuids: the visible
    cards of this name, in CUDA's order, of which `count` there are; a CPU has none and is one."""

    kind: str
    name: str
    count: int
    memory_bytes: int
    driver: str | None = None
    uuids: tuple[str, ...] = ()

    @property
    def on_gpu(self) -> bool:
        return self.kind != "cpu"

    def environment(self) -> dict[str, str]:
        """Variables of a process that is to use this device and to see no other."""
        if not self.on_gpu:
            return {VARIABLE: ""}
        return {VARIABLE: ",".join(self.uuids), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}


def detect(kind: str | None = None) -> Device | None:
    """The device that a plan for this kind is measured on here, or None. For `cpu` that is the CPU
    whatever cards there are, for `gpu` the first visible card from 16 GB on, else the first visible
    card of exactly the kind. Without a kind: the first visible card, else the CPU."""
    if kind == "cpu":
        return _cpu()
    fitting = nvml.seen().cards
    if kind is not None:
        fitting = [c for c in fitting if facts.suits(kind, facts.kind_of(c.name), c.memory_bytes)]
    if not fitting:
        return _cpu() if kind is None else None
    first = fitting[0]
    uuids = tuple(card.uuid for card in fitting if card.name == first.name)
    own = facts.kind_of(first.name)
    return Device(own, first.name, len(uuids), first.memory_bytes, nvml.driver(), uuids)


@functools.cache
def _cpu() -> Device:
    return Device("cpu", host.cpu_name(), 1, host.memory_bytes())


def require(kind: str) -> Device:
    """As `detect`; ValueError, which says what is here, where there is none."""
    found = detect(kind)
    if found is None:
        wanted = repr(kind) + " (an NVIDIA card of 16 GB or more)" * (kind == facts.ANY)
        raise Refused(
            f"this plan is for device {wanted}, this machine has {here()}: use a "
            "profile of this machine; its notebook shows the reference results"
        )
    return found


def here() -> str:
    """The devices of this machine in words: visible cards, how many are hidden, the CPU."""
    seen, every = nvml.seen(), nvml.here()
    found = [f"{facts.kind_of(card.name)!r} ({card.name})" for card in seen.cards]
    hidden = len(every) - len(seen.cards)
    if hidden > 0:
        found.append(f"{hidden} more that {VARIABLE} hides")
    return ", ".join([*dict.fromkeys(found), f"'cpu' ({_cpu().name})"])


def allowed() -> list[str]:
    """What a plan's `device` may be: the kinds that are listed, any GPU, and the kinds of cards
    that are here."""
    own = [facts.kind_of(card.name) for card in nvml.seen().cards]
    return list(dict.fromkeys([*facts.kinds(), facts.ANY, *own]))


def published_here(kind: str) -> facts.Published:
    """What is published of a kind; of `gpu` that of the card it means here, where there is one."""
    card = detect(kind) if kind == facts.ANY else None
    return facts.published(card.kind if card is not None else kind)


def memory_bytes(kind: str) -> int | None:
    """Memory that a plan for the kind is made with: that of the card here, else the published one.
    None: without limit."""
    if kind == "cpu":
        return facts.published(kind).memory_bytes
    if (found := detect(kind)) is not None:
        return found.memory_bytes
    return facts.ANY_BYTES if kind == facts.ANY else facts.published(kind).memory_bytes


def compute_capability(kind: str) -> float | None:
    """CUDA compute capability that a plan for the kind is made with: that of the card of the kind
    here or the published one; None where it is not known, 0 without CUDA."""
    return published_here(kind).compute_capability


def gpu_state(device: Device) -> dict:
    """Clocks (MHz), power limit (W) and temperature (°C) of the first card; empty on a CPU."""
    return nvml.state(device.uuids[0]) if device.on_gpu else {}


def provenance(device: Device, used: int = 1) -> dict:
    """used: cards of the device that the engine runs on, its first ones."""
    return {
        "device": device.name,
        "device_kind": device.kind,
        "device_count": device.count,
        "device_memory_bytes": device.memory_bytes,
        "device_uuid": ",".join(device.uuids[:used]) or None,
        "device_cores": host.cores(),
        "host_id": host.boot_id(),
        "driver": device.driver,
        "git_commit": os.environ.get("MOEBOOK_COMMIT") or git_commit(),
    }


@functools.cache
def git_commit() -> str | None:
    """Commit of the checkout this package runs from, with `+` when tracked files differ; None
    outside git."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    return commit and commit + ("+" if _git("status", "--porcelain", "-uno", "--", ".") else "")


def _git(*args: str) -> str | None:
    package = Path(__file__).parents[1]
    try:
        done = subprocess.run(
            ["git", *args], cwd=package, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
