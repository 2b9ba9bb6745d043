"""A model in its own number format: the name of the format, and the bytes of each component.

A quantization config speaks of modules by name. So the matrices of a model are listed here by the
names that checkpoints give them, layer by layer, and each is asked how it is stored. Of a component
the mean over its matrices counts, so that sizes follow models/sizes.py to the last element.

Letters: H hidden, I expert FFN dim, E experts."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from moebook.models.number_format import Stored

if TYPE_CHECKING:
    from moebook.models.architecture import Architecture

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
MIXTRAL = dict(zip(PROJECTIONS, ("w1", "w3", "w2"), strict=True))
LINEAR = ("in_proj_qkvz", "out_proj")
# In the order of a format's name.
NAMED = ("experts", "attention", "shared_experts", "dense_ffn", "linear_attention")


@dataclass(frozen=True)
class Matrix:
    """`count` matrices of a component; names: what checkpoints may call the first of them."""

    component: str
    names: tuple[str, ...]
    rows: int
    columns: int
    count: int = 1

    @property
    def elements(self) -> int:
        return self.count * self.rows * self.columns


def matrices(arch: "Architecture") -> Iterator[Matrix]:
    """The matrices that a number format may cover. Layers without experts are taken to come first;
    matrices of linear attention to be square."""
    projections, hidden = list(_attention(arch)), arch.hidden_size
    linear = any(group.kind == "linear" for group in arch.attention_groups)
    for layer in range(arch.num_layers):
        for name in LINEAR if linear else ():
            path = f"layers.{layer}.linear_attn.{name}"
            yield Matrix("linear_attention", (path,), hidden, hidden)
        for name, rows, columns in projections:
            yield Matrix("attention", (f"layers.{layer}.self_attn.{name}",), rows, columns)
        if layer < arch.num_dense_layers:
            yield from _ffn(arch, "dense_ffn", layer, ("mlp",), arch.dense_ffn_dim)
            continue
        paths = ("mlp.experts.0", "block_sparse_moe.experts.0", "feed_forward.experts.0")
        yield from _ffn(arch, "experts", layer, paths, arch.expert_ffn_dim, arch.num_experts)
        if arch.shared_ffn_dim:
            paths = ("mlp.shared_expert", "mlp.shared_experts", "feed_forward.shared_expert")
            yield from _ffn(arch, "shared_experts", layer, paths, arch.shared_ffn_dim)
    yield Matrix("lm_head", ("lm_head",), arch.vocab_size, hidden)


def _ffn(
    arch: "Architecture", component: str, layer: int, paths: tuple[str, ...], width: int, count=1
) -> Iterator[Matrix]:
    for name in PROJECTIONS:
        spelled = [f"layers.{layer}.{path}.{name}" for path in paths]
        if component == "experts":
            spelled.append(f"layers.{layer}.{paths[1]}.{MIXTRAL[name]}")
        shape = (width, arch.hidden_size) if name != "down_proj" else (arch.hidden_size, width)
        yield Matrix(component, tuple(spelled), *shape, count)


def _attention(arch: "Architecture") -> Iterator[tuple[str, int, int]]:
    """Name, rows and columns of one layer's projections."""
    h, heads, head = arch.hidden_size, arch.num_heads, arch.head_dim
    if not arch.is_mla:
        yield "q_proj", heads * head, h
        yield "k_proj", arch.num_kv_heads * head, h
        yield "v_proj", arch.num_kv_heads * head, h
        yield "o_proj", h, heads * head
        return
    if arch.q_lora_rank:
        yield "q_a_proj", arch.q_lora_rank, h
        yield "q_b_proj", heads * head, arch.q_lora_rank
    else:
        yield "q_proj", heads * head, h
    yield "kv_a_proj_with_mqa", arch.kv_lora_rank + arch.qk_rope_head_dim, h
    up = heads * (arch.qk_nope_head_dim + arch.v_head_dim)
    yield "kv_b_proj", up, arch.kv_lora_rank
    yield "o_proj", h, heads * arch.v_head_dim


@cache
def _storage(arch: "Architecture") -> dict[str, dict[Stored | None, tuple[int, float]]]:
    """By component and storage (None: the model's dtype): elements, and bytes where stored."""
    found: dict[str, dict[Stored | None, tuple[int, float]]] = {}
    for matrix in matrices(arch):
        stored = arch.number_format.stored(matrix.component, matrix.names)
        size = matrix.count * stored.bytes(matrix.rows, matrix.columns) if stored else 0.0
        of = found.setdefault(matrix.component, {})
        elements, total = of.get(stored, (0, 0.0))
        of[stored] = elements + matrix.elements, total + size
    return found


def bytes_per_element(arch: "Architecture", component: str, plain: int) -> float:
    """Of a component's matrices in the model's own format, scales included; `plain` of those that
    it does not cover."""
    if arch.number_format is None:
        return plain
    parts = _storage(arch).get(component, {})
    if not (elements := sum(n for n, _ in parts.values())):
        return plain
    held = sum(total if stored else n * plain for stored, (n, total) in parts.items())
    return held / elements


def number_format(arch: "Architecture") -> str:
    """The name of the model's own format: `MXFP4`, `FP8 blocks 128x128`, `INT8 per channel
    (attention only)`; the dtype of its config where its weights are plain."""
    if arch.number_format is None:
        return arch.dtype
    by_component = {c: name for c in NAMED if (name := _mostly(arch, c))}
    if not by_component:
        return arch.dtype
    names = list(dict.fromkeys(by_component.values()))
    if arch.is_moe and "experts" not in by_component:
        words = ", ".join(c.replace("_", " ") for c in by_component)
        return f"{', '.join(names)} ({words} only)"
    others = [f"{name} {c}" for c, name in by_component.items() if name != names[0]]
    return ", ".join([names[0], *others])


def _mostly(arch: "Architecture", component: str) -> str | None:
    """How most of a component's elements are stored; None where in the model's dtype."""
    parts = _storage(arch).get(component, {})
    most = max(parts, key=lambda stored: parts[stored][0], default=None)
    return most.name if most else None


def covered(arch: "Architecture", wholly: bool = False) -> tuple[str, ...]:
    """Components of which the model's own format covers a part, or `wholly` all."""
    if arch.number_format is None:
        return ()
    storage = _storage(arch)
    asked = all if wholly else any
    return tuple(c for c in NAMED if c in storage and asked(storage[c]))
