"""CUDA_VISIBLE_DEVICES read as CUDA reads it: each rule below was tried on an H200, but for MIG,
which is as documented.

Unset shows all cards. Else it lists indices, UUIDs (`GPU-…`, of which a beginning that fits one
card is enough) or MIG instances (`MIG-…`), between commas. It ends at the first entry that is no
card: `0,-1` shows card 0, `-1` and an empty text show none. A number is read as C's atoi does,
so ` 0` and `0x` are 0. A card named twice shows none at all. CUDA shows one MIG instance at most,
and no whole card beside it; a card that is cut into instances is its first one.

Indices count in the order of the PCI bus, as NVML's do and CUDA's with
CUDA_DEVICE_ORDER=PCI_BUS_ID, under which engines are started here.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

VARIABLE = "CUDA_VISIBLE_DEVICES"
_NUMBER = re.compile(r"\s*\+?(\d+)")


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


def visible(variable: str | None, cards: Sequence[Card]) -> Visible:
    """The cards of a machine that CUDA shows under this value of the variable, None where it is not
    set."""
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
