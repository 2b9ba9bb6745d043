"""What each tensor of a model is for, read from its module path and shape; and a model's elements
per component, counted from its tensors.

Names are those of transformers' modules: `model.layers.3.mlp.experts.gate_up_proj`. A tensor's
block is the module of its layer that holds it (`mlp`, `self_attn`, `mixer`): some roles are seen
only from the block's other tensors, such as a convolution that makes an attention linear.

    >>> role("model.layers.0.mlp.gate.weight", (64, 2048), Block({"mlp.gate.weight"}, True))
    'router'
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import prod

EXPERTS = frozenset({"experts"})
ROUTERS = frozenset({"router", "gate", "expert_bias", "e_score_correction_bias", "moe_statics"})
LINEAR = frozenset({"linear_attn", "mamba", "ssm", "A_log", "dt_bias", "slope_rate", "g_norm"})
CONVOLUTIONS = frozenset({"conv", "conv1d"})
STACKS = frozenset({"layers", "h", "blocks", "block"})
OTHER_MODALITIES = (
    *("vision", "visual", "audio", "image", "video", "multi_modal", "resampler", "projector"),
    *("talker", "code2wav"),
)
SHARED = re.compile(".*shared_|share_expert")
FFN = ("mlp", "feed_forward", "ffn", "moe", "share_", "shared_", "fc1", "fc2")


@dataclass(frozen=True)
class Tensor:
    """A parameter of a model, or (`buffer`) a tensor that a checkpoint holds beside them."""

    name: str
    shape: tuple[int, ...]
    buffer: bool = False

    @property
    def count(self) -> int:
        return prod(self.shape)


@dataclass(frozen=True)
class Block:
    """What the other tensors of a block tell. names: paths within the layer; sparse: whether its
    layer has routed experts."""

    names: set[str] = field(default_factory=set)
    sparse: bool = False

    @property
    def is_linear(self) -> bool:
        """Linear attention, an SSM or a short convolution; not softmax attention to keys that one
        has smoothed (Inkling)."""
        parts = {part for name in self.names for part in name.split(".")}
        return bool(parts & LINEAR) or bool(parts & CONVOLUTIONS and "k_proj" not in parts)

    @property
    def is_ffn(self) -> bool:
        """A block named like attention's (`mixer`) that is an FFN: it has no query."""
        parts = {part for name in self.names for part in name.split(".")}
        return "down_proj" in parts and not parts & {"q_proj", "o_proj", "in_proj"}


def place(name: str) -> tuple[int | None, str]:
    """Layer and path within it; None and the whole name of what lies in no layer."""
    parts = name.split(".")
    for i, part in enumerate(parts[:-1]):
        if part in STACKS and parts[i + 1].isdigit():
            return int(parts[i + 1]), ".".join(parts[i + 2 :])
    return None, name


def block_of(path: str) -> str:
    """The block of a path within a layer; numbered ones (`mlps.1`) are blocks of their own."""
    found = re.match(r"[^.]+(\.\d+)?", path)
    return found.group() if found else path


def is_expert(path: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor within a layer belongs to routed experts: fused over them in its first
    dimension, or one of a numbered expert."""
    parts = path.split(".")
    if any("shared" in part or part in ROUTERS for part in parts):
        return False
    if EXPERTS & set(parts):
        return len(shape) > 1 or bool(re.search(r"experts\.\d+\.", path))
    return len(shape) == 3 and parts[0].startswith(FFN)  # JetMoE's are named like a dense FFN


def role(name: str, shape: tuple[int, ...], block: Block) -> str:
    """One of sizes.COMPONENTS; `other` where no rule tells."""
    parts = name.split(".")
    layer, path = place(name)
    if not serves_text(name if layer is None else name.removesuffix(path)):
        return "vision"
    if any(part.startswith(("mtp", "nextn")) for part in parts):
        return "mtp"
    if layer is None:
        return _outside(parts)
    inside = path.split(".")
    if is_expert(path, shape):
        return "experts"
    if block.sparse and any(part in ROUTERS or "router" in part for part in inside):
        return "router"
    if "norm" in path and len(shape) == 1:
        return "norms"
    if any(SHARED.match(part) for part in inside):
        return "shared_experts" if block.sparse else "dense_ffn"
    if block.is_linear:
        return "linear_attention"
    if any("attn" in part or "attention" in part for part in inside[:1]):
        return "attention"
    if block.is_ffn or any(part.startswith(FFN) for part in inside):
        return "other" if block.sparse and len(shape) == 1 else "dense_ffn"
    if inside[0] in ("mixer", "temporal_block"):
        return "attention"
    return "norms" if len(shape) == 1 else "other"


def _outside(parts: list[str]) -> str:
    """The role of a tensor that lies in no layer."""
    if any(part in ("lm_head", "embed_out", "output") for part in parts):
        return "lm_head"
    if any("norm" in part or part.startswith("ln_") for part in parts):
        return "norms"
    if any("embed" in part or part in ("wte", "wpe") for part in parts):
        return "embedding"
    return "other"


def serves_text(name: str) -> bool:
    """Whether neither a module's name nor those that hold it are of another modality. A decoder's
    layer may have experts and a router of their own for tokens of images (ERNIE-4.5-VL): those are
    counted as what they are, and no token of a text uses them."""
    return not any(word in name for word in OTHER_MODALITIES)


def expert_number(path: str) -> int | None:
    """The number of the expert that a tensor belongs to; None of those fused over all."""
    found = re.search(r"experts\.(\d+)\.", path)
    return int(found.group(1)) if found else None


@dataclass(frozen=True)
class Module:
    """A matrix that `layers` have alike (none: it lies outside of them), `count` times in each:
    once for each expert. path: within the layer, of the first expert."""

    component: str
    path: str
    rows: int
    columns: int
    layers: tuple[int, ...] = ()
    count: int = 1

    @property
    def elements(self) -> int:
        """In all layers."""
        return len(self.layers) * self.count * self.rows * self.columns


@dataclass(frozen=True)
class Counts:
    """Pairs of component and elements. vectors: biases, norms, convolutions, what is not
    multiplied as a matrix; buffers: elements among them that transformers keeps outside the
    parameters (biases that balance a router); active_experts: of the routed experts, per token of a
    text; beside_text: of experts and routers that only tokens of images use; modules: the matrices
    of the layers one by one."""

    matrices: tuple[tuple[str, int], ...]
    vectors: tuple[tuple[str, int], ...]
    active_experts: int = 0
    buffers: int = 0
    modules: tuple[Module, ...] = ()
    beside_text: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Layer:
    """The tensors of one layer by path within it, and their roles."""

    tensors: dict[str, Tensor]
    roles: dict[str, str]

    def of(self, *wanted: str) -> dict[str, Tensor]:
        return {path: t for path, t in self.tensors.items() if self.roles[path] in wanted}

    @property
    def is_sparse(self) -> bool:
        return "experts" in self.roles.values()

    @property
    def experts(self) -> dict[str, Tensor]:
        """Those that a text's tokens choose from."""
        return {path: t for path, t in self.of("experts").items() if serves_text(path)}


def layers_of(tensors: Iterable[Tensor]) -> tuple[list[Layer], list[tuple[str, Tensor]]]:
    """Layers of the text part in order, and (role, tensor) of what lies in none."""
    inside: dict[int, dict[str, Tensor]] = defaultdict(dict)
    outside = []
    for tensor in tensors:
        layer, path = place(tensor.name)
        found = role(tensor.name, tensor.shape, Block())
        if found == "vision":  # towers and projectors of other modalities
            continue
        if layer is None or found == "mtp":
            outside.append((found, tensor))
        else:
            inside[layer][path] = tensor
    return [_layer(inside[i]) for i in sorted(inside)], outside


def _layer(tensors: dict[str, Tensor]) -> Layer:
    sparse = any(is_expert(path, t.shape) for path, t in tensors.items())
    blocks: dict[str, set[str]] = defaultdict(set)
    for path in tensors:
        blocks[block_of(path)].add(path)
    found = {
        path: role(t.name, t.shape, Block(blocks[block_of(path)], sparse))
        for path, t in tensors.items()
    }
    return Layer(tensors, found)


def count(layers: list[Layer], outside: list[tuple[str, Tensor]], top_k: int) -> Counts:
    """Elements per component; of routed experts `top_k` of each layer's are active."""
    matrices, vectors, beside = Counter(), Counter(), Counter()
    active = buffers = 0
    every = outside + [(layer.roles[p], t) for layer in layers for p, t in layer.tensors.items()]
    for found, tensor in every:
        if tensor.buffer and found != "router":
            continue  # made from the config, not learned
        (matrices if _is_matrix(tensor) else vectors)[found] += tensor.count
        buffers += tensor.count if tensor.buffer else 0
    for layer in layers:
        number = num_experts(layer)
        active += sum(t.count // number * top_k for t in layer.experts.values())
        for path, tensor in layer.of("experts", "router").items():
            if not serves_text(path):
                beside[layer.roles[path]] += tensor.count
    pairs = tuple(matrices.items()), tuple(vectors.items())
    return Counts(*pairs, active, buffers, tuple(_modules(layers)), tuple(beside.items()))


def _modules(layers: list[Layer]) -> Iterator[Module]:
    """The matrices of the layers, those alike together."""
    number: dict[tuple, Counter] = defaultdict(Counter)
    for i, layer in enumerate(layers):
        for path, tensor in layer.tensors.items():
            if _is_matrix(tensor) and not tensor.buffer:
                for name, rows, columns, count in _matrices(path, tensor.shape):
                    number[layer.roles[path], name, rows, columns][i] += count
    for told, by_layer in number.items():
        for count in sorted(set(by_layer.values())):
            yield Module(*told, tuple(i for i, n in by_layer.items() if n == count), count)


def _matrices(path: str, shape: tuple[int, ...]) -> Iterator[tuple[str, int, int, int]]:
    """Path, rows, columns and number of the matrices of a tensor; transformers fuses experts, and
    their gate and up projections."""
    path = re.sub(r"experts\.(\d+\.)?", "experts.0.", path.removesuffix(".weight"))
    *fused, rows, columns = shape
    if "gate_up_proj" not in path:
        yield path, rows, columns, prod(fused)
        return
    for name in ("gate_proj", "up_proj"):
        yield path.replace("gate_up_proj", name), rows // 2, columns, prod(fused)


def _is_matrix(tensor: Tensor) -> bool:
    name = tensor.name.rsplit(".", 1)[-1]
    is_convolution = len(tensor.shape) == 3 and "conv" in tensor.name
    return len(tensor.shape) > 1 and "bias" not in name and not is_convolution


def num_experts(layer: Layer) -> int:
    """Routed experts of a layer: the first dimension of fused ones, the rows of the router, or how
    many are numbered; 0 without."""
    experts = layer.experts
    if not experts:
        return 0
    fused = [t.shape[0] for t in experts.values() if len(t.shape) == 3]
    if fused:
        return min(fused)  # LongCat's has room for experts that compute nothing
    numbered = {expert_number(path) for path in experts} - {None}
    if numbered:
        return len(numbered)
    return max(t.shape[0] for t in layer.of("router").values() if len(t.shape) == 2)
