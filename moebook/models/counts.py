"""Elements of a model per component, where no formula gives them: counted from its tensors."""

from collections import Counter, defaultdict
from dataclasses import dataclass

from moebook.models import roles
from moebook.models.meta import Tensor


@dataclass(frozen=True)
class Counts:
    """Pairs of component and elements. vectors: biases, norms, convolutions, what is not
    multiplied as a matrix; buffers: elements among them that transformers keeps outside the
    parameters (biases that balance a router); active_experts: of the routed experts, per token."""

    matrices: tuple[tuple[str, int], ...]
    vectors: tuple[tuple[str, int], ...]
    active_experts: int = 0
    buffers: int = 0


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


def layers_of(tensors: list[Tensor]) -> tuple[list[Layer], list[tuple[str, Tensor]]]:
    """Layers in order, and (role, tensor) of what lies in none."""
    inside: dict[int, dict[str, Tensor]] = defaultdict(dict)
    outside = []
    for tensor in tensors:
        layer, path = roles.place(tensor.name)
        found = roles.role(tensor.name, tensor.shape, roles.Block())
        if layer is None or found in ("vision", "mtp"):
            outside.append((found, tensor))
        else:
            inside[layer][path] = tensor
    return [_layer(inside[i]) for i in sorted(inside)], outside


def _layer(tensors: dict[str, Tensor]) -> Layer:
    sparse = any(roles.is_expert(path, t.shape) for path, t in tensors.items())
    blocks: dict[str, set[str]] = defaultdict(set)
    for path in tensors:
        blocks[roles.block_of(path)].add(path)
    found = {
        path: roles.role(t.name, t.shape, roles.Block(blocks[roles.block_of(path)], sparse))
        for path, t in tensors.items()
    }
    return Layer(tensors, found)


def count(layers: list[Layer], outside: list[tuple[str, Tensor]], top_k: int) -> Counts:
    """Elements per component; of routed experts `top_k` of each layer's are active."""
    matrices, vectors = Counter(), Counter()
    active = buffers = 0
    every = outside + [(layer.roles[p], t) for layer in layers for p, t in layer.tensors.items()]
    for found, tensor in every:
        if tensor.buffer and found != "router":
            continue  # made from the config, not learned
        (matrices if _is_matrix(tensor) else vectors)[found] += tensor.count
        buffers += tensor.count if tensor.buffer else 0
    for layer in layers:
        experts = layer.of("experts")
        if experts:
            number = num_experts(layer)
            active += sum(t.count // number * top_k for t in experts.values())
    return Counts(tuple(matrices.items()), tuple(vectors.items()), active, buffers)


def _is_matrix(tensor: Tensor) -> bool:
    name = tensor.name.rsplit(".", 1)[-1]
    is_convolution = len(tensor.shape) == 3 and "conv" in tensor.name
    return len(tensor.shape) > 1 and "bias" not in name and not is_convolution


def num_experts(layer: Layer) -> int:
    """Routed experts of a layer: the first dimension of fused ones, the rows of the router, or how
    many are numbered; 0 without."""
    experts = layer.of("experts")
    if not experts:
        return 0
    fused = [t.shape[0] for t in experts.values() if len(t.shape) == 3]
    if fused:
        return min(fused)  # LongCat's has room for experts that compute nothing
    numbered = {roles.expert_number(path) for path in experts} - {None}
    if numbered:
        return len(numbered)
    return max(t.shape[0] for t in layer.of("router").values() if len(t.shape) == 2)
