"""Section 2: from parameters to points."""

from dataclasses import replace

from moebook.models import catalog, formats
from moebook.models.formats import series_name, settings_of
from moebook.sections.quantization.params import Params
from moebook.study import model_names, points, routing
from moebook.study.lengths import longest
from moebook.study.plan import EngineSettings, Plan, Point, Workload

NO_WEIGHTS = (
    "dummy weights have no quality: set `weights` to a folder with a trained checkpoint of one of "
    "the models, and `quality_text` to a file of held-out text"
)
PACKED = (
    "the engine cannot make this format of 16-bit weights as it loads: quantize the checkpoint "
    "first, and give the packed folder as `weights` with the format own"
)


def plan(p: Params) -> Plan:
    """Sweeps `quant_batch` and `quant_length`: the pair of formats on each model. `formats`: every
    format on one model. `quality`: perplexity of a checkpoint in each format."""
    p = model_names.with_models(
        p,
        models=_fits(p, p.pair, p.batches, p.compared_lengths()),
        formats_model=_fits(p, p.formats, p.formats_batches, [p.formats_tokens]),
    )
    pairs = _pairs(p)
    planned = [
        point
        for whole in [*_formats(p), *pairs]
        for point in points.full_or_by_depth(whole, p.device, p.reduced_layers)
    ]
    planned += points.energy_twins(p, [point for point in pairs if "quant_batch" in point.sweeps])
    return points.plan_of(p, [*planned, *_quality(p)])


def _fits(p: Params, series: tuple[str, ...], batches: tuple[int, ...], lengths: list):
    """Whether a model fits in the first of the formats, the one that gains are over."""
    return points.fits(p, batches, lengths, **(settings_of(series[0]) if series else {}))


def _settings(p: Params, series: str, max_model_len: int, model: str | None) -> EngineSettings:
    batches = {*p.batches, *p.formats_batches} or {1}
    imposed = routing.UNIFORM if model in p.uniform_routing else None
    return points.settings(p, batches, max_model_len, routing=imposed, **settings_of(series))


def _pairs(p: Params) -> list[Point]:
    cells = [(b, p.batch_tokens, "quant_batch") for b in p.batches if p.batch_tokens]
    cells += [(max(p.batches, default=1), length, "quant_length") for length in p.lengths]
    most = longest(p.compared_lengths())
    found = []
    for name in p.models if most else ():
        arch = catalog.load(name)
        for series in p.pair:
            engine, called = _settings(p, series, most.total, name), series_name(arch, series)
            found += [points.point(p, arch, engine, *cell, series=called) for cell in cells]
    return found


def _formats(p: Params) -> list[Point]:
    if p.formats_model is None:
        return []
    arch = catalog.load(p.formats_model)
    most = longest([*p.compared_lengths(), p.formats_tokens]).total
    found = []
    for series in p.formats:
        engine = _settings(p, series, most, p.formats_model)
        for b in p.formats_batches:
            cell = (b, p.formats_tokens, "formats")
            called = series_name(arch, series)
            found.append(points.point(p, arch, engine, *cell, series=called))
    return found


def _quality(p: Params) -> list[Point]:
    """Perplexity per format, of the checkpoint; of dummy weights a row that says what is
    missing."""
    if p.weights is None:
        return []
    trained = p.weights != "dummy"
    arch = catalog.load(p.quality_model())
    work = Workload(p.quality_sequences, p.quality_tokens, 1, p.seed)
    found = []
    for series in p.formats:
        engine = replace(_settings(p, series, 2 * p.quality_tokens, None), weights=p.weights)
        called = {"series": series_name(arch, series), "text": p.text() if trained else None}
        point = points.of_work(p, arch, engine, work, "perplexity", "quality", **called)
        packed = PACKED if formats.needs_packed(engine.quantization) else None
        found.append(points.unless(point, packed if trained else NO_WEIGHTS))
    return found
