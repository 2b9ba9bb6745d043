"""Pruning of Mixture-of-Experts models: fewer experts ("inter") or narrower ones ("intra").

    >>> from moebook.models.catalog import load
    >>> prune_architecture(load("OLMoE-1B-7B-0924"), kind="inter", ratio=0.125)[0].num_experts
    56

`prune_architecture` changes the shapes alone, for a run with dummy weights. `prune_checkpoint`
writes a folder that vLLM and transformers load like the one it came from, of any family whose
config the installed transformers can build. Letters: H hidden, I expert FFN dim, E experts, K
experts per token."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import SafetensorError

from moebook.models.architecture import Architecture, UnknownModel, from_config
from moebook.models.cache_folder import building
from moebook.models.edit import ImpossibleEdit, edit, group_problem
from moebook.models.pruning import built, held, selection
from moebook.models.pruning import target as targets
from moebook.models.pruning.checkpoint import (
    MAX_SHARD_BYTES,
    Checkpoint,
    CheckpointError,
    ConfigError,
    num_bytes,
    num_parameters,
    open_checkpoint,
    write_tensors,
)
from moebook.models.pruning.roles import Roles, below_layer, find
from moebook.models.pruning.saliency import Scores
from moebook.models.pruning.selection import Keep, Ranking, needed_scores, select


@dataclass(frozen=True)
class PruneReport:
    """What was pruned. kept_experts: by MoE layer the old indices, in the new order; None where all
    stayed (intra). files: all that was written."""

    source: str
    target: str
    kind: str
    ratio: float
    criterion: str
    seed: int
    calibration_tokens: int
    experts_before: int
    experts_after: int
    ffn_dim_before: int
    ffn_dim_after: int
    kept_experts: dict[str, list[int]] | None
    bytes_before: int  # of the tensors
    bytes_after: int
    parameters_before: int
    parameters_after: int
    notes: list[str]
    files: list[str]


def prune_architecture(
    arch: Architecture, *, kind: str, ratio: float
) -> tuple[Architecture, list[str]]:
    """The architecture without `ratio` (0 up to 1) of its experts or of their channels, and notes
    on what was rounded.

    inter: E falls by round(ratio * E). intra: I is rounded to the nearest multiple of 16. Raises
    ImpossibleEdit."""
    selection.check(arch.name, kind, ratio)
    if not arch.is_moe:
        raise ImpossibleEdit(
            f"{arch.name} is a dense model without experts to prune; choose a Mixture-of-Experts "
            "model"
        )
    if ratio == 0:
        return arch, []
    if kind == "inter":
        count, notes = selection.experts_left(arch.name, arch.num_experts, arch.top_k, ratio)
        return edit(arch, num_experts=count), notes
    width, notes = selection.width_left(arch.name, arch.expert_ffn_dim, ratio)
    pruned = edit(arch, ffn_dim=width)
    if pruned.shared_ffn_dim != arch.shared_ffn_dim:
        notes.append(
            f"the config ties the shared experts' width to the routed ones': {arch.shared_ffn_dim} "
            f"became {pruned.shared_ffn_dim} channels"
        )
    return pruned, notes


def prune_checkpoint(
    source: Path,
    target: Path,
    *,
    kind: str,
    ratio: float,
    criterion: str = "norm",
    scores: Scores | None = None,
    seed: int = 0,
    overwrite: bool = False,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> PruneReport:
    """Writes the checkpoint folder `source`, pruned, to `target`, with the report as
    moebook_prune.json.

    In each layer the lowest scores go, the lower index first among equals; what stays keeps its
    order. criterion: one of saliency.CRITERIA; frequency and routed_activation need `scores`,
    random uses `seed`. `target` appears only when it is complete; overwrite replaces an earlier
    pruning there. Raises CheckpointError and ImpossibleEdit."""
    source, target = Path(source), Path(target)
    targets.check_target(source, target, overwrite)
    selection.check(str(source), kind, ratio)
    checkpoint = open_checkpoint(source)
    held.check_not_quantized(checkpoint)
    arch = _architecture(checkpoint)
    try:
        roles, groups = find(checkpoint, arch), built.groups_of(checkpoint.config)
    except ConfigError as error:
        raise CheckpointError(f"{source / 'config.json'}: {error}") from error
    held.check_stored(checkpoint, roles.by_name, roles.sites if kind == "inter" else [])
    count, notes = _left(arch, roles, groups, kind, ratio)
    config = _config(checkpoint, roles, kind, count)
    scores = needed_scores(checkpoint, roles, criterion, scores, kind)
    keep = select(roles, kind, count, groups[0], Ranking(criterion, scores, seed))
    old_names = _old_names(checkpoint, keep)
    planned = {new: keep.cut(old, checkpoint.tensors[old]) for new, old in old_names.items()}
    held.check_pruned(checkpoint, config, roles.way, planned)
    with _told(target), building(target, replace=overwrite) as partial:
        notes += targets.copy_others(source, partial)
        _write(checkpoint, partial, keep, planned, old_names, max_shard_bytes)
        (partial / "config.json").write_text(json.dumps(config, indent=2) + "\n")
        fewer = kind == "inter"
        report = PruneReport(
            source=str(source),
            target=str(target),
            kind=kind,
            ratio=ratio,
            criterion=criterion,
            seed=seed,
            calibration_tokens=scores.tokens,
            experts_before=roles.experts,
            experts_after=count if fewer else roles.experts,
            ffn_dim_before=roles.width,
            ffn_dim_after=roles.width if fewer else count,
            kept_experts=keep.experts(),
            bytes_before=num_bytes(checkpoint.tensors.values()),
            bytes_after=num_bytes(planned.values()),
            parameters_before=num_parameters(checkpoint.tensors.values()),
            parameters_after=num_parameters(planned.values()),
            notes=notes,
            files=targets.files_of(partial),
        )
        (partial / targets.REPORT).write_text(json.dumps(asdict(report), indent=2) + "\n")
    return report


@contextmanager
def _told(target: Path) -> Iterator[None]:
    """A full disk, or a folder that cannot be written, in one message."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"{target} was not written: {error}; nothing was left there"
        ) from error


def _architecture(checkpoint: Checkpoint) -> Architecture:
    """The config's shapes, after a check of its entries."""
    path = checkpoint.folder / "config.json"
    held.check_counts(checkpoint)
    try:
        arch = from_config(checkpoint.config, checkpoint.folder.resolve().name, str(path))
    except UnknownModel as error:
        raise CheckpointError(f"{path}: {error}") from error
    if not arch.is_moe:
        raise CheckpointError(
            f"{path}: {arch.family} has no MoE layers to prune; use a Mixture-of-Experts model"
        )
    return arch


def _left(
    arch: Architecture, roles: Roles, groups: tuple[int, int], kind: str, ratio: float
) -> tuple[int, list[str]]:
    """Experts or channels that stay, and notes."""
    name = arch.name
    if kind == "inter":
        count, notes = selection.experts_left(name, roles.experts, arch.top_k, ratio)
        if problem := group_problem(count, arch.top_k, *groups):
            raise ImpossibleEdit(f"{name}: {problem}")
        selection.check_some(name, "experts", roles.experts, count, ratio)
    else:
        if not roles.width:
            raise CheckpointError(
                f"{name}: no key of config.json sets the width of the experts; use kind inter"
            )
        count, notes = selection.width_left(name, roles.width, ratio)
        selection.check_some(name, "channels", roles.width, count, ratio)
        notes += _of_units(roles, count)
    if roles.unused:
        layers = ", ".join(sorted(roles.unused))
        notes.append(f"not run by transformers, so ranked by weight norm: {layers}")
    return count, notes


def _of_units(roles: Roles, count: int) -> list[str]:
    """A note on each kind of FFN that the config narrows with the experts."""
    kinds = Counter((below_layer(unit), width) for unit, width in roles.units.items())
    return [
        f"the config makes {name} of {layers} layers as wide as experts: {width} became "
        f"{width // roles.width * count} channels"
        for (name, width), layers in kinds.items()
    ]


def _config(checkpoint: Checkpoint, roles: Roles, kind: str, count: int) -> dict:
    config, places = checkpoint.config, roles.width_places
    if kind == "inter":
        places = built.expert_keys(config, roles.experts)
    return built.changed(config, places, count)


def _old_names(checkpoint: Checkpoint, keep: Keep) -> dict[str, str]:
    """By new name the old one, of the tensors that stay."""
    names = (name for layer in checkpoint.layers() for name in layer)
    return {new: name for name in names if (new := keep.new_name(name))}


def _write(
    checkpoint: Checkpoint,
    folder: Path,
    keep: Keep,
    planned: dict,
    old_names: dict[str, str],
    max_shard_bytes: int,
) -> None:
    def make(names: list[str]):
        new_names = {old_names[name]: name for name in names}
        for name, tensor in checkpoint.read(new_names):
            yield new_names[name], keep.cut(name, tensor)

    options = {"max_shard_bytes": max_shard_bytes, "metadata": checkpoint.metadata}
    write_tensors(folder, planned, make, **options)
