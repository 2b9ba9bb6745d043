"""Where a pruned checkpoint may be written, and what is copied there beside its weights."""

import json
import os
import shutil
from pathlib import Path

from moebook import paths
from moebook.models.pruning.checkpoint import INDEX, SINGLE, CheckpointError

REPORT = "moebook_prune.json"
_WEIGHTS = (
    "*.safetensors",
    "*.index.json",
    "*.bin",
    "*.pt",
    "*.pth",
    "*.ckpt",
    "*.gguf",
    "*.h5",
    "*.msgpack",
    "*.onnx",
)


def check_target(source: Path, target: Path, overwrite: bool) -> None:
    """CheckpointError where a pruned folder must not be written there."""
    here, there = _resolved(source), _resolved(target)
    if here == there or here in there.parents or there in here.parents:
        raise CheckpointError(
            f"target {target} is the source {source}, or one holds the other; give a folder beside "
            "it"
        )
    above = next(folder for folder in (there.parent, *there.parent.parents) if folder.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        kind = "cannot be written to" if above.is_dir() else "is a file"
        raise CheckpointError(f"target {target}: {above} {kind}; give a folder elsewhere")
    if target.is_symlink():
        raise CheckpointError(f"target {target} is a link; give the folder's own path")
    if not target.exists():
        if wrong := paths.output_root_problem(paths.from_here(str(target))):
            raise CheckpointError(f"target: given {str(target)!r}; {wrong}")
        return
    if not overwrite:
        raise CheckpointError(
            f"target {target} exists; give another folder, or overwrite=True (--overwrite) to "
            "replace it"
        )
    if not target.is_dir():
        raise CheckpointError(f"target {target} is a file; give another folder")
    if others := sorted(_files(target) - _written_by_pruning(target)):
        raise CheckpointError(
            f"target {target} holds {others[0]} ({len(others)} such files), which pruning did not "
            "write, so it is not replaced; give another folder"
        )


def copy_others(source: Path, target: Path) -> list[str]:
    """Copies tokenizer, code and the like, all but config.json and weights; returns notes on what
    was left out. Links to files are followed, as the Hugging Face cache has them."""
    weights, links = [], []
    for folder, folders, files in os.walk(source):
        here = Path(folder).relative_to(source)
        links += [str(here / name) for name in folders if (Path(folder) / name).is_symlink()]
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            path = here / name
            if name.startswith(".") or str(path) in ("config.json", SINGLE, INDEX, REPORT):
                continue
            if any(path.match(pattern) for pattern in _WEIGHTS):
                weights += [] if path.suffix in (".safetensors", ".json") else [str(path)]
            else:
                _copy(source / path, target / path)
    notes = []
    if weights:
        notes.append(f"left out, as they hold unpruned weights: {', '.join(weights)}")
    if links:
        notes.append(f"left out, as they are links to folders: {', '.join(links)}")
    return notes


def files_of(folder: Path) -> list[str]:
    return sorted(_files(folder))


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise CheckpointError(
            f"{source} is no file (a link to nothing, or a pipe); remove it, or download it again"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links; a NUL in the name
        raise CheckpointError(f"{path} is no path of a folder ({error}); give another") from error


def _files(folder: Path) -> set[str]:
    return {
        str((Path(where) / name).relative_to(folder))
        for where, _, names in os.walk(folder)
        for name in names
    }


def _written_by_pruning(folder: Path) -> set[str]:
    """Files that the report of an earlier pruning there says it wrote."""
    try:
        report = json.loads((folder / REPORT).read_text())
        return {REPORT, *report["files"]}
    except (OSError, ValueError, TypeError, KeyError):
        return set()  # no report that can be read: nothing there is known to be a pruning's
