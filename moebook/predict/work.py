"""What one forward pass gives the fullest rank to do, in the parts whose speed is calibrated.

Parts that read and multiply (bytes, FLOPs)
  experts   routed experts: weights of the experts hit, and the activations of their tokens
  dense     all other matrices: attention's projections, shared experts, dense FFN, router, head
  softmax   the cache of ordinary attention and its scores
  latent    the same of MLA
  state     recurrent states of linear attention
Parts that only move bytes
  stream    activations between kernels
  logits    B rows of the vocabulary in 32 bits
Counts of what has a cost of its own whatever its size: see COUNTS.

Letters: B sequences, T tokens of the pass, H hidden, I expert FFN dim, E experts, K experts a
token, G ranks."""

from dataclasses import dataclass
from functools import cache

import numpy as np

from moebook.models import costs, sharding, sizes
from moebook.models.architecture import Architecture
from moebook.models.formats import OWN, covered, dtype_bytes
from moebook.models.formats import rate as matrix_rate
from moebook.models.own_format import bytes_per_element
from moebook.models.sharding import Split
from moebook.study import routing
from moebook.study.settings import EngineSettings

PARTS = ("experts", "dense", "softmax", "latent", "state")
STREAMS = ("stream", "logits")
COUNTS = (
    "pass",
    "layer",
    "moe_layer",
    "shared_layer",
    "scaled_layer",  # its router scales an expert's input, by plain kernels
    "mla_layer",
    "state_layer",
    "sequence",
)
MAX_TOKENS = 16384  # of one pass: the engine's default for offline use on a card of 70 GB and more
# An expert's product is computed in blocks of so many tokens, by the tokens of the pass, and so
# many columns (vLLM 0.32, fused_moe.py, get_default_config), each on one multiprocessor.
BLOCK_TOKENS, BLOCK_COLUMNS = ((32, 16), (96, 32), (512, 64), (np.inf, 128)), 64
ZIPF_DRAWS = 512  # tokens drawn to find the shares of experts under a skewed routing


@dataclass(frozen=True)
class Pass:
    """One forward pass, as its fullest rank sees it. bytes, flops: by part (FLOPs divided by the
    format's matrix rate over bf16's); counts: of COUNTS; tokens: T; message_bytes: of one
    all-reduce over the ranks of a layer, and how many there are; blocks: that the experts' first
    product (gate and up) and their second (down) of one layer fall into."""

    bytes: dict[str, float]
    flops: dict[str, float]
    counts: dict[str, float]
    tokens: int
    message_bytes: float
    all_reduces: int
    blocks: tuple[float, float]


def decode(arch: Architecture, settings: EngineSettings, batch: int, context: int) -> Pass:
    """One step of B sequences, each attending to `context` tokens."""
    extra = settings.speculation.num_tokens if settings.speculation else 0
    cost = costs.decode_cost(
        arch, batch, context, **settings.formats_of(arch), tokens_per_sequence=extra + 1
    )
    return _pass(arch, settings, cost, batch * (extra + 1), batch * (extra + 1), batch)


def prefill(
    arch: Architecture, settings: EngineSettings, batch: int, tokens: int
) -> tuple[tuple[int, Pass], tuple[int, Pass]]:
    """Passes of the first prompt, and of all others: how many, and the mean one of them. The engine
    runs in a process of its own, to which requests come one by one: its first pass begins with the
    first of them, and those that follow wait for its end. One sequence has no others: 0 passes."""
    first = _filling(arch, settings, 1, tokens)
    if batch == 1:
        return first, (0, first[1])
    return first, _filling(arch, settings, batch - 1, tokens)


def _filling(
    arch: Architecture, settings: EngineSettings, batch: int, tokens: int
) -> tuple[int, Pass]:
    whole = batch * tokens
    passes = -(-whole // MAX_TOKENS)
    cost = costs.prefill_cost(arch, batch, tokens, **settings.formats_of(arch))
    cost = costs.Cost(
        {name: value / passes for name, value in cost.flops.items()},
        {k: v / passes if k == "kv_cache" else v for k, v in cost.bytes.items()},
    )
    return passes, _pass(arch, settings, cost, whole / passes, batch / passes, batch / passes)


def _pass(
    arch: Architecture,
    s: EngineSettings,
    cost: costs.Cost,
    tokens: float,
    sampled: float,
    sequences: float,
) -> Pass:
    split, width = Split(s.tensor_parallel, 1, s.expert_parallel), dtype_bytes(s.dtype)
    moved, done = dict.fromkeys((*PARTS, *STREAMS), 0.0), dict.fromkeys(PARTS, 0.0)
    quick = _rates(arch, s.dtype, s.quantization)
    for name, value in cost.flops.items():
        if name != "attention_scores":
            part = "experts" if name == "experts" else "dense"
            done[part] += value * sharding.share(arch, split, name) / quick[name]
    for name, value in cost.bytes.items():
        if name != "kv_cache":
            part = "experts" if name == "experts" else "dense"
            moved[part] += value * sharding.share(arch, split, name)
    taken = hit(arch, s, tokens)
    if arch.is_moe:
        moved["experts"] *= taken / costs.distinct_experts(arch.num_experts, arch.top_k, tokens)
        done["experts"] *= 1 + taken * _block_tokens(tokens) / 2 / (tokens * arch.top_k)
    _attention(arch, split, cost, moved, done)
    moved["stream"] = width * tokens * _between_kernels(arch, split)
    moved["logits"] = 4.0 * sampled * arch.vocab_size
    moe = arch.num_moe_layers if arch.is_moe else 0
    kinds = {
        kind: sum(g.layers for g in arch.attention_groups if g.kind == kind)
        for kind in ("mla", "linear")
    }
    counts = {
        "pass": 1.0,
        "layer": arch.num_layers,
        "moe_layer": moe,
        "shared_layer": moe * (arch.shared_ffn_dim > 0),
        "scaled_layer": moe * arch.family.startswith("llama4"),
        "mla_layer": kinds["mla"],
        "state_layer": kinds["linear"],
        "sequence": sequences,
    }
    message = width * tokens * arch.hidden_size
    blocks = _blocks(arch, split, taken, tokens)
    return Pass(moved, done, counts, tokens, message, 2 * arch.num_layers + 1, blocks)


def _block_tokens(tokens: float) -> int:
    return next(rows for most, rows in BLOCK_TOKENS if tokens <= most)


def _blocks(arch: Architecture, split: Split, experts: float, tokens: float) -> tuple[float, float]:
    if not arch.is_moe:
        return np.inf, np.inf
    ranks = split.tensor
    rows, columns = (ranks, 1) if split.whole_experts else (1, ranks)
    deep = max(1.0, tokens * arch.top_k / experts / _block_tokens(tokens))
    over = experts / rows * deep / BLOCK_COLUMNS
    return over * 2 * arch.expert_ffn_dim / columns, over * arch.hidden_size


def _between_kernels(arch: Architecture, split: Split) -> float:
    """Values a token that kernels hand to each other: some 8 H a layer, and of each expert's token
    its input, both products, and its output, read and written."""
    ranks = split.tensor
    rows, columns = (ranks, 1) if split.whole_experts else (1, ranks)
    moe = arch.num_moe_layers if arch.is_moe else 0
    each = 2 * arch.hidden_size + 4 * arch.expert_ffn_dim / columns
    return arch.num_layers * 8 * arch.hidden_size + moe * arch.top_k * each / rows


def _rates(arch: Architecture, dtype: str, quantization: str | None) -> dict[str, float]:
    """Matrix rate of each component's format over bf16's."""
    fast, plain = matrix_rate(arch, quantization) or 1.0, dtype_bytes(dtype)
    if quantization == OWN:
        held = [c for c in sizes.COMPONENTS if bytes_per_element(arch, c, plain) < plain]
    else:
        held = covered(quantization)
    return {c: fast if c in held else 1.0 for c in sizes.COMPONENTS}


def _attention(arch: Architecture, split: Split, cost: costs.Cost, moved: dict, done: dict) -> None:
    """The cache and the scores, under the kind of attention that keeps most; linear layers' states
    stand with it where there is another kind."""
    kinds = {g.kind for g in arch.attention_groups if g.kv_values}
    part = "latent" if "mla" in kinds else "softmax" if kinds else "state"
    layers = sum(g.layers for g in arch.attention_groups) or 1
    kept = sum(
        g.layers * (sharding.kv_share(g, split.tensor) if g.kv_values else 1 / split.tensor)
        for g in arch.attention_groups
    )
    moved[part] += cost.bytes["kv_cache"] * kept / layers
    done[part] += cost.flops["attention_scores"] / split.tensor


def hit(arch: Architecture, s: EngineSettings, tokens: float) -> float:
    """Experts of one layer that the tokens of a pass read."""
    if not arch.is_moe:
        return 0.0
    if s.routing == routing.SAME:
        return arch.top_k
    skew = routing.skew_of(s.routing)
    if not skew:
        return costs.distinct_experts(arch.num_experts, arch.top_k, tokens)
    return float((1 - (1 - shares(arch.num_experts, arch.top_k, skew)) ** tokens).sum())


@cache
def shares(experts: int, top_k: int, skew: float) -> np.ndarray:
    """(E,) probability that a token takes an expert: K drawn without replacement, each with
    probability ~ rank^-S."""
    weights = np.arange(1, experts + 1) ** -float(skew)
    # Gumbel's trick: the K largest of log p + noise are such a draw
    noise = np.random.default_rng(0).gumbel(size=(ZIPF_DRAWS * 8, experts))
    chosen = np.argsort(-(np.log(weights) + noise), axis=1)[:, :top_k]
    return np.bincount(chosen.ravel(), minlength=experts) / len(noise)


def expected_tokens(acceptance: np.ndarray | float, k: np.ndarray | int) -> np.ndarray:
    """Tokens a sequence gains per step with k draft tokens, for numbers or arrays of equal shape: a
    draft proposes k, the target verifies k + 1 at once, and with a the probability that one is
    accepted given that those before it were, equal at every position,

        E(a, k) = 1 + a + ... + a^k = (1 - a^(k+1)) / (1 - a)          (a = 1: k + 1)

    (Leviathan, Kalman, Matias 2023, arXiv 2211.17192, equation 1). ValueError for an
    acceptance outside 0 to 1, or k under 0."""
    a, k = np.broadcast_arrays(np.asarray(acceptance, float), np.asarray(k, int))
    if not np.all((a >= 0) & (a <= 1) & (k >= 0)):
        raise ValueError(
            f"acceptance {acceptance!r} with {k} draft tokens: acceptance lies between 0 and 1, k "
            f"is 0 or more"
        )
    powers = np.arange(k.max(initial=0) + 1)
    return np.where(powers <= k[..., None], a[..., None] ** powers, 0).sum(axis=-1)
