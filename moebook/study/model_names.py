"""Models as parameters name them: what is wrong with a name, and what `fitting` stands for."""

import contextlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from moebook.models import catalog, fitting
from moebook.models.architecture import Architecture, UnknownModel
from moebook.models.edit import ImpossibleEdit, edit
from moebook.models.tiny import family
from moebook.problems import Wrong, choices
from moebook.study.lengths import Length

TOKENIZERS = ("tokenizer.json", "*.model", "vocab.*", "*.tiktoken", "tokenization_*.py")


def named(names: Iterable[str | None]) -> list[str]:
    """Models that are named, `fitting` and null left out."""
    return [name for name in names if name is not None and not fitting.is_word(name)]


def nameable(names: Iterable[str]) -> list[str]:
    """What a parameter may say of models besides these: any of the catalog, as one file serves
    several choices of models."""
    return list(dict.fromkeys([*named(names), *catalog.names()]))


def with_models(p, kinds: dict[str, fitting.Kind] | None = None, **asked: fitting.Fits):
    """The parameters, `fitting` in those named replaced by the models that it stands for. `kinds`:
    which models those are, where not any."""
    found: dict[str, Any] = {}
    for key, fits in asked.items():
        given, kind = getattr(p, key), (kinds or {}).get(key, "any")
        if given == fitting.WORD:
            found[key] = fitting.fitting(fits, kind)[-1]
        elif isinstance(given, tuple):
            found[key] = fitting.resolve(given, fits, kind)
    return p.model_copy(update=found)


def weights_of(model: str) -> str:
    """Trained weights of the tiny family, dummy ones of a published shape."""
    return model if family.is_tiny(model) else "dummy"


def model_problems(
    key: str, names: Iterable[str], length: Length | None, parameters: Iterable[tuple[str, Any]]
) -> list[Wrong]:
    """What is wrong with the models of a parameter: unknown, dense, or too short for the length,
    which one or more of `parameters` (keys and values) ask for."""
    asked = [key for key, value in parameters if length in several(value)]
    by = f" ({', '.join(asked)})" if length and asked else ""
    return [(key, name, text) for name in names if (text := _model_problem(name, length, by))]


def several(value: Any) -> tuple:
    """A parameter's values: those of a list, or the one."""
    return value if isinstance(value, tuple) else (value,)


def _model_problem(name: str, length: Length | None, by: str) -> str | None:
    try:
        arch = catalog.load(name)
    except ValueError as error:
        return str(error)
    if not arch.is_moe:
        return "is a dense model; this section needs a Mixture-of-Experts model"
    if length is None or length.total <= arch.max_positions:
        return None
    tokens = f"{length.tokens_in} input + {length.tokens_out} output tokens{by}"
    return f"{tokens} exceed its {arch.max_positions} positions"


def depth_problems(key: str, depths: Iterable[int], names: Iterable[str | None]) -> list[Wrong]:
    """Depths that no model has, or with which one cannot be built. A model with fewer layers than
    the depths is not measured by depth."""
    found = []
    models = [arch for name in named(names) if (arch := _known(name)) is not None]
    for depth in depths:
        deep = [arch for arch in models if depth <= arch.num_layers]
        if models and not deep:
            most = max(models, key=lambda arch: arch.num_layers)
            found.append((key, depth, f"at most the {most.num_layers} layers of {most.name}"))
        found += [(key, depth, text) for arch in deep if (text := _depth_problem(arch, depth))]
    return found


def _known(name: str) -> Architecture | None:
    try:
        return catalog.load(name)
    except ValueError:
        return None  # told of the model already


def _depth_problem(arch: Architecture, depth: int) -> str | None:
    try:
        edit(arch, num_layers=depth)
    except ImpossibleEdit as error:
        return str(error)
    return None


def positions_problems(key: str, tokens: int, names: Iterable[str]) -> list[Wrong]:
    """Windows of a text that are longer than a model's positions."""
    found = []
    for name in names:
        with contextlib.suppress(UnknownModel):  # told of the name already
            if tokens > (most := catalog.load(name).max_positions):
                found.append((key, tokens, f"at most the {most} positions of {name}"))
    return found


def draft_problems(key: str, target: str, drafts: Iterable[str]) -> list[Wrong]:
    """Drafts that are unknown, or whose vocabulary is not the target's."""
    try:
        vocabulary = catalog.load(target).vocab_size
    except ValueError:
        return []  # told of the target already
    return [
        (key, name, text) for name in drafts if (text := _draft_problem(name, target, vocabulary))
    ]


def _draft_problem(name: str, target: str, vocabulary: int) -> str | None:
    try:
        own = catalog.load(name).vocab_size
    except ValueError as error:
        return str(error)
    if own == vocabulary:
        return None
    return (
        f"has a vocabulary of {own} tokens, the target {target} one of {vocabulary}: a draft must "
        "share the target's tokens"
    )


def trained_problems(key: str, name: str) -> list[Wrong]:
    """What is wrong with the name of a trained MoE of the tiny family."""
    try:
        ref = family.parse(name)
    except ValueError as error:
        return [(key, name, str(error))]
    if ref.member in family.TARGETS:
        return []
    return [(key, name, choices(ref.member, [f"tiny:{ref.preset}/{m}" for m in family.TARGETS]))]


def checkpoint_problems(
    weights: str,
    text: str | None,
    keys: tuple[str, str] = ("weights", "quality_text"),
    tokens: int = 0,
) -> list[Wrong]:
    """What is wrong with a checkpoint folder and the text it is to read, of `tokens` or more; those
    of the tiny family are made when needed."""
    if family.is_tiny(weights):
        found = trained_problems(keys[0], weights)
    else:
        wrong = _folder_problem(Path(weights))
        found = [(keys[0], weights, wrong)] if wrong else []
    texts = (
        family.text_problems(text)
        if text and family.is_tiny(text)
        else _text_problems(text, tokens)
    )
    return found + [(keys[1], text, wrong) for wrong in texts]


def _folder_problem(folder: Path) -> str | None:
    if not os.path.isfile(folder / "config.json"):
        return "a folder with a Hugging Face checkpoint (config.json is missing), or 'dummy'"
    if wrong := _tokenizer_problem(folder):
        return wrong
    from moebook.models.pruning import held  # which imports transformers, for folders alone
    from moebook.models.pruning.checkpoint import open_checkpoint

    try:
        experts = catalog.load(str(folder)).num_experts
        return held.weights_problem(open_checkpoint(folder), experts)
    except ValueError as error:
        return str(error)


def _tokenizer_problem(folder: Path) -> str | None:
    """What is wrong with a folder's tokenizer, as far as its files alone can tell."""
    if not any(file for kind in TOKENIZERS for file in folder.glob(kind)):
        return f"a checkpoint with its tokenizer: the folder has none of {', '.join(TOKENIZERS)}"
    file = folder / "tokenizer.json"
    try:
        whole = not file.exists() or isinstance(json.loads(file.read_text()), dict)
    except (OSError, ValueError):
        whole = False
    return None if whole else "a checkpoint with its tokenizer: its tokenizer.json cannot be read"


def _text_problems(path: str | None, tokens: int) -> list[str]:
    if path is None or not os.path.isfile(path):
        return ["a file of held-out text, which a trained checkpoint needs"]
    data = Path(path).read_bytes()
    if not data.strip():
        return ["the file is empty"]
    if b"\0" in data:
        return ["is a binary file (it holds NUL bytes); give plain text"]
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return [f"is no UTF-8 text (byte {error.start}); give plain text"]
    if len(data) < tokens:  # a token is a byte at least
        return [f"its {len(data)} bytes are too few for {tokens} tokens; give a longer text"]
    return []
