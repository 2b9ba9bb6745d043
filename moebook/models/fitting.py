"""What there is to know of a model before planning it (its counts, cache, formats, and where it
fits), and what the word `fitting` in a parameter of models stands for: models of the catalog that
fit a device.

    fitting      in a list: every model that fits; alone: the largest that does
    fitting 3    three of them: the smallest, the largest, and the one in the middle

Which fit is asked of the caller, who knows batch, length, number format and memory; the order and
the choice are the same for the same answers. Where none fits, the smallest stands in: its points
say what they lack."""

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Literal

from moebook import devices
from moebook.models import catalog, engine_rules, sharding, sizes
from moebook.models.architecture import Architecture
from moebook.models.formats import OWN, format_name, refusal
from moebook.models.sharding import Split

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


RANKS = (1, 2, 4, 8)
SEQUENCE = 4096  # tokens of the sequences that `fits` counts
MOST_SEQUENCES = 2**20
STEP = 8192  # tokens of a step, as the engine's default
UTILIZATION = 0.9  # of a device's memory, as EngineSettings' default


def facts(arch: Architecture) -> dict:
    """Counts in parameters (embedding and head included; a tied head counts as embedding), sizes in
    bytes: weights in the model's own number format, cache and state in bf16."""
    active = sizes.active_counts(arch)
    return {
        "name": arch.name,
        "family": arch.family,
        "source": arch.source,
        "total_parameters": sizes.total_parameters(arch),
        "active_parameters": sizes.active_parameters(arch),
        "by_role": {part: n for part, n in sizes.parameter_counts(arch).items() if n},
        "active_by_role": {part: n for part, n in active.items() if n},
        "number_format": format_name(arch, "bfloat16", OWN),
        "weight_bytes": sizes.weight_bytes(arch),
        "kv_bytes_per_token": sizes.kv_bytes_per_token(arch),
        "state_bytes_per_sequence": sizes.state_bytes_per_sequence(arch),
        "num_layers": arch.num_layers,
        "num_moe_layers": arch.num_moe_layers if arch.is_moe else 0,
        "hidden_size": arch.hidden_size,
        "num_experts": arch.num_experts,
        "top_k": arch.top_k,
        "expert_ffn_dim": arch.expert_ffn_dim,
        "num_shared_experts": arch.num_shared_experts,
        "attention": [
            {"kind": g.kind, "layers": g.layers, "kv_heads": g.kv_heads, "window": g.window}
            for g in arch.attention_groups
        ],
        "max_positions": arch.max_positions,
    }


def fits(arch: Architecture) -> Iterator[dict]:
    """A row for each kind of device with a published memory and each number of ranks of tensor
    parallelism: bytes of weights on a rank, sequences of SEQUENCE tokens that its cache then holds
    (0: the weights do not fit), and why the device lacks the number format or the engine refuses
    the split, or None."""
    activations = sizes.activation_bytes(arch, STEP)
    for kind in devices.kinds():
        published = devices.published(kind)
        lacks = refusal(arch, OWN, False, published.compute_capability)
        memory = published.memory_bytes
        for ranks in RANKS if memory else ():
            split = Split(tensor=ranks)
            refused = lacks or engine_rules.refusal(arch, split)
            weights = None if refused else sharding.weight_bytes(arch, split)
            left = 0 if refused else memory * UTILIZATION - weights - activations // ranks
            yield {
                "device": kind,
                "tensor_parallel": ranks,
                "weight_bytes": weights,
                "sequences": _sequences(arch, split, left),
                "refused": refused,
            }


def _sequences(arch: Architecture, split: Split, room: float) -> int:
    """The most sequences of SEQUENCE tokens whose cache and states take no more than `room`."""
    counts = range(1, MOST_SEQUENCES)
    return bisect_right(counts, room, key=lambda n: sharding.cache_bytes(arch, split, n, SEQUENCE))
