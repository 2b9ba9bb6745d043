"""Section 2: from parameters to points."""

from dataclasses import replace

from moebook.models import catalog, fitting, formats
from moebook.models.formats import SERIES
from moebook.sections.quantization.params import NOTEBOOK, Params
from moebook.study import model_names, points
from moebook.study.estimates import check
from moebook.study.lengths import Length, longest
from moebook.study.plan import EngineSettings, Plan, Point, Workload, merge
from moebook.study.points import full_or_by_depth

NO_WEIGHTS = (
    "dummy weights have no quality: set `weights` to a folder with a trained checkpoint of one of "
    "the models, "
    "and `quality_text` to a file of held-out text"
)
PACKED = (
    "the engine cannot make this format of 16-bit weights as it loads: quantize the checkpoint "
    "first, and give the "
    "packed folder as `weights` with the format bf16"
)


def plan(p: Params) -> Plan:
    p = model_names.with_models(
        p,
        models=_fits(p, p.pair, p.batches, p._compared()),
        formats_model=_fits(p, p.formats, p.formats_batches, [p.formats_tokens]),
    )
    planned = [
        q
        for point in [*_ladder(p), *_pairs(p)]
        for q in full_or_by_depth(point, p.device, p.reduced_layers)
    ]
    return Plan(
        NOTEBOOK, p.profile, p.device, merge(check(q, p.device) for q in [*planned, *_quality(p)])
    )


def _fits(
    p: Params, formats: tuple[str, ...], batches: tuple[int, ...], lengths: list[Length]
) -> fitting.Fits:
    """In the first of the formats, the one that gains are over."""
    dtype, quantization, kv = SERIES[formats[0]] if formats else (p.dtype, None, "auto")
    return points.fits(
        p, batches, lengths, dtype=dtype, quantization=quantization, kv_cache_dtype=kv
    )


def _settings(p: Params, series: str, max_model_len: int, imposed: bool = False) -> EngineSettings:
    dtype, quantization, kv = SERIES[series]
    batches = {*p.batches, *p.formats_batches} or {1}
    return points.settings(
        p,
        batches,
        max_model_len,
        dtype=dtype,
        quantization=quantization,
        kv_cache_dtype=kv,
        routing=points.UNIFORM if imposed else None,
    )


def _pairs(p: Params) -> list[Point]:
    most = longest(p._compared())
    cells = [(b, p.batch_tokens, "quant_batch") for b in p.batches if p.batch_tokens]
    cells += [(max(p.batches, default=1), length, "quant_length") for length in p.lengths]
    found = []
    for name in p.models if most else ():
        arch = catalog.load(name)
        for series in p.pair:
            engine = _settings(p, series, most.total, name in p.uniform_routing)
            found += [
                points.point(p, NOTEBOOK, arch, engine, b, length, sweep, series=series)
                for b, length, sweep in cells
            ]
    return found


def _ladder(p: Params) -> list[Point]:
    if p.formats_model is None:
        return []
    arch, most = catalog.load(p.formats_model), longest([*p._compared(), p.formats_tokens])
    imposed = p.formats_model in p.uniform_routing
    return [
        points.point(
            p,
            NOTEBOOK,
            arch,
            _settings(p, series, most.total, imposed),
            b,
            p.formats_tokens,
            "formats",
            series=series,
        )
        for series in p.formats
        for b in p.formats_batches
    ]


def _quality(p: Params) -> list[Point]:
    """Perplexity per format, of the checkpoint; of dummy weights a row that says what is
    missing."""
    if p.weights is None:
        return []
    trained = p.weights != "dummy"
    arch = catalog.load(p._quality_model())
    work = Workload(p.quality_sequences, p.quality_tokens, 1, p.seed)
    found = []
    for series in p.formats:
        engine = replace(_settings(p, series, 2 * p.quality_tokens), weights=p.weights)
        point = Point(
            NOTEBOOK,
            arch,
            engine,
            work,
            method="perplexity",
            repeats=p.repeats,
            sweeps=("quality",),
            series=series,
            text=p.text() if trained else None,
        )
        packed = PACKED if formats.needs_packed(engine.quantization) else None
        found.append(points.unless(point, packed if trained else NO_WEIGHTS))
    return found
