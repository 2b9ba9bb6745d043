"""What the fullest of several ranks holds: weights, KV cache and states, as vLLM splits a model.

Over G ranks
  tensor      1/G of the query heads, of the channels of every FFN and expert, and of the rows of
              embedding and head, padded to a multiple of 64. KV heads that are fewer than G repeat.
              Router, norms and MLA's compressions are whole on every rank, and so is MLA's cache
  experts     as tensor, but E/G whole experts in place of a share of each; what is left over goes
              to the first ranks
  pipeline    L/G layers. Where they do not divide, the last stage has none of the layers that are
              left over. Embedding (and vision) on the first, head on the last

Source: vLLM 0.32: config/model.py (get_num_kv_heads), vocab_parallel_embedding.py, linear.py,
fused_moe/expert_map_manager.py (determine_expert_map), distributed/utils.py (get_pp_indices),
v1/core/kv_cache_utils.py. engine_rules.py has what the engine refuses.

Letters: L layers, H hidden, E experts, B batch, G ranks."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from moebook.models import sizes
from moebook.models.architecture import Architecture
from moebook.models.attention import AttentionGroup
from moebook.models.formats import OWN, dtype_bytes

VOCABULARY_MULTIPLE = 64  # that embedding and head are padded to
BLOCK = 16  # tokens that the cache is handed out in; 128 with the CPU's own attention
WHOLE = ("router", "norms", "vision", "other")  # components that every tensor rank has


@dataclass(frozen=True)
class Split:
    """Ranks of each kind. whole_experts: expert parallelism over the tensor ranks."""

    tensor: int = 1
    pipeline: int = 1
    whole_experts: bool = False


@dataclass(frozen=True)
class Stage:
    """Layers that one stage of a pipeline has, and which end of the model."""

    layers: int
    moe_layers: int
    is_first: bool
    is_last: bool


def stages(arch: Architecture, count: int) -> list[Stage]:
    """The layers of each of `count` stages."""
    sizes_, left = [arch.num_layers // count] * count, arch.num_layers % count
    for i in range(2, left + 2):
        sizes_[-i] += 1
    ends = [sum(sizes_[: i + 1]) for i in range(count)]
    moe = [_moe_layers_before(arch, end) for end in ends]
    return [
        Stage(n, after - before, i == 0, i == count - 1)
        for i, (n, before, after) in enumerate(zip(sizes_, [0, *moe], moe, strict=False))
    ]


def _moe_layers_before(arch: Architecture, layer: int) -> int:
    """Layers with experts among the first `layer`."""
    return layer - sum(i < layer for i in arch.dense_layers)


def weight_bytes(
    arch: Architecture,
    split: Split,
    dtype: str = "bfloat16",
    quantization: str | None = OWN,
) -> int:
    """Bytes of the weights of the fullest rank. The arguments are those of sizes.weight_bytes."""
    whole = sizes.component_bytes(arch, dtype, quantization)
    rank = {part: size * share(arch, split, part) for part, size in whole.items()}
    embedding = whole["embedding"] or whole["lm_head"]
    head = rank["lm_head"] or embedding * share(arch, split, "embedding")  # tied: a copy of it
    return round(max(_stage_bytes(arch, s, rank, head) for s in stages(arch, split.pipeline)))


def _stage_bytes(arch: Architecture, stage: Stage, rank: dict[str, float], head: float) -> float:
    """Bytes of one stage's rank. rank: a rank's bytes of each component, of all layers."""
    moe = stage.moe_layers / arch.num_moe_layers if arch.num_moe_layers else 0
    dense_layers = stage.layers - stage.moe_layers
    dense = dense_layers / arch.num_dense_layers if arch.num_dense_layers else 0
    every = stage.layers / arch.num_layers
    of = {"experts": moe, "shared_experts": moe, "router": moe, "dense_ffn": dense}
    of |= {"embedding": stage.is_first, "vision": stage.is_first, "lm_head": 0}
    held = sum(size * of.get(part, every) for part, size in rank.items())
    tied_here = stage.is_first and not rank["lm_head"]
    return held + head * (stage.is_last and not tied_here)


def share(arch: Architecture, split: Split, part: str) -> float:
    """The part of a component's bytes that a tensor rank holds."""
    ranks = split.tensor
    if part in ("embedding", "lm_head"):
        return padded_vocabulary(arch) / arch.vocab_size / ranks
    if part == "experts" and split.whole_experts:
        return -(-arch.num_experts // ranks) / arch.num_experts
    if part == "attention":
        return _attention_share(arch, ranks)
    if part == "mtp":
        return 0.0  # not loaded: no speculation with a model's own heads is planned
    return 1.0 if part in WHOLE else 1 / ranks


def padded_vocabulary(arch: Architecture) -> int:
    """Rows of the embedding as the engine makes them."""
    return -(-arch.vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE


def _attention_share(arch: Architecture, ranks: int) -> float:
    """The part of attention's projections that a rank holds: what is not split is repeated."""
    whole = sum(g.layers * sum(_projections(arch, g)) for g in arch.attention_groups)
    if not whole:
        return 1 / ranks
    held = 0.0
    for group in arch.attention_groups:
        split, keys, replicated = _projections(arch, group)
        held += group.layers * (split / ranks + keys * kv_share(group, ranks) + replicated)
    return held / whole


def _projections(arch: Architecture, group: AttentionGroup) -> tuple[int, int, int]:
    """Elements of one layer's projections: split by query heads, split by KV heads, on every
    rank."""
    h, heads = arch.hidden_size, group.heads
    if group.kind == "mla":
        rank_q, latent = arch.q_lora_rank, group.latent
        query = (rank_q or h) * heads * group.head_dim
        rope = group.kv_values - latent
        up = latent * heads * (group.head_dim - rope + group.value_dim)
        down = h * group.kv_values + h * (rank_q or 0)
        return query + up + heads * group.value_dim * h, 0, down
    own = h * heads * (group.head_dim + group.value_dim)
    return own, h * group.kv_heads * (group.head_dim + group.value_dim), 0


def kv_share(group: AttentionGroup, ranks: int) -> float:
    """The part of a layer's KV cache that a rank holds."""
    if group.kind == "mla" or not group.kv_heads:
        return 1.0
    return max(1, group.kv_heads // ranks) / group.kv_heads


def least_kv_share(arch: Architecture, ranks: int) -> float:
    """The least part of any layer's cache and states that a rank holds; 1 with MLA alone."""
    if ranks == 1 or not arch.attention_groups:
        return 1 / ranks
    split = (kv_share(g, ranks) if g.kv_values else 1 / ranks for g in arch.attention_groups)
    return min(split)


def kv_bytes_per_token(arch: Architecture, split: Split, kv_dtype: str = "bfloat16") -> float:
    """Bytes that one token adds to the cache of the fullest rank, as sizes.kv_bytes_per_token
    counts them."""
    width, most = dtype_bytes(kv_dtype), max(s.layers for s in stages(arch, split.pipeline))
    every = sum(
        g.layers * (g.kv_values * kv_share(g, split.tensor) * width + g.index_bytes)
        for g in arch.attention_groups
    )
    return every * most / arch.num_layers


def cache_bytes(
    arch: Architecture,
    split: Split,
    batch: int,
    tokens: int,
    dtype: str = "bfloat16",
    kv_dtype: str = "bfloat16",
    in_flight: int = 0,
) -> int:
    """Bytes of KV cache and states on the fullest rank for B sequences of `tokens` tokens, of which
    `in_flight` (over all sequences) are in one step.

    A windowed layer keeps its window and what is in flight. Where any layer attends in chunks, all
    layers keep every token. Each kind of layers is filled up to equal groups of layers, and a
    linear layer's state to whole pages of the attention layers' cache (kv_cache_utils.py)."""
    most = max(stages(arch, split.pipeline), key=lambda stage: stage.layers)
    groups = [
        replace(g, layers=-(-g.layers * most.layers // arch.num_layers))
        for g in arch.attention_groups
        if g.kv_values or g.state_values or g.conv_values
    ]
    together = any(g.kind == "chunk" for g in groups)
    states = [_state_bytes(g, split.tensor, dtype) for g in groups]
    width = dtype_bytes(kv_dtype)
    per_token = [g.kv_values * kv_share(g, split.tensor) * width + g.index_bytes for g in groups]
    block = _block(max(per_token, default=0), max(states, default=0))
    held = 0.0
    for group, layers, state, size in zip(
        groups, _filled(groups, together), states, per_token, strict=True
    ):
        if size:
            held += layers * size * _tokens_held(group, batch, tokens, block, in_flight, together)
        else:
            held += layers * batch * max(state, block * max(per_token, default=0))
    return round(held)


def _state_bytes(group: AttentionGroup, ranks: int, dtype: str) -> float:
    """Bytes of one layer's state of one sequence on a rank."""
    states = group.state_values * dtype_bytes(group.state_dtype or dtype)
    return (states + group.conv_values * dtype_bytes(dtype)) / ranks


def _block(per_token: float, state: float) -> int:
    """Tokens of a block: raised until a layer's block holds a linear layer's state."""
    blocks = -(-state // (BLOCK * per_token)) if per_token else 1
    return BLOCK * max(1, int(blocks))


def _tokens_held(
    group: AttentionGroup, batch: int, tokens: int, block: int, in_flight: int, together: bool
) -> int:
    """Tokens of all sequences that a layer of the group keeps at most, in whole blocks."""
    whole = batch * (-(-tokens // block) * block)
    if group.kind != "window" or together:
        return whole
    window = batch * (-(-min(tokens, group.window) // block) + 1) * block
    return min(whole, window + in_flight)


def _filled(groups: list[AttentionGroup], together: bool) -> Iterator[int]:
    """Layers of each group, with those that only fill up: groups of layers are of one size, the
    fewest layers of a kind, or the most where that is less than half as many again."""
    counts = [g.layers for g in groups]
    if together or len(counts) < 2:
        return iter(counts)
    size = max(counts) if max(counts) < 1.5 * min(counts) else min(counts)
    return (-(-n // size) * size for n in counts)
