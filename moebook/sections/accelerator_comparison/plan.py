"""Section 8: from parameters to points."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from moebook.models import catalog
from moebook.models.architecture import Architecture
from moebook.models.edit import edit, language_part
from moebook.models.formats import OWN, series_name, settings_of
from moebook.sections.accelerator_comparison.params import Params
from moebook.study import model_names, points
from moebook.study.lengths import Length, longest
from moebook.study.plan import EngineSettings, Plan, Point, Workload


def plan(p: Params) -> Plan:
    """Points of the sweeps `common`, `scout`, `reference`, `chunked` and `endpoint`; series: the
    precision, or the endpoint's label. What does not fit the device is `oom` with the reason."""
    sixteen_bits = points.fits(p, [1, p.large_batch], p.over_length, dtype="bfloat16")
    p = model_names.with_models(p, model=sixteen_bits, reference_models=sixteen_bits)
    engines = [*_common(p), *_scout(p), *_references(p), *_chunked(p)]
    return points.plan_of(p, [*engines, *_endpoint(p)])


def _points(
    p: Params,
    arch: Architecture,
    engine: EngineSettings,
    cells: Iterable[tuple[int, Length]],
    sweep: str,
    series: str,
) -> list[Point]:
    return [
        points.point(p, arch, engine, batch, length, sweep, series=series)
        for batch, length in cells
    ]


def _common(p: Params) -> list[Point]:
    if p.common_model is None or not p.common_lengths:
        return []
    arch = edit(catalog.load(p.common_model), num_layers=p.common_layers)
    engine = _settings(p, OWN, p.common_batches, p.common_lengths)
    most = p.common_most_tokens or float("inf")
    cells = [(b, n) for b in p.common_batches for n in p.common_lengths if b * n.longer <= most]
    return _points(p, arch, engine, cells, "common", series_name(arch, OWN))


def _scout(p: Params) -> list[Point]:
    if p.model is None:
        return []
    arch = language_part(catalog.load(p.model), chunked=False)
    return [point for series in p.precisions for point in _over_length(p, arch, series, "scout")]


def _references(p: Params) -> list[Point]:
    models = [catalog.load(name) for name in p.reference_models]
    return [point for arch in models for point in _over_length(p, arch, OWN, "reference")]


def _over_length(p: Params, arch: Architecture, series: str, sweep: str) -> list[Point]:
    if not p.over_length:
        return []
    engine = _settings(p, series, (1, p.large_batch), p.over_length)
    cells = [*((1, n) for n in p.lengths), *((p.large_batch, n) for n in p.large_batch_lengths)]
    return _points(p, arch, engine, cells, sweep, series_name(arch, series))


def _chunked(p: Params) -> list[Point]:
    """The first precision with attention as published. The engine's own compilation: `light` would
    leave it no graphs."""
    if p.model is None or not (p.chunked_lengths and p.precisions):
        return []
    arch, series = language_part(catalog.load(p.model)), p.precisions[0]
    compiled = p.model_copy(update={"graphs": "compiled"})
    engine = _settings(compiled, series, (1,), p.chunked_lengths)
    cells = [(1, n) for n in p.chunked_lengths]
    return _points(p, arch, engine, cells, "chunked", f"{series_name(arch, series)}, chunked")


def _endpoint(p: Params) -> list[Point]:
    """A server elsewhere: it fits or not is its affair, and no engine starts here."""
    if p.endpoint is None or not p.endpoint_lengths:
        return []
    arch = language_part(catalog.load(p.source_model), chunked=False)
    engine = _settings(p, "bf16", (p.endpoint_batch,), p.endpoint_lengths)
    engine = replace(engine, weights="endpoint")
    works = [
        Workload(p.endpoint_batch, n.tokens_in, n.tokens_out, p.seed) for n in p.endpoint_lengths
    ]
    asked = {"method": "endpoint", "sweep": "endpoint", "series": p.endpoint}
    return [points.of_work(p, arch, engine, work, **asked) for work in works]


def _settings(
    p: Params, series: str, batches: Sequence[int], lengths: Sequence[Length]
) -> EngineSettings:
    return points.settings(p, batches, longest(lengths).total, **settings_of(series))
