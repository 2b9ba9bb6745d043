"""Expert choices of models that run in transformers, for text and images: captured by hooks,
written by CountsWriter.

For checkpoints that vLLM cannot run and for images; the hooks (`moebook.engine.hf`) say which
models can be hooked.

transformers 5.19 has neither MolmoE nor DeepSeek-VL2: both need their own code beside their
weights. MolmoE-1B brings it (trust_remote_code=True); DeepSeek-VL2's is the package `deepseek_vl2`,
imported before loading. Both were written for transformers 4 and may need an environment of their
own, where this module works on any loaded model. What is tested of them: blocks of MolmoE's and of
DeepSeek-VL2's structure, and images through their nearest relation here, DeepSeek-OCR-2 (DeepSeek
experts, global and local views), all small and random. The two checkpoints and their code are not.

Letters: T tokens of a sequence, L MoE layers, E experts, K experts per token.
"""

import inspect
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from torch import nn

from moebook.engine.counts import CountsWriter
from moebook.engine.hf import RouterHooks, RoutingError, write_sequence


def capture_multimodal(
    model: nn.Module,
    processor: Callable | None,
    samples: Iterable[dict],
    path: str | Path,
    image_token_id: int | None = None,
) -> tuple[str, ...]:
    """Reads samples, one sequence each, and writes their counts to `path`; the names of the MoE
    layers.

    samples: what the processor takes (text, images, ...), or without a processor the model's own
    inputs: input_ids (1, T), pixel_values and so on. Tokens that attention_mask hides are not
    counted. With image_token_id, the tokens of input_ids that are this placeholder and all others
    go to two further files: split_paths(path). RoutingError as RouterHooks, and for batches; no
    file is left then."""
    training, hooks = model.training, RouterHooks(model)
    paths = [Path(path), *(split_paths(path) if image_token_id is not None else ())]
    with ExitStack() as stack:
        stack.callback(model.train, training)
        writers = [
            stack.enter_context(CountsWriter(p, hooks.num_layers, hooks.num_experts)) for p in paths
        ]
        stack.enter_context(hooks)
        model.eval()
        for sample in samples:
            inputs = sample if processor is None else processor(**sample, return_tensors="pt")
            _read(model, hooks, inputs, image_token_id, writers)
    return hooks.names


def split_paths(path: str | Path) -> tuple[Path, Path]:
    """Where capture_multimodal writes the counts of image tokens and of text tokens: c.npz ->
    c.image.npz, c.text.npz."""
    path = Path(path)
    return path.with_suffix(".image" + path.suffix), path.with_suffix(".text" + path.suffix)


def _read(
    model, hooks: RouterHooks, inputs, image_token_id: int | None, writers: list[CountsWriter]
) -> None:
    """One sample through the model, its choices to the writers of all, image and text tokens."""
    ids = inputs["input_ids"]
    if ids.dim() != 2 or len(ids) != 1:
        raise RoutingError(
            f"input_ids of shape {tuple(ids.shape)}; give one sequence a sample, (1, T)"
        )
    given = {k: v.to(model.device) if isinstance(v, torch.Tensor) else v for k, v in inputs.items()}
    hooks.clear()
    with torch.no_grad():
        model(**given, **_options(model))
    layers, seen = hooks.take(), np.ones(ids.shape[1], bool)
    if (mask := inputs.get("attention_mask")) is not None and mask.dim() == 2:
        seen = mask[0].bool().cpu().numpy()
    write_sequence(writers[0], layers, None if seen.all() else seen)
    if image_token_id is not None:
        image = (ids[0] == image_token_id).cpu().numpy()
        for writer, part in zip(writers[1:], (image, ~image), strict=True):
            write_sequence(writer, layers, part & seen)


def _options(model) -> dict:
    """No cache and no logits but the last, where the model's forward has these arguments."""
    known = inspect.signature(model.forward).parameters
    return {k: v for k, v in {"use_cache": False, "logits_to_keep": 1}.items() if k in known}
