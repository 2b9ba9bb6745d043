"""How many experts and channels stay when a checkpoint is pruned, which, and how tensors are cut to
them.

Letters: H hidden, E experts, K experts per token, I expert FFN dim; a prime marks what is left. A
site is a MoE layer whose experts are chosen together; a unit is a shared expert or dense FFN that
the config makes as wide as the experts."""

import re
from dataclasses import dataclass
from math import floor

import numpy as np

from moebook.models.edit import FFN_MULTIPLE, ImpossibleEdit
from moebook.models.pruning.checkpoint import Checkpoint, CheckpointError
from moebook.models.pruning.roles import Role, Roles
from moebook.models.pruning.saliency import CALIBRATED, CRITERIA, Scores, norm_scores

KINDS = ("inter", "intra")


def check(name: str, kind: str, ratio: float) -> None:
    """Raises ImpossibleEdit for another kind, or a ratio that is no fraction from 0 up to 1."""
    if kind not in KINDS:
        raise ImpossibleEdit(
            f"{name}: kind is {kind!r}; allowed: inter (fewer experts), intra (narrower experts)"
        )
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 <= ratio < 1:
        raise ImpossibleEdit(
            f"{name}: ratio is {ratio!r}; give the fraction to remove, from 0 up to but not "
            "including 1, such as 0.125 for 12.5 %"
        )


def experts_left(name: str, experts: int, top_k: int, ratio: float) -> tuple[int, list[str]]:
    """E' = E - round(ratio * E), and a note where that is rounded. Raises ImpossibleEdit."""
    exact = ratio * experts
    removed = floor(exact + 0.5)
    if experts - removed < top_k:
        raise ImpossibleEdit(
            f"{name}: ratio {ratio:g} removes {removed} of {experts} experts, fewer than the "
            f"{top_k} each token uses; use a ratio up to {(experts - top_k) / experts:g}"
        )
    note = f"{ratio:g} of {experts} experts is {exact:g}; removed {removed}"
    return experts - removed, [note] * (removed != exact)


def width_left(name: str, width: int, ratio: float) -> tuple[int, list[str]]:
    """I' = (1 - ratio) * I, rounded to a multiple of 16, and a note where it is. Raises
    ImpossibleEdit."""
    asked, multiple = (1 - ratio) * width, FFN_MULTIPLE
    if width < multiple:
        raise ImpossibleEdit(
            f"{name}: its expert FFN dim {width} is below one multiple of {multiple}, so nothing "
            "can go; use kind inter"
        )
    new = min(max(1, floor(asked / multiple + 0.5)), width // multiple) * multiple
    if abs(new - asked) <= 1e-6:
        return new, []
    return new, [
        f"{ratio:g} less than FFN dim {width} is {asked:g}; rounded to {new}, a multiple of "
        f"{multiple} (really {1 - new / width:.4g} less)"
    ]


def check_some(name: str, what: str, old: int, new: int, ratio: float) -> None:
    """Raises ImpossibleEdit where a pruned checkpoint would be a copy."""
    if new != old:
        return
    hint = f"; {ratio:g} is {100 * ratio:g} %" if ratio else ""
    raise ImpossibleEdit(
        f"{name}: ratio {ratio:g} of {old} {what} removes none{hint}, so the result would be an "
        "unchanged copy; give a larger ratio (--ratio is in percent: 25 is a quarter)"
    )


@dataclass(frozen=True)
class Keep:
    """What stays. kept: by site the experts (E',) for inter, the channels (E, I') for intra; by
    unit the channels (W',)."""

    roles: Roles
    kind: str
    kept: dict[str, np.ndarray]

    def experts(self) -> dict[str, list[int]] | None:
        """By site the old indices in the new order; None where all stay."""
        if self.kind == "intra":
            return None
        return {site: kept.tolist() for site, kept in self.kept.items()}

    def new_name(self, name: str) -> str | None:
        """None: the tensor goes."""
        role = self.roles.by_name.get(name)
        if role is None or role.expert is None or self.kind == "intra":
            return name
        kept = self.kept[role.site].tolist()
        if role.expert not in kept:
            return None
        return _renumbered(name, self.roles.plain[name], role, kept.index(role.expert))

    def cut(self, name: str, tensor):
        """The part of a torch tensor that stays."""
        role = self.roles.by_name.get(name)
        if role is None:
            return tensor
        if self.kind == "inter":
            return self._fewer(tensor, role)
        return tensor if role.channels is None else self._narrower(tensor, role)

    def _fewer(self, tensor, role: Role):
        if role.experts is None:
            return tensor
        axis, step = role.experts.axis, role.experts.step
        rows = _spread(self.kept[role.site], step)
        rest = np.arange(self.roles.experts * step, tensor.shape[axis])
        return _taken(tensor, axis, np.concatenate([rows, rest]))

    def _narrower(self, tensor, role: Role):
        import torch

        kept, axis, width = self.kept[role.site], role.channels.axis, self.roles.width
        length = tensor.shape[axis]
        if not role.routed:
            unit = self.roles.units[role.site]
            return _taken(tensor, axis, self._copies(kept, length, unit))
        if role.experts is None:
            return _taken(tensor, axis, self._copies(kept[role.expert], length, width))
        if role.experts.axis == axis:  # DBRX: the rows of one expert follow those of another
            each = length // len(kept)
            rows = [e * each + self._copies(mine, each, width) for e, mine in enumerate(kept)]
            return _taken(tensor, axis, np.concatenate(rows))
        inner = axis - (axis > role.experts.axis)
        parts = [
            _taken(one, inner, self._copies(mine, length, width))
            for one, mine in zip(tensor.unbind(role.experts.axis), kept, strict=True)
        ]
        return torch.stack(parts, dim=role.experts.axis)

    def _copies(self, kept: np.ndarray, length: int, width: int) -> np.ndarray:
        """Entries of an axis that holds channels once, or twice: the gate's and up's."""
        if self.roles.interleaved:
            return _spread(kept, length // width)
        return np.concatenate([kept + start for start in range(0, length, width)])


def needed_scores(
    checkpoint: Checkpoint, roles: Roles, criterion: str, scores: Scores | None, kind: str
) -> Scores:
    """Scores of the criterion, with norms for what no calibration sees: units, and layers that the
    model itself never runs."""
    if criterion not in CRITERIA:
        raise CheckpointError(f"criterion is {criterion!r}; allowed: {', '.join(CRITERIA)}")
    if criterion == "random":
        return Scores({})
    if criterion in CALIBRATED and scores is None:
        raise CheckpointError(
            f"criterion {criterion!r} needs scores from text; run moebook.models.pruning."
            "calibration.collect_from_folder(folder, token_ids) and give its result"
        )
    if criterion == "norm":
        return norm_scores(checkpoint, roles)
    units = kind == "intra" and bool(roles.units)
    norms = norm_scores(checkpoint, roles).layers if units or roles.unused else {}
    return Scores({**norms, **scores.layers}, scores.tokens)


@dataclass(frozen=True)
class Ranking:
    """By what the lowest go: a criterion with its scores, or `random` with a seed."""

    criterion: str
    scores: Scores
    seed: int

    def values(self, place: str, name: str, shape: tuple[int, ...], stream: int | None = None):
        """stream: tells several random draws of one layer apart."""
        if self.criterion == "random":
            layer = int(re.search(r"\d+", place)[0])
            seeds = [self.seed, layer] if stream is None else [self.seed, layer, stream]
            return np.random.default_rng(seeds).random(shape)
        return self.scores.of(place, name, shape)


def select(roles: Roles, kind: str, count: int, groups: int, ranking: Ranking) -> Keep:
    """What stays of each site: `count` experts, of each router group as many; or `count` channels
    of each expert, and as large a part of each unit's, these by norm."""
    kept = {}
    for site in roles.sites:
        by = "norm" if site in roles.unused else ranking.criterion
        if kind == "inter":
            values = ranking.values(site, by, (roles.experts,))
            kept[site] = _kept_experts(values, count, groups)
        else:
            values = ranking.values(site, f"channel_{by}", (roles.experts, roles.width))
            kept[site] = _highest(values, count)
    if kind == "intra":
        for unit, width in roles.units.items():
            values = ranking.values(unit, "channel_norm", (width,), stream=1)
            kept[unit] = _highest(values, width // roles.width * count)
    return Keep(roles, kind, kept)


def _kept_experts(values: np.ndarray, count: int, groups: int) -> np.ndarray:
    """Indices of experts (E',)."""
    each = len(values) // groups
    kept = _highest(values.reshape(groups, -1), count // groups)
    return (kept + np.arange(groups)[:, None] * each).ravel()


def _highest(values: np.ndarray, count: int) -> np.ndarray:
    """Per row the indices of the `count` highest values, ascending; of equal values the lower index
    goes first."""
    order = np.argsort(values, axis=-1, kind="stable")
    return np.sort(order[..., values.shape[-1] - count :], axis=-1)


def _spread(kept: np.ndarray, step: int) -> np.ndarray:
    """Entries of an axis with `step` of them for each of what is kept."""
    return (kept[:, None] * step + np.arange(step)).ravel()


def _taken(tensor, axis: int, entries: np.ndarray):
    import torch

    return tensor.index_select(axis, torch.from_numpy(entries).to(tensor.device))


def _renumbered(name: str, plain: str, role: Role, new: int) -> str:
    """The name with the expert's number replaced: the plain name may have other parts before it."""
    parts = name.split(".")
    at = role.at + len(parts) - len(plain.split("."))
    if parts[at] != str(role.expert):
        raise CheckpointError(f"tensor {name} does not name its expert where {plain} does")
    return ".".join([*parts[:at], str(new), *parts[at + 1 :]])
