"""How an engine is built, and the work it is given: frozen settings, hashed into a point's key.

A field added after results were first published carries `later`: it enters the key only where it
differs from its default, so that points measured before keep their keys."""

from dataclasses import asdict, dataclass, field, fields, is_dataclass

from moebook.models import formats
from moebook.models.architecture import Architecture
from moebook.models.sharding import Split
from moebook.study import routing

# Backends of the fused MoE layer that vLLM 0.26 and 0.32 know (vllm.config.kernel.MoEBackend).
MOE_BACKENDS = (
    "auto",
    "triton",
    "deep_gemm",
    "deep_gemm_mega_moe",
    "cutlass",
    "flashinfer_trtllm",
    "flashinfer_cutlass",
    "flashinfer_cutedsl",
    "flashinfer_b12x",
    "marlin",
    "humming",
    "triton_unfused",
    "aiter",
    "flydsl",
    "hpc",
    "emulation",
)
OWN_BACKENDS = ("loop", "grouped")  # moebook's own computations, in place of the engine's


def later(default=None):
    """A field that keys know only where it is set."""
    return field(default=default, metadata={"later": True})


@dataclass(frozen=True)
class Speculation:
    """Speculative decoding with `num_tokens` draft tokens a step.

    method: `draft_model` (a smaller model, `draft`, by catalog name, folder or tiny reference) or
    `ngram` (lookup in the sequence's own tokens). acceptance: probability that a draft token is
    accepted given that those before it were, set in the engine's rejection sampler; None: what the
    models' own tokens give."""

    method: str
    num_tokens: int
    draft: str | None = None
    acceptance: float | None = None

    @property
    def rates(self) -> list[float] | None:
        """Unconditional acceptance rate of each position, as the engine's synthetic sampler takes
        them."""
        if self.acceptance is None:
            return None
        return [self.acceptance**i for i in range(1, self.num_tokens + 1)]


@dataclass(frozen=True)
class EngineSettings:
    """How the engine is built. graphs: `light` (decode graphs of graph_batch_sizes, no
    compilation), `pieces` (light, and graphs in pieces for all other steps, a draft model's among
    them), `compiled` (the engine's own compilation and graphs, for graph_batch_sizes only),
    `default` (all the engine's own), `eager`. weights: dummy, a checkpoint folder or a tiny
    reference. quantization: `own` for the number format that the model's config comes in, None for
    plain weights, or one of moebook/models/formats.py. routing: None, the routers choose; else what
    is imposed in their place, see `routing.py`."""

    dtype: str = "bfloat16"
    quantization: str | None = None
    kv_cache_dtype: str = "auto"
    tensor_parallel: int = 1
    pipeline_parallel: int = 1
    expert_parallel: bool = False
    moe_backend: str | None = None
    graphs: str = "light"
    graph_batch_sizes: tuple[int, ...] = (16,)
    max_model_len: int = 4096
    kv_cache_gib: int | None = None
    gpu_memory_utilization: float = 0.92
    weights: str = "dummy"
    trust_remote_code: bool = False
    speculation: Speculation | None = later()
    routing: str | None = later()
    routed_experts: bool = later(False)  # the engine returns each token's experts with its output

    @property
    def num_devices(self) -> int:
        return self.tensor_parallel * self.pipeline_parallel

    @property
    def split(self) -> Split:
        return Split(self.tensor_parallel, self.pipeline_parallel, self.expert_parallel)

    def formats_of(self, arch: Architecture) -> dict[str, str | None]:
        """What costs and sizes of a model so run are asked in: `dtype`, `quantization` and
        `kv_dtype`, that of its cache."""
        asked = self.dtype, self.quantization
        kept = formats.cache_dtype(arch, *asked, self.kv_cache_dtype)
        return {"dtype": self.dtype, "quantization": self.quantization, "kv_dtype": kept}

    @property
    def skew(self) -> float | None:
        """Exponent of the imposed Zipf routing; 0 is uniform."""
        return routing.skew_of(self.routing)


@dataclass(frozen=True)
class Workload:
    """B sequences of `input_tokens` seeded random ids, each continued by `output_tokens`.
    temperature None: 1. identical: all sequences of a batch have one prompt; with temperature 0
    they stay alike."""

    batch: int
    input_tokens: int
    output_tokens: int
    seed: int = 0
    temperature: float | None = later()
    identical: bool = later(False)


def identity(settings: EngineSettings | Workload) -> dict:
    """All fields of the settings, `later` ones only where they differ from their default."""
    values = {f.name: getattr(settings, f.name) for f in fields(settings)}
    known = {name: asdict(v) if is_dataclass(v) else v for name, v in values.items()}
    for field_ in fields(settings):
        if field_.metadata.get("later") and getattr(settings, field_.name) == field_.default:
            del known[field_.name]
    if "routing" in known:
        known["routing"] = routing.first_spelling(known["routing"])
    return known
