"""Pruning of Mixture-of-Experts models: fewer experts ("inter") or narrower ones ("intra").

    >>> from moebook.models.catalog import load
    >>> prune_architecture(load("OLMoE-1B-7B-0924"), kind="inter", ratio=0.125)[0].num_experts
    56

`prune_architecture` changes the shapes alone, for a run with dummy weights. `prune_checkpoint`
writes a folder that vLLM and transformers load like the one it came from. Letters: H hidden, I
expert FFN dim, E experts, K experts per token."""

import json
from dataclasses import asdict, dataclass
from math import floor
from pathlib import Path

from moebook.models.architecture import Architecture, UnknownModel, from_config
from moebook.models.cache import building
from moebook.models.edit import FFN_MULTIPLE, ImpossibleEdit, edit
from moebook.models.pruning.checkpoint import (
    MAX_SHARD_BYTES,
    Checkpoint,
    CheckpointError,
    copy_others,
    num_bytes,
    num_parameters,
    open_checkpoint,
    write_tensors,
)
from moebook.models.pruning.saliency import Scores
from moebook.models.pruning.selection import Keep, Ranking, needed_scores, select
from moebook.models.pruning.tensors import FAMILIES, moe_layers, role_of

KINDS = ("inter", "intra")
REPORT = "moebook_prune.json"


@dataclass(frozen=True)
class PruneReport:
    """What was pruned. kept_experts: by layer the old indices, in the new order; None where all
    stayed (intra)."""

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
    kept_experts: dict[int, list[int]] | None
    bytes_before: int  # of the tensors
    bytes_after: int
    parameters_before: int
    parameters_after: int
    notes: list[str]


def prune_architecture(
    arch: Architecture, *, kind: str, ratio: float
) -> tuple[Architecture, list[str]]:
    """The architecture without `ratio` (0 up to 1) of its experts or of their channels, and notes
    on what was rounded.

    inter: E falls by round(ratio * E). intra: I is rounded to the nearest multiple of 16. Raises
    ImpossibleEdit."""
    if kind not in KINDS:
        raise ImpossibleEdit(
            f"{arch.name}: kind is {kind!r}; allowed: inter (fewer experts), intra (narrower "
            "experts)"
        )
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 <= ratio < 1:
        raise ImpossibleEdit(
            f"{arch.name}: ratio is {ratio!r}; give the fraction to remove, from 0 up to but not "
            "including 1, such as 0.125 for 12.5 %"
        )
    if not arch.is_moe:
        raise ImpossibleEdit(
            f"{arch.name} is a dense model without experts to prune; choose a Mixture-of-Experts "
            "model"
        )
    if ratio == 0:
        return arch, []
    return (_fewer_experts if kind == "inter" else _narrower_experts)(arch, ratio)


def _fewer_experts(arch: Architecture, ratio: float) -> tuple[Architecture, list[str]]:
    experts, exact = arch.num_experts, ratio * arch.num_experts
    removed = floor(exact + 0.5)
    if experts - removed < arch.top_k:
        raise ImpossibleEdit(
            f"{arch.name}: ratio {ratio:g} removes {removed} of {experts} experts, fewer than the "
            f"{arch.top_k} each token uses; use a ratio up to {(experts - arch.top_k) / experts:g}"
        )
    note = f"{ratio:g} of {experts} experts is {exact:g}; removed {removed}"
    return edit(arch, num_experts=experts - removed), [note] * (removed != exact)


def _narrower_experts(arch: Architecture, ratio: float) -> tuple[Architecture, list[str]]:
    old, asked, multiple = arch.expert_ffn_dim, (1 - ratio) * arch.expert_ffn_dim, FFN_MULTIPLE
    if old < multiple:
        raise ImpossibleEdit(
            f"{arch.name}: its expert FFN dim {old} is below one multiple of {multiple}, so "
            "nothing can go; use kind inter"
        )
    new = min(max(1, floor(asked / multiple + 0.5)), old // multiple) * multiple
    notes = []
    if abs(new - asked) > 1e-6:
        notes.append(
            f"{ratio:g} less than FFN dim {old} is {asked:g}; rounded to {new}, a multiple of "
            f"{multiple} (really {1 - new / old:.4g} less)"
        )
    pruned = edit(arch, ffn_dim=new)
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
    checkpoint there. Raises CheckpointError and ImpossibleEdit."""
    source, target = Path(source), Path(target)
    check_target(source, target, overwrite)
    checkpoint = open_checkpoint(source)
    arch = _architecture(checkpoint)
    pruned, notes = prune_architecture(arch, kind=kind, ratio=ratio)
    layers = moe_layers(checkpoint, arch)
    narrower = pruned.shared_ffn_dim != arch.shared_ffn_dim
    scores = needed_scores(checkpoint, criterion, scores, narrower)
    keep = select(checkpoint, layers, arch, pruned, kind, Ranking(criterion, scores, seed))
    with building(target, replace=overwrite) as partial:
        if left_out := copy_others(source, partial):
            notes.append(f"left out, as they hold unpruned weights: {', '.join(left_out)}")
        before, after = (
            checkpoint.tensors.values(),
            _write(checkpoint, partial, keep, max_shard_bytes),
        )
        (partial / "config.json").write_text(json.dumps(pruned.hf_config(), indent=2) + "\n")
        report = PruneReport(
            source=str(source),
            target=str(target),
            kind=kind,
            ratio=ratio,
            criterion=criterion,
            seed=seed,
            calibration_tokens=scores.tokens,
            experts_before=arch.num_experts,
            experts_after=pruned.num_experts,
            ffn_dim_before=arch.expert_ffn_dim,
            ffn_dim_after=pruned.expert_ffn_dim,
            kept_experts=keep.experts(),
            bytes_before=num_bytes(before),
            bytes_after=num_bytes(after),
            parameters_before=num_parameters(before),
            parameters_after=num_parameters(after),
            notes=notes,
        )
        (partial / REPORT).write_text(json.dumps(asdict(report), indent=2) + "\n")
    return report


def _architecture(checkpoint: Checkpoint) -> Architecture:
    """Refuses what cannot be pruned here: quantized checkpoints, other layouts, dense models."""
    path, folder = checkpoint.folder / "config.json", checkpoint.folder
    if quantized := checkpoint.config.get("quantization_config"):
        method = quantized.get("quant_method", "unknown method")
        raise CheckpointError(
            f"{path}: the checkpoint is quantized ({method}), and pruning would break its scales; "
            "prune the bfloat16 checkpoint and quantize that"
        )
    try:
        arch = from_config(checkpoint.config, folder.resolve().name, f"checkpoint folder {folder}")
    except UnknownModel as error:
        raise CheckpointError(f"{path}: {error}") from error
    if not arch.is_moe:
        raise CheckpointError(
            f"{path}: {arch.family} has no MoE layers to prune; use a Mixture-of-Experts model"
        )
    if arch.family not in FAMILIES:
        raise CheckpointError(
            f"{path}: the tensors of {arch.family} are laid out in a way that cannot be pruned "
            f"here; allowed: {', '.join(FAMILIES)}. prune_architecture and dummy weights work for "
            "it"
        )
    return arch


def _write(checkpoint: Checkpoint, folder: Path, keep: Keep, max_shard_bytes: int) -> list:
    """The tensors that stay, cut; returns them on the meta device."""
    old_names = {}
    for name in (name for names in checkpoint.layers() for name in names):
        if new := keep.new_name(name, role_of(name)):
            old_names[new] = name
    planned = {n: keep.cut(checkpoint.tensors[o], role_of(o)) for n, o in old_names.items()}

    def make(names: list[str]):
        new_names = {old_names[name]: name for name in names}
        for name, tensor in checkpoint.read(new_names):
            yield new_names[name], keep.cut(tensor, role_of(name))

    options = {"max_shard_bytes": max_shard_bytes, "metadata": checkpoint.metadata}
    write_tensors(folder, planned, make, **options)
    return list(planned.values())


def check_target(source: Path, target: Path, overwrite: bool) -> None:
    """CheckpointError where a pruned folder must not be written there."""
    here, there = source.resolve(), target.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise CheckpointError(
            f"target {target} is the source {source}, or one holds the other; give a folder beside "
            "it"
        )
    if not target.exists():
        return
    if not overwrite:
        raise CheckpointError(
            f"target {target} exists; give another folder, or overwrite=True (--overwrite) to "
            "replace it"
        )
    if not target.is_dir() or (any(target.iterdir()) and not (target / "config.json").is_file()):
        raise CheckpointError(
            f"target {target} is no checkpoint folder, so it is not replaced; give another folder"
        )
