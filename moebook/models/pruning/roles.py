"""What each tensor of a checkpoint is to its MoE layers, found by growing the model: with one
expert more, and with one channel more, transformers asks for other tensors, and where a shape
differs lie the experts or the channels. So any family serves whose config transformers can build.

Letters: E experts, I expert FFN dim."""

import re
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cached_property

from moebook.models.architecture import Architecture
from moebook.models.pruning import built as keys
from moebook.models.pruning.built import build
from moebook.models.pruning.checkpoint import Checkpoint, CheckpointError, ConfigError
from moebook.models.pruning.held import agree

Shapes = dict[str, tuple[int, ...]]
_LAYER = re.compile(r"^(.*?\.\d+)\.([^.]+)")


@dataclass(frozen=True)
class Axis:
    """One axis of a tensor: it has `step` entries for each of what is counted, then some more."""

    axis: int
    step: int


@dataclass(frozen=True)
class Role:
    """How a tensor follows E and I. site: of a routed one the MoE layer whose experts are chosen
    together, of another (a shared expert, a dense FFN as wide as the experts) its module. expert:
    the one it belongs to, which the name's part number `at` says; None: it holds all, or none."""

    site: str
    expert: int | None = None
    at: int = 0
    experts: Axis | None = None
    channels: Axis | None = None
    rank: int = 2

    @property
    def routed(self) -> bool:
        return self.expert is not None or self.experts is not None

    @property
    def matrix(self) -> bool:
        """Whether it holds an expert's matrix; not a bias, nor rows of a router."""
        if not self.routed:
            return self.rank == 2
        whole = self.experts and self.experts.step == 1
        return self.rank - bool(whole) >= 2


@dataclass(frozen=True)
class Roles:
    """by_name: of the checkpoint's tensors that follow E or I. width_places: where the config
    holds I; with width 0 none was found. unused: sites that the model itself never
    runs, such as multi-token prediction."""

    by_name: dict[str, Role]
    plain: dict[str, str]
    way: str
    experts: int
    width: int
    width_places: list[keys.Place]
    interleaved: bool
    unused: frozenset[str]

    @cached_property
    def sites(self) -> list[str]:
        """MoE layers, in the order of their numbers."""
        found = {role.site for role in self.by_name.values() if role.routed}
        return sorted(found, key=natural)

    @cached_property
    def units(self) -> dict[str, int]:
        """By unit (a shared expert or dense FFN that the config makes as wide as the experts) its
        channels."""
        steps: dict[str, list[int]] = defaultdict(list)
        for role in self.by_name.values():
            if not role.routed:
                steps[role.site].append(role.channels.step)
        return {unit: self.width * min(found) for unit, found in steps.items()}


def find(checkpoint: Checkpoint, arch: Architecture) -> Roles:
    """Raises CheckpointError where weights and config disagree, or no tensor follows E."""
    config, experts = checkpoint.config, arch.num_experts
    built = build(config)
    plain = {name: built.plain(name) for name in checkpoint.tensors}
    way = built.like(set(plain.values()))
    asked = getattr(built, way)
    agree(checkpoint, plain, asked, built, experts)
    grown = keys.changed(config, keys.expert_keys(config, experts), experts + 1)
    found = _experts(asked, getattr(build(grown), way), experts)
    if not any(role.matrix for role in found.values()):
        raise CheckpointError(
            f"{checkpoint.folder}: no tensor of this {config.get('model_type')} follows the number "
            f"of experts ({experts}), so there is nothing to prune"
        )
    _sited(found)
    width, places = _channels(config, way, asked, found)
    by_name, unused = {}, set()
    templates = {_template(name, role): (role, asked[name]) for name, role in found.items()}
    for name, known in plain.items():
        if role := found.get(known):
            by_name[name] = role
        elif known not in asked and (role := _as_others(known, templates, checkpoint, name)):
            by_name[name] = role
            unused.add(role.site)
    alternate = built.interleaved(way)
    return Roles(by_name, plain, way, experts, width, places, alternate, frozenset(unused))


def natural(name: str) -> list:
    """A key that sorts numbers in names by their value."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]


def layer_and_part(name: str) -> tuple[str, str]:
    """Of a module or tensor the layer, by its path, and the part of it below: `model.layers.1`,
    `mlp`. Empty: it lies in no layer."""
    found = _LAYER.match(name)
    return found.groups() if found else ("", "")


def below_layer(name: str) -> str:
    """A name without its path down to the layer."""
    return re.sub(r"^.*?\.\d+\.", "", name)


def _experts(asked: Shapes, grown: Shapes, count: int) -> dict[str, Role]:
    """Tensors that one expert more brings, or makes larger."""
    found = {
        name: Role("", experts=axis, rank=len(shape))
        for name, shape in asked.items()
        if (axis := _axis(name, shape, grown.get(name)))
    }
    for name in grown.keys() - asked.keys():
        parts = name.split(".")
        for at in (i for i, part in enumerate(parts) if part == str(count)):
            each = [".".join([*parts[:at], str(e), *parts[at + 1 :]]) for e in range(count)]
            if each[0] in asked:
                rank = len(asked[each[0]])
                found |= {one: Role("", e, at, rank=rank) for e, one in enumerate(each)}
    return found


def _axis(name: str, old: tuple, new: tuple | None) -> Axis | None:
    if new is None or old == new:
        return None
    differ = [i for i, (a, b) in enumerate(zip(old, new, strict=True)) if a != b]
    if len(differ) != 1 or new[differ[0]] < old[differ[0]]:
        raise ConfigError(f"{name} follows the experts in a way not known here")
    return Axis(differ[0], new[differ[0]] - old[differ[0]])


def _sited(found: dict[str, Role]) -> None:
    """Sets the sites. What lies below one part of a decoder layer (`mlp`) is one site where both
    router and experts lie there; else the whole layer is."""
    parts: dict[str, dict[str, set]] = defaultdict(lambda: defaultdict(set))
    for name, role in found.items():
        layer, part = layer_and_part(name)
        parts[layer][part].add(role.matrix)
    for name, role in found.items():
        layer, part = layer_and_part(name)
        whole = all(len(kinds) == 2 for kinds in parts[layer].values())
        found[name] = replace(role, site=f"{layer}.{part}" if whole else layer)


def _channels(
    config: dict, way: str, asked: Shapes, found: dict[str, Role]
) -> tuple[int, list[keys.Place]]:
    """Sets the channels; I and the keys that hold it. Of several keys, the first that the experts
    follow."""
    idle = []
    for places, width in keys.width_keys(config):
        wider = getattr(build(keys.changed(config, places, width + 1)), way)
        axes = {n: axis for n, s in asked.items() if (axis := _axis(n, s, wider.get(n)))}
        if not axes and re.match("moe|expert", places[0][-1]):
            # No tensor of transformers follows it, but another engine may read it (Hunyuan's).
            idle += [(place, width) for place in places]
        if not any(name in found for name in axes):
            continue
        for name, axis in axes.items():
            if asked[name][axis.axis] != axis.step * width:
                raise ConfigError(f"{name} is not as wide as a number of experts")
            role = found.get(name, Role(_unit(name), rank=len(asked[name])))
            found[name] = replace(role, channels=axis)
        return width, [*places, *(place for place, value in idle if value == width)]
    return 0, []


def _template(name: str, role: Role) -> str:
    """The name below its layer, with the expert's number left out."""
    parts = name.split(".")
    if role.expert is not None:
        parts[role.at] = "*"
    return below_layer(".".join(parts))


def _as_others(plain: str, templates: dict, checkpoint: Checkpoint, name: str) -> Role | None:
    """The role of a tensor of a layer that transformers reads past, by that of the others of its
    name and shape; None: it follows neither E nor I."""
    parts, shape = plain.split("."), tuple(checkpoint.tensors[name].shape)
    for at in [None, *(i for i, part in enumerate(parts) if part.isdigit())]:
        tried = Role("", None if at is None else int(parts[at]), at or 0)
        role, like = templates.get(_template(plain, tried), (None, None))
        if role is not None and like == shape:
            part = re.sub(r"^.*?\.\d+", "", role.site)
            site = layer_and_part(plain)[0] + part if role.routed else _unit(plain)
            return replace(role, site=site, expert=tried.expert, at=tried.at)
    if "expert" in plain:
        raise CheckpointError(
            f"{checkpoint.folder / checkpoint.files[name]}: {name} of shape {shape} lies in a "
            "layer that transformers reads past, like no tensor of the others; drop such layers"
        )
    return None


def _unit(plain: str) -> str:
    return ".".join(plain.split(".")[:-2])
