"""The shapes that one rank of several computes, as a model that one device can run alone.

Over G devices (vLLM, no data parallelism) a rank holds
  TP      1/G of the attention heads, of the KV heads (at least one), of every expert's FFN dim I,
          of the vocabulary
  TP+EP   attention and vocabulary as TP; E/G whole experts, which on average serve K/G of a token's
          K choices
  PP      L/G layers, everything else whole
  PP+EP   as PP: with one rank a stage there are no ranks to spread a layer's experts over

and leaves out only what ranks say to each other. A rank's expected decode reads are kept: with E/G
experts and K/G choices uniform routing hits (1/G) E (1 - (1 - K/E)^T) experts for T tokens. Two
differences remain: the router has E/G columns in place of E, and a stage of PP has embedding and
head, which only the first and the last one use.

Letters: H hidden, I expert FFN dim, E experts, K experts per token, L layers, G devices, T tokens
of a step.

    >>> from moebook.models.catalog import load
    >>> shard(load("Mixtral-8x7B-v0.1"), "TP", 4).expert_ffn_dim
    3584
"""

from moebook.models.architecture import Architecture, from_config
from moebook.models.edit import edit
from moebook.models.shapes import keys_of

MODES = ("TP", "TP+EP", "PP", "PP+EP")
ONE = "one device"  # the series of every mode at G = 1
RANK = "rank of "  # how the series of one rank's points begins
# Model classes of vLLM that take `head_dim` from the config; others compute H / heads, which a
# share of the heads breaks.
TAKES_HEAD_DIM = ("mixtral", "qwen3_moe")
STAND_IN = ("olmoe",)  # written as Qwen3-MoE: the same layers, Q and K normalized per head


class ImpossibleShard(ValueError):
    """The model does not divide over so many devices, or no shard is written for its family."""


def shard(arch: Architecture, mode: str, devices: int) -> Architecture:
    """What one of `devices` ranks computes; for one device the model itself. Raises
    ImpossibleShard."""
    if problem := indivisible(arch, mode, devices):
        raise ImpossibleShard(problem)
    if devices == 1:
        return arch
    if mode.startswith("PP"):
        return edit(arch, num_layers=arch.num_layers // devices)
    config = _config(arch)
    config["num_attention_heads"] = arch.num_heads // devices
    config["num_key_value_heads"] = max(1, arch.num_kv_heads // devices)
    config["vocab_size"] = arch.vocab_size // devices
    keys = keys_of(config)
    if mode == "TP+EP":
        share = dict.fromkeys(keys.experts, arch.num_experts // devices)
        share |= dict.fromkeys(keys.top_k, -(-arch.top_k // devices))
    else:
        share = dict.fromkeys(keys.ffn, arch.expert_ffn_dim // devices)
    config |= {key: value for key, value in share.items() if key in config}
    return _named(config, arch, f"{mode} {devices}")


def rank_series(mode: str, devices: int) -> str:
    """The series of a shard's points: `rank of TP 4`. PP+EP has the ranks of PP."""
    return f"{RANK}{mode.removesuffix('+EP') if mode.startswith('PP') else mode} {devices}"


def stand_in(arch: Architecture) -> Architecture | None:
    """The whole model in the class that its shards are written in, where that is another one: what
    checks them."""
    return _named(_config(arch), arch, "stand-in") if arch.family in STAND_IN else None


def indivisible(arch: Architecture, mode: str, devices: int) -> str | None:
    """Why the model does not split evenly in this mode, or None. ValueError for an unknown mode."""
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} of parallelism; allowed: {', '.join(MODES)}")
    if devices == 1:
        return None
    if mode.startswith("PP"):
        return _uneven(arch, devices, "stages", {"layers": arch.num_layers})
    written = TAKES_HEAD_DIM + STAND_IN
    if arch.family not in written:
        there = f"there are: {', '.join(written)}"
        return f"{arch.name}: no shard is written for family {arch.family}; {there}"
    if arch.num_kv_heads % devices and devices % arch.num_kv_heads:
        return (
            f"{arch.name}: {arch.num_kv_heads} KV heads neither split over {devices} ranks nor "
            f"repeat evenly on them"
        )
    split = {"heads": arch.num_heads, "rows of the vocabulary": arch.vocab_size}
    if mode == "TP+EP":
        split["experts"] = arch.num_experts
    else:
        split["channels of an expert"] = arch.expert_ffn_dim
    return _uneven(arch, devices, "ranks", split)


def rounding(arch: Architecture, mode: str, devices: int) -> str | None:
    """What a shard computes too much of, or None: a rank's share of K choices that is no whole
    number is rounded."""
    if mode != "TP+EP" or devices == 1 or arch.top_k % devices == 0:
        return None
    share, whole = arch.top_k / devices, -(-arch.top_k // devices)
    return (
        f"a rank serves {share:.3g} of a token's {arch.top_k} expert choices on average, the shard "
        f"{whole}: its experts compute {whole / share:.2g} times a mean rank's prefill, an upper "
        "bound"
    )


def _uneven(arch: Architecture, devices: int, over: str, sizes: dict[str, int]) -> str | None:
    wrong = [f"{size} {what}" for what, size in sizes.items() if size % devices]
    if not wrong:
        return None
    return f"{arch.name}: {', '.join(wrong)} do not split evenly over {devices} {over}"


def _config(arch: Architecture) -> dict:
    """The model's config with its head dim written out, in a class that takes it from there."""
    config = arch.hf_config()
    if arch.family in STAND_IN:
        config = _as_qwen3_moe(config, arch)
    return {**config, "head_dim": arch.head_dim}


# Keys of OLMoE's config that mean the same in Qwen3-MoE's.
_SHARED_KEYS = (
    "attention_bias",
    "bos_token_id",
    "eos_token_id",
    "hidden_act",
    "hidden_size",
    "initializer_range",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "rms_norm_eps",
    "rope_theta",
    "tie_word_embeddings",
    "torch_dtype",
    "use_cache",
    "vocab_size",
    "num_experts",
    "num_experts_per_tok",
)


def _as_qwen3_moe(config: dict, arch: Architecture) -> dict:
    return {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        **{key: config[key] for key in _SHARED_KEYS if key in config},
        "moe_intermediate_size": arch.expert_ffn_dim,
        "intermediate_size": arch.expert_ffn_dim,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "norm_topk_prob": bool(config.get("norm_topk_prob", False)),
    }


def _named(config: dict, arch: Architecture, what: str) -> Architecture:
    """The source tells a shard from the model, so that a running engine of one is never taken for
    the other's."""
    return from_config(config, f"{arch.name}[{what}]", f"{arch.source}; {what}")
