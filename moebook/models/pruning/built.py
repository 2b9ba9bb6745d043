"""The tensors that a config asks for: names and shapes of the transformers model that it describes,
built without memory."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from moebook.models.meta import quiet
from moebook.models.pruning.checkpoint import ConfigError
from moebook.models.pruning.config_keys import parsed

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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
        layers."""
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
