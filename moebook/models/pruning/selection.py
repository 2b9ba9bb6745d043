"""Which experts and channels stay when a checkpoint is pruned, and how tensors are cut to them.

Letters: H hidden, I expert FFN dim, E experts; a prime marks what is left.
"""

from dataclasses import dataclass

import numpy as np

from moebook.models.architecture import Architecture
from moebook.models.pruning.checkpoint import Checkpoint, CheckpointError
from moebook.models.pruning.saliency import CALIBRATED, CRITERIA, Scores, norm_scores
from moebook.models.pruning.tensors import Role, role_of
from moebook.models.shapes import language_config


@dataclass(frozen=True)
class Keep:
    """What stays, by layer: routed holds expert indices (E',) for inter and channels (E, I') for
    intra."""

    arch: Architecture
    pruned: Architecture
    kind: str
    routed: dict[int, np.ndarray]
    shared: dict[int, np.ndarray | None]

    def experts(self) -> dict[int, list[int]] | None:
        if self.kind == "intra":
            return None
        return {layer: kept.tolist() for layer, kept in self.routed.items()}

    def new_name(self, name: str, role: Role | None) -> str | None:
        """None: the tensor goes."""
        if role is None or role.expert is None or self.kind == "intra":
            return name
        kept = self.routed[role.layer].tolist()
        if role.expert not in kept:
            return None
        return name.replace(f".experts.{role.expert}.", f".experts.{kept.index(role.expert)}.")

    def cut(self, tensor, role: Role | None):
        """The part of a torch tensor that stays."""
        import torch

        if role is None or self.arch.shape == self.pruned.shape:
            return tensor
        if role.shared:
            kept = self.shared[role.layer]
            return tensor if kept is None else _channels(tensor, role.part, kept)
        kept = self.routed[role.layer]
        if self.kind == "inter":
            whole = role.expert is not None
            return tensor if whole else tensor.index_select(0, torch.from_numpy(kept))
        if role.part == "router":
            return tensor
        if role.expert is not None:
            return _channels(tensor, role.part, kept[role.expert])
        experts = zip(tensor, kept, strict=True)
        return torch.stack([_channels(one, role.part, mine) for one, mine in experts])


def _channels(matrix, part: str, kept: np.ndarray):
    """Channels of one expert's gate, up (I, H), gate_up (2I, H) or down (H, I)."""
    import torch

    if part == "gate_up":
        kept = np.concatenate([kept, kept + len(matrix) // 2])
    return matrix.index_select(1 if part == "down" else 0, torch.from_numpy(kept))


def needed_scores(
    checkpoint: Checkpoint, criterion: str, scores: Scores | None, shared_shrink: bool
) -> Scores:
    """Scores of the criterion, with the norms of shared experts where those shrink too."""
    if criterion not in CRITERIA:
        raise CheckpointError(f"criterion is {criterion!r}; allowed: {', '.join(CRITERIA)}")
    if criterion == "random":
        return Scores({})
    if criterion in CALIBRATED and scores is None:
        raise CheckpointError(
            f"criterion {criterion!r} needs scores from text; run moebook.models.pruning.saliency."
            "collect_from_folder(folder, token_ids) and give its result"
        )
    norms = norm_scores(checkpoint.folder) if criterion == "norm" or shared_shrink else Scores({})
    if criterion == "norm":
        return norms
    layers = {n: {**norms.layers.get(n, {}), **own} for n, own in scores.layers.items()}
    return Scores(layers, scores.tokens)


@dataclass(frozen=True)
class Ranking:
    """By what the lowest go: a criterion with its scores, or `random` with a seed."""

    criterion: str
    scores: Scores
    seed: int

    def values(self, layer: int, name: str, shape: tuple[int, ...], stream: int | None = None):
        """stream: tells several random draws of one layer apart."""
        if self.criterion == "random":
            seeds = [self.seed, layer] if stream is None else [self.seed, layer, stream]
            return np.random.default_rng(seeds).random(shape)
        return self.scores.of(layer, name, shape)


def select(
    checkpoint: Checkpoint,
    layers: list[int],
    arch: Architecture,
    pruned: Architecture,
    kind: str,
    ranking: Ranking,
) -> Keep:
    """What stays of each layer. Router groups (DeepSeek) keep as many experts each."""
    choose = _kept_experts if kind == "inter" else _kept_channels
    routed = {layer: choose(layer, arch, pruned, ranking) for layer in layers}
    shared = {layer: _kept_shared(layer, checkpoint, pruned, ranking) for layer in layers}
    return Keep(arch, pruned, kind, routed, shared)


def _kept_experts(layer: int, arch: Architecture, pruned: Architecture, ranking: Ranking):
    """Indices of experts (E',)."""
    values = ranking.values(layer, ranking.criterion, (arch.num_experts,))
    groups = language_config(arch.config).get("n_group") or 1
    kept = _highest(values.reshape(groups, -1), pruned.num_experts // groups)
    return (kept + np.arange(groups)[:, None] * (arch.num_experts // groups)).ravel()


def _kept_channels(layer: int, arch: Architecture, pruned: Architecture, ranking: Ranking):
    """Indices of channels (E, I')."""
    shape = (arch.num_experts, arch.expert_ffn_dim)
    values = ranking.values(layer, f"channel_{ranking.criterion}", shape)
    return _highest(values, pruned.expert_ffn_dim)


def _kept_shared(
    layer: int, checkpoint: Checkpoint, pruned: Architecture, ranking: Ranking
) -> np.ndarray | None:
    """Channels of the shared experts that stay, by norm (or at random); None: they keep their
    width."""
    up = Role(layer, "up", shared=True)
    widths = {len(tensor) for name, tensor in checkpoint.tensors.items() if role_of(name) == up}
    if not widths or widths == {pruned.shared_ffn_dim}:
        return None
    values = ranking.values(layer, "shared_channel_norm", (widths.pop(),), stream=1)
    return _highest(values, pruned.shared_ffn_dim)


def _highest(values: np.ndarray, count: int) -> np.ndarray:
    """Per row the indices of the `count` highest values, ascending; of equal values the lower index
    goes first."""
    order = np.argsort(values, axis=-1, kind="stable")
    return np.sort(order[..., values.shape[-1] - count :], axis=-1)
