"""What each tensor of a model is for, read from its module path and shape.

Names are those of transformers' modules: `model.layers.3.mlp.experts.gate_up_proj`. A tensor's
block is the module of its layer that holds it (`mlp`, `self_attn`, `mixer`): some roles are seen
only from the block's other tensors, such as a convolution that makes an attention linear.

    >>> role("model.layers.0.mlp.gate.weight", (64, 2048), Block({"mlp.gate.weight"}, True))
    'router'
"""

import re
from dataclasses import dataclass, field

EXPERTS = frozenset({"experts"})
ROUTERS = frozenset({"router", "gate", "expert_bias", "e_score_correction_bias", "moe_statics"})
LINEAR = frozenset({"linear_attn", "mamba", "ssm", "conv1d", "A_log", "dt_bias", "slope_rate"})
STACKS = frozenset({"layers", "h", "blocks", "block"})
OTHER_MODALITIES = (
    *("vision", "visual", "audio", "image", "video", "multi_modal", "resampler", "projector"),
    *("talker", "code2wav"),
)
FFN = ("mlp", "feed_forward", "ffn", "moe", "shared_", "fc1", "fc2")


@dataclass(frozen=True)
class Block:
    """What the other tensors of a block tell. names: paths within the layer; sparse: whether its
    layer has routed experts."""

    names: set[str] = field(default_factory=set)
    sparse: bool = False

    @property
    def is_linear(self) -> bool:
        """Linear attention, an SSM or a short convolution."""
        parts = {part for name in self.names for part in name.split(".")}
        return bool(parts & LINEAR) or any(part == "conv" for part in parts)

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
    if any(word in part for part in parts for word in OTHER_MODALITIES):
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
    if any("shared_" in part for part in inside):
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


def expert_number(path: str) -> int | None:
    """The number of the expert that a tensor belongs to; None of those fused over all."""
    found = re.search(r"experts\.(\d+)\.", path)
    return int(found.group(1)) if found else None
