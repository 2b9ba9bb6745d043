"""Accelerators as their vendors describe them, and the least time a workload could take there: the
roofline.

accelerators.yaml has memory (bytes), memory bandwidth (bytes/s), dense matrix rates (FLOP/s per
dtype), links (bytes/s, one direction) and power (W), each with its source. A roofline is the floor
of floor.py with these figures in place of measured ceilings:

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
from moebook.predict.roofline import Ceilings, Floor, floor_row
from moebook.problems import choices

DTYPES = ("bf16", "fp8", "int8", "fp4")
RATE_OF = {
    "bfloat16": "bf16",
    "float16": "bf16",
}  # dtype of the matrices -> column; float32 has none
SINGLE = ("memory_bytes", "bandwidth_bytes_per_s", "link_bytes_per_s", "power_w")


@dataclass(frozen=True)
class Accelerator:
    """Published figures of one device; None where none is, with the reason in `reasons`. `sources`
    has the others'."""

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

    def rate(self, dtype: str, quantization: str | None = None) -> float:
        """FLOP/s of the matrices this format multiplies in: FP8 formats in FP8, INT4 weights in 16
        bits. Where no dense rate is published, the printed one that bounds it. ValueError where
        there is neither."""
        wanted = "fp8" if FORMATS[quantization].rate > 1 else RATE_OF.get(dtype)
        if wanted is None:
            raise ValueError(
                f"{self.name}: no rate is kept for {dtype}; known: {', '.join(RATE_OF)}, and FP8 "
                f"formats"
            )
        found = self.flops_per_s[wanted] or self.flops_at_most
        if found is None:
            raise ValueError(
                f"{self.name}: no dense {wanted} rate is published: {self.reasons[wanted]}"
            )
        return found


@dataclass(frozen=True)
class Roofline:
    """The floor on `devices` of one accelerator; `note` says where it is a looser bound than dense
    peaks give."""

    floor: Floor
    devices: int
    note: str = ""


@cache
def _table() -> dict[str, Accelerator]:
    data = yaml.safe_load(
        resources.files("moebook.sections.accelerator_comparison")
        .joinpath("accelerators.yaml")
        .read_text()
    )
    return {name: _accelerator(name, entry) for name, entry in data.items()}


def _accelerator(name: str, entry: dict) -> Accelerator:
    if kind := entry.get("device"):
        entry = {
            **_device_of(kind),
            **entry,
            "flops_per_s": {**_device_of(kind)["flops_per_s"], **entry["flops_per_s"]},
        }
    figures = {**{key: entry[key] for key in SINGLE}, **entry["flops_per_s"]}
    if "flops_at_most" in entry:
        figures["flops_at_most"] = entry["flops_at_most"]
    sources = {key: cell["source"] for key, cell in figures.items() if cell["value"] is not None}
    if entry.get("spans"):
        sources["spans"] = entry["spans_source"]
    reasons = {key: cell["reason"] for key, cell in figures.items() if cell["value"] is None}
    return Accelerator(
        name,
        **{key: figures[key]["value"] for key in SINGLE},
        flops_per_s={dtype: entry["flops_per_s"][dtype]["value"] for dtype in DTYPES},
        flops_at_most=entry.get("flops_at_most", {}).get("value"),
        spans=entry.get("spans", False),
        sources=sources,
        reasons=reasons,
    )


def _device_of(kind: str) -> dict:
    """What devices.yaml keeps of a device that profiles run on."""
    known = devices.published(kind)

    def figure(value: float) -> dict:
        return {"value": value, "source": known.source}

    return {
        "memory_bytes": figure(known.memory_bytes),
        "bandwidth_bytes_per_s": figure(known.bandwidth_bytes_per_s),
        "flops_per_s": {"bf16": figure(known.bf16_flops_per_s)},
    }


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
    count = _devices(arch, batch, input_tokens + output_tokens, accelerator, dtype, quantization)
    ceilings = Ceilings(
        accelerator.name,
        accelerator.bandwidth_bytes_per_s,
        rate / FORMATS[quantization].rate,
        dtype,
    )
    floor = floor_row(
        arch,
        batch,
        input_tokens,
        output_tokens,
        ceilings,
        dtype,
        quantization=quantization,
        num_devices=min(batch, count),
    )
    note = (
        ""
        if rate in accelerator.flops_per_s.values()
        else f"rate at most {rate:.3g} FLOP/s, as printed"
    )
    return Roofline(floor, count, note)


def _devices(
    arch: Architecture,
    batch: int,
    tokens: int,
    accelerator: Accelerator,
    dtype: str,
    quantization: str | None,
) -> int:
    """Devices whose memory holds weights and KV cache: one, or as many as it takes where the
    accelerator spans."""
    need = sizes.weight_bytes(
        arch, dtype, quantization
    ) + batch * tokens * sizes.kv_bytes_per_token(arch, dtype)
    count = ceil(need / accelerator.memory_bytes)
    if count > 1 and not accelerator.spans:
        raise ValueError(
            f"{accelerator.name}: weights and KV cache take {need / 1e9:.0f} GB, its memory is "
            f"{accelerator.memory_bytes / 1e9:.0f} GB"
        )
    return count
