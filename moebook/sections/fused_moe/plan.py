"""Section 6: from parameters to points."""

from moebook.models import catalog
from moebook.sections.fused_moe.params import BACKEND_SERIES, LADDER, NOTEBOOK, Params
from moebook.study import model_names, points
from moebook.study.estimates import check
from moebook.study.lengths import longest
from moebook.study.plan import EngineSettings, Plan, Point, Workload, merge
from moebook.study.points import full_or_by_depth


def plan(p: Params) -> Plan:
    alone = points.fits(p, [1], [])
    engines = points.fits(p, [*p.ladder_batches, p.ladder_length_batch], p._in_ladder())
    p = model_names.with_models(
        p, layer_models=alone, quantized_models=alone, tuned_model=alone, ladder_model=engines
    )
    planned = [
        q for point in _ladder(p) for q in full_or_by_depth(point, p.device, p.reduced_layers)
    ]
    planned = [check(q, p.device) for q in [*_layers(p), *planned]]
    return Plan(NOTEBOOK, p.profile, p.device, merge(planned))


def _layers(p: Params) -> list[Point]:
    found = []
    for name in p.layer_models:
        found += [_layer(p, name, b, n, "layer") for b in p.layer_backends for n in p.layer_tokens]
    found += [
        _layer(p, name, b, n, "layer_quantized", q)
        for name in p.quantized_models
        for q in p.quantized_formats
        for b in p.quantized_backends
        for n in p.quantized_tokens
    ]
    if p.tuned_model:
        found += [
            _layer(p, p.tuned_model, "triton_tuned", n, "layer_tuned") for n in p.tuned_tokens
        ]
    return found


def _layer(
    p: Params, model: str, backend: str, tokens: int, sweep: str, quantization: str | None = None
) -> Point:
    """Quantized experts take activations of 16 bits alone."""
    dtype = "bfloat16" if quantization and p.dtype == "float32" else p.dtype
    engine = EngineSettings(
        dtype=dtype, quantization=quantization, moe_backend=backend, graphs="eager"
    )
    label = BACKEND_SERIES.get(backend, backend) + f", {quantization}" * bool(quantization)
    return Point(
        NOTEBOOK,
        catalog.load(model),
        engine,
        Workload(tokens, 1, 1, p.seed),
        method="layer",
        repeats=p.repeats,
        sweeps=(sweep,),
        series=label,
    )


def _ladder(p: Params) -> list[Point]:
    most, found = longest(p._in_ladder()), []
    if p.ladder_model is None or most is None:
        return found
    arch, batches = catalog.load(p.ladder_model), {*p.ladder_batches, p.ladder_length_batch}
    for series in p.ladder:
        backend, eager = LADDER[series]
        engine = points.settings(
            p, batches, most.total, moe_backend=backend, graphs="eager" if eager else p.graphs
        )
        cells = [(b, p.ladder_batch_tokens, "ladder_batch") for b in p.ladder_batches]
        cells += [(p.ladder_length_batch, n, "ladder_length") for n in p.ladder_lengths]
        found += [
            points.point(p, NOTEBOOK, arch, engine, b, n, sweep, series=series)
            for b, n, sweep in cells
        ]
    return found
