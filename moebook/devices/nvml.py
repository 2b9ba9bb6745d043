"""The NVIDIA cards of this machine, through NVML: which there are, which CUDA shows, and how one is
doing right now.

Cards are asked by UUID: an index means another card in another process. NVML says the same to
processes that see fewer cards.
"""

import functools
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from moebook.devices import host

VARIABLE = "CUDA_VISIBLE_DEVICES"
_NUMBER = re.compile(r"\s*\+?(\d+)")
# nvml.h, nvmlClocksEventReason*: those by which a card runs slower than it was asked to.
# A card at its power limit does what it is built for; the others are disturbances.
POWER_CAP = "power cap"
THROTTLES = {
    0x4: POWER_CAP,
    0x8: "hardware slowdown",
    0x20: "temperature (software)",
    0x40: "temperature (hardware)",
    0x80: "power brake",
}


@dataclass(frozen=True)
class Card:
    """A card or a MIG instance. instances: those that a card is cut into; None: it is whole."""

    uuid: str
    name: str
    memory_bytes: int
    instances: tuple["Card", ...] | None = None


class Visible(NamedTuple):
    """Cards in CUDA's order; note: what in the variable hides others, for whoever wonders."""

    cards: tuple[Card, ...]
    note: str | None = None


class MemoryUse(NamedTuple):
    """Bytes of a card's memory; pids: of the processes that compute on it, as far as the driver
    tells."""

    used: int
    total: int
    pids: tuple[int, ...]


@functools.cache
def _found() -> dict[str, tuple[Card, Any]]:
    """By UUID every card and instance with NVML's handle of it."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return {}
    found: dict[str, tuple[Card, Any]] = {}
    for index in range(pynvml.nvmlDeviceGetCount()):
        handle = pynvml.nvmlDeviceGetHandleByIndex(index)
        instances = _instances(handle)
        parts = None if instances is None else tuple(_card(part) for part in instances)
        card = _card(handle, parts)
        found[card.uuid] = card, handle
        found |= {p.uuid: (p, own) for p, own in zip(parts or (), instances or (), strict=True)}
    return found


def _card(handle: Any, instances: tuple[Card, ...] | None = None) -> Card:
    import pynvml

    uuid, name = pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle)
    return Card(uuid, name, _memory(handle).total, instances)


def _memory(handle: Any) -> MemoryUse:
    """Of a card that shares its host's memory the driver tells none: the host's, as if nobody used
    it."""
    import pynvml

    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError:
        return MemoryUse(0, host.memory_bytes(), ())
    return MemoryUse(memory.used, memory.total, ())


def _instances(handle: Any) -> list | None:
    """NVML's handles of the MIG instances that a card is cut into; None for a whole card."""
    import pynvml

    if not hasattr(pynvml, "nvmlDeviceGetMigMode"):  # an NVML from before MIG
        return None
    try:
        if not pynvml.nvmlDeviceGetMigMode(handle)[0]:
            return None
        most = pynvml.nvmlDeviceGetMaxMigDeviceCount(handle)
    except pynvml.NVMLError:  # a card that cannot be cut
        return None
    found = []
    for index in range(most):
        try:
            found.append(pynvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index))
        except pynvml.NVMLError:  # no instance of this number
            continue
    return found


def here() -> tuple[Card, ...]:
    """All cards of this machine, seen by CUDA or not."""
    parts = {part.uuid for card, _ in _found().values() for part in card.instances or ()}
    return tuple(card for card, _ in _found().values() if card.uuid not in parts)


def seen() -> Visible:
    """The cards that CUDA shows to a process started now."""
    return visible(os.environ.get(VARIABLE), here())


def visible(variable: str | None, cards: Sequence[Card]) -> Visible:
    """The cards of a machine that CUDA shows under this value of CUDA_VISIBLE_DEVICES, read as CUDA
    reads it: each rule below was tried on an H200, but for MIG, which is as documented.

    None, not set, shows all cards. Else it lists indices, UUIDs (`GPU-…`, of which a beginning that
    fits one card is enough) or MIG instances (`MIG-…`), between commas. It ends at the first entry
    that is no card: `0,-1` shows card 0, `-1` and an empty text show none. A number is read as C's
    atoi does, so ` 0` and `0x` are 0. A card named twice shows none at all. CUDA shows one MIG
    instance at most, and no whole card beside it; a card that is cut into instances is its first
    one. Indices count in the order of the PCI bus, as NVML's do and CUDA's with
    CUDA_DEVICE_ORDER=PCI_BUS_ID, under which engines are started here."""
    if variable is None:
        return Visible(_one_instance([device for card in cards if (device := _device(card))]))
    chosen: list[Card] = []
    note = None
    for entry in variable.split(","):
        if (card := _named(entry, cards)) is None:
            note = f"its list ends at {entry!r}, which is no card of this machine"
            break
        chosen.append(card)
    if len(set(chosen)) < len(chosen):
        return Visible((), "it names a card twice, and CUDA then shows none")
    return Visible(_one_instance(chosen), note)


def _named(entry: str, cards: Sequence[Card]) -> Card | None:
    """The card or instance that an entry of the list names."""
    if number := _NUMBER.match(entry):
        index = int(number[1])
        return _device(cards[index]) if index < len(cards) else None
    name = entry.strip()
    if name in ("GPU-", "MIG-") or not name.startswith(("GPU-", "MIG-")):
        return None
    every = [c for card in cards for c in (card, *(card.instances or ()))]
    fitting = [c for c in every if c.uuid.startswith(name)]
    return _device(fitting[0]) if len(fitting) == 1 else None


def _device(card: Card) -> Card | None:
    """What CUDA shows of a card: itself, or the first of the instances it is cut into."""
    if card.instances is None:
        return card
    return card.instances[0] if card.instances else None


def _one_instance(chosen: Sequence[Card]) -> tuple[Card, ...]:
    instances = [card for card in chosen if card.uuid.startswith("MIG-")]
    return tuple(instances[:1] or chosen)


def forget() -> None:
    """Look again at the next question."""
    _found.cache_clear()


def driver() -> str:
    import pynvml

    return pynvml.nvmlSystemGetDriverVersion()


def memory_use(uuid: str) -> MemoryUse:
    """Of the whole machine's processes, now."""
    import pynvml

    handle = _found()[uuid][1]
    try:
        pids = tuple(p.pid for p in pynvml.nvmlDeviceGetComputeRunningProcesses(handle))
    except (AttributeError, pynvml.NVMLError):  # not told in every container
        pids = ()
    return _memory(handle)._replace(pids=pids)


def energy_j(uuid: str) -> float | None:
    """What a card has taken since its driver was loaded, J; None where that is not counted."""
    import pynvml

    try:
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(_found()[uuid][1]) / 1000
    except pynvml.NVMLError:
        return None


def state(uuid: str) -> dict:
    """Clocks (MHz), power limit (W), temperature (°C), None for what a card does not tell; and by
    what it is throttled."""
    import pynvml

    handle = _found()[uuid][1]

    def told(ask: Callable, *what: int) -> float | None:
        try:
            return ask(handle, *what)
        except pynvml.NVMLError:
            return None

    limit_mw = told(pynvml.nvmlDeviceGetEnforcedPowerLimit)
    mask = told(pynvml.nvmlDeviceGetCurrentClocksThrottleReasons)
    throttled = None if mask is None else [name for bit, name in THROTTLES.items() if mask & bit]
    return {
        "throttled": throttled,
        "sm_clock_mhz": told(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_SM),
        "memory_clock_mhz": told(pynvml.nvmlDeviceGetClockInfo, pynvml.NVML_CLOCK_MEM),
        "power_limit_w": None if limit_mw is None else limit_mw / 1000,
        "temperature_c": told(pynvml.nvmlDeviceGetTemperature, pynvml.NVML_TEMPERATURE_GPU),
    }
