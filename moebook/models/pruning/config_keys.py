"""Where a Hugging Face config, of any family's spelling, holds the number of experts and their
width; and the config with other numbers there. Letters: E experts, I expert FFN dim."""

import copy
from collections.abc import Iterator

from moebook.models.keys import SPELLINGS
from moebook.models.meta import CannotBuild, class_config
from moebook.models.pruning.checkpoint import ConfigError

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
