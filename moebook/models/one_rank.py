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

from dataclasses import replace

from moebook.models.architecture import Architecture, from_config
from moebook.models.edit import edit
from moebook.models.keys import present
from moebook.models.sharding import padded_vocabulary

MODES = ("TP", "TP+EP", "PP", "PP+EP")
ONE = "one device"  # the series of every mode at G = 1
RANK = "rank of "  # how the series of one rank's points begins
# Model classes of vLLM that take `head_dim` from the config; others compute H / heads, which a
# share of the heads breaks.
TAKES_HEAD_DIM = ("mixtral", "qwen3_moe", "gpt_oss", "phimoe")
LATENT = ("deepseek_v2", "deepseek_v3")  # MLA's head dims are keys of their own
STAND_IN = ("olmoe",)  # written as Qwen3-MoE: the same layers, Q and K normalized per head
WRITTEN = TAKES_HEAD_DIM + LATENT + STAND_IN


class ImpossibleShard(ValueError):
    """One rank cannot be run alone: the model does not divide evenly over so many devices, or no
    shard is written for its family. What the engine itself runs is not asked (engine_rules.py)."""


def shard(arch: Architecture, mode: str, devices: int) -> Architecture:
    """What one of `devices` ranks computes; for one device the model itself. Raises
    ImpossibleShard."""
    if problem := impossible(arch, mode, devices):
        raise ImpossibleShard(problem)
    if devices == 1:
        return arch
    if mode.startswith("PP"):
        return edit(arch, num_layers=arch.num_layers // devices)
    config = _config(arch)
    config["num_attention_heads"] = arch.num_heads // devices
    config["num_key_value_heads"] = max(1, arch.num_kv_heads // devices)
    config["vocab_size"] = padded_vocabulary(arch) // devices
    if arch.num_dense_layers:
        config["intermediate_size"] = arch.dense_ffn_dim // devices
    if mode == "TP+EP":
        config |= dict.fromkeys(present(config, "experts"), arch.num_experts // devices)
        config |= dict.fromkeys(present(config, "top_k"), -(-arch.top_k // devices))
        if "n_shared_experts" in config:
            config["n_shared_experts"] = arch.num_shared_experts // devices
    else:
        config |= dict.fromkeys(present(config, "ffn")[:1], arch.expert_ffn_dim // devices)
    return _named(config, arch, f"{mode} {devices}")


def rank_series(mode: str, devices: int) -> str:
    """The series of a shard's points: `rank of TP 4`. PP+EP has the ranks of PP."""
    return f"{RANK}{mode.removesuffix('+EP') if mode.startswith('PP') else mode} {devices}"


def stand_in(arch: Architecture) -> Architecture | None:
    """The whole model in the class that its shards are written in, where that is another one: what
    checks them."""
    return _named(_config(arch), arch, "stand-in") if arch.family in STAND_IN else None


def impossible(arch: Architecture, mode: str, devices: int) -> str | None:
    """Why no rank of this mode can be run alone, or None. ValueError for an unknown mode."""
    if mode not in MODES:
        raise ValueError(f"mode {mode!r} of parallelism; allowed: {', '.join(MODES)}")
    if devices == 1:
        return None
    if mode.startswith("PP"):
        return _uneven(arch, devices, "stages", {"layers": arch.num_layers})
    if arch.family not in WRITTEN or (arch.family in LATENT and not arch.is_mla):
        return (
            f"{arch.name}: the share of one rank is not written as a model of its own for family "
            f"{arch.family} (it is for: {', '.join(WRITTEN)}), so nothing is composed of it"
        )
    if arch.num_kv_heads % devices and devices % arch.num_kv_heads:
        return (
            f"{arch.name}: {arch.num_kv_heads} KV heads neither split over {devices} ranks nor "
            f"repeat evenly on them"
        )
    split = {"heads": arch.num_heads, "rows of the vocabulary": padded_vocabulary(arch)}
    if arch.num_dense_layers:
        split["channels of a dense layer"] = arch.dense_ffn_dim
    if mode == "TP+EP":
        split |= {"experts": arch.num_experts, "shared experts": arch.num_shared_experts}
    else:
        split["channels of an expert"] = arch.expert_ffn_dim
    return _uneven(arch, devices, "ranks", split) or _groups(arch, mode, devices)


def _groups(arch: Architecture, mode: str, devices: int) -> str | None:
    """Why a share of the experts cannot be chosen from as the whole model's are, or None."""
    groups = arch.config.get("n_group") or 1
    if mode != "TP+EP" or groups == 1:
        return None
    return (
        f"{arch.name}: its router chooses among {groups} groups of experts, which a rank's share "
        "of the experts does not have"
    )


def unshared(arch: Architecture, mode: str, devices: int) -> Architecture:
    """What stands in a plan for a shard that is impossible: its shape, under the model's config."""
    if mode.startswith("PP"):
        share = {"num_layers": -(-arch.num_layers // devices)}
    elif mode == "TP+EP":
        share = {"num_experts": -(-arch.num_experts // devices)}
    else:
        share = {"expert_ffn_dim": -(-arch.expert_ffn_dim // devices)}
    what = f"{mode} {devices}"
    return replace(arch, name=f"{arch.name}[{what}]", source=f"{arch.source}; {what}", **share)


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
    return (
        f"{arch.name}: {', '.join(wrong)} do not split evenly over {devices} {over}, so none of "
        "them stands for all"
    )


def _config(arch: Architecture) -> dict:
    """The model's config with its head dim written out, in a class that takes it from there."""
    config = arch.hf_config()
    if arch.family in LATENT:
        return config
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
