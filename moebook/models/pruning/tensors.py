"""What each tensor of a checkpoint is to a MoE layer, and whether all of them are there with the
shapes of the config.

Letters: H hidden, I expert FFN dim, E experts. Expert matrices come one by one
(`mlp.experts.3.up_proj.weight` (I, H), Mixtral's `block_sparse_moe.experts.3.w3.weight`) or fused
as transformers 5 holds them (`mlp.experts.gate_up_proj` (E, 2I, H), `mlp.experts.down_proj` (E, H,
I))."""

import re
from dataclasses import dataclass
from functools import cache

from moebook.models.architecture import Architecture
from moebook.models.pruning.checkpoint import Checkpoint, CheckpointError

FAMILIES = ("mixtral", "phimoe", "olmoe", "qwen2_moe", "qwen3_moe", "deepseek_v2", "deepseek_v3")
_PLAIN = ("float64", "float32", "float16", "bfloat16")
_PARTS = {
    "gate_proj": "gate",
    "up_proj": "up",
    "down_proj": "down",
    "w1": "gate",
    "w3": "up",
    "w2": "down",
}
_MOE = r"\blayers\.(\d+)\.(?:mlp|block_sparse_moe)\."
_SINGLE_EXPERT = re.compile(
    _MOE + r"experts\.(\d+)\.(gate_proj|up_proj|down_proj|w1|w2|w3)\.weight$"
)
_FUSED = re.compile(_MOE + r"experts\.(gate_up|down)_proj$")
_ROUTER = re.compile(_MOE + r"(?:gate|router)\.(?:weight|bias|e_score_correction_bias)$")
_SHARED = re.compile(_MOE + r"shared_experts\.(gate_proj|up_proj|down_proj)\.weight$")


@dataclass(frozen=True)
class Role:
    """What a tensor is to a MoE layer. part: router, gate, up, down or (fused only) gate_up; expert
    None: all of them."""

    layer: int
    part: str
    expert: int | None = None
    shared: bool = False


@cache
def role_of(name: str) -> Role | None:
    """None for a tensor that has nothing to do with routed experts. Raises CheckpointError for an
    unknown expert tensor."""
    if found := _SINGLE_EXPERT.search(name):
        return Role(int(found[1]), _PARTS[found[3]], int(found[2]))
    if found := _FUSED.search(name):
        return Role(int(found[1]), found[2])
    if found := _ROUTER.search(name):
        return Role(int(found[1]), "router")
    if found := _SHARED.search(name):
        return Role(int(found[1]), _PARTS[found[2]], shared=True)
    if ".experts." in name:
        raise CheckpointError(
            f"tensor {name} is in no layout known here (a quantized or family-specific one?); save "
            "the model with transformers 5 in float32 or bfloat16 first"
        )
    return None


def moe_layers(checkpoint: Checkpoint, arch: Architecture) -> list[int]:
    """Layers that hold experts, after a check that each has its router and every matrix in the
    config's shape.

    Raises CheckpointError for a tensor that is missing, misshapen or quantized."""
    found: dict[int, dict[tuple, str]] = {}
    routers = set()
    for name, tensor in checkpoint.tensors.items():
        role = role_of(name)
        if role is None or role.shared:
            continue
        if role.part == "router":
            _check_shape(checkpoint, name, (arch.num_experts, *tensor.shape[1:]))
            routers.add(role.layer)
            continue
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in _PLAIN:
            raise CheckpointError(
                f"{checkpoint.folder / checkpoint.files[name]}: {name} is stored as {dtype}; only "
                f"{', '.join(_PLAIN)} experts can be pruned, so convert the checkpoint first"
            )
        _check_shape(checkpoint, name, _expert_shape(role, arch))
        found.setdefault(role.layer, {})[role.part, role.expert] = name
    for layer, parts in found.items():
        _check_complete(checkpoint, layer, parts, arch, layer in routers)
    if len(found) < max(1, arch.num_moe_layers):
        raise CheckpointError(
            f"{checkpoint.folder}: {len(found)} layers hold experts, but its config.json speaks of "
            f"{arch.num_moe_layers}; download the missing weights"
        )
    return sorted(found)


def _expert_shape(role: Role, arch: Architecture) -> tuple[int, ...]:
    h, i, e = arch.hidden_size, arch.expert_ffn_dim, arch.num_experts
    if role.expert is None:
        return (e, 2 * i, h) if role.part == "gate_up" else (e, h, i)
    return (h, i) if role.part == "down" else (i, h)


def _check_shape(checkpoint: Checkpoint, name: str, expected: tuple[int, ...]) -> None:
    shape = tuple(checkpoint.tensors[name].shape)
    if shape != expected:
        raise CheckpointError(
            f"{checkpoint.folder / checkpoint.files[name]}: {name} has shape {shape}, but "
            f"config.json asks for {expected}; use the config.json and the weights of one model"
        )


def _check_complete(
    checkpoint: Checkpoint, layer: int, parts: dict[tuple, str], arch: Architecture, router: bool
) -> None:
    fused = {("gate_up", None), ("down", None)}
    single = {(part, e) for e in range(arch.num_experts) for part in ("gate", "up", "down")}
    expected = fused if ("gate_up", None) in parts or ("down", None) in parts else single
    missing = sorted(expected - set(parts), key=str) or ([] if router else [("router", None)])
    wrong = missing or sorted(set(parts) - expected, key=str)
    if not wrong:
        return
    part, expert = wrong[0]
    what = f"the {part} matrix" + ("" if expert is None else f" of expert {expert}")
    found = f"lacks {what} ({len(missing)} missing in all)"
    raise CheckpointError(
        f"{checkpoint.folder}: layer {layer} {found if missing else f'has {what}, one too many'}; "
        f"config.json asks for {arch.num_experts} experts, so download the weights again"
    )
