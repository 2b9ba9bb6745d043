"""How much each expert, and each FFN channel of an expert, matters: the scores by which pruning
chooses.

    norm               from the weights: of a channel the L2 norm of its gate row, up row and down
                       column together, of an expert the L2 norm of its matrices
    frequency          from text: of an expert the share of tokens routed to it; of a channel the
                       share of its expert's tokens for which its |act(gate) * up| lies above the
                       median of the expert's channels
    routed_activation  from text: the mean over an expert's tokens of router weight * L2 norm of the
                       expert's output (as REAP scores experts); of a channel, of router weight *
                       |act(gate) * up| * norm of its down column

Those from text are collected in calibration.py. Letters: E experts, I expert FFN dim. Sums are
float64."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from moebook.models.pruning.checkpoint import Checkpoint, CheckpointError

if TYPE_CHECKING:
    from torch import Tensor

    from moebook.models.pruning.roles import Role, Roles

CRITERIA = ("random", "norm", "frequency", "routed_activation")
CALIBRATED = ("frequency", "routed_activation")


@dataclass(frozen=True)
class Scores:
    """By MoE layer (`model.layers.1.mlp`) the arrays, named as the criterion (E,) and "channel_" +
    criterion (E, I); of a unit, "channel_norm" (channels,)."""

    layers: dict[str, dict[str, np.ndarray]]
    tokens: int = 0  # of the calibration text; 0: from the weights alone

    def of(self, layer: str, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """One array. Raises CheckpointError where it is missing, misshapen or not finite."""
        values = self.layers.get(layer, {}).get(name)
        if values is None:
            raise CheckpointError(
                f"the scores have no {name!r} for {layer}; collect them for this model with "
                "moebook.models.pruning.calibration.collect_from_folder(folder, token_ids)"
            )
        if values.shape != shape:
            raise CheckpointError(
                f"the scores {name!r} of {layer} have shape {values.shape}, but the model "
                f"needs {shape}; collect them for this very model"
            )
        if not np.isfinite(values).all():
            raise CheckpointError(
                f"the scores {name!r} of {layer} are not all finite numbers; the weights or "
                "the calibration run are damaged"
            )
        return values


def norm_scores(checkpoint: Checkpoint, roles: "Roles") -> Scores:
    """Norms of all experts, channels and units, with the weights read one tensor at a time."""
    squares: dict[str, dict[str, np.ndarray]] = {}
    for names in checkpoint.layers():
        for name, tensor in checkpoint.read(n for n in names if n in roles.by_name):
            role = roles.by_name[name]
            if role.matrix:
                _add(squares.setdefault(role.site, {}), tensor, role, roles)
    norms = {
        place: {name: np.sqrt(values) for name, values in found.items()}
        for place, found in squares.items()
    }
    return Scores(norms)


def _add(found: dict[str, np.ndarray], tensor: "Tensor", role: "Role", roles: "Roles") -> None:
    """Adds a tensor's squares, to its experts and channels."""
    experts, width = roles.experts, roles.width
    if not role.routed:
        unit = _squares(tensor, role.channels.axis, roles.units[role.site], roles.interleaved)
        found["channel_norm"] = found.get("channel_norm", 0) + unit
        return
    whole = found.setdefault("norm", np.zeros(experts))
    for expert, part, axis in _by_expert(tensor, role, experts):
        if axis is None:
            whole[expert] += float(part.double().square().sum())
            continue
        mine = _squares(part, axis, width, roles.interleaved)
        whole[expert] += mine.sum()
        channels = found.setdefault("channel_norm", np.zeros((experts, width)))
        channels[expert] += mine


def _by_expert(
    tensor: "Tensor", role: "Role", experts: int
) -> "Iterator[tuple[int, Tensor, int | None]]":
    """Number, tensor, and axis of the channels, of each expert that a tensor holds."""
    axis = role.channels.axis if role.channels else None
    if role.experts is None:
        yield role.expert, tensor, axis
        return
    at, step = role.experts.axis, role.experts.step
    if step > 1:
        tensor = tensor.unflatten(at, (experts, step))
    elif axis is not None:
        axis -= axis > at
    for expert, part in enumerate(tensor.unbind(at)):
        yield expert, part, axis


def _squares(matrix: "Tensor", axis: int, width: int, interleaved: bool) -> np.ndarray:
    """Per channel (width,) the sum of squares, gate and up of one tensor together."""
    others = [a for a in range(matrix.dim()) if a != axis]
    squares = matrix.float().norm(dim=others).double().numpy() ** 2
    if interleaved:
        return squares.reshape(width, -1).sum(axis=1)
    return squares.reshape(-1, width).sum(axis=0)
