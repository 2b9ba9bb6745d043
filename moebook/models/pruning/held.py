"""Weights held to their config as a whole: every tensor that transformers would ask for is there in
its shape, and no other."""

import re
from collections.abc import Iterable

from moebook.models.pruning.built import Built, build
from moebook.models.pruning.checkpoint import Checkpoint, CheckpointError

_LAYERS = re.compile(r"^(?:num_hidden_layers|num_layers|n_layers?)$")
_COUNTED = re.compile(r"_experts$")
_PLAIN = ("float64", "float32", "float16", "bfloat16")
_SCALES = r"(?:weight_scale(?:_inv)?|_proj_(?:scales?|blocks)|_packed|qweight|qzeros)$"
_MIX = "use the config.json and the weights of one model"


def check_counts(checkpoint: Checkpoint) -> None:
    """Numbers of layers and experts that the weights cannot hold are refused before any model is
    built by them: a billion of either would take for ever."""
    most = max((max(t.shape, default=0) for t in checkpoint.tensors.values()), default=0)
    for key, value in _entries(checkpoint.config):
        limit = len(checkpoint.tensors) if _LAYERS.search(key) else None
        limit = max(most, len(checkpoint.tensors)) if _COUNTED.search(key) else limit
        if limit is None or value is None or isinstance(value, list):
            continue
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise CheckpointError(
                f"{checkpoint.folder / 'config.json'}: {key} is {value!r}; give a whole number"
            )
        if value > limit:
            raise CheckpointError(
                f"{checkpoint.folder / 'config.json'}: {key} is {value}, more than the weights "
                f"({len(checkpoint.tensors)} tensors) can hold; {_MIX}"
            )


def weights_problem(checkpoint: Checkpoint, experts: int) -> str | None:
    """What of plain weights does not fit their config, or None; of quantized ones, whose tensors
    transformers does not name, nothing is known here."""
    try:
        check_not_quantized(checkpoint)
    except CheckpointError:
        return None
    try:
        built = build(checkpoint.config)
        plain = {name: built.plain(name) for name in checkpoint.tensors}
        asked = getattr(built, built.like(set(plain.values())))
        agree(checkpoint, plain, asked, built, experts)
    except CheckpointError as error:
        return str(error)
    return None


def agree(
    checkpoint: Checkpoint, plain: dict[str, str], asked: dict, built: Built, experts: int
) -> None:
    """plain: by name the plain names. asked: by plain name the shapes. Raises CheckpointError."""
    by_plain = {known: name for name, known in plain.items()}
    missing = [n for n in asked if n not in by_plain and not built.optional(n)]
    extra = [n for n, known in plain.items() if known not in asked and not built.unused(known)]
    wrong = [
        (by_plain[known], shape)
        for known, shape in asked.items()
        if known in by_plain and tuple(checkpoint.tensors[by_plain[known]].shape) != shape
    ]
    if wrong:
        name, shape = wrong[0]
        raise CheckpointError(
            f"{_file(checkpoint, name)}: {name} has shape "
            f"{tuple(checkpoint.tensors[name].shape)}, but config.json asks for {shape} "
            f"({len(wrong)} such tensors); {_MIX}"
        )
    counts = f"config.json asks for {experts} experts and {len(asked)} tensors"
    if missing:
        raise CheckpointError(
            f"{checkpoint.folder}: lacks {built.spelled[missing[0]]} ({len(missing)} missing in "
            f"all); {counts}: download the weights again"
        )
    if extra:
        raise CheckpointError(
            f"{_file(checkpoint, extra[0])}: holds {extra[0]}, which the model does not have "
            f"({len(extra)} such tensors); {counts}: {_MIX}"
        )
    if len(by_plain) < len(plain):
        twice = next(name for name, known in plain.items() if by_plain[known] != name)
        raise CheckpointError(
            f"{_file(checkpoint, twice)}: {twice} and {by_plain[plain[twice]]} are one tensor "
            "under two names; leave one of them"
        )


def check_pruned(checkpoint: Checkpoint, config: dict, way: str, planned: dict) -> None:
    """Holds the tensors that will be written, by name, to what the pruned config asks for in this
    `way` (one of Built's) of writing them."""
    built = build(config)
    asked = getattr(built, way)
    plan = {built.plain(name): tuple(tensor.shape) for name, tensor in planned.items()}
    wrong = [name for name, shape in plan.items() if asked.get(name, shape) != shape]
    wrong += [name for name in asked if name not in plan and not built.optional(name)]
    wrong += [name for name in plan if name not in asked and not built.unused(name)]
    if wrong:
        raise CheckpointError(
            f"{checkpoint.folder}: this {config.get('model_type')} cannot be pruned: {wrong[0]} "
            f"({len(wrong)} such tensors) would not fit the pruned config, which makes it "
            f"{asked.get(wrong[0], 'absent')}"
        )


def check_stored(checkpoint: Checkpoint, names: Iterable[str], numbered: list[str]) -> None:
    """Refuses tensors stored in fewer bits than arithmetic needs, and, below the paths `numbered`,
    tables of whole numbers, which may name experts (DeepSeek-V4 routes by such a table)."""
    for name in names:
        dtype = str(checkpoint.tensors[name].dtype).removeprefix("torch.")
        if dtype not in _PLAIN:
            raise CheckpointError(
                f"{_file(checkpoint, name)}: {name} is stored as {dtype}; only {', '.join(_PLAIN)} "
                "experts can be pruned, so convert the checkpoint first"
            )
    for name, tensor in checkpoint.tensors.items():
        inside = any(f"{path}." in name for path in numbered)
        if inside and not tensor.is_floating_point():
            raise CheckpointError(
                f"{_file(checkpoint, name)}: {name} holds whole numbers, which may name experts "
                "that would go; use kind intra"
            )


def check_not_quantized(checkpoint: Checkpoint) -> None:
    """Refuses checkpoints whose weights have scales of their own."""
    where = checkpoint.folder / "config.json"
    for key, value in _entries(checkpoint.config):
        if key in ("quantization_config", "compression_config") and value:
            method = value.get("quant_method") if isinstance(value, dict) else value
            _refuse(where, method or "unknown method")
    packed = checkpoint.folder / "hf_quant_config.json"
    if packed.exists():
        _refuse(packed, "ModelOpt")
    for name in checkpoint.tensors:
        if re.search(_SCALES, name):
            _refuse(checkpoint.folder / checkpoint.files[name], f"it holds {name}")


def _refuse(where, method: str) -> None:
    raise CheckpointError(
        f"{where}: the checkpoint is quantized ({method}), and pruning would break its scales; "
        "prune the bfloat16 checkpoint and quantize that"
    )


def _entries(config: dict):
    for key, value in config.items():
        yield key, value
        if isinstance(value, dict) and key.endswith("_config"):
            yield from _entries(value)


def _file(checkpoint: Checkpoint, name: str):
    return checkpoint.folder / checkpoint.files[name]
