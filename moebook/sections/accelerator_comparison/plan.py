"""Section 8: one model on several accelerators over lengths (Fig 16), each against what its
hardware can do.

Sweeps
  common     the same points of one small MoE on every device, the CPU among them
  scout      Fig 16's model over input = output length, in each precision the device holds: batch 1
             over all lengths, and `large_batch` over some
  chunked    that model with its attention in chunks, which stops the engine from capturing whole
             decode steps in graphs
  reference  another model, in 16 bits on every GPU
  endpoint   a server elsewhere (a CS-3's, say) at the same lengths; which one, its environment
             variables say The attention of Llama 4 is chunked at 8192 tokens; up to there all
             layers attend to all tokens, and `scout` says so to the engine. Results of other
             profiles are drawn beside one's own (`beside`,
             moebook/sections/accelerator_comparison/other_devices.py), and rooflines of the
             accelerators in accelerators.yaml beside this file."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from moebook.models import catalog
from moebook.models.catalog import Architecture
from moebook.models.edit import edit, language_part
from moebook.models.formats import SERIES
from moebook.sections.accelerator_comparison import accelerators
from moebook.study import params, points
from moebook.study.estimates import check
from moebook.study.lengths import Length, both, longest
from moebook.study.plan import EngineSettings, Plan, Point, Workload, merge
from moebook.study.points import EngineParams

NOTEBOOK = "08_accelerator_comparison"
PROFILES = ("cpu", "h100", "h200", "4xh100")


class Params(EngineParams):
    notebook: Literal[NOTEBOOK] = NOTEBOOK
    sample_from_tokens: Annotated[int, Field(strict=True, ge=128)] | None = 128
    common_model: str | None = "OLMoE-1B-7B-0125"
    common_layers: params.Count = 2
    common_batches: params.Counts = (1, 16)
    common_lengths: params.Lengths = both(16, 32, 128)
    common_most_tokens: params.Count | None = (
        128  # batch x in, and x out: a CPU takes minutes for thousands
    )
    model: str | None = "tiny-mixtral"
    precisions: params.Names = ("fp32", "bf16")
    lengths: params.Lengths = both(32, 64, 128, 256)
    large_batch: params.Count = 4
    large_batch_lengths: params.Lengths = both(32, 64)
    chunked_lengths: params.Lengths | None = None
    reference_models: params.Models = ()
    source_model: str = "Llama-4-Scout-17B-16E-Instruct"
    endpoint: str | None = None
    endpoint_batch: params.Count = 1
    endpoint_lengths: params.Lengths = both(128, 256, 512, 1024, 2048, 4096)
    beside: params.Names = ("h100", "h200")
    rooflines: params.Names = ("H100 SXM", "H200 SXM", "B200", "MI300X", "CS-3")

    def problems(self) -> list[tuple[str, Any, str]]:
        found = super().problems()
        found += points.unknown("precisions", self.precisions, SERIES)
        found += points.unknown("beside", self.beside, PROFILES)
        found += points.unknown("rooflines", self.rooflines, accelerators.names())
        if self.profile in self.beside:
            found.append(("beside", self.profile, "other profiles than this one"))
        if self.endpoint is not None and not self.endpoint.strip():
            found.append(
                (
                    "endpoint",
                    self.endpoint,
                    "a label that says device and precision, such as 'CS-3, FP8', or null",
                )
            )
        usual = self._over_length()
        model = points.named([self.model])
        found += points.model_problems(
            "model", model, longest([*usual, *(self.chunked_lengths or ())])
        )
        found += points.model_problems(
            "reference_models", points.named(self.reference_models), longest(usual)
        )
        found += points.model_problems(
            "source_model", [self.source_model], longest(self.endpoint_lengths)
        )
        common = [self.common_model] if self.common_model is not None else []
        problems = points.model_problems("common_model", common, longest(self.common_lengths))
        found += problems or [p for name in common for p in self._too_deep(name)]
        return found + [p for name in model for p in self._chunks(name, longest(usual))]

    def _over_length(self) -> list[Length]:
        """Lengths of the source's figure, at batch 1 and at the large batch."""
        return [*self.lengths, *self.large_batch_lengths]

    def _too_deep(self, name: str) -> list[tuple[str, Any, str]]:
        _, reason = points.try_edit(catalog.load(name), num_layers=self.common_layers)
        return [("common_layers", self.common_layers, reason)] if reason else []

    def _chunks(self, name: str, most: Length | None) -> list[tuple[str, Any, str]]:
        """Lengths at which attention over all tokens would be another computation than the
        model's."""
        try:
            chunk = catalog.load(name).window
        except ValueError:
            return []  # told of already
        if chunk is None:
            return [
                ("chunked_lengths", str(n), f"none: {name} has no attention in chunks")
                for n in self.chunked_lengths or ()
            ]
        if most is not None and most.total > chunk:
            return [
                (
                    "lengths",
                    str(most),
                    f"at most {chunk // 2}: in and out together fit one attention chunk of "
                    f"{chunk}; "
                    "longer ones belong to `chunked_lengths`",
                )
            ]
        return []


def plan(p: Params) -> Plan:
    sixteen_bits = points.fits(p, [1, p.large_batch], p._over_length(), dtype="bfloat16")
    p = points.with_models(p, model=sixteen_bits, reference_models=sixteen_bits)
    own = [
        check(point, p.device) for point in [*_common(p), *_scout(p), *_references(p), *_chunked(p)]
    ]
    return Plan(NOTEBOOK, p.profile, p.device, merge([*own, *_endpoint(p)]))


def views() -> tuple:
    from moebook.explore.views import View

    return (
        View("same points on every device", "common", "input_tokens", "device_label", "batch"),
        View(
            "source's model, measured",
            "scout",
            "input_tokens",
            "device_label",
            "batch",
            where={"source_kind": "measured"},
        ),
        View(
            "source's model, rooflines",
            "scout",
            "input_tokens",
            "device_label",
            "batch",
            where={"source_kind": "roofline"},
        ),
        View("another model in 16 bits", "reference", "input_tokens", "device_label", "batch"),
    )


def figures() -> dict:
    from moebook.sections.accelerator_comparison import figures as f

    return {
        "ceilings": f.ceilings,
        "common": f.common,
        "against_ceiling": f.against_ceiling,
        "fig16_latency": f.latency,
        "fig16_throughput": f.throughput,
        "reference": f.reference,
        "bends": f.bends,
    }


def _common(p: Params) -> list[Point]:
    if p.common_model is None or not p.common_lengths:
        return []
    arch = edit(catalog.load(p.common_model), num_layers=p.common_layers)
    engine = _settings(p, "bf16", p.common_batches, p.common_lengths)
    return [
        points.point(p, NOTEBOOK, arch, engine, batch, n, "common", series="bf16")
        for batch in p.common_batches
        for n in p.common_lengths
        if p.common_most_tokens is None or batch * n.longer <= p.common_most_tokens
    ]


def _scout(p: Params) -> list[Point]:
    if p.model is None:
        return []
    arch = language_part(catalog.load(p.model), chunked=False)
    return [point for series in p.precisions for point in _over_length(p, arch, series, "scout")]


def _references(p: Params) -> list[Point]:
    return [
        point
        for name in p.reference_models
        for point in _over_length(p, catalog.load(name), "bf16", "reference")
    ]


def _over_length(p: Params, arch: Architecture, series: str, sweep: str) -> list[Point]:
    if not p._over_length():
        return []
    engine = _settings(p, series, (1, p.large_batch), p._over_length())
    cells = [*((1, n) for n in p.lengths), *((p.large_batch, n) for n in p.large_batch_lengths)]
    return [
        points.point(p, NOTEBOOK, arch, engine, batch, n, sweep, series=series)
        for batch, n in cells
    ]


def _chunked(p: Params) -> list[Point]:
    """The first precision with attention as published. The engine's own compilation: `light` would
    leave it no graphs."""
    if p.model is None or not (p.chunked_lengths and p.precisions):
        return []
    arch, series = language_part(catalog.load(p.model)), p.precisions[0]
    engine = _settings(p.model_copy(update={"graphs": "compiled"}), series, (1,), p.chunked_lengths)
    return [
        points.point(p, NOTEBOOK, arch, engine, 1, n, "chunked", series=f"{series}, chunked")
        for n in p.chunked_lengths
    ]


def _endpoint(p: Params) -> list[Point]:
    """A server elsewhere: it fits or not is its affair, and no engine starts here."""
    if p.endpoint is None or not p.endpoint_lengths:
        return []
    arch = language_part(catalog.load(p.source_model), chunked=False)
    engine = replace(
        _settings(p, "bf16", (p.endpoint_batch,), p.endpoint_lengths), weights="endpoint"
    )
    return [
        Point(
            NOTEBOOK,
            arch,
            engine,
            Workload(p.endpoint_batch, n.tokens_in, n.tokens_out, p.seed),
            "endpoint",
            p.repeats,
            ("endpoint",),
            p.endpoint,
        )
        for n in p.endpoint_lengths
    ]


def _settings(
    p: Params, series: str, batches: tuple[int, ...], lengths: Sequence[Length]
) -> EngineSettings:
    dtype, quantization, kv = SERIES[series]
    return points.settings(
        p,
        batches,
        longest(lengths).total,
        dtype=dtype,
        quantization=quantization,
        kv_cache_dtype=kv,
    )
