"""Accelerators as their vendors describe them, and the least time a workload could take there: the
roofline.

accelerators.yaml has memory (bytes), memory bandwidth (bytes/s), dense matrix rates (FLOP/s per
dtype), links (bytes/s, one direction) and power (W), each with its source. A roofline is the
roofline bound of predict/roofline.py with these figures in place of measured peaks:

    step      max(bytes / bandwidth, FLOPs / rate)

Where a model spans several devices, as it does on CS-3s, its layers are split: one sequence passes
the devices in turn and gains nothing by them, B sequences keep min(B, devices) of them busy.

No product reaches it: it holds no kernel launch, no network, no host. It says what hardware could
do, never what it does, and rows of it carry the method `roofline`. Where a figure is not published,
or the model does not fit, there is no roofline but a reason.

    >>> load("H200 SXM").bandwidth_bytes_per_s
    4800000000000.0
"""

from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from math import ceil

import yaml

from moebook import devices
from moebook.models import sizes
from moebook.models.architecture import Architecture
from moebook.models.formats import FORMATS
from moebook.predict.case import Case
from moebook.predict.roofline import Ceilings, Floor, floor_of
from moebook.problems import choices
from moebook.study.settings import EngineSettings, Workload

DTYPES = ("bf16", "fp8", "int8", "fp4")
RATE_OF = {"bfloat16": "bf16", "float16": "bf16"}  # dtype of the matrices -> column
SINGLE = ("memory_bytes", "bandwidth_bytes_per_s", "link_bytes_per_s", "power_w")


@dataclass(frozen=True)
class Accelerator:
    """Published figures of one device; None where none is, with the reason in `reasons`. `sources`
    has the others'. spans: models larger than one device are served over several."""

    name: str
    memory_bytes: float
    bandwidth_bytes_per_s: float
    flops_per_s: dict[str, float | None]
    link_bytes_per_s: float | None
    power_w: float | None
    flops_at_most: float | None = None
    spans: bool = False
    sources: dict[str, str] = field(default_factory=dict, repr=False)
    reasons: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def label(self) -> str:
        """What figures call it, and the profiles that run on it."""
        return self.name.removesuffix(" SXM")

    def rate(self, dtype: str, quantization: str | None = None) -> float:
        """FLOP/s of the matrices this format multiplies in: FP8 formats in FP8, INT4 weights in 16
        bits. Where no dense rate is published, the printed one that bounds it. ValueError where
        there is neither."""
        wanted = "fp8" if FORMATS[quantization].rate > 1 else RATE_OF.get(dtype)
        if wanted is None:
            known = f"{', '.join(RATE_OF)}, and FP8 formats"
            raise ValueError(f"{self.name}: no rate is kept for {dtype}; known: {known}")
        found = self.flops_per_s[wanted] or self.flops_at_most
        if found is None:
            why = self.reasons[wanted]
            raise ValueError(f"{self.name}: no dense {wanted} rate is published: {why}")
        return found


@dataclass(frozen=True)
class Roofline:
    """The bound on `devices` of one accelerator; `note` says where it is looser than dense peaks
    give."""

    floor: Floor
    devices: int
    note: str = ""


@cache
def _table() -> dict[str, Accelerator]:
    file = resources.files("moebook.sections.accelerator_comparison") / "accelerators.yaml"
    entries = yaml.safe_load(file.read_text()).items()
    return {name: _accelerator(name, entry) for name, entry in entries}


def _accelerator(name: str, entry: dict) -> Accelerator:
    entry = {**_of_device(entry.get("device")), **entry}
    figures = {key: entry[key] for key in (*SINGLE, "flops_at_most") if key in entry}
    rates = {"bf16": entry.get("bf16"), **entry["flops_per_s"]}
    every = {**figures, **rates}
    sources = {key: cell["source"] for key, cell in every.items() if cell["value"] is not None}
    if entry.get("spans"):
        sources["spans"] = entry["spans_source"]
    return Accelerator(
        name,
        **{key: cell["value"] for key, cell in figures.items()},
        flops_per_s={dtype: rates[dtype]["value"] for dtype in DTYPES},
        spans=entry.get("spans", False),
        sources=sources,
        reasons={key: cell["reason"] for key, cell in every.items() if cell["value"] is None},
    )


def _of_device(kind: str | None) -> dict:
    """What devices.yaml keeps of a device that profiles run on."""
    if kind is None:
        return {}
    known = devices.published(kind)
    values = {
        "memory_bytes": known.memory_bytes,
        "bandwidth_bytes_per_s": known.bandwidth_bytes_per_s,
        "bf16": known.bf16_flops_per_s,
    }
    return {key: {"value": value, "source": known.source} for key, value in values.items()}


def names() -> list[str]:
    return list(_table())


def load(name: str) -> Accelerator:
    """By name. ValueError names the nearest there is."""
    if name not in _table():
        raise ValueError(f"accelerator {name!r} is not known; {choices(name, names())}")
    return _table()[name]


def roofline(
    arch: Architecture,
    batch: int,
    input_tokens: int,
    output_tokens: int,
    accelerator: Accelerator,
    dtype: str = "bfloat16",
    quantization: str | None = None,
) -> Roofline:
    """The least time there. ValueError where a figure is not published, or weights and KV cache do
    not fit."""
    rate = accelerator.rate(dtype, quantization)
    total = batch * (input_tokens + output_tokens)
    need = sizes.weight_bytes(arch, dtype, quantization)
    need += total * sizes.kv_bytes_per_token(arch, dtype)
    count = ceil(need / accelerator.memory_bytes)
    if count > 1 and not accelerator.spans:
        raise ValueError(
            f"{accelerator.name}: weights and KV cache take {need / 1e9:.0f} GB, its memory is "
            f"{accelerator.memory_bytes / 1e9:.0f} GB"
        )
    dense = rate / FORMATS[quantization].rate
    peaks = Ceilings(accelerator.name, accelerator.bandwidth_bytes_per_s, dense, dtype)
    busy = EngineSettings(dtype, quantization, pipeline_parallel=min(batch, count))
    floor = floor_of(Case(arch, busy, Workload(batch, input_tokens, output_tokens)), peaks)
    is_dense = rate in accelerator.flops_per_s.values()
    return Roofline(floor, count, "" if is_dense else f"rate at most {rate:.3g} FLOP/s, as printed")
