"""How much each expert, and each FFN channel of an expert, matters: the scores by which pruning
chooses.

    norm               from the weights: of a channel the L2 norm of its gate row, up row and down
                       column together, of an expert the L2 norm of its three matrices
    frequency          from text: of an expert the share of tokens routed to it; of a channel the
                       share of its expert's tokens for which its |act(gate) * up| lies above the
                       median of the expert's channels
    routed_activation  from text: the mean over an expert's tokens of router weight * L2 norm of the
                       expert's output (as REAP scores experts); of a channel, of router weight *
                       |act(gate) * up| * norm of its down column

An expert that no token reached scores 0. Letters: T tokens of one expert, H hidden, I expert FFN
dim, E experts. Sums are float64 and of fixed size, so memory does not grow with the text."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from moebook.models.architecture import from_config
from moebook.models.pruning.checkpoint import CheckpointError, open_checkpoint
from moebook.models.pruning.tensors import FAMILIES, role_of

CRITERIA = ("random", "norm", "frequency", "routed_activation")
CALIBRATED = ("frequency", "routed_activation")


@dataclass(frozen=True)
class Scores:
    """By layer number the arrays, named as the criterion (E,) and "channel_" + criterion (E, I)."""

    layers: dict[int, dict[str, np.ndarray]]
    tokens: int = 0  # of the calibration text; 0: from the weights alone

    def of(self, layer: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """One array. Raises CheckpointError where it is missing, misshapen or not finite."""
        values = self.layers.get(layer, {}).get(name)
        if values is None:
            raise CheckpointError(
                f"the scores have no {name!r} for layer {layer}; collect them for this model with "
                "moebook.models.pruning.saliency.collect_from_folder(folder, token_ids)"
            )
        if values.shape != shape:
            raise CheckpointError(
                f"the scores {name!r} of layer {layer} have shape {values.shape}, but the model "
                f"needs {shape}; collect them for this very model"
            )
        if not np.isfinite(values).all():
            raise CheckpointError(
                f"the scores {name!r} of layer {layer} are not all finite numbers; the weights or "
                "the calibration run are damaged"
            )
        return values


def collect_from_text(
    folder: Path, text: Path, *, windows: int = 32, length: int = 512, device: str = "cpu"
) -> Scores:
    """`collect_from_folder` over the first `windows` windows of `length` tokens (at most the
    model's positions) of a text file, by the folder's tokenizer. CheckpointError where the text is
    shorter than one window."""
    import torch
    from transformers import AutoTokenizer

    ids = AutoTokenizer.from_pretrained(folder)(Path(text).read_text(encoding="utf-8"))["input_ids"]
    config = open_checkpoint(folder).config
    length = min(length, from_config(config, str(folder), "a checkpoint").max_positions)
    count = min(windows, len(ids) // length)
    if count < 1:
        raise CheckpointError(
            f"{text} has {len(ids)} tokens; calibration needs at least {length}: give a longer text"
        )
    return collect_from_folder(
        folder, torch.tensor(ids[: count * length]).view(count, length), device=device
    )


def norm_scores(folder: Path) -> Scores:
    """Norms of all experts and channels, with the weights read one tensor at a time.

    Shared experts that are as wide as a multiple of I (DeepSeek) get "shared_channel_norm"
    (channels,)."""
    checkpoint = open_checkpoint(folder)
    squares: dict[int, dict[str, dict]] = {}
    for names in checkpoint.layers():
        roles = {name: role for name in names if (role := role_of(name)) and role.part != "router"}
        for name, tensor in checkpoint.read(roles):
            role = roles[name]
            _add_squares(squares.setdefault(role.layer, {"routed": {}, "shared": {}}), role, tensor)
    return Scores(
        {layer: _norms(found) for layer, found in sorted(squares.items()) if found["routed"]}
    )


def collect(model, token_batches: Iterable) -> Scores:
    """Runs a transformers MoE model over batches of token ids ((S,) or (B, S), no padding) and
    scores its experts and their channels. Each expert's output is computed a second time.

    Raises CheckpointError for a model without experts of a known layout, and for token ids that it
    does not have."""
    import torch

    watched = {layer: _Watched(module) for layer, module in _experts(model).items()}
    hooks = [w.module.register_forward_pre_hook(w, with_kwargs=True) for w in watched.values()]
    training, tokens = model.training, 0
    try:
        model.eval()
        with torch.no_grad():
            for batch in token_batches:
                ids = _checked_ids(batch, model.config.vocab_size).to(model.device)
                if ids.numel():
                    model.base_model(input_ids=ids, use_cache=False)
                tokens += ids.numel()
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    if not tokens:
        raise CheckpointError(
            "the calibration text has no tokens; give at least one batch of token ids"
        )
    return Scores({layer: w.scores(tokens) for layer, w in watched.items()}, tokens)


def collect_from_folder(folder: Path, token_ids: Iterable, *, device: str = "cpu") -> Scores:
    """`collect` on a checkpoint folder, loaded whole with transformers in float32. token_ids:
    sequences of ids, run one by one."""
    import torch
    from transformers import AutoModelForCausalLM

    open_checkpoint(folder)  # says what is wrong with a folder before transformers does
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return collect(model.to(device), token_ids)


class _Watched:
    """A forward pre-hook of one layer's experts, which adds up what its tokens do."""

    def __init__(self, module):
        import torch

        experts, _, channels = module.down_proj.shape
        zeros = {"dtype": torch.float64, "device": module.down_proj.device}
        self.module = module
        self.count, self.routed = (torch.zeros(experts, **zeros) for _ in range(2))
        self.above, self.weighted = (torch.zeros(experts, channels, **zeros) for _ in range(2))

    def __call__(self, module, args: tuple, kwargs: dict) -> None:
        names = ("hidden_states", "top_k_index", "top_k_weights")
        given = dict(zip(names, args, strict=False)) | kwargs
        hidden = given["hidden_states"].reshape(-1, module.down_proj.shape[1])  # (B*S, H)
        index = given["top_k_index"].reshape(len(hidden), -1)  # (B*S, K)
        weights = given["top_k_weights"].reshape(len(hidden), -1)  # (B*S, K)
        for expert in index.unique().tolist():
            if expert < len(self.count):
                token, slot = (index == expert).nonzero(as_tuple=True)
                self._add(expert, hidden[token], weights[token, slot].double())

    def _add(self, expert: int, x, weight) -> None:
        """x (T, H), weight (T,): an expert's tokens of one batch."""
        down = self.module.down_proj[expert]  # (H, I)
        gate, up = (x @ self.module.gate_up_proj[expert].T).chunk(2, dim=-1)
        inner = self.module.act_fn(gate) * up  # (T, I)
        size = inner.float().abs()
        self.count[expert] += len(x)
        self.routed[expert] += weight @ (inner @ down.T).float().norm(dim=-1).double()
        self.above[expert] += (size > size.median(dim=-1, keepdim=True).values).sum(0)
        self.weighted[expert] += weight @ size.double() * down.float().norm(dim=0).double()

    def scores(self, tokens: int) -> dict[str, np.ndarray]:
        per_token = self.count.clamp(min=1)
        found = {
            "frequency": self.count / tokens,
            "routed_activation": self.routed / per_token,
            "channel_frequency": self.above / per_token[:, None],
            "channel_routed_activation": self.weighted / per_token[:, None],
        }
        return {name: values.cpu().numpy() for name, values in found.items()}


def _experts(model) -> dict:
    """By layer number the modules that hold fused gate_up_proj (E, 2I, H) and down_proj (E, H,
    I)."""
    kind = getattr(model.config, "model_type", None)
    found = {}
    for name, module in model.named_modules():
        layer = re.search(r"\blayers\.(\d+)\..*\bexperts$", name)
        if layer and hasattr(module, "gate_up_proj") and hasattr(module, "down_proj"):
            found[int(layer[1])] = module
    if not found or kind not in FAMILIES:
        raise CheckpointError(
            f"a model of type {kind!r} has no experts that can be scored; use a Mixture-of-Experts "
            f"model of one of: {', '.join(FAMILIES)}"
        )
    return found


def _checked_ids(batch, vocab_size: int):
    import torch

    ids = torch.as_tensor(batch)
    if ids.is_floating_point() and ids.numel() or ids.dim() not in (1, 2):
        raise CheckpointError(
            f"a batch of token ids has dtype {ids.dtype} and shape {tuple(ids.shape)}; give whole "
            "numbers of shape (S,) or (B, S)"
        )
    if ids.numel() and not 0 <= int(ids.min()) <= int(ids.max()) < vocab_size:
        raise CheckpointError(
            f"token ids from {int(ids.min())} to {int(ids.max())}, but the model's vocabulary has "
            f"ids 0 to {vocab_size - 1}; use the model's own tokenizer"
        )
    return ids.long() if ids.dim() == 2 else ids.long()[None]


def _add_squares(found: dict[str, dict], role, tensor) -> None:
    """Adds a matrix's squared norm per channel, by expert; a fused tensor adds all experts at
    once."""
    axis = -2 if role.part == "down" else -1
    square = tensor.float().norm(dim=axis).double().numpy() ** 2  # (I,), fused (E, I) or (E, 2I)
    into = found["shared" if role.shared else "routed"]
    if role.expert is not None or role.shared:
        into[role.expert] = into.get(role.expert, 0) + square
        return
    if role.part == "gate_up":
        square = square[:, : square.shape[1] // 2] + square[:, square.shape[1] // 2 :]
    for expert, row in enumerate(square):
        into[expert] = into.get(expert, 0) + row


def _norms(found: dict[str, dict]) -> dict[str, np.ndarray]:
    squares = np.stack([found["routed"][e] for e in sorted(found["routed"])])
    norms = {"norm": np.sqrt(squares.sum(axis=1)), "channel_norm": np.sqrt(squares)}
    if found["shared"]:
        norms["shared_channel_norm"] = np.sqrt(found["shared"][None])
    return norms
