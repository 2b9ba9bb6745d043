"""References to models of the tiny family: tiny:<preset>/<member>, and with
/<kind>-<percent>-<criterion> a pruned one."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from moebook.models.architecture import UnknownModel
from moebook.models.pruning import saliency
from moebook.models.tiny.recipes import PRESETS, Preset, Recipe

PREFIX = "tiny:"
PRUNING = re.compile(r"(inter|intra)-(\d+(?:\.\d+)?)-(\w+)")


class UnknownTiny(UnknownModel):
    """The reference names no preset, member, pruning or held-out text of the tiny family."""


@dataclass(frozen=True)
class Ref:
    """A parsed reference. pruning: "inter-50-norm", or None."""

    preset: str
    member: str
    pruning: str | None = None

    @property
    def recipe(self) -> Recipe:
        return PRESETS[self.preset].members[self.member]

    @property
    def parent(self) -> str:
        return f"{PREFIX}{self.preset}/{self.member}"


def is_tiny(name: str) -> bool:
    return str(name).startswith(PREFIX)


def parse(name: str) -> Ref:
    """Raises UnknownTiny."""
    parts = str(name).removeprefix(PREFIX).split("/")
    if not is_tiny(name) or not 2 <= len(parts) <= 3:
        raise UnknownTiny(
            f"{name!r} is no reference of the tiny family; write tiny:<preset>/<member>, such as "
            "tiny:cpu/aux-0.01, or tiny:cpu/aux-0.01/inter-50-norm for a pruned one"
        )
    found = preset(parts[0])
    if parts[1] == "heldout":
        raise UnknownTiny(
            f"{name!r} is a held-out text, not a model; members: {', '.join(found.members)}"
        )
    check_member(parts[0], parts[1])
    if len(parts) == 3:
        _check_pruning(name, found.members[parts[1]], parts[2])
    return Ref(*parts)


def preset(name: str) -> Preset:
    return PRESETS[one_of("preset", name, PRESETS)]


def check_member(preset_name: str, member: str) -> str:
    return one_of(f"member of the {preset_name} preset", member, preset(preset_name).members)


def one_of(what: str, given: str, allowed: Iterable[str]) -> str:
    allowed = list(allowed)
    if given in allowed:
        return given
    near = get_close_matches(given, allowed, n=1, cutoff=0.3)
    nearest = f"; nearest: {near[0]}" if near else ""
    raise UnknownTiny(
        f"{given!r} is no {what} of the tiny family; allowed: {', '.join(allowed)}{nearest}"
    )


def _check_pruning(name: str, recipe: Recipe, pruning: str) -> None:
    found = PRUNING.fullmatch(pruning)
    if not found or found[3] not in saliency.CRITERIA or not 0 < float(found[2]) < 100:
        raise UnknownTiny(
            f"{name!r}: {pruning!r} is no pruning; write <kind>-<percent>-<criterion> with kind "
            f"inter or intra, criterion one of {', '.join(saliency.CRITERIA)}; such as "
            "inter-50-norm"
        )
    if recipe.bias_step or not recipe.shape.experts:
        raise UnknownTiny(
            f"{name!r}: only the OLMoE members can be pruned (no-balance and aux-*), such as "
            "tiny:cpu/aux-0.01/inter-50-norm"
        )
