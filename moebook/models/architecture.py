"""The shapes of one model, from its Hugging Face config.

Letters: L layers, H hidden, I expert FFN dim, E experts, K experts per token."""

import copy
from dataclasses import dataclass, field
from functools import cached_property

from moebook.models import checks, generic, own_format, quantization_config
from moebook.models.attention import AttentionGroup
from moebook.models.families import conflict, family_of, language_config, read_shape
from moebook.models.meta import CannotBuild
from moebook.models.number_format import NumberFormat
from moebook.models.quantization_groups import BadNumberFormat
from moebook.models.tensors import Counts
from moebook.problems import Told


class UnknownModel(Told, ValueError):
    """The name is no catalog model, checkpoint folder or Hugging Face id, or its config cannot be
    read."""


@dataclass(frozen=True)
class Architecture:
    """Shapes of one decoder. All sizes count elements; 0 means "has none"."""

    name: str
    family: str  # model_type of the Hugging Face config
    source: str
    num_layers: int
    hidden_size: int
    num_heads: int
    num_kv_heads: int
    head_dim: int  # of queries and keys; nope + rope with MLA
    vocab_size: int  # rows of the embedding
    tie_embeddings: bool
    max_positions: int
    num_experts: int = 0  # routed experts of a MoE layer; 0: dense model
    top_k: int = 0  # 0: dense model
    expert_ffn_dim: int = 0  # 0: dense model
    num_shared_experts: int = 0
    shared_ffn_dim: int = 0  # of all shared experts together
    dense_ffn_dim: int = 0  # of the layers without experts
    num_dense_layers: int = 0
    dense_at: tuple[int, ...] = ()  # where they lie; (): they come first
    q_lora_rank: int | None = None  # MLA; None with kv_lora_rank set: queries are not compressed
    kv_lora_rank: int | None = None  # None: no MLA
    qk_nope_head_dim: int | None = None
    qk_rope_head_dim: int | None = None
    v_head_dim: int | None = None
    qkv_bias: bool = False
    o_bias: bool = False
    qk_norm: str | None = None  # "head": one weight per head dim; "full": one per projected channel
    attention_sinks: bool = False  # one learned logit per head
    shared_expert_gate: bool = False
    router_bias: bool = False
    expert_bias: bool = False
    norm_bias: bool = False
    lm_head_bias: bool = False
    extra_embeddings: int = 0  # embedding rows without a row in the head
    # What the layers attend to and keep; every layer is in one group.
    attention_groups: tuple[AttentionGroup, ...] = ()
    vision_params: int = 0  # tower, projector and their tokens
    counts: Counts | None = None  # of a model that no formula covers
    dtype: str = "bfloat16"
    config: dict = field(default_factory=dict, repr=False, hash=False)
    # What this is an edit of.
    base: "Architecture | None" = field(default=None, repr=False, compare=False)

    @property
    def is_moe(self) -> bool:
        return self.num_experts > 0

    @property
    def is_mla(self) -> bool:
        return self.kv_lora_rank is not None

    @property
    def num_moe_layers(self) -> int:
        return self.num_layers - self.num_dense_layers

    @property
    def dense_layers(self) -> tuple[int, ...]:
        """The layers without experts, counted from 0."""
        return self.dense_at or tuple(range(self.num_dense_layers))

    @cached_property
    def number_format(self) -> NumberFormat | None:
        """The checkpoint's own, as its config says; None for plain weights."""
        return quantization_config.read(self.config)

    @property
    def window(self) -> int | None:
        """Tokens that a windowed (or chunked) layer attends to, the widest where they differ; None
        where every layer attends to all."""
        return max((g.window for g in self.attention_groups if g.window), default=None)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """I, E, K, L: what `edit` changes."""
        return self.expert_ffn_dim, self.num_experts, self.top_k, self.num_layers

    @property
    def unedited_name(self) -> str:
        """The name without what edits and shards add to it."""
        return self.name.partition("[")[0]

    def hf_config(self) -> dict:
        """A deep copy of the Hugging Face config, to be written as config.json for vLLM or
        transformers."""
        return copy.deepcopy(self.config)


def from_config(config: dict, name: str, source: str, trusted: str | None = None) -> Architecture:
    """An Architecture from a Hugging Face config: by formula where its family has one, else from
    the model that transformers builds of it.

    trusted: a folder or Hugging Face id whose own code may be run. Raises UnknownModel where the
    family is not known, its number format cannot be read, or sizes are missing or contradict each
    other."""
    if wrong := checks.problems(config):
        raise UnknownModel(f"{name}: its config cannot be read: {'; '.join(wrong)}")
    if wrong := conflict(config):
        raise UnknownModel(f"{name}: its config contradicts itself: {wrong}")
    try:
        quantization_config.read(config)
        by_formula = family_of(config) is not None
        shape = read_shape(config) if by_formula else generic.read_shape(config, trusted)
    except BadNumberFormat as error:
        raise UnknownModel(f"{name}: its number format cannot be read: {error}") from error
    except KeyError as error:
        raise UnknownModel(f"{name}: its config has no {error}") from error
    except (CannotBuild, TypeError, ZeroDivisionError) as error:
        nulls = checks.nulls(config) if "NoneType" in str(error) else []
        hint = f" (null in it: {', '.join(nulls)})" if nulls else ""
        raise UnknownModel(f"{name}: its config cannot be read: {error}{hint}") from error
    if wrong := checks.contradictions(shape, language_config(config)):
        raise UnknownModel(f"{name}: its config contradicts itself: {'; '.join(wrong)}")
    arch = Architecture(name=name, source=source, config=copy.deepcopy(config), **shape)
    if arch.number_format is not None and not own_format.covered(arch):
        targets = [name for rule in arch.number_format.rules for name in rule.targets.given]
        raise UnknownModel(
            f"{name}: its number format cannot be read: it covers no matrix of the model (targets "
            f"{', '.join(targets) or 'all'}, ignored {', '.join(arch.number_format.ignored.given)})"
        )
    return arch
