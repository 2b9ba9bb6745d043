"""Any model that transformers can build, on torch's meta device: names and shapes of its tensors,
without memory.

Of a multimodal model the text part is taken. Importing torch and transformers costs seconds, so
nothing here is imported before a model is asked for that no formula covers."""

import contextlib
import sys
import warnings
from typing import Any

from moebook.models import checks
from moebook.models.families import language_config
from moebook.models.keys import present
from moebook.models.quantization_config import PARTS
from moebook.models.tensors import Tensor


class CannotBuild(ValueError):
    """transformers does not know the config's family, or cannot build what it says; the text is
    transformers' own."""


class UnknownClass(CannotBuild):
    """transformers knows neither the config's model_type nor its classes."""


def build(config: dict, remote: str | None = None) -> tuple[list[Tensor], Any]:
    """Tensors of the model that a Hugging Face config describes, and transformers' own config
    object of its text part, with its class defaults.

    remote: a folder or Hugging Face id whose own code may be run. Raises CannotBuild."""
    import torch

    with quiet():
        parsed = _parsed(config, remote)
        text = parsed.get_text_config(decoder=True)
        try:
            with torch.device("meta"):
                model = _model(parsed, text, _tied(language_config(config)), remote)
        except Exception as error:  # whatever a family's code does with sizes it cannot build
            raise CannotBuild(_first_words(error)) from error
    if getattr(text, "is_heterogeneous", False):
        text.allow_global_per_layer_attribute_access = True
    return list(_tensors(model)), text


def class_config(config: dict):
    """transformers' config object of a config: what is absent takes its class' default. Raises
    CannotBuild."""
    with quiet():
        return _parsed(config)


def _parsed(config: dict, remote: str | None = None):
    import transformers

    if (part := language_part(config)) is not config:
        return _parsed(part, remote)
    given = _floats(config)
    for key in ("auto_map", "quantization_config"):
        given.pop(key, None)
    for key in ("torch_dtype", "dtype"):  # str(torch.bfloat16), as some tools write it
        if isinstance(given.get(key), str):
            given[key] = given[key].removeprefix("torch.")
    if "thinker_config" in given:  # Qwen-Omni: its talker is no part of the text
        given["enable_audio_output"] = False
    try:
        given["model_type"] = _known_type(config)
    except UnknownClass:
        if remote is None:
            raise
        try:
            return transformers.AutoConfig.from_pretrained(remote, trust_remote_code=True)
        except Exception as error:  # code of a checkpoint may raise anything
            raise CannotBuild(_first_words(error)) from error
    _respell(given)
    tied = _tied(given)
    for part in (key for key in PARTS if isinstance(given.get(key), dict)):
        given[part] = tied | given[part]
    parts = transformers.CONFIG_MAPPING[given["model_type"]].sub_configs or {}
    inner = getattr(parts.get("text_config"), "model_type", None)
    if inner and not any(part in given for part in PARTS) and present(given, "layers"):
        # a multimodal family's, with the language model's keys at the top
        text = {**given, "model_type": inner}
        given = {"model_type": given["model_type"], "text_config": text, **tied}
    try:
        return transformers.AutoConfig.for_model(**given)
    except Exception as error:  # validation of a config class: of its own kinds, or any
        raise CannotBuild(_first_words(error)) from error


def language_part(config: dict) -> dict:
    """The language model's part of a multimodal model that the engine alone knows; else the whole
    config."""
    if not checks.ENGINE_CLASSES & set(config.get("architectures") or []):
        return config
    return next((config[part] for part in PARTS if isinstance(config.get(part), dict)), config)


def _respell(given: dict) -> None:
    """First spellings of a family that transformers' class reads otherwise, in place."""
    kinds = given.get("attn_type_list")
    if kinds and given["model_type"] == "minimax":  # 1 for softmax attention
        given["layer_types"] = [("linear_attention", "full_attention")[kind] for kind in kinds]
    experts = given.get("moe_num_experts")
    if isinstance(experts, list) and given["model_type"] == "ernie4_5_vl_moe":
        if len(set(experts)) > 1:  # of text and of images; the engine's class wants the same, too
            raise CannotBuild(
                f"its experts of text and of images are {experts}, not as many of each"
            )
        layers, first = given.get("num_hidden_layers", 0), given.get("moe_layer_start_index") or [1]
        given["moe_num_experts"] = experts[0]
        given["mlp_layer_types"] = [("sparse", "dense")[i < first[0]] for i in range(layers)]


def _floats(value):
    """A copy with infinite numbers as numbers: transformers writes {"__float__": "Infinity"}."""
    if isinstance(value, dict):
        if value.keys() == {"__float__"}:
            return float(value["__float__"])
        return {key: _floats(inner) for key, inner in value.items()}
    return [_floats(inner) for inner in value] if isinstance(value, list) else value


def _known_type(config: dict) -> str:
    """The model_type to read a config as: its own where transformers knows it, else that of the
    class in `architectures` (Kimi-K2 is a DeepseekV3ForCausalLM by another name). A class that is
    of another family than the model_type decides, as it does for the engine (MiniMax-M2's first
    config calls itself `minimax`)."""
    import transformers

    kind = config.get("model_type")
    unreadable = checks.unreadable_type(config, transformers.CONFIG_MAPPING)
    for name in config.get("architectures") or []:
        if name in checks.OTHER_NAMES:
            return checks.OTHER_NAMES[name]
        found = getattr(getattr(transformers, name, None), "config_class", None)
        known = found is not None and found.model_type in transformers.CONFIG_MAPPING
        if known and (kind not in transformers.CONFIG_MAPPING or "text_config" not in config):
            if kind not in transformers.CONFIG_MAPPING and unreadable:
                raise CannotBuild(unreadable)
            return found.model_type
    if kind in transformers.CONFIG_MAPPING:
        return kind
    classes = ", ".join(config.get("architectures") or ["(none is named)"])
    own_code = (
        "; code of its own lies beside it (auto_map), and is run only where it is trusted: "
        "--trust-remote-code, or MOEBOOK_TRUST_REMOTE_CODE=1"
        if config.get("auto_map")
        else ""
    )
    raise UnknownClass(
        f"transformers {transformers.__version__} knows neither model_type {kind!r} nor a class "
        f"{classes}{own_code}"
    )


def _tied(config: dict) -> dict:
    """What a config says of its head, of which a whole model and its language part may each."""
    key = "tie_word_embeddings"
    return {key: config[key]} if key in config else {}


def _model(parsed, text, tied: dict, remote: str | None):
    """The causal language model of a config; where it has no class of its own, the whole
    multimodal model, its head `tied` as the config of the language part says."""
    import transformers
    from transformers.models.auto import modeling_auto

    if type(text) in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING:
        return transformers.AutoModelForCausalLM.from_config(text)
    if remote is not None:
        return transformers.AutoModelForCausalLM.from_config(parsed, trust_remote_code=True)
    if type(parsed) in modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        return transformers.AutoModelForImageTextToText.from_config(parsed)
    if whole := _around(text):
        return transformers.AutoModelForImageTextToText.from_config(whole(text_config=text, **tied))
    named = getattr(transformers, next(iter(parsed.architectures or []), ""), None)
    if named is None:
        raise TypeError(f"transformers has no language model of model_type {parsed.model_type!r}")
    return named(parsed)


def _around(text):
    """The multimodal config class whose language part has no model of its own (Step-3.5-Flash is
    the language part of Step-3.7's class); None where there is none."""
    from transformers.models.auto import modeling_auto

    classes = vars(sys.modules[type(text).__module__]).values()
    for found in (c for c in classes if isinstance(c, type)):
        parts = getattr(found, "sub_configs", None) or {}
        if parts.get("text_config") is type(text):
            return found if found in modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING else None
    return None


def _tensors(model):
    kept = set(model.state_dict())
    for name, parameter in model.named_parameters():
        yield Tensor(name, tuple(parameter.shape))
    for name, buffer in model.named_buffers():
        if name in kept:
            yield Tensor(name, tuple(buffer.shape), buffer=True)


@contextlib.contextmanager
def quiet():
    """transformers tells of unused keys and missing kernels; none of it changes a shape."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)


def _first_words(error: Exception) -> str:
    """An error's kind and text in one line, cut where it begins to list what is known."""
    text = " ".join(str(error).split()).partition("Model type should be one of")[0].strip()
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
