"""A model in its own number format: the name of the format, and the bytes of each component.

A quantization config speaks of modules by name. So the matrices of a model are listed here by the
names that checkpoints give them, layer by layer, and each is asked how it is stored. Of a component
the mean over its matrices counts, so that sizes follow models/sizes.py to the last element.

Letters: H hidden, I expert FFN dim, E experts."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import TYPE_CHECKING

from moebook.models.number_format import Stored
from moebook.models.tensors import Module

if TYPE_CHECKING:
    from moebook.models.architecture import Architecture

PROJECTIONS = ("gate_proj", "up_proj", "down_proj")
# What checkpoints and transformers call a part of a module's path.
ALIASES = (
    ("mlp", "feed_forward", "block_sparse_moe", "ffn", "moe"),
    ("self_attn", "attn", "attention"),
    ("shared_experts", "shared_expert", "share_expert"),
    ("gate_proj", "w1", "gate_up_proj"),
    ("up_proj", "w3", "gate_up_proj"),
    ("down_proj", "w2"),
    ("input_linear", "gate_up_proj"),
    ("output_linear", "down_proj"),
    *((name, "qkv_proj") for name in ("q_proj", "k_proj", "v_proj")),
)
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
    """The matrices that a number format may cover."""
    for module in arch.counts.modules if arch.counts else by_formula(arch):
        spelled = _spellings(module.path)
        for layer in module.layers:
            names = tuple(f"layers.{layer}.{path}" for path in spelled)
            yield Matrix(module.component, names, module.rows, module.columns, module.count)
    yield Matrix("lm_head", ("lm_head",), arch.vocab_size, arch.hidden_size)


def _spellings(path: str) -> list[str]:
    """A path within a layer as checkpoints may spell it."""
    parts = [
        next((names for names in ALIASES if part in names), (part,)) for part in path.split(".")
    ]
    return [".".join(spelled) for spelled in product(*parts)]


def by_formula(arch: "Architecture") -> Iterator[Module]:
    """The matrices of the layers of a model that formulas cover, but for routers."""
    dense, every = arch.dense_layers, tuple(range(arch.num_layers))
    sparse = tuple(sorted(set(every) - set(dense)))
    for name, rows, columns in _attention(arch):
        yield Module("attention", f"self_attn.{name}", rows, columns, every)
    for component, path, width, layers, count in (
        ("dense_ffn", "mlp", arch.dense_ffn_dim, dense, 1),
        ("experts", "mlp.experts.0", arch.expert_ffn_dim, sparse, arch.num_experts),
        ("shared_experts", "mlp.shared_experts", arch.shared_ffn_dim, sparse, 1),
    ):
        for name in PROJECTIONS if width else ():
            into, out = (
                (width, arch.hidden_size) if name == "down_proj" else (arch.hidden_size, width)
            )
            yield Module(component, f"{path}.{name}", out, into, layers, count)


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
    named = [c for c in NAMED if c != "dense_ffn" or arch.dense_ffn_dim]
    by_component = {c: name for c in named if (name := _mostly(arch, c))}
    if not by_component:
        return arch.dtype
    names = list(dict.fromkeys(by_component.values()))
    if arch.is_moe and "experts" not in by_component:
        words = ", ".join(c.replace("_", " ") for c in by_component)
        return f"{', '.join(names)} ({words} only)"
    parts = {name: [c for c, of in by_component.items() if of == name] for name in names[1:]}
    others = [f"{name} {' and '.join(of)}".replace("_", " ") for name, of in parts.items()]
    return ", ".join([names[0], *others])


def _mostly(arch: "Architecture", component: str) -> str | None:
    """How most of a component's elements are stored; None where in the model's dtype."""
    parts = _storage(arch).get(component, {})
    most = max(parts, key=lambda stored: parts[stored][0], default=None)
    return most.name if most else None


def of_experts(arch: "Architecture") -> set[Stored]:
    """How the model's own format stores routed experts, those in the model's dtype left out."""
    storage = _storage(arch) if arch.number_format is not None else {}
    return set(storage.get("experts", {})) - {None}


def covered(arch: "Architecture", wholly: bool = False) -> tuple[str, ...]:
    """Components of which the model's own format covers a part, or `wholly` all."""
    if arch.number_format is None:
        return ()
    storage = _storage(arch)
    asked = all if wholly else any
    return tuple(c for c in NAMED if c in storage and asked(storage[c]))
