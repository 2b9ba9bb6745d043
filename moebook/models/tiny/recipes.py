"""Shapes and training recipes of the tiny family, and references to its members. Whatever changes a
recipe changes the weights, and with them the cache folder.

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


# In few steps a small model learns faster than a large one, and a cheap draft that is also the best
# would teach nothing.
_CUT = {"small": 0.6, "medium": 0.8, "large": 0.9}


def _family(
    moe: Recipe,
    bias_step: float,
    drafts: dict[str, Shape],
    draft: Recipe,
    cut: dict[str, float] | None = None,
) -> dict[str, Recipe]:
    """Targets in one shape; drafts trained for the draft recipe's steps, or for a share of them."""
    aux = {f"aux-{strength:g}": replace(moe, aux=strength) for strength in (0.001, 0.01, 0.1)}
    small = {
        f"draft-{size}": replace(
            draft, shape=shape, steps=round(draft.steps * (cut or {}).get(size, 1))
        )
        for size, shape in drafts.items()
    }
    return {"no-balance": moe, **aux, "loss-free": replace(moe, bias_step=bias_step), **small}


_CPU = Shape(hidden=128, layers=3, heads=4, head_dim=32, ffn=64, experts=16, top_k=4)
_CPU_DRAFTS = {
    "small": Shape(96, 1, 2, 32, 512),
    "medium": Shape(128, 2, 4, 32, 384),
    "large": Shape(160, 3, 4, 32, 448),
}
_GPU = Shape(hidden=512, layers=6, heads=8, head_dim=64, ffn=128, experts=32, top_k=4)
_GPU_DRAFTS = {
    "small": Shape(256, 6, 4, 64, 768),
    "medium": Shape(384, 6, 6, 64, 1024),
    "large": Shape(512, 8, 8, 64, 1280),
}
_TEST = Shape(hidden=64, layers=2, heads=2, head_dim=32, ffn=32, experts=8, top_k=2)
_TEST_DRAFTS = {
    "small": Shape(32, 1, 1, 32, 64),
    "medium": Shape(64, 1, 2, 32, 128),
    "large": Shape(64, 2, 2, 32, 128),
}

PRESETS = {
    "cpu": Preset(
        _family(Recipe(_CPU, 260, 3e-3), 0.002, _CPU_DRAFTS, Recipe(_CPU, 240, 4e-3), _CUT),
        "cpu",
        "float32",
        share=0.15,
        batch=4,
        window=128,
        checkpoint_every=80,
        eval_windows=48,
        load_windows=16,
        warmup=0.5,
    ),
    "gpu": Preset(
        _family(Recipe(_GPU, 360, 1e-3), 0.001, _GPU_DRAFTS, Recipe(_GPU, 360, 1e-3)),
        "cuda",
        "bfloat16",
        share=1.0,
        batch=64,
        window=512,
        checkpoint_every=120,
        eval_windows=64,
        load_windows=16,
    ),
    "test": Preset(
        _family(Recipe(_TEST, 60, 4e-3), 0.005, _TEST_DRAFTS, Recipe(_TEST, 120, 8e-3), _CUT),
        "cpu",
        "float32",
        share=0.02,
        batch=8,
        window=64,
        checkpoint_every=25,
        eval_windows=16,
        load_windows=8,
        vocab=1024,
    ),
}


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
