"""What the engine refuses of a model, whatever the device: one table, which plans ask before
anything is started.

Each rule was read in the engine's own source (vLLM 0.32): `source` is the module, or the folder of
the model classes, below vllm/. tests/engine/test_rules_of_the_engine.py asks the engine where it
can be asked. A rule gives what is wrong, or None.

Not refused: experts that do not divide over the ranks of expert parallelism (the first ranks get
one more) and layers that do not divide over the stages of a pipeline.

    >>> from moebook.models.catalog import load
    >>> refusal(load("tiny-mixtral"), Split(tensor=3)).partition(",")[0]
    'tiny-mixtral: its 8 attention heads do not split evenly over 3 ranks'

Letters: E experts, I expert FFN dim, K experts per token, G ranks."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from moebook.models import catalog, checks
from moebook.models.architecture import Architecture
from moebook.models.families import known_type, language_config
from moebook.models.quantization_config import quantization_of
from moebook.models.sharding import Split, padded_vocabulary

ENGINE = "vLLM 0.32"
CPU_BLOCK = 128  # tokens that its own attention's cache is handed out in
CPU_TILE = 32  # channels that its experts' kernel computes at once
MOST_RANKS = 16  # that a hint names
ATTENTION = ("full", "window", "chunk")


@dataclass(frozen=True)
class Rule:
    """wrong: what is wrong with a model split so, or on a CPU in a dtype, if it is of one of the
    families (none: of any). source: the engine's module."""

    wrong: Callable[[Architecture, Any], str | None]
    source: str
    families: tuple[str, ...] = ()


def refusal(arch: Architecture, split: Split) -> str | None:
    """Why the engine would not run the model so, in its config's own number format, or None; the
    first of several reasons."""
    return next(_refusals(RULES, arch, split, ENGINE), None)


def unread(arch: Architecture, trained: bool) -> str | None:
    """Why the engine would not read the model's config, or None: one of a type that only code of
    its own reads (`auto_map`), which lies beside a checkpoint and is run where it is trusted.

    trained: whether the engine loads a checkpoint; with dummy weights it is given the config
    alone."""
    kind, code = arch.config.get("model_type"), arch.config.get("auto_map")
    if kind in checks.ENGINE_TYPES or known_type(kind):
        return None
    if code and trained and catalog.trusted_by_default():
        return None
    why = (
        f"which is run only where it is trusted: {catalog.TRUST}=1"
        if trained
        else "which does not come with dummy weights: give the checkpoint as weights"
    )
    return (
        f"{arch.name}: model_type {kind!r} is read by code of the checkpoint's own (auto_map) "
        f"alone, {why if code else 'and its config names none'} "
        f"({ENGINE}: transformers_utils/config.py)"
    )


def refusal_on_cpu(arch: Architecture, dtype: str) -> str | None:
    """Why the engine's build for CPUs would not run the model in a dtype, or None."""
    return next(_refusals(CPU_RULES, arch, dtype, f"{ENGINE} on a CPU"), None)


def _refusals(
    rules: tuple[Rule, ...], arch: Architecture, asked: Split | str, engine: str
) -> Iterator[str]:
    for rule in rules:
        concerns = not rule.families or arch.family in rule.families
        if concerns and (wrong := rule.wrong(arch, asked)):
            yield f"{arch.name}: {wrong} ({engine}: {rule.source})"


def _only_top(k: int) -> Callable[[Architecture, Split], str | None]:
    def wrong(arch: Architecture, split: Split) -> str | None:
        if arch.top_k == k:
            return None
        return (
            f"the engine's router of {arch.family} is for top-{k} only, and top_k is {arch.top_k}"
        )

    return wrong


def _needs(key: str) -> Callable[[Architecture, Split], str | None]:
    def wrong(arch: Architecture, split: Split) -> str | None:
        if language_config(arch.config).get(key) is not None:
            return None
        return f"the engine's class reads {key!r} from the config, which has none: write it there"

    return wrong


def _heads(arch: Architecture, split: Split) -> str | None:
    return _uneven(arch.num_heads, "attention heads", split.tensor)


def _kv_heads(arch: Architecture, split: Split) -> str | None:
    ranks = split.tensor
    for group in arch.attention_groups:
        kv = group.kv_heads
        if group.kind in ATTENTION and kv and kv % ranks and ranks % kv:
            return f"its {kv} KV heads neither split over {ranks} ranks nor repeat evenly on them"
    return None


def _whole_kv_heads(arch: Architecture, split: Split) -> str | None:
    """A class that cannot repeat them."""
    return _uneven(arch.num_kv_heads, "KV heads", split.tensor)


def _state_heads(arch: Architecture, split: Split) -> str | None:
    linear = [g.heads for g in arch.attention_groups if g.kind == "linear" and g.heads]
    wrong = (_uneven(heads, "heads of linear attention", split.tensor) for heads in linear)
    return next(filter(None, wrong), None)


def _vocabulary(arch: Architecture, split: Split) -> str | None:
    rows = padded_vocabulary(arch)
    return _uneven(rows, "rows of the vocabulary (padded)", split.tensor)


def _channels(arch: Architecture, split: Split) -> str | None:
    """Of FFNs: the routed experts' where they are not dealt out whole, shared and dense ones."""
    experts = 0 if split.whole_experts else arch.expert_ffn_dim
    widths = {
        "channels of an expert": experts if arch.is_moe else 0,
        "channels of the shared experts": arch.shared_ffn_dim,
        "channels of a dense layer": arch.dense_ffn_dim if arch.num_dense_layers else 0,
    }
    wrong = (_uneven(size, what, split.tensor) for what, size in widths.items())
    return next(filter(None, wrong), None)


def _more_ranks_than_experts(arch: Architecture, split: Split) -> str | None:
    if not arch.is_moe or split.tensor <= arch.num_experts:
        return None
    return f"{split.tensor} ranks are more than its {arch.num_experts} experts"


def _experts_for_every_rank(arch: Architecture, split: Split) -> str | None:
    if not split.whole_experts:
        return None
    if not arch.is_moe:
        return "expert parallelism wants experts, and it has none"
    return _more_ranks_than_experts(arch, split)


def _stages(arch: Architecture, split: Split) -> str | None:
    if split.pipeline <= arch.num_layers:
        return None
    return f"{split.pipeline} stages are more than its {arch.num_layers} layers"


def _blocks(arch: Architecture, split: Split) -> str | None:
    """FP8 in blocks: a rank's channels are whole blocks."""
    block = arch.number_format and arch.number_format.block
    if not block or not arch.is_moe:
        return None
    share = arch.expert_ffn_dim // (1 if split.whole_experts else split.tensor)
    others = [arch.shared_ffn_dim, arch.dense_ffn_dim if arch.num_dense_layers else 0]
    for width in (share, *(size // split.tensor for size in others)):
        if width and any(width % size for size in block):
            return (
                f"{width} channels a rank are no whole blocks of its FP8 weights "
                f"({' x '.join(map(str, block))})"
            )
    return None


def _groups(arch: Architecture, split: Split) -> str | None:
    """Weights in groups that share a scale: a rank's channels of an expert are whole groups."""
    own = quantization_of(arch.config) or {}
    groups = [own, *(g.get("weights") or {} for g in (own.get("config_groups") or {}).values())]
    size = next((g["group_size"] for g in groups if (g.get("group_size") or 0) > 0), None)
    if size is None or split.whole_experts or not arch.is_moe:
        return None
    share = arch.expert_ffn_dim // split.tensor
    if share % size == 0:
        return None
    return f"{share} channels of an expert a rank are no whole groups of {size} weights"


def _uneven(size: int, what: str, ranks: int) -> str | None:
    if size % ranks == 0:
        return None
    even = [str(n) for n in range(1, MOST_RANKS + 1) if size % n == 0]
    return f"its {size} {what} do not split evenly over {ranks} ranks, but over {', '.join(even)}"


def _bfloat16_only(arch: Architecture, dtype: str) -> str | None:
    if dtype == "bfloat16":
        return None
    return f"its linear attention runs in bfloat16 only, and dtype is {dtype}"


def _no_kernel(of: str) -> Callable[[Architecture, str], str]:
    return lambda arch, dtype: f"there is no kernel for {of}"


def _chunks(arch: Architecture, dtype: str) -> str | None:
    chunks = (g.window for g in arch.attention_groups if g.kind == "chunk" and g.window)
    wrong = next((size for size in chunks if size % CPU_BLOCK), None)
    return wrong and f"its chunks of {wrong} tokens are no whole blocks of {CPU_BLOCK}"


def _sparse(arch: Architecture, dtype: str) -> str | None:
    indexed = any(g.index_bytes for g in arch.attention_groups)
    return "there is no kernel for its sparse attention" if indexed else None


def _experts_in_tiles(arch: Architecture, dtype: str) -> str | None:
    """The kernel fills up an expert's width, but not with gpt-oss' activation."""
    sizes = {"hidden size": arch.hidden_size}
    if arch.family == "gpt_oss":
        sizes["FFN width of an expert"] = arch.expert_ffn_dim
    wrong = [f"{what} {size}" for what, size in sizes.items() if size % CPU_TILE]
    return f"its {wrong[0]} is no multiple of {CPU_TILE}" if arch.is_moe and wrong else None


RULES = (
    Rule(_heads, "config/model.py"),
    Rule(_kv_heads, "model_executor/models"),
    Rule(_state_heads, "model_executor/layers/mamba"),
    Rule(_channels, "model_executor/layers/fused_moe/config.py"),
    Rule(_vocabulary, "model_executor/layers/vocab_parallel_embedding.py"),
    Rule(_stages, "distributed/utils.py"),
    Rule(_experts_for_every_rank, "model_executor/layers/fused_moe/expert_map_manager.py"),
    Rule(
        _more_ranks_than_experts,
        "model_executor/models",
        ("qwen2_moe", "qwen3_moe", "qwen3_next", "ernie4_5_moe", "minimax_m2", "lfm2_moe"),
    ),
    Rule(_blocks, "model_executor/layers/quantization/utils/fp8_utils.py"),
    Rule(_groups, "model_executor/layers/quantization/compressed_tensors"),
    Rule(_whole_kv_heads, "model_executor/models", ("gpt_oss", "param2moe")),
    Rule(_only_top(2), "model_executor/models/phimoe.py", ("phimoe",)),
    Rule(_only_top(1), "model_executor/models/llama4.py", ("llama4", "llama4_text")),
    Rule(_needs("rotary_dim"), "model_executor/models/minimax_m2.py", ("minimax_m2",)),
    Rule(_needs("head_dim"), "model_executor/models/glm4_moe.py", ("glm4_moe",)),
    Rule(_needs("mla_scale_q_lora"), "model_executor/models/longcat_flash.py", ("longcat_flash",)),
)
CPU_RULES = (
    Rule(
        _bfloat16_only,
        "model_executor/layers/mamba/ops/cpu/gdn_attention.py",
        ("qwen3_next", "qwen3_5_moe", "qwen3_5_moe_text"),
    ),
    Rule(_no_kernel("its Mamba-1 layers"), "model_executor/layers/mamba", ("jamba",)),
    Rule(
        _no_kernel("experts without a gate"),
        "model_executor/layers/fused_moe/config.py",
        ("nemotron_h",),
    ),
    Rule(_chunks, "v1/attention/backends/utils.py"),
    Rule(_sparse, "platforms/cpu.py"),
    Rule(_experts_in_tiles, "model_executor/layers/fused_moe/experts/cpu_moe.py"),
)
