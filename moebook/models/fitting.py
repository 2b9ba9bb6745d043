"""What the word `fitting` in a parameter of models stands for: models of the catalog that fit a
device.

    fitting      in a list: every model that fits; alone: the largest that does
    fitting 3    three of them: the smallest, the largest, and the one in the middle

Which fit is asked of the caller, who knows batch, length, number format and memory; the order and
the choice are the same for the same answers. Where none fits, the smallest stands in: its points
say what they lack."""

import re
from collections.abc import Callable, Iterable
from functools import cache
from typing import Literal

from moebook.models import catalog, sizes
from moebook.models.architecture import Architecture

WORD = "fitting"
SKELETON = "moebook:"  # how sources.yaml begins the source of a model that nobody published
PART = "language part of"  # and that of the language part of a vision-language model
Kind = Literal["any", "vlm"]

Fits = Callable[[Architecture], bool]


def is_word(name: str | None) -> bool:
    """True for `fitting` and `fitting N`."""
    return name is not None and re.fullmatch(rf"{WORD}( [1-9]\d*)?", name) is not None


@cache
def candidates(kind: Kind = "any") -> tuple[str, ...]:
    """Published Mixture-of-Experts models in 16 bits, one of each shape, smallest first; of
    vision-language models the language parts (kind "vlm": those alone). Models that joined the
    catalog later are left out, so that a plan keeps its points."""
    found: dict[tuple, Architecture] = {}
    own = [name for name in catalog.names() if not catalog.sources()[name].get("later")]
    shortest_first = sorted(own, key=lambda name: (len(name), name.lower()))
    for arch in map(catalog.load, shortest_first):
        published = arch.is_moe and not arch.source.startswith(SKELETON)
        whole = not arch.vision_params and arch.number_format is None
        if published and whole and (kind == "any" or arch.source.startswith(PART)):
            found.setdefault((arch.family, arch.hidden_size, arch.vocab_size, *arch.shape), arch)
    by_size = sorted(found.values(), key=lambda a: (sizes.weight_bytes(a, "bfloat16"), a.name))
    return tuple(arch.name for arch in by_size)


def fitting(fits: Fits, kind: Kind = "any") -> list[str]:
    """All that fit, smallest first, else the smallest alone."""
    names = candidates(kind)
    return [name for name in names if fits(catalog.load(name))] or list(names[:1])


def resolve(names: Iterable[str], fits: Fits, kind: Kind = "any") -> tuple[str, ...]:
    """The names, each `fitting` among them replaced by the models that it stands for; none
    twice."""
    out: list[str] = []
    for name in names:
        out += _spread(fitting(fits, kind), name) if is_word(name) else [name]
    return tuple(dict.fromkeys(out))


def _spread(names: list[str], word: str) -> list[str]:
    """As many as the word says, evenly from the smallest to the largest; one alone is the
    largest."""
    count = int(word.split()[1]) if " " in word else len(names)
    if count >= len(names):
        return names
    if count == 1:
        return names[-1:]
    return [names[round(i * (len(names) - 1) / (count - 1))] for i in range(count)]
