"""Which experts and channels stay when a checkpoint is pruned, and how tensors are cut to them.

Letters: H hidden, I expert FFN dim, E experts; a prime marks what is left.
"""

from dataclasses import dataclass
from pathlib import Path

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
        return (
            {layer: kept.tolist() for layer, kept in self.routed.items()}
            if self.kind == "inter"
            else None
        )

    def new_name(self, name: str, role: Role | None) -> str | None:
        """None: the tensor goes."""
        if role is None or role.expert is None or self.kind == "intra":
            return name
        place = np.flatnonzero(self.routed[role.layer] == role.expert)
        return (
            name.replace(f".experts.{role.expert}.", f".experts.{place[0]}.")
            if len(place)
            else None
        )

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
            return tensor if role.expert is not None else tensor[torch.from_numpy(kept)]
        if role.part == "router":
            return tensor
        if role.expert is not None:
            return _channels(tensor, role.part, kept[role.expert])
        return torch.stack(
            [_channels(one, role.part, mine) for one, mine in zip(tensor, kept, strict=True)]
        )


def _channels(matrix, part: str, kept: np.ndarray):
    """Channels of one expert's gate, up (I, H), gate_up (2I, H) or down (H, I)."""
    import torch

    if part == "gate_up":
        kept = np.concatenate([kept, kept + len(matrix) // 2])
    return matrix.index_select(1 if part == "down" else 0, torch.from_numpy(kept))


def needed_scores(
    checkpoint: Checkpoint, criterion: str, scores: Scores | Path | None, shared_shrink: bool
) -> Scores:
    """Scores of the criterion, with the norms of shared experts where those shrink too."""
    if criterion not in CRITERIA:
        raise CheckpointError(f"criterion is {criterion!r}; allowed: {', '.join(CRITERIA)}")
    if criterion == "random":
        return Scores({})
    if criterion in CALIBRATED and scores is None:
        raise CheckpointError(
            f"criterion {criterion!r} needs scores from text; run moebook.models.pruning.saliency."
            "collect_from_folder(folder, token_ids) and give its result, or the file it was saved "
            "to"
        )
    norms = norm_scores(checkpoint.folder) if criterion == "norm" or shared_shrink else Scores({})
    if criterion == "norm":
        return norms
    given = scores if isinstance(scores, Scores) else Scores.load(scores)
    return Scores(
        {n: {**norms.layers.get(n, {}), **found} for n, found in given.layers.items()}, given.tokens
    )


def kept(
    layer: int,
    arch: Architecture,
    pruned: Architecture,
    kind: str,
    criterion: str,
    scores: Scores,
    seed: int,
) -> np.ndarray:
    """Indices that stay: experts (E',) or channels (E, I')."""
    inter = kind == "inter"
    shape = (arch.num_experts,) if inter else (arch.num_experts, arch.expert_ffn_dim)
    if criterion == "random":
        values = np.random.default_rng([seed, layer]).random(shape)
    else:
        values = scores.of(layer, criterion if inter else f"channel_{criterion}", shape)
    if not inter:
        return _highest(values, pruned.expert_ffn_dim)
    groups = language_config(arch.config).get("n_group") or 1
    kept = _highest(values.reshape(groups, -1), pruned.num_experts // groups)
    return (kept + np.arange(groups)[:, None] * (arch.num_experts // groups)).ravel()


def kept_shared(
    layer: int,
    checkpoint: Checkpoint,
    pruned: Architecture,
    criterion: str,
    scores: Scores,
    seed: int,
) -> np.ndarray | None:
    """Channels of the shared experts that stay, by norm (or at random); None: they keep their
    width."""
    widths = {
        checkpoint.tensors[name].shape[0]
        for name in checkpoint.tensors
        if (role := role_of(name)) and role.shared and role.layer == layer and role.part == "up"
    }
    if not widths or widths == {pruned.shared_ffn_dim}:
        return None
    shape = (widths.pop(),)
    if criterion == "random":
        values = np.random.default_rng([seed, layer, 1]).random(shape)
    else:
        values = scores.of(layer, "shared_channel_norm", shape)
    return _highest(values, pruned.shared_ffn_dim)


def _highest(values: np.ndarray, count: int) -> np.ndarray:
    """Per row the indices of the `count` highest values, ascending; of equal values the lower index
    goes first."""
    order = np.argsort(values, axis=-1, kind="stable")
    return np.sort(order[..., values.shape[-1] - count :], axis=-1)
