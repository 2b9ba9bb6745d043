"""Scores from text: the whole model runs in transformers, and each expert's part of it is computed
once more by hooks.

Served are the families whose experts are a module of transformers 5's kind: called with
(hidden_states, top_k_index, top_k_weights), with weights `gate_up_proj` or `up_proj` and
`down_proj` over all experts. Others have the criteria random and norm. Letters: T tokens of one
expert, H hidden, I expert FFN dim, E experts. Sums are float64 and of fixed size, so memory does
not grow with the text."""

import inspect
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from moebook.models.pruning.built import class_of, parsed
from moebook.models.pruning.checkpoint import CheckpointError, open_checkpoint
from moebook.models.pruning.roles import layer_and_part
from moebook.models.pruning.saliency import Scores

# Of the experts' arguments; gpt-oss says router_indices and routing_weights.
_ARGUMENTS = (r"hidden_states", r"top_k_index|router_indices", r"top_k_weights|routing_weights")


def collect_from_text(
    folder: Path, text: Path, *, windows: int = 32, length: int = 512, device: str = "cpu"
) -> Scores:
    """`collect_from_folder` over the first `windows` windows of `length` tokens (at most the
    model's positions) of a UTF-8 text file, by the folder's tokenizer. Raises CheckpointError, also
    where the text is shorter than one window."""
    import torch
    from transformers import AutoTokenizer

    words = _read(Path(text))
    if not words.strip():
        raise CheckpointError(f"{text} holds no words; give a text such as the model is used on")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises its errors without a kind
        raise CheckpointError(
            f"{folder} has no tokenizer that transformers can load "
            f"({' '.join(str(error).split())[:200]}); the text needs one: add the model's own"
        ) from error
    ids = tokenizer(words)["input_ids"]
    settings = parsed(open_checkpoint(folder).config).get_text_config()
    length = min(length, getattr(settings, "max_position_embeddings", None) or length)
    count = min(windows, len(ids) // length)
    if count < 1:
        raise CheckpointError(
            f"{text} has {len(ids)} tokens; calibration needs at least {length}: give a longer text"
        )
    return collect_from_folder(
        folder, torch.tensor(ids[: count * length]).view(count, length), device=device
    )


def collect_from_folder(folder: Path, token_ids: Iterable, *, device: str = "cpu") -> Scores:
    """`collect` on a checkpoint folder, loaded whole with transformers in float32. token_ids:
    sequences of ids, run one by one."""
    import torch
    from transformers import AutoModelForCausalLM

    config = open_checkpoint(folder).config  # says what is wrong before transformers does
    parsed(config)
    model = class_of(config) or AutoModelForCausalLM
    loaded = model.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return collect(loaded.to(device), token_ids)


def collect(model, token_batches: Iterable) -> Scores:
    """Runs a transformers MoE model over batches of token ids ((S,) or (B, S), no padding) and
    scores its experts and their channels. Each expert's output is computed a second time.

    Raises CheckpointError for a model whose experts have no hooks here, and for token ids that it
    does not have."""
    import torch

    watched = {site: _Watched(module) for site, module in experts_of(model).items()}
    hooks = [w.module.register_forward_pre_hook(w, with_kwargs=True) for w in watched.values()]
    training, tokens = model.training, 0
    vocabulary = model.config.get_text_config().vocab_size
    try:
        model.eval()
        with torch.no_grad():
            for batch in token_batches:
                ids = _checked_ids(batch, vocabulary).to(model.device)
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
    return Scores({site: w.scores(tokens) for site, w in watched.items()}, tokens)


def inner(module, expert: int, x):
    """What an expert's down projection is given, (T, I), for its inputs x (T, H)."""
    gated = hasattr(module, "gate_up_proj")
    name = "gate_up_proj" if gated else "up_proj"
    up = x @ _matrix(module, name, expert).T + _bias(module, name, expert)
    if not gated:
        return module.act_fn(up)
    if hasattr(module, "_apply_gate"):
        return module._apply_gate(up)
    gate, up = up.chunk(2, dim=-1)
    return module.act_fn(gate) * up


def output(module, expert: int, within):
    """An expert's output (T, H) of what `inner` gives, before the router's weight."""
    return within @ _matrix(module, "down_proj", expert).T + _bias(module, "down_proj", expert)


def _matrix(module, name: str, expert: int):
    """(out, in)"""
    matrix = getattr(module, name)[expert]
    return matrix.T if getattr(module, "is_transposed", False) else matrix


def _bias(module, name: str, expert: int):
    bias = getattr(module, f"{name}_bias", None)
    return 0 if bias is None else bias[expert]


class _Watched:
    """A forward pre-hook of one layer's experts, which adds up what its tokens do."""

    def __init__(self, module):
        import torch

        self.module = module
        down = module.down_proj
        experts, channels = len(down), _matrix(module, "down_proj", 0).shape[1]
        zeros = {"dtype": torch.float64, "device": down.device}
        self.count, self.routed = (torch.zeros(experts, **zeros) for _ in range(2))
        self.above, self.weighted = (torch.zeros(experts, channels, **zeros) for _ in range(2))

    def __call__(self, module, args: tuple, kwargs: dict) -> None:
        given = inspect.signature(module.forward).bind(*args, **kwargs).arguments.values()
        hidden, index, weights = list(given)[:3]
        hidden = hidden.reshape(-1, hidden.shape[-1])  # (B*S, H)
        index, weights = (each.reshape(len(hidden), -1) for each in (index, weights))  # (B*S, K)
        for expert in index.unique().tolist():
            if expert < len(self.count):
                token, slot = (index == expert).nonzero(as_tuple=True)
                self._add(expert, hidden[token], weights[token, slot].double())

    def _add(self, expert: int, x, weight) -> None:
        """x (T, H), weight (T,): an expert's tokens of one batch."""
        within = inner(self.module, expert, x)
        size = within.float().abs()
        norms = _matrix(self.module, "down_proj", expert).float().norm(dim=0).double()  # (I,)
        self.count[expert] += len(x)
        self.routed[expert] += weight @ output(self.module, expert, within).norm(dim=-1).double()
        self.above[expert] += (size > size.median(dim=-1, keepdim=True).values).sum(0)
        self.weighted[expert] += weight @ size.double() * norms

    def scores(self, tokens: int) -> dict[str, np.ndarray]:
        per_token = self.count.clamp(min=1)
        found = {
            "frequency": self.count / tokens,
            "routed_activation": self.routed / per_token,
            "channel_frequency": self.above / per_token[:, None],
            "channel_routed_activation": self.weighted / per_token[:, None],
        }
        return {name: values.cpu().numpy() for name, values in found.items()}


def experts_of(model) -> dict:
    """By site the modules that hold a layer's experts. Raises CheckpointError where there are none
    of the kind that is served."""
    found = {}
    for name, module in model.named_modules():
        layer, part = layer_and_part(name)
        if layer and _served(module):
            found[layer if name == f"{layer}.{part}" else f"{layer}.{part}"] = module
    if not found:
        kind = getattr(model.config, "model_type", None)
        raise CheckpointError(
            f"the experts of a {kind!r} model have no hooks here, so frequency and "
            "routed_activation are not available for it; use criterion norm or random"
        )
    return found


def _served(module) -> bool:
    weights = hasattr(module, "gate_up_proj") or hasattr(module, "up_proj")
    if not (weights and getattr(getattr(module, "down_proj", None), "ndim", 0) == 3):
        return False
    names = list(inspect.signature(module.forward).parameters)
    return len(names) >= 3 and all(map(re.fullmatch, _ARGUMENTS, names))


def _read(path: Path) -> str:
    try:
        words = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(
            f"{path} cannot be read as UTF-8 text ({error}); give a UTF-8 file"
        ) from error
    if "\0" in words:
        raise CheckpointError(f"{path} holds NUL characters, so it is no text; give a UTF-8 file")
    return words


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
