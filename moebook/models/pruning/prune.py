"""Pruning of Mixture-of-Experts models: fewer experts ("inter") or narrower ones ("intra").

    >>> from moebook.models.architecture import load
    >>> prune_architecture(load("OLMoE-1B-7B-0924"), kind="inter", ratio=0.125)[0].num_experts
    56

`prune_architecture` changes the shapes alone, for a run with dummy weights. `prune_checkpoint`
writes a folder that vLLM and transformers load like the one it came from. Letters: H hidden, I
expert FFN dim, E experts, K experts per token."""

import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from math import floor
from pathlib import Path

from moebook.models.architecture import Architecture, UnknownModel, from_config
from moebook.models.edit import FFN_MULTIPLE, ImpossibleEdit, edit
from moebook.models.pruning.checkpoint import (
    MAX_SHARD_BYTES,
    Checkpoint,
    CheckpointError,
    ShardWriter,
    copy_others,
    open_checkpoint,
)
from moebook.models.pruning.saliency import KINDS, Scores
from moebook.models.pruning.selection import Keep, kept, kept_shared, needed_scores
from moebook.models.pruning.tensors import FAMILIES, moe_layers, role_of

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
    arch: Architecture, *, kind: str, ratio: float, ffn_multiple: int = FFN_MULTIPLE
) -> tuple[Architecture, list[str]]:
    """The architecture without `ratio` (0 up to 1) of its experts or of their channels, and notes
    on what was rounded.

    inter: E falls by round(ratio * E). intra: I is rounded to the nearest multiple of ffn_multiple,
    itself one of 16 (64 or 128 for the block of a kernel). Raises ImpossibleEdit."""
    _check_request(arch, kind, ratio, ffn_multiple)
    if ratio == 0:
        return arch, []
    if kind == "inter":
        return _fewer_experts(arch, ratio)
    return _narrower_experts(arch, ratio, ffn_multiple)


def prune_checkpoint(
    source: Path,
    target: Path,
    *,
    kind: str,
    ratio: float,
    criterion: str = "norm",
    scores: Scores | Path | None = None,
    seed: int = 0,
    ffn_multiple: int = FFN_MULTIPLE,
    overwrite: bool = False,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> PruneReport:
    """Writes the checkpoint folder `source`, pruned, to `target`, with the report as
    moebook_prune.json.

    In each layer the lowest scores go, the lower index first among equals; what stays keeps its
    order. Router groups (DeepSeek) lose the same number of experts each. criterion: one of
    saliency.CRITERIA; frequency and routed_activation need `scores` (or the file they were saved
    to), random uses `seed`. `target` appears only when it is complete; overwrite replaces an
    earlier checkpoint there. Raises CheckpointError and ImpossibleEdit."""
    source, target = Path(source), Path(target)
    check_target(source, target, overwrite)
    checkpoint = open_checkpoint(source)
    arch = _architecture(checkpoint)
    pruned, notes = prune_architecture(arch, kind=kind, ratio=ratio, ffn_multiple=ffn_multiple)
    layers = moe_layers(checkpoint, arch)
    scores = needed_scores(
        checkpoint, criterion, scores, pruned.shared_ffn_dim != arch.shared_ffn_dim
    )
    keep = Keep(
        arch,
        pruned,
        kind,
        {n: kept(n, arch, pruned, kind, criterion, scores, seed) for n in layers},
        {n: kept_shared(n, checkpoint, pruned, criterion, scores, seed) for n in layers},
    )

    partial = target.parent / f".{target.name}.partial-{os.getpid()}"
    partial.mkdir(parents=True)
    try:
        left_out = copy_others(source, partial)
        notes += (
            [f"left out, as they hold unpruned weights: {', '.join(left_out)}"] if left_out else []
        )
        writer = _write(checkpoint, partial, keep, max_shard_bytes)
        (partial / "config.json").write_text(json.dumps(pruned.hf_config(), indent=2) + "\n")
        report = PruneReport(
            str(source),
            str(target),
            kind,
            ratio,
            criterion,
            seed,
            scores.tokens,
            arch.num_experts,
            pruned.num_experts,
            arch.expert_ffn_dim,
            pruned.expert_ffn_dim,
            keep.experts(),
            checkpoint.total_bytes,
            writer.total_bytes,
            checkpoint.total_parameters,
            writer.total_parameters,
            notes,
        )
        (partial / REPORT).write_text(json.dumps(asdict(report), indent=2) + "\n")
        _put_in_place(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return report


def _check_request(arch: Architecture, kind: str, ratio: float, ffn_multiple: int) -> None:
    if kind not in KINDS:
        raise ImpossibleEdit(
            f"{arch.name}: kind is {kind!r}; allowed: inter (fewer experts), intra (narrower "
            f"experts)"
        )
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 <= ratio < 1:
        raise ImpossibleEdit(
            f"{arch.name}: ratio is {ratio!r}; give the fraction to remove, from 0 up to but not "
            "including 1, such as 0.125 for 12.5 %"
        )
    if type(ffn_multiple) is not int or ffn_multiple < 1 or ffn_multiple % FFN_MULTIPLE:
        raise ImpossibleEdit(
            f"{arch.name}: ffn_multiple is {ffn_multiple!r}; give a multiple of {FFN_MULTIPLE}, "
            f"such as "
            "64 or 128"
        )
    if not arch.is_moe:
        raise ImpossibleEdit(
            f"{arch.name} is a dense model without experts to prune; choose a Mixture-of-Experts "
            f"model"
        )


def _fewer_experts(arch: Architecture, ratio: float) -> tuple[Architecture, list[str]]:
    removed = floor(ratio * arch.num_experts + 0.5)
    left = arch.num_experts - removed
    if left < arch.top_k:
        most = (arch.num_experts - arch.top_k) / arch.num_experts
        raise ImpossibleEdit(
            f"{arch.name}: ratio {ratio:g} removes {removed} of {arch.num_experts} experts, fewer "
            f"than "
            f"the {arch.top_k} each token uses; use a ratio up to {most:g}"
        )
    exact = removed == ratio * arch.num_experts
    notes = (
        []
        if exact
        else [
            f"{ratio:g} of {arch.num_experts} experts is {ratio * arch.num_experts:g}; removed "
            f"{removed}"
        ]
    )
    return edit(arch, num_experts=left), notes


def _narrower_experts(
    arch: Architecture, ratio: float, multiple: int
) -> tuple[Architecture, list[str]]:
    old, asked = arch.expert_ffn_dim, (1 - ratio) * arch.expert_ffn_dim
    if old < multiple:
        raise ImpossibleEdit(
            f"{arch.name}: its expert FFN dim {old} is below one multiple of {multiple}, so "
            f"nothing can "
            f"go; use a smaller ffn_multiple ({FFN_MULTIPLE} or more) or kind inter"
        )
    new = min(max(1, floor(asked / multiple + 0.5)), old // multiple) * multiple
    notes = []
    if abs(new - asked) > 1e-6:
        notes.append(
            f"{ratio:g} less than FFN dim {old} is {asked:g}; rounded to {new}, a multiple of "
            f"{multiple} (really "
            f"{1 - new / old:.4g} less)"
        )
    pruned = edit(arch, ffn_dim=new)
    if pruned.shared_ffn_dim != arch.shared_ffn_dim:
        notes.append(
            f"the config ties the shared experts' width to the routed ones': {arch.shared_ffn_dim} "
            f"became "
            f"{pruned.shared_ffn_dim} channels"
        )
    return pruned, notes


def _architecture(checkpoint: Checkpoint) -> Architecture:
    """Refuses what cannot be pruned here: quantized checkpoints, other layouts, dense models."""
    config = checkpoint.folder / "config.json"
    if checkpoint.config.get("quantization_config"):
        method = checkpoint.config["quantization_config"].get("quant_method", "unknown method")
        raise CheckpointError(
            f"{config}: the checkpoint is quantized ({method}), and pruning would break its "
            f"scales; "
            "prune the bfloat16 checkpoint and quantize that"
        )
    try:
        arch = from_config(
            checkpoint.config,
            checkpoint.folder.resolve().name,
            f"checkpoint folder {checkpoint.folder}",
        )
    except UnknownModel as error:
        raise CheckpointError(f"{config}: {error}") from error
    if not arch.is_moe:
        raise CheckpointError(
            f"{config}: {arch.family} has no MoE layers to prune; use a Mixture-of-Experts model"
        )
    if arch.family not in FAMILIES:
        raise CheckpointError(
            f"{config}: the tensors of {arch.family} are laid out in a way that cannot be pruned "
            f"here; "
            f"allowed: {', '.join(FAMILIES)}. prune_architecture and dummy weights work for it"
        )
    return arch


def _write(checkpoint: Checkpoint, folder: Path, keep: Keep, max_shard_bytes: int) -> ShardWriter:
    writer = ShardWriter(
        folder, sharded=checkpoint.sharded, max_bytes=max_shard_bytes, metadata=checkpoint.metadata
    )
    for names in checkpoint.layers():
        for name, tensor in _pruned_tensors(checkpoint, names, keep):
            writer.add(name, tensor)
    writer.close()
    return writer


def _pruned_tensors(
    checkpoint: Checkpoint, names: list[str], keep: Keep
) -> Iterator[tuple[str, object]]:
    new = {name: after for name in names if (after := keep.new_name(name, role_of(name)))}
    for name, tensor in checkpoint.read(new):
        yield new[name], keep.cut(tensor, role_of(name))


def check_target(source: Path, target: Path, overwrite: bool) -> None:
    """CheckpointError where a pruned folder must not be written there."""
    here, there = source.resolve(), target.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise CheckpointError(
            f"target {target} is the source {source}, or one holds the other; give a folder beside "
            f"it"
        )
    if not target.exists():
        return
    if not overwrite:
        raise CheckpointError(
            f"target {target} exists; give another folder, or overwrite=True (--overwrite) to "
            f"replace it"
        )
    if not target.is_dir() or (any(target.iterdir()) and not (target / "config.json").is_file()):
        raise CheckpointError(
            f"target {target} is no checkpoint folder, so it is not replaced; give another folder"
        )


def _put_in_place(partial: Path, target: Path) -> None:
    """Renames, so that the target is either the old folder or the whole new one."""
    old = target.parent / f".{target.name}.old-{os.getpid()}"
    if target.exists():
        target.rename(old)
    partial.rename(target)
    shutil.rmtree(old, ignore_errors=True)
