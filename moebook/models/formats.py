"""Number formats of weights, activations and KV cache: what a series of the study is called, and
what the engine is told.

A quantization is an engine setting: `own` for the format that the model's config comes in, None for
plain weights, or one of `FORMATS`. That has, by the name that parameters use, the engine arguments
that ask for it, the `quantization_config` a checkpoint of that format carries (for dummy weights),
which components it covers and in how many bits, and how many multiply-adds its tensor cores do per
bf16 one. `SERIES` names whole combinations."""

from dataclasses import dataclass, field

from moebook.models.architecture import Architecture
from moebook.models.own_format import number_format
from moebook.models.quantization_config import without_quantization

OWN = "own"  # the quantization, and the series, of a model's own number format

# Groups of 128 weights share a scale; the router stays in 16 bits, as checkpoints of this kind
# publish it.
_INT4_CONFIG = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "quantization_status": "compressed",
    "config_groups": {
        "group_0": {
            "targets": ["Linear"],
            "input_activations": None,
            "output_activations": None,
            "weights": {
                "num_bits": 4,
                "type": "int",
                "symmetric": True,
                "strategy": "group",
                "group_size": 128,
                "dynamic": False,
                "actorder": None,
            },
        }
    },
    "ignore": ["lm_head", "re:.*gate$", "re:.*shared_expert_gate$"],
}


FP8_NAMES = ("fp8", "fp8_per_tensor", "online")
LINEAR = ("attention", "experts", "shared_experts", "dense_ffn", "linear_attention")
INT4_BITS = 4 + (16 + 4) / 128  # groups of 128 share a 16-bit scale and a 4-bit zero


@dataclass(frozen=True)
class Format:
    """One quantization. name: of the number format; bits: of a matrix element, its share of scales
    included; covers: components whose matrices it covers; engine: arguments; env: environment while
    the engine starts; config: what a checkpoint carries; rate: matrix rate over bf16's, of the
    tensor cores it multiplies in (H100 datasheet: fp8 2); runs_as: what vLLM calls it once it
    runs."""

    name: str = ""
    bits: float = 16
    covers: tuple[str, ...] = ()
    engine: dict = field(default_factory=dict)
    env: dict = field(default_factory=dict)
    config: dict | None = None
    rate: float = 1.0
    runs_as: tuple[str, ...] = ()


PLAIN = Format()
FORMATS = {
    None: PLAIN,
    # weights and activations, one scale per tensor
    "fp8": Format(
        "FP8 per tensor", 8, LINEAR, {"quantization": "fp8"}, rate=2.0, runs_as=FP8_NAMES
    ),
    # weights with a scale per channel, activations with one per token
    "fp8_per_channel": Format(
        "FP8 per channel",
        8,
        LINEAR,
        {"quantization": "fp8_per_channel"},
        rate=2.0,
        runs_as=("fp8_per_channel", "online"),
    ),
    # 16-bit activations; Marlin is refused where FP8 multiplies natively, unless forced
    "fp8_weight_only": Format(
        "FP8 per tensor, weights only",
        8,
        LINEAR,
        {"quantization": "fp8", "moe_backend": "marlin", "linear_backend": "marlin"},
        env={"VLLM_TEST_FORCE_FP8_MARLIN": "1"},
        runs_as=FP8_NAMES,
    ),
    # expert weights with a scale per channel, 16-bit activations
    "int8_experts": Format(
        "INT8 per channel (experts only)",
        8,
        ("experts",),
        {"quantization": "int8_per_channel_weight_only"},
        runs_as=("int8_per_channel_weight_only", "experts_int8", "online"),
    ),
    # weights in groups of 128, 16-bit activations
    "int4": Format(
        "INT4 groups of 128",
        INT4_BITS,
        LINEAR,
        config=_INT4_CONFIG,
        runs_as=("compressed-tensors",),
    ),
}

# name -> (dtype, quantization, KV cache dtype)
SERIES = {
    "bf16": ("bfloat16", None, "auto"),
    "fp16": ("float16", None, "auto"),
    "fp32": ("float32", None, "auto"),
    "fp8": ("bfloat16", "fp8", "auto"),
    "fp8 per channel": ("bfloat16", "fp8_per_channel", "auto"),
    "fp8 weights only": ("bfloat16", "fp8_weight_only", "auto"),
    "fp8 + fp8 KV": ("bfloat16", "fp8", "fp8"),
    "bf16 + fp8 KV": ("bfloat16", None, "fp8"),
    "int8 experts": ("bfloat16", "int8_experts", "auto"),
    "int4 weights": ("bfloat16", "int4", "auto"),
    OWN: ("bfloat16", OWN, "auto"),
}

DTYPE_BYTES = {
    "float32": 4,
    "float": 4,
    "bfloat16": 2,
    "float16": 2,
    "half": 2,
    "fp8": 1,
    "fp8_e4m3": 1,
    "fp8_e5m2": 1,
    "int8": 1,
}


def settings_of(series: str) -> dict[str, str | None]:
    """The engine settings that a series stands for."""
    return dict(zip(("dtype", "quantization", "kv_cache_dtype"), SERIES[series], strict=True))


def series_name(arch: Architecture, series: str) -> str:
    """What a series is called on a model: `own` by the name of the model's format, of plain weights
    by the series that is the same."""
    if series != OWN:
        return series
    if arch.number_format is not None:
        return number_format(arch)
    return next(n for n, known in SERIES.items() if known == (SERIES[OWN][0], None, SERIES[OWN][2]))


def format_name(arch: Architecture, dtype: str, quantization: str | None) -> str:
    """The number format of weights: the dtype of plain ones, `MXFP4`, `FP8 per tensor`."""
    if quantization == OWN and arch.number_format is not None:
        return number_format(arch)
    return dtype if quantization in (None, OWN) else FORMATS[quantization].name


def rate(arch: Architecture, quantization: str | None) -> float | None:
    """Matrix rate over bf16's of the tensor cores that the format multiplies in; None where it is
    not known."""
    if quantization == OWN:
        return arch.number_format.rate if arch.number_format is not None else 1.0
    return FORMATS[quantization].rate if quantization in FORMATS else None


def engine_arguments(quantization: str | None) -> dict:
    """What vLLM's LLM(...) is told for a quantization: nothing of a model's own, which it reads
    from the config."""
    return {} if quantization == OWN else dict(FORMATS[quantization].engine)


def environment(quantization: str | None) -> dict[str, str]:
    """Environment variables the engine is started with, for a quantization."""
    return {} if quantization == OWN else FORMATS[quantization].env


def needs_packed(quantization: str | None) -> bool:
    """Whether a checkpoint must come in this format, because the engine cannot make it of 16-bit
    weights at load."""
    known = FORMATS.get(quantization, PLAIN)
    return known.config is not None and not known.engine


def with_format(config: dict, quantization: str | None) -> dict:
    """A Hugging Face config whose dummy weights an engine makes in this format: its own entry stays
    for `own` and is taken out for all others, so that the engine runs what is asked."""
    if quantization == OWN:
        return config
    plain, told = without_quantization(config), FORMATS[quantization].config
    return {**plain, "quantization_config": told} if told else plain


def cache_dtype(arch: Architecture, dtype: str, quantization: str | None, asked: str) -> str:
    """Dtype of the KV cache where `asked` is for a dtype or `auto`: the one that the model's own
    format names, else the model's."""
    if asked != "auto":
        return asked
    own = arch.number_format if quantization == OWN else None
    return own.kv_cache if own is not None and own.kv_cache else dtype


def refusal(
    arch: Architecture, quantization: str | None, trained: bool, capability: float | None
) -> str | None:
    """Why a model does not run in a quantization, or None. trained: its weights are a checkpoint's;
    capability: CUDA compute capability of the device, None where it is not known."""
    own = arch.number_format
    if own is None:
        return None
    if quantization == OWN:
        return own.problem(capability)
    if trained:
        asked = "plain weights" if quantization is None else quantization
        return (
            f"the checkpoint's weights are stored in {number_format(arch)}, and {asked} "
            f"{'are' if quantization is None else 'is'} asked: ask for the format {OWN!r}, or give "
            "a checkpoint of plain weights"
        )
    return None


def covered(quantization: str | None) -> tuple[str, ...]:
    """Components whose matrices one of FORMATS covers."""
    return FORMATS[quantization].covers


def dtype_bytes(dtype: str) -> int:
    """Bytes per element. Raises ValueError for a dtype without one, such as 'auto'."""
    if dtype not in DTYPE_BYTES:
        raise ValueError(f"dtype {dtype!r} has no known size; allowed: {', '.join(DTYPE_BYTES)}")
    return DTYPE_BYTES[dtype]


def matrix_bytes(plain: int, quantization: str | None) -> dict[str, float]:
    """Bytes per matrix element of the components that one of FORMATS covers, at most `plain`.
    Raises ValueError."""
    if quantization not in FORMATS:
        allowed = ", ".join(map(str, FORMATS))
        raise ValueError(f"quantization {quantization!r} is not known; allowed: {allowed}")
    known = FORMATS[quantization]
    return dict.fromkeys(known.covers, min(known.bits / 8, plain))
