"""Number formats of weights, activations and KV cache: what a series of the study is called, and
what the engine is told.

A quantization is an engine setting: `own` for the format that the model's config comes in, None for
plain weights, or one of `FORMATS`, which formats.yaml describes. `SERIES` names whole
combinations."""

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from moebook.models.architecture import Architecture
from moebook.models.own_format import number_format, of_experts
from moebook.models.quantization_config import without_quantization

OWN = "own"  # the quantization, and the series, of a model's own number format


@dataclass(frozen=True)
class Format:
    """One quantization, as formats.yaml says."""

    name: str = ""
    bits: float = 16
    covers: tuple[str, ...] = ()
    engine: dict = field(default_factory=dict)
    env: dict = field(default_factory=dict)
    config: dict | None = None
    rate: float = 1.0
    runs_as: tuple[str, ...] = ()
    cpu: str = ""


def _tuples(told: dict) -> dict:
    return {key: tuple(v) if isinstance(v, list) else v for key, v in told.items()}


_TOLD = yaml.safe_load(Path(__file__).with_name("formats.yaml").read_text(encoding="utf-8"))
PLAIN = Format()
FORMATS = {None: PLAIN, **{key: Format(**_tuples(v)) for key, v in _TOLD["formats"].items()}}
SERIES = _tuples(_TOLD["series"])  # name -> (dtype, quantization, KV cache dtype)
DTYPE_BYTES = _TOLD["dtype_bytes"]


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


def refusal_on_cpu(
    arch: Architecture, quantization: str | None, flags: frozenset[str]
) -> str | None:
    """Why the engine's build for CPUs does not run a model's experts in a quantization, or None.
    flags: of this machine's CPU."""
    given = [FORMATS[quantization]] if quantization in FORMATS and quantization else []
    asked = of_experts(arch) if quantization == OWN else given
    lacks = next((each for each in asked if each.cpu not in flags), None)
    if lacks is None or not arch.is_moe:
        return None
    why = "need a CPU with AMX, which this one lacks" if lacks.cpu else "are in no build for CPUs"
    return f"vLLM's experts in {lacks.name} {why} (vLLM 0.32): ask for another format, such as bf16"


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
