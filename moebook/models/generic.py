"""The shape of a model that no formula covers: transformers builds it without memory, and its
tensors tell their sizes by name and shape.

What is counted is what transformers' class holds, to the last parameter, and the biases that
balance a router, which it keeps outside the parameters. Multi-token-prediction layers that the
class leaves out are left out; what only the class has is in, as the projections of LongCat-Flash's
experts that compute nothing (741 billion parameters, of which its authors count 560).

Shapes once counted are kept: in this process, and those of the catalog in counted.json, so that
reading them imports neither torch nor transformers. `python -m moebook.models.generic` counts the
catalog again, after configs were added or a release of transformers counts otherwise."""

import hashlib
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from moebook.models import engine_built, meta
from moebook.models.attention import AttentionGroup, attention_groups
from moebook.models.families import family_of, language_config
from moebook.models.keys import find, present, value
from moebook.models.tensors import Counts, Layer, Module, Tensor, count, layers_of, num_experts

SHIPPED = Path(__file__).parent / "counted.json"
_counted: dict[str, dict] = {}


def read_shape(config: dict, trusted: str | None = None) -> dict:
    """Keyword arguments of `architecture.Architecture` (without name, source, config); a config
    that was counted is not built again.

    trusted: a folder or Hugging Face id whose own code may be run. Raises meta.CannotBuild."""
    if trusted is not None:
        return _built_shape(config, trusted)
    key = digest(config)
    if key not in _counted:
        held = _shipped().get(key)
        _counted[key] = _from_json(held) if held else _built_shape(config)
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
    pairs = {key: held["counts"].get(key, ()) for key in ("matrices", "vectors", "beside_text")}
    tuples = {key: tuple(map(tuple, value)) for key, value in pairs.items()}
    modules = tuple(Module(**m | {"layers": tuple(m["layers"])}) for m in held["counts"]["modules"])
    counts = Counts(**{**held["counts"], **tuples, "modules": modules})
    dense = tuple(held["dense_at"])
    return {**held, "attention_groups": groups, "counts": counts, "dense_at": dense}


def _to_json(shape: dict) -> dict:
    groups = [asdict(group) for group in shape["attention_groups"]]
    made = {**shape, "attention_groups": groups, "counts": asdict(shape["counts"])}
    return json.loads(json.dumps(made))


def count_catalog() -> dict[str, dict]:
    """What counted.json is to hold: by digest, a shape for each config without formulas."""
    from moebook.models.catalog import CONFIGS

    configs = [json.loads(path.read_text()) for path in sorted(CONFIGS.glob("*.json"))]
    generics = {digest(config): config for config in configs if family_of(config) is None}
    return {key: _to_json(_built_shape(config)) for key, config in generics.items()}


def _built_shape(config: dict, remote: str | None = None) -> dict:
    groups = None
    try:
        tensors, text = meta.build(config, remote)
    except meta.UnknownClass as error:
        try:
            tensors, text, groups = engine_built.build(meta.language_part(config))
        except engine_built.EngineCannot as told:
            raise meta.CannotBuild(f"{error}; {told}") from error
    layers, outside = layers_of(tensors)
    if not layers:
        raise meta.CannotBuild(
            f"transformers builds it, a {text.model_type} by its model_type, without numbered "
            f"layers; its architectures are {config.get('architectures')}"
        )
    try:
        with meta.quiet():
            groups = groups or attention_groups(layers, text)
            shape = _shape(config, text, layers, outside, groups)
    except (AttributeError, IndexError, TypeError, ZeroDivisionError) as error:
        raise meta.CannotBuild(
            f"what its {text.model_type} layers are for cannot be told from their tensors "
            f"and its config ({error})"
        ) from error
    _check_read(language_config(config), shape)
    return shape


def _check_read(text: dict, shape: dict) -> None:
    """CannotBuild where transformers built something else than the config says: a key that its
    class does not read."""
    built = {"layers": "num_layers", "experts": "num_experts", "top_k": "top_k"}
    for what, of in {**built, "ffn": "expert_ffn_dim"}.items():
        paths = [p for p in present(text, what) if p != "intermediate_size"]  # or a dense layer's
        said = {path: value(text, path) for path in paths}
        numbers = [n for v in said.values() for n in (v if isinstance(v, list) else [v])]
        if numbers and shape[of] and max(numbers) > 1 and shape[of] not in numbers:
            told = ", ".join(f"{path} {number}" for path, number in said.items())
            raise meta.CannotBuild(
                f"it says {told}, and transformers' class of {shape['family']} builds {shape[of]}: "
                "the class does not read this key"
            )


def _shape(
    config: dict,
    text: Any,
    layers: list[Layer],
    outside: list,
    groups: tuple[AttentionGroup, ...],
) -> dict:
    top_k = _top_k(text) if any(layer.is_sparse for layer in layers) else 0
    counts = count(layers, outside, top_k)
    heads, hidden = find(text, "heads"), getattr(text, "hidden_size", None)
    if not heads or not hidden:
        raise meta.CannotBuild("its config does not say its attention heads or its hidden size")
    dtype = getattr(text, "dtype", None) or config.get("torch_dtype") or "bfloat16"
    kv = next((g for g in groups if g.kv_values), None)
    return {
        "family": config.get("model_type") or text.model_type,
        "num_layers": len(layers),
        "hidden_size": hidden,
        "num_heads": heads,
        "num_kv_heads": kv.kv_heads if kv else find(text, "kv_heads"),
        "head_dim": kv.head_dim if kv else hidden // heads,
        "vocab_size": text.vocab_size,
        "tie_embeddings": not any(role == "lm_head" for role, _ in outside),
        "max_positions": find(text, "positions") or 0,
        "dtype": str(dtype).removeprefix("torch."),
        "attention_groups": groups,
        "counts": counts,
        **_experts(layers, text, top_k),
        **_latent(text, groups),
    }


def _top_k(text: Any) -> int:
    """K; of a list with one for each layer the value that all have."""
    k = find(text, "top_k")
    if isinstance(k, list):
        k = k[0] if len(set(k)) == 1 else None
    if not isinstance(k, int):
        raise meta.CannotBuild("its config does not say how many experts a token chooses")
    return k


def _experts(layers: list[Layer], text: Any, top_k: int) -> dict:
    sparse = [layer for layer in layers if layer.is_sparse]
    dense = [layer for layer in layers if not layer.is_sparse and layer.of("dense_ffn")]
    shared = {path: t for layer in sparse[:1] for path, t in layer.of("shared_experts").items()}
    return {
        "num_experts": max((num_experts(layer) for layer in sparse), default=0),
        "top_k": top_k,
        "expert_ffn_dim": _expert_width(sparse[0], text) if sparse else 0,
        "num_shared_experts": (find(text, "shared") or 1) if shared else 0,
        "shared_ffn_dim": _inner(shared, text.hidden_size),
        "dense_ffn_dim": _inner(dense[0].of("dense_ffn"), text.hidden_size) if dense else 0,
        "num_dense_layers": len(layers) - len(sparse),
        "dense_at": tuple(i for i, layer in enumerate(layers) if not layer.is_sparse),
    }


def _latent(text: Any, groups) -> dict:
    if not any(group.kind == "mla" for group in groups):
        return {}
    keys = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
    return {key: getattr(text, key, None) for key in keys}


def _inner(tensors: dict[str, Tensor], hidden: int) -> int:
    """Width of an FFN: what its down projections take, all experts together."""
    down = ("down_proj", "output_linear", "w2", "fc2", "c_proj")
    return sum(
        max(t.shape) if hidden not in t.shape else _other(t.shape, hidden)
        for path, t in tensors.items()
        if len(t.shape) == 2 and any(name in path for name in down)
    )


def _other(shape: tuple[int, ...], hidden: int) -> int:
    rest = list(shape)
    rest.remove(hidden)
    return rest[0]


def _expert_width(layer: Layer, text: Any) -> int:
    """I: of the smallest matrix of an expert, the side that is not the hidden size's; where it has
    none (experts in a latent space), as the config says."""
    experts = [
        t
        for path, t in layer.experts.items()
        if len(t.shape) >= 2 and "attention" not in path  # JetMoE has experts of attention, too
    ]
    matrices = [t for t in experts if len(t.shape) == 3] or experts
    smallest = min(matrices, key=lambda t: t.count)
    if text.hidden_size in smallest.shape[-2:]:
        width = _other(smallest.shape[-2:], text.hidden_size)
        flat = len(smallest.shape) == 2 and width > num_experts(layer)
        in_rows = flat and not any("experts." + d in p for p in layer.tensors for d in "0123456789")
        return width // num_experts(layer) if in_rows else width
    width = find(text, "ffn")
    if not isinstance(width, int):
        raise meta.CannotBuild("neither its tensors nor its config tell the width of an expert")
    return width


if __name__ == "__main__":
    SHIPPED.write_text(json.dumps(count_catalog(), indent=1, sort_keys=True) + "\n")
