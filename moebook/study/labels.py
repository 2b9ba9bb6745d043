"""What models are called in a table. A model's identity is the content of its config; its label is
the last part of what it was named by, and where two models of a plan would share one, or a folder
that of another published model, the folders around it tell them apart: `a/snapshot`."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from moebook.models import catalog
from moebook.models.architecture import Architecture

FOLDER = "checkpoint folder "  # how the source of a folder's model begins
P = TypeVar("P")


class Origin(NamedTuple):
    """Which model it is, whatever was edited or split off since."""

    name: str
    source: str

    @classmethod
    def of(cls, arch: Architecture) -> "Origin":
        return cls(arch.unedited_name, arch.source.partition("; ")[0])

    @property
    def folders(self) -> tuple[str, ...]:
        """The parts of a folder's path; none of any other model."""
        is_folder = self.source.startswith(FOLDER)
        return Path(self.source.removeprefix(FOLDER)).parts if is_folder else ()


def labelled(points: Iterable[P]) -> list[P]:
    """The points, with labels that tell their models apart."""
    points = list(points)
    wholes: dict[Origin, Architecture] = {}
    for arch in (point.architecture for point in points):
        whole, origin = arch.base or arch, Origin.of(arch)
        if origin not in wholes or wholes[origin].name != origin.name:
            wholes[origin] = whole  # an edited one only where there is no other
    labels = unique(wholes)
    return [_called(point, labels[Origin.of(point.architecture)]) for point in points]


def of_names(names: Iterable[str]) -> dict[str, str]:
    """Labels of models by the names that parameters give them."""
    models = {name: catalog.load(name) for name in names}
    labels = unique({Origin.of(arch): arch for arch in models.values()})
    return {name: labels[Origin.of(arch)] for name, arch in models.items()}


def label_in(points: Iterable[P], arch: Architecture) -> str:
    """What a plan of these points calls a model."""
    name, source = Origin.of(arch)
    called = (Origin.of(p.architecture) for p in points)
    own = (label for label, where in called if where == source and label.endswith(name))
    return next(own, name)


def unique(wholes: dict[Origin, Architecture]) -> dict[Origin, str]:
    """A label of its own for each model."""
    alike: dict[str, list[Origin]] = {}
    for origin in wholes:
        alike.setdefault(origin.name, []).append(origin)
    found = {}
    for name, origins in alike.items():
        taken = len(origins) > 1 or _is_anothers(wholes[origins[0]])
        longer = _told_apart([o for o in origins if o.folders]) if taken else {}
        found |= {origin: longer.get(origin, name) for origin in origins}
    return found


def _is_anothers(arch: Architecture) -> bool:
    """Whether a folder is named as a published model of other shapes."""
    published = {name.lower(): name for name in catalog.names()}
    name = published.get(arch.unedited_name.lower())
    return bool(name and Origin.of(arch).folders and _shape(catalog.load(name)) != _shape(arch))


def _shape(arch: Architecture) -> tuple:
    heads = arch.num_heads, arch.num_kv_heads, arch.head_dim
    return *arch.shape, arch.hidden_size, *heads, arch.vocab_size


def _told_apart(origins: list[Origin]) -> dict[Origin, str]:
    """The shortest ends of their paths, of two parts or more, that differ."""
    for count in range(2, max((len(o.folders) for o in origins), default=1) + 1):
        ends = {o: "/".join(o.folders[-count:]) for o in origins}
        if len(set(ends.values())) == len(ends):
            return ends
    return {o: "/".join(o.folders) for o in origins}


def _called(point: P, label: str) -> P:
    arch = point.architecture
    if arch.unedited_name == label:
        return point
    name = label + arch.name[len(arch.unedited_name) :]
    return replace(point, architecture=replace(arch, name=name))
