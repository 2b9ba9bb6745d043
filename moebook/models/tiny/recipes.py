"""Training recipes of the tiny family (presets.yaml), and references to its members.

MoE members have one shape and one data order; they differ in what balances the load of their
experts:

    no-balance        nothing
    aux-0.001 .. 0.1  the Switch auxiliary loss at three strengths (aux-0.01 is the main target)
    loss-free         a bias on the router's scores, for the selection only (Wang et al., arXiv
                      2408.15664)

The first four are OLMoE. `loss-free` is ERNIE 4.5 MoE without shared experts and dense layers,
whose `e_score_correction_bias` is that bias; it renormalises the top-k weights, as OLMoE in vLLM
never does. Drafts are dense Qwen3 of rising cost."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

import yaml

from moebook.models.architecture import UnknownModel
from moebook.models.pruning import saliency


@dataclass(frozen=True)
class Shape:
    """ffn: of an expert, where there are any; top_k: experts of a token."""

    hidden: int
    layers: int
    heads: int
    head_dim: int
    ffn: int
    experts: int = 0
    top_k: int = 0


@dataclass(frozen=True)
class Recipe:
    """One member: its shape and how it is trained."""

    shape: Shape
    steps: int
    lr: float
    aux: float = 0.0  # strength of the auxiliary loss
    bias_step: float = 0.0  # step of the selection bias; above 0 the member is loss-free

    @property
    def balance(self) -> str:
        return "bias" if self.bias_step else "aux" if self.aux else "none"


@dataclass(frozen=True)
class Preset:
    """One family. share: of the library's modules to train on; checkpoint_every in steps."""

    members: dict[str, Recipe]
    device: str  # cpu trains on one thread a member, so that results do not hang on the machine
    dtype: str
    share: float
    batch: int
    window: int  # tokens of a training window
    checkpoint_every: int
    eval_windows: int  # held-out windows of each perplexity
    load_windows: int  # windows of the fixed batch whose routing is recorded
    vocab: int = 4096
    seed: int = 0
    weight_decay: float = 0.1
    warmup: float = 0.1  # share of the steps


def _preset(
    shape: dict,
    training: dict,
    bias_step: float,
    drafts: dict[str, dict],
    drafting: dict,
    cut: dict[str, float],
    **how,
) -> Preset:
    """Of presets.yaml: targets in one shape, and drafts."""
    moe = Recipe(Shape(**shape), **training)
    members = {"no-balance": moe}
    members |= {f"aux-{aux:g}": replace(moe, aux=aux) for aux in (0.001, 0.01, 0.1)}
    members["loss-free"] = replace(moe, bias_step=bias_step)
    for size, own in drafts.items():
        draft = Recipe(Shape(**own), **drafting)
        steps = round(draft.steps * cut.get(size, 1))
        members[f"draft-{size}"] = replace(draft, steps=steps)
    return Preset(members, **how)


_TOLD = yaml.safe_load(Path(__file__).with_name("presets.yaml").read_text(encoding="utf-8"))
PRESETS = {name: _preset(**told) for name, told in _TOLD.items()}


def hf_config(recipe: Recipe, preset: Preset) -> dict:
    """The Hugging Face config of a member."""
    shape = recipe.shape
    common = {
        "dtype": preset.dtype,
        "vocab_size": preset.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.ffn,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.heads,
        "hidden_act": "silu",
        "max_position_embeddings": 1024,
        "initializer_range": 0.02,
        "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0},
        "tie_word_embeddings": not shape.experts,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 0,
        "use_cache": True,
    }
    if not shape.experts:
        return {
            "architectures": ["Qwen3ForCausalLM"],
            "model_type": "qwen3",
            **common,
            "head_dim": shape.head_dim,
            "attention_bias": False,
        }
    if recipe.bias_step:
        return {
            "architectures": ["Ernie4_5_MoeForCausalLM"],
            "model_type": "ernie4_5_moe",
            **common,
            "use_bias": False,
            "head_dim": shape.head_dim,
            "moe_intermediate_size": shape.ffn,
            "moe_num_experts": shape.experts,
            "moe_k": shape.top_k,
            "moe_num_shared_experts": 0,
            "moe_layer_start_index": 0,
            "moe_layer_end_index": -1,
            "moe_layer_interval": 1,
        }
    return {
        "architectures": ["OlmoeForCausalLM"],
        "model_type": "olmoe",
        **common,
        "attention_bias": False,
        "num_experts": shape.experts,
        "num_experts_per_tok": shape.top_k,
        "norm_topk_prob": False,
    }


PREFIX = "tiny:"
PRUNING = re.compile(r"(inter|intra)-(\d+(?:\.\d+)?)-(\w+)")


class UnknownTiny(UnknownModel):
    """The reference names no preset, member, pruning or held-out text of the tiny family."""


@dataclass(frozen=True)
class Ref:
    """A parsed reference. pruning: "inter-50-norm", or None."""

    preset: str
    member: str
    pruning: str | None = None

    @property
    def recipe(self) -> Recipe:
        return PRESETS[self.preset].members[self.member]

    @property
    def parent(self) -> str:
        return f"{PREFIX}{self.preset}/{self.member}"


def is_tiny(name: str) -> bool:
    return str(name).startswith(PREFIX)


def parse(name: str) -> Ref:
    """Raises UnknownTiny."""
    parts = str(name).removeprefix(PREFIX).split("/")
    if not is_tiny(name) or not 2 <= len(parts) <= 3:
        raise UnknownTiny(
            f"{name!r} is no reference of the tiny family; write tiny:<preset>/<member>, such as "
            "tiny:cpu/aux-0.01, or tiny:cpu/aux-0.01/inter-50-norm for a pruned one"
        )
    found = preset(parts[0])
    if parts[1] == "heldout":
        raise UnknownTiny(
            f"{name!r} is a held-out text, not a model; members: {', '.join(found.members)}"
        )
    check_member(parts[0], parts[1])
    if len(parts) == 3:
        _check_pruning(name, found.members[parts[1]], parts[2])
    return Ref(*parts)


def preset(name: str) -> Preset:
    return PRESETS[one_of("preset", name, PRESETS)]


def check_member(preset_name: str, member: str) -> str:
    return one_of(f"member of the {preset_name} preset", member, preset(preset_name).members)


def one_of(what: str, given: str, allowed: Iterable[str]) -> str:
    allowed = list(allowed)
    if given in allowed:
        return given
    near = get_close_matches(given, allowed, n=1, cutoff=0.3)
    nearest = f"; nearest: {near[0]}" if near else ""
    raise UnknownTiny(
        f"{given!r} is no {what} of the tiny family; allowed: {', '.join(allowed)}{nearest}"
    )


def _check_pruning(name: str, recipe: Recipe, pruning: str) -> None:
    found = PRUNING.fullmatch(pruning)
    if not found or found[3] not in saliency.CRITERIA or not 0 < float(found[2]) < 100:
        raise UnknownTiny(
            f"{name!r}: {pruning!r} is no pruning; write <kind>-<percent>-<criterion> with kind "
            f"inter or intra, criterion one of {', '.join(saliency.CRITERIA)}; such as "
            "inter-50-norm"
        )
    if recipe.bias_step or not recipe.shape.experts:
        raise UnknownTiny(
            f"{name!r}: only the OLMoE members can be pruned (no-balance and aux-*), such as "
            "tiny:cpu/aux-0.01/inter-50-norm"
        )
