"""Shapes of published models, and of any model whose config.json is at hand.

Letters: L layers, H hidden, I expert FFN dim, E experts, K experts per token.

    >>> load("mixtral-8x7b-v0.1").top_k
    2

The configs under `configs/` are the published Hugging Face files; `sources.yaml` says where each
was read."""

import copy
import json
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from pathlib import Path

import yaml

from moebook.models.families import UnknownFamily, read_shape

CONFIGS = Path(__file__).parent / "configs"
SOURCES = Path(__file__).parent / "sources.yaml"


class UnknownModel(ValueError):
    """The name is no catalog model, checkpoint folder or Hugging Face id, or its config cannot be
    read."""


@dataclass(frozen=True)
class Architecture:
    """Shapes of one decoder, from its Hugging Face config. All sizes count elements; 0 means "has
    none"."""

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
    num_experts: int  # routed experts of a MoE layer; 0: dense model
    top_k: int  # 0: dense model
    expert_ffn_dim: int  # 0: dense model
    num_shared_experts: int
    shared_ffn_dim: int  # of all shared experts together
    dense_ffn_dim: int  # of the layers without experts
    num_dense_layers: int
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
    window: int | None = None  # tokens a windowed (or chunked) layer attends to
    num_windowed_layers: int = 0
    vision_params: int = 0  # tower, projector and their tokens
    dtype: str = "bfloat16"
    quantization: str | None = None  # the checkpoint's own: fp8, mxfp4
    config: dict = field(default_factory=dict, repr=False, hash=False)
    base: "Architecture | None" = field(
        default=None, repr=False, compare=False
    )  # what this is an edit of

    @property
    def attention_bias(self) -> bool:
        return self.qkv_bias or self.o_bias

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
    def shape(self) -> tuple[int, int, int, int]:
        """I, E, K, L: what `edit` changes."""
        return self.expert_ffn_dim, self.num_experts, self.top_k, self.num_layers

    def hf_config(self) -> dict:
        """A deep copy of the Hugging Face config, to be written as config.json for vLLM or
        transformers."""
        return copy.deepcopy(self.config)


def names() -> list[str]:
    """Names of the catalog, sorted without regard to case."""
    return sorted((path.stem for path in CONFIGS.glob("*.json")), key=str.lower)


@cache
def sources() -> dict[str, dict]:
    """sources.yaml: by name the source, confidence, published counts, notes, and the row that the
    slide prints."""
    return yaml.load(SOURCES.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def load(name_or_path: str, trust_remote_code: bool = False) -> Architecture:
    """An Architecture by catalog name (case ignored), checkpoint folder, Hugging Face id
    ("owner/name"), or reference of the tiny family ("tiny:cpu/aux-0.01", also while it is not
    trained).

    trust_remote_code: let transformers run the code that a Hugging Face repository brings for its
    config. Raises UnknownModel."""
    known = {name.lower(): name for name in names()}
    wanted = str(name_or_path)
    if wanted.startswith("tiny:"):
        return _load_tiny(wanted)
    if wanted.lower() in known:
        return _load_published(known[wanted.lower()])
    if Path(wanted).expanduser().is_dir():
        return _load_folder(Path(wanted).expanduser())
    if len(wanted.split("/")) == 2 and not wanted.startswith((".", "/", "~")):
        return _load_hub(wanted, trust_remote_code)
    raise _unknown(wanted, "is no catalog model and no folder")


def from_config(config: dict, name: str, source: str) -> Architecture:
    """An Architecture from a Hugging Face config. Raises UnknownModel where the family or a needed
    key is missing."""
    try:
        shape = read_shape(config)
    except UnknownFamily as error:
        raise UnknownModel(f"{name}: {error}") from error
    except KeyError as error:
        raise UnknownModel(
            f"{name}: its config has no {error}; write the key into config.json, as the class "
            f"default "
            "it left out"
        ) from error
    except (TypeError, ZeroDivisionError) as error:
        raise UnknownModel(
            f"{name}: its config cannot be read as a {config.get('model_type')} ({error})"
        ) from error
    return Architecture(name=name, source=source, config=copy.deepcopy(config), **shape)


@cache
def _load_published(name: str) -> Architecture:
    config = json.loads((CONFIGS / f"{name}.json").read_text())
    return from_config(config, name, sources()[name]["source"])


def _load_folder(folder: Path) -> Architecture:
    path = folder / "config.json"
    if not path.is_file():
        raise _unknown(str(folder), "is a folder without config.json")
    try:
        config = json.loads(path.read_text())
    except json.JSONDecodeError as error:
        raise UnknownModel(f"{path} is not valid JSON: {error}") from error
    return from_config(config, folder.resolve().name, f"checkpoint folder {folder}")


def _load_tiny(name: str) -> Architecture:
    from moebook.models.tiny import family as tiny

    try:
        return tiny.architecture(name)
    except tiny.UnknownTiny as error:
        raise UnknownModel(str(error)) from error


def _load_hub(name: str, trust_remote_code: bool) -> Architecture:
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=trust_remote_code).to_dict()
    except (OSError, ValueError, ImportError) as error:
        raise _unknown(
            name, f"could not be read from Hugging Face ({str(error).splitlines()[0]})"
        ) from error
    return from_config(json.loads(json.dumps(config, default=str)), name, f"Hugging Face {name}")


def _unknown(given: str, what: str) -> UnknownModel:
    near = _nearest(given.split("/")[-1].lower())
    hint = "nearest catalog names: " + ", ".join(near) if near else "no catalog name is near"
    return UnknownModel(
        f"model {given!r} {what}; {hint}. Give a catalog name (moebook.models.catalog.names() "
        f"lists them), "
        "a folder with config.json, or a Hugging Face id such as 'mistralai/Mixtral-8x7B-v0.1'."
    )


def _nearest(given: str) -> list[str]:
    """Up to three catalog names: those that contain what was given, then those spelled like it."""
    by_lower = {name.lower(): name for name in names()}
    containing = [name for name in by_lower if given in name]
    alike = get_close_matches(given, by_lower, n=3, cutoff=0.4)
    return [by_lower[name] for name in dict.fromkeys(containing + alike)][:3]
