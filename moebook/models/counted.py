"""Shapes of models that no formula covers, once counted: in this process, and those of the catalog
in counted.json, so that reading them imports neither torch nor transformers.

`python -m moebook.models.counted` counts the catalog again, after configs were added or a release
of transformers counts otherwise."""

import hashlib
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path

from moebook.models import generic
from moebook.models.attention import AttentionGroup
from moebook.models.counts import Counts
from moebook.models.shapes import family_of

SHIPPED = Path(__file__).parent / "counted.json"
_counted: dict[str, dict] = {}


def read_shape(config: dict, trusted: str | None = None) -> dict:
    """As generic.read_shape; a config that was counted is not built again."""
    if trusted is not None:
        return generic.read_shape(config, trusted)
    key = digest(config)
    if key not in _counted:
        held = _shipped().get(key)
        _counted[key] = _from_json(held) if held else generic.read_shape(config)
    return dict(_counted[key])


def digest(config: dict) -> str:
    """Of all of a config that can change its shape."""
    shaping = {key: value for key, value in config.items() if key != "quantization_config"}
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()[:16]


@cache
def _shipped() -> dict[str, dict]:
    return json.loads(SHIPPED.read_text())


def _from_json(held: dict) -> dict:
    groups = tuple(AttentionGroup(**group) for group in held["attention_groups"])
    pairs = {key: held["counts"][key] for key in ("matrices", "vectors")}
    tuples = {key: tuple(map(tuple, value)) for key, value in pairs.items()}
    counts = Counts(**{**held["counts"], **tuples})
    return {**held, "attention_groups": groups, "counts": counts}


def to_json(shape: dict) -> dict:
    """A shape as counted.json holds it."""
    groups = [asdict(group) for group in shape["attention_groups"]]
    made = {**shape, "attention_groups": groups, "counts": asdict(shape["counts"])}
    return json.loads(json.dumps(made))


def count_catalog() -> dict[str, dict]:
    """What counted.json is to hold: by digest, a shape for each config without formulas."""
    from moebook.models.catalog import CONFIGS

    configs = [json.loads(path.read_text()) for path in sorted(CONFIGS.glob("*.json"))]
    generics = {digest(config): config for config in configs if family_of(config) is None}
    return {key: to_json(generic.read_shape(config)) for key, config in generics.items()}


if __name__ == "__main__":
    SHIPPED.write_text(json.dumps(count_catalog(), indent=1, sort_keys=True) + "\n")
