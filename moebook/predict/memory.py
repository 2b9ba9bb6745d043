"""Memory of one rank: weights, what the engine keeps for a step, and how many tokens of cache the
rest holds.

The engine runs one pass of its largest size before it hands out cache, and leaves that pass's peak
free. So reserve = sum of RESERVE's terms, each with a factor fitted to what engines left in the
measured starts; the same on all cards, for the pass is the same.

Letters: T tokens of the largest pass, H hidden, I expert FFN dim, K experts a token, V vocabulary,
G tensor ranks."""

from collections.abc import Mapping
from dataclasses import dataclass

from moebook.models import sharding
from moebook.models.architecture import Architecture
from moebook.models.formats import dtype_bytes
from moebook.predict.work import MAX_TOKENS
from moebook.study.settings import EngineSettings

LOGIT_ROWS = 1024  # sequences that the engine samples at once in its largest pass


@dataclass(frozen=True)
class Memory:
    """Bytes of the fullest card. cache_bytes: of the batch at full length; kv_tokens: that the
    engine says its cache holds, each in all layers: more where windows make room for the batch,
    fewer where states of its sequences do not fit; fits: weights and reserve leave room for the
    whole batch."""

    weights_bytes: int
    cache_bytes: int
    reserve_bytes: int
    card_bytes: int
    usable_bytes: int
    kv_tokens: int
    fits: bool

    @property
    def lacks(self) -> str:
        """Why the batch does not fit; empty where it does."""
        if self.fits:
            return ""
        bare = self.weights_bytes + self.reserve_bytes
        return (
            "weights and reserve exceed a card"
            if bare >= self.usable_bytes
            else "its cache exceeds what weights and reserve leave"
        )

    @property
    def per_gpu_bytes(self) -> int:
        """Weights, reserve, and the cache of the batch."""
        return self.weights_bytes + self.cache_bytes + self.reserve_bytes


def reserve_terms(arch: Architecture, settings: EngineSettings) -> dict[str, float]:
    """Bytes by term of what is kept free for a pass, before their factors."""
    g, width = settings.tensor_parallel, dtype_bytes(settings.dtype)
    ranks = 1 if settings.expert_parallel else g
    qkv = (arch.num_heads * arch.head_dim * 2 + 2 * arch.num_kv_heads * arch.head_dim) / g
    experts = arch.top_k * (3 * arch.expert_ffn_dim / ranks + arch.hidden_size)
    return {
        "start": 1e9,
        "hidden": width * MAX_TOKENS * arch.hidden_size,
        "attention": width * MAX_TOKENS * qkv,
        "experts": width * MAX_TOKENS * experts,
        "logits": 4.0 * LOGIT_ROWS * arch.vocab_size,
    }


def memory(
    arch: Architecture,
    settings: EngineSettings,
    batch: int,
    tokens: int,
    card_bytes: int,
    factors: Mapping[str, float],
) -> Memory:
    """Of a model on one of its cards; `tokens` of each of `batch` sequences at full length."""
    e = settings
    split, kept = e.split, e.formats_of(arch)["kv_dtype"]
    weights = sharding.weight_bytes(arch, split, e.dtype, e.quantization)
    terms = reserve_terms(arch, e)
    reserve = sum(factors[name] * value for name, value in terms.items())
    usable = card_bytes * e.gpu_memory_utilization
    left = max(0.0, usable - weights - reserve)
    per_token = sharding.kv_bytes_per_token(arch, split, kept)
    cache = sharding.cache_bytes(
        arch, split, batch, tokens, e.dtype, kept, min(MAX_TOKENS, batch * tokens)
    )
    fits, whole = cache <= left, batch * tokens
    kv_tokens = int(left / cache * whole) if cache else 0  # in sequences such as these
    if per_token:
        said = int(left / per_token)
        kv_tokens = max(said, whole) if fits else min(said, kv_tokens)
    return Memory(
        weights_bytes=weights,
        cache_bytes=cache,
        reserve_bytes=round(reserve),
        card_bytes=card_bytes,
        usable_bytes=round(usable),
        kv_tokens=kv_tokens,
        fits=fits,
    )
