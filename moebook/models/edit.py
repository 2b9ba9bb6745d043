"""Edits of an Architecture: FFN width, experts, active experts, depth; the language part of a
multimodal one.

    >>> from moebook.models.catalog import load
    >>> edit(load("Mixtral-8x7B-v0.1"), ffn_dim=7168, num_experts=16).name
    'Mixtral-8x7B-v0.1[I=7168,E=16]'

An edit changes the Hugging Face config and reads the shapes back from it, so both always agree. An
edit of an edit starts from the unedited model, so the order of edits does not matter and undoing
all of them gives that model back."""

from dataclasses import replace

from moebook.models import keys
from moebook.models.architecture import Architecture, UnknownModel, from_config
from moebook.models.families import completed, language_config
from moebook.models.quantization_config import KEYS

FFN_MULTIPLE = 16  # vLLM's expert kernels; its CPU ones otherwise fall back to a plain loop


# What an edit changes, in the order of Architecture.shape: key of keys.SPELLINGS, and in words.
QUANTITIES = {
    "ffn": "width of an expert",
    "experts": "number of experts",
    "top_k": "experts per token",
    "layers": "number of layers",
}


class ImpossibleEdit(ValueError):
    """The edited model could not exist, or the engine could not run it."""


def edit(
    arch: Architecture,
    *,
    ffn_dim: int | None = None,
    num_experts: int | None = None,
    top_k: int | None = None,
    num_layers: int | None = None,
) -> Architecture:
    """The architecture with I, E, K or L changed; None keeps a value. Values it already has give it
    back.

    ffn_dim is the width of one routed expert. Shared experts whose config states no width of their
    own (DeepSeek, Llama 4) follow it. num_layers keeps the leading dense layers. Raises
    ImpossibleEdit with the reason."""
    asked = {
        "ffn_dim": ffn_dim,
        "num_experts": num_experts,
        "top_k": top_k,
        "num_layers": num_layers,
    }
    for key, value in asked.items():
        _check_whole(arch, key, value)
    values = zip(arch.shape, asked.values(), strict=True)
    new = tuple(old if value is None else value for old, value in values)
    base = arch.base or arch
    if new == base.shape:
        return base
    if new == arch.shape:
        return arch
    _check_family(arch, new)
    if arch.is_moe:
        _check_experts(arch, new)
    edited = _edited(base, new)
    if arch.is_moe and edited.num_moe_layers < 1:
        dense = base.num_dense_layers
        raise ImpossibleEdit(
            f"{base.name}: num_layers {edited.num_layers} leaves no layer with experts, for the "
            f"first {dense} are dense; use at least {dense + 1}"
        )
    return replace(edited, base=base)


def _edited(base: Architecture, new: tuple[int, ...]) -> Architecture:
    """What changes is written under all spellings that the config has, else under its class'
    own."""
    config = base.hf_config()
    text = language_config(config)
    known = text if base.counts else completed(text, base.family)
    changed = {w: b for w, a, b in zip(QUANTITIES, base.shape, new, strict=True) if a != b}
    for what, value in changed.items():
        spellings = keys.present(text, what) or keys.present(known, what)
        if not spellings:
            raise ImpossibleEdit(
                f"{base.name}: its config.json does not say its {QUANTITIES[what]}, so no edit can "
                f"change it; write one of {', '.join(keys.SPELLINGS[what])} into it"
            )
        for path in spellings[:1] if what == "ffn" else spellings:
            keys.write(text, path, value)
    if "layers" in changed:
        keys.resize(text, base.num_layers, new[3])
        if text.get("moe_layers"):
            text["moe_layers"] = None  # Llama 4 derives them from interleave_moe_layer_step
    edited = _read(config, base, new)
    if edited.shape != new:
        raise ImpossibleEdit(
            f"{base.name}: its config gives I, E, K, L of {edited.shape} where {new} was written; "
            "it ties them to other sizes"
        )
    return edited


def _read(config: dict, base: Architecture, new: tuple[int, ...]) -> Architecture:
    try:
        return from_config(config, _name(base, new), base.source)
    except UnknownModel as error:
        raise ImpossibleEdit(f"{base.name}: the edited config builds no model: {error}") from error


def language_part(arch: Architecture, chunked: bool = True) -> Architecture:
    """Llama 4 without its vision part, as the engine's text-only class takes it; models of other
    families unchanged.

    chunked=False: all layers attend to all tokens, which is the same computation while a sequence
    is no longer than one attention chunk. Positions end where RoPE scaling does: the engine holds a
    table of them all, 2.7 GB for Scout's 10 million."""
    if arch.family != "llama4":
        return arch
    own = {key: arch.config[key] for key in KEYS if key in arch.config}  # its number format
    text = {"model_type": "llama4_text", **language_config(arch.hf_config())}
    config = {**text, "architectures": ["Llama4ForCausalLM"], **own}
    rope = config.get("rope_scaling") or config.get("rope_parameters") or {}
    if "factor" in rope and "original_max_position_embeddings" in rope:
        reach = int(rope["factor"] * rope["original_max_position_embeddings"])
        config["max_position_embeddings"] = reach
    attention = f"attention in chunks of {arch.window}"
    if not chunked:
        config["attention_chunk_size"], attention = None, "attention over all tokens"
    return from_config(config, arch.name, f"{arch.source}; language part, {attention}")


def _name(base: Architecture, new: tuple[int, ...]) -> str:
    values = zip("IEKL", new, base.shape, strict=True)
    changed = [f"{letter}={value}" for letter, value, old in values if value != old]
    return f"{base.name}[{','.join(changed)}]"


def _check_whole(arch: Architecture, key: str, value: int | None) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise ImpossibleEdit(f"{arch.name}: {key} is {value!r}; give a whole number")
    if value < 1 and (arch.is_moe or key == "num_layers"):
        raise ImpossibleEdit(f"{arch.name}: {key} is {value}; it must be at least 1")


def _check_family(arch: Architecture, new: tuple[int, ...]) -> None:
    if arch.family == "molmo":
        raise ImpossibleEdit(
            f"{arch.name}: the engine has no model for MolmoE, so an edit of it cannot run; edit "
            "OLMoE-1B-7B-0924, whose language part has the same shapes"
        )
    if not arch.is_moe and new[:3] != arch.shape[:3]:
        raise ImpossibleEdit(
            f"{arch.name} is a dense model: ffn_dim, num_experts and top_k speak of experts it "
            "does not have; edit num_layers only, or choose a Mixture-of-Experts model"
        )
    if arch.family in ("llama4", "llama4_text") and new[2] > 1:
        raise ImpossibleEdit(
            f"{arch.name}: top_k is {new[2]}, but Llama 4 applies router weights to the experts' "
            "input, which the engine allows for top_k 1 only"
        )


def _check_experts(arch: Architecture, new: tuple[int, ...]) -> None:
    ffn, experts, k, _ = new
    if k > experts:
        raise ImpossibleEdit(
            f"{arch.name}: top_k {k} exceeds num_experts {experts}; a token cannot choose more "
            "experts than there are"
        )
    if ffn % FFN_MULTIPLE:
        nearest = max(FFN_MULTIPLE, round(ffn / FFN_MULTIPLE) * FFN_MULTIPLE)
        raise ImpossibleEdit(
            f"{arch.name}: ffn_dim {ffn} is no multiple of {FFN_MULTIPLE}, as the engine's expert "
            f"kernels need; nearest: {nearest}"
        )
    config = language_config(arch.config)
    groups, chosen = config.get("n_group") or 1, config.get("topk_group") or 1
    if problem := group_problem(experts, k, groups, chosen):
        raise ImpossibleEdit(f"{arch.name}: {problem}")


def group_problem(experts: int, k: int, groups: int, chosen: int) -> str | None:
    """Why experts do not split into router groups of which a token uses `chosen`, or None."""
    if groups == 1:
        return None
    if experts % groups or experts // groups < 2:
        return (
            f"num_experts {experts} cannot be split into its {groups} router groups of two or more "
            f"experts; use a multiple of {groups} from {2 * groups} on"
        )
    if k > (usable := chosen * (experts // groups)):
        return (
            f"top_k {k} exceeds the {usable} experts of the {chosen} router groups (of {groups}) "
            "that a token may use"
        )
    return None
