"""Section 8: from parameters to points."""

from collections.abc import Sequence
from dataclasses import replace

from moebook.models import catalog
from moebook.models.architecture import Architecture
from moebook.models.edit import edit, language_part
from moebook.models.formats import SERIES
from moebook.sections.accelerator_comparison.params import NOTEBOOK, Params
from moebook.study import model_names, points
from moebook.study.estimates import check
from moebook.study.lengths import Length, longest
from moebook.study.plan import EngineSettings, Plan, Point, Workload, merge


def plan(p: Params) -> Plan:
    sixteen_bits = points.fits(p, [1, p.large_batch], p._over_length(), dtype="bfloat16")
    p = model_names.with_models(p, model=sixteen_bits, reference_models=sixteen_bits)
    own = [
        check(point, p.device) for point in [*_common(p), *_scout(p), *_references(p), *_chunked(p)]
    ]
    return Plan(NOTEBOOK, p.profile, p.device, merge([*own, *_endpoint(p)]))


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
