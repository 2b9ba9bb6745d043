"""What one may want to know of a model before planning it: its counts, cache, formats, and where it
fits."""

from collections.abc import Iterator

from moebook import devices
from moebook.models import engine_rules, sharding, sizes
from moebook.models.architecture import Architecture
from moebook.models.formats import OWN, format_name, refusal
from moebook.models.sharding import Split

RANKS = (1, 2, 4, 8)
SEQUENCE = 4096  # tokens of the sequences that `fits` counts
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
    if room <= 0:
        return 0
    fewest, most = 0, 1
    while most < 2**20 and sharding.cache_bytes(arch, split, most, SEQUENCE) <= room:
        fewest, most = most, 2 * most
    while most - fewest > 1:
        middle = (fewest + most) // 2
        if sharding.cache_bytes(arch, split, middle, SEQUENCE) <= room:
            fewest = middle
        else:
            most = middle
    return fewest
