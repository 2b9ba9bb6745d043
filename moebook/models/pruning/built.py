"""The tensors that a config asks for: names and shapes of the transformers model that it describes,
built without memory; and where a config, of any family's spelling, holds the number of experts and
their width. Letters: E experts, I expert FFN dim."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from moebook.models.meta import quiet
from moebook.models.pruning.checkpoint import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


import copy
from collections.abc import Iterator

from moebook.models.keys import SPELLINGS, find
from moebook.models.meta import CannotBuild, class_config
from moebook.models.tensors import place

# Buffers of older checkpoints that transformers computes itself.
_COMPUTED = (r"rotary_emb\.inv_freq$",)


@dataclass(frozen=True)
class Built:
    """One config's tensors. `published` and `fused` are the two ways in which transformers writes
    them; `plain` gives the name under which spellings of one name meet."""

    model: "PreTrainedModel"

    @cached_property
    def fused(self) -> dict[str, tuple[int, ...]]:
        """By plain name the shapes, as the model holds them (experts of a layer in one tensor)."""
        return self._shapes(self._own)

    @cached_property
    def published(self) -> dict[str, tuple[int, ...]]:
        """By plain name the shapes, as the family's checkpoints are published (often one tensor per
        expert)."""
        from transformers.core_model_loading import revert_weight_conversion

        return self._shapes(revert_weight_conversion(self.model, self._own))

    @cached_property
    def spelled(self) -> dict[str, str]:
        """By plain name the name that transformers writes."""
        return {}

    def like(self, names: set[str]) -> str:
        """`published` or `fused`: the way that fits these plain names better."""
        ways = ("published", "fused")
        return min(ways, key=lambda way: len(names.symmetric_difference(getattr(self, way))))

    def interleaved(self, way: str) -> bool:
        """Whether gate and up rows of one tensor alternate, rather than follow each other."""
        from transformers.core_model_loading import Interleave

        alternate = any(not getattr(m, "is_concatenated", True) for m in self.model.modules())
        operations = [
            operation
            for one in self._conversions
            if any("experts" in name for name in one.target_patterns)
            for operation in getattr(one, "operations", ())
        ]
        undone = way == "published" and any(isinstance(o, Interleave) for o in operations)
        return alternate != undone

    def plain(self, name: str) -> str:
        from transformers.core_model_loading import rename_source_key

        return rename_source_key(
            name, self._renamings, [], self.model.base_model_prefix, self._own
        )[0]

    def optional(self, name: str) -> bool:
        """Whether a checkpoint may lack this tensor: a head tied to the embedding."""
        tied = self.model.config.get_text_config().tie_word_embeddings
        return bool(tied) and any(
            re.search(key, name) for key in (self.model._tied_weights_keys or ())
        )

    def unused(self, name: str) -> bool:
        """Whether transformers reads past this tensor by design, as it does multi-token-prediction
        layers, which follow the model's own."""
        text, layer = self.model.config.get_text_config(decoder=True), place(name)[0]
        layers, further = find(text, "layers"), getattr(text, "num_nextn_predict_layers", 0)
        if layer is not None and further and layers <= layer < layers + further:
            return True
        patterns = (*_COMPUTED, *(self.model._keys_to_ignore_on_load_unexpected or ()))
        return any(re.search(pattern, name) for pattern in patterns)

    @cached_property
    def _own(self) -> dict:
        return self.model.state_dict()

    @cached_property
    def _conversions(self) -> list:
        from transformers.conversion_mapping import get_model_conversion_mapping

        return get_model_conversion_mapping(self.model)

    @cached_property
    def _renamings(self) -> list:
        from transformers.core_model_loading import WeightRenaming

        return [one for one in self._conversions if isinstance(one, WeightRenaming)]

    def _shapes(self, state: dict) -> dict[str, tuple[int, ...]]:
        plain = {name: self.plain(name) for name in state}
        for name, known in plain.items():
            self.spelled.setdefault(known, name)
        return {known: tuple(state[name].shape) for name, known in plain.items()}


def build(config: dict) -> Built:
    """Raises ConfigError where transformers cannot build the model, in its words."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    settings = parsed(config)
    model = class_of(config)
    try:
        with quiet(), torch.device("meta"):
            if model is not None and model.config_class is type(settings):
                return Built(model(settings))
            auto = AutoModelForCausalLM
            if type(settings) not in auto._model_mapping:
                auto = AutoModelForImageTextToText
            return Built(auto.from_config(settings))
    except Exception as error:  # of any class: a model class may stumble over any wrong value
        raise ConfigError(_cannot(config, error)) from error


def class_of(config: dict):
    """The class of transformers that `architectures` names, or None."""
    import transformers

    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    found = getattr(transformers, name, None) if isinstance(name, str) else None
    return found if hasattr(found, "config_class") else None


def _cannot(config: dict, error: Exception) -> str:
    words = " ".join(str(error).split())[:300]
    return (
        f"transformers cannot build this {config.get('model_type')} "
        f"({type(error).__name__}: {words}); correct the config"
    )


Place = tuple[str, ...]
_GROUPS = ("n_group", "num_expert_group")


def parsed(config: dict):
    """The config as transformers' own class of the family reads it, with that class's defaults.
    Raises ConfigError in transformers' words."""
    try:
        return class_config(config)
    except CannotBuild as error:
        raise ConfigError(str(error)) from error


def groups_of(config: dict) -> tuple[int, int]:
    """Groups of experts, and how many of them a token uses; 1 of 1 where there are none."""
    text = parsed(config).get_text_config()
    groups = next((n for key in _GROUPS if (n := getattr(text, key, None))), 1)
    return groups, getattr(text, "topk_group", None) or 1


def expert_keys(config: dict, experts: int) -> list[Place]:
    """All keys that hold E; one that the config leaves to its class only where it has no other."""
    found = [(place, value) for place, value in _held(config, "experts") if value is not None]
    if other := [(".".join(place), value) for place, value in found if value != experts]:
        raise ConfigError(
            f"{other[0][0]} is {other[0][1]}, but layers have {experts} experts; only "
            "models whose layers are alike can be pruned"
        )
    return _written(config, [place for place, _ in found])


def width_keys(config: dict) -> list[tuple[list[Place], int]]:
    """Keys that may hold I, each with its value, the likeliest first. Which it is, the tensors
    tell."""
    return [
        (_written(config, [place]), value)
        for place, value in _held(config, "ffn")
        if isinstance(value, int)
    ]


def changed(config: dict, places: list[Place], value: int) -> dict:
    """A copy of the config with `value` at these places; a list there keeps its length."""
    new = copy.deepcopy(config)
    for *above, key in places:
        inner = new
        for name in above:
            inner = inner.setdefault(name, {})
        old = inner.get(key)
        inner[key] = [value] * len(old) if isinstance(old, list) else value
    return new


def _held(config: dict, what: str) -> Iterator[tuple[Place, int | None]]:
    """Keys of the language model for a quantity, as the config has them or its class fills them in.
    A list of equal values, one for each layer, stands for that value."""
    settings = parsed(config)
    where = _language(settings)
    text = settings.get_text_config().to_dict()
    for spelling in SPELLINGS[what]:
        path = tuple(spelling.split("."))
        place = (*where, *path)
        value = _at(config, place)
        value = _at(text, path) if value is None else value
        if isinstance(value, list) and value:
            if any(one != value[0] for one in value):
                raise ConfigError(
                    f"{'.'.join(place)} differs between layers or kinds of token "
                    f"({value[:4]} …); only models whose layers are alike can be pruned"
                )
            value = value[0]
        if value is not None:
            yield place, value


def _language(settings) -> Place:
    """Where the language model's own config lies in a multimodal one."""
    text = settings.get_text_config()
    for name in settings.sub_configs:
        inner = getattr(settings, name, None)
        if inner is None or inner is settings:
            continue
        if inner is text:
            return (name,)
        if below := _language_below(inner, text):
            return (name, below)
    return ()


def _language_below(inner, text) -> str | None:
    names = getattr(inner, "sub_configs", ())
    return next((name for name in names if getattr(inner, name, None) is text), None)


def _written(config: dict, places: list[Place]) -> list[Place]:
    there = [place for place in places if _at(config, place) is not None]
    return there or places[:1]


def _at(config, place: Place):
    for name in place:
        config = config.get(name) if isinstance(config, dict) else None
    return config
