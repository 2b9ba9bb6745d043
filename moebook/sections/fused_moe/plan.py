"""Section 6: from parameters to points."""

from itertools import product

from moebook.models import catalog
from moebook.sections.fused_moe.params import BACKEND_SERIES, VARIANTS, Params
from moebook.study import model_names, points
from moebook.study.lengths import longest
from moebook.study.plan import EngineSettings, Plan, Point, Workload
from moebook.study.points import full_or_by_depth


def plan(p: Params) -> Plan:
    """Points of single layers (sweeps layer, layer_quantized, layer_tuned) and of whole engines
    (ladder_batch, ladder_length)."""
    alone = points.fits(p, [1], [])
    engines = points.fits(p, [*p.ladder_batches, p.ladder_length_batch], p.engine_lengths())
    p = model_names.with_models(
        p, layer_models=alone, quantized_models=alone, tuned_model=alone, ladder_model=engines
    )
    whole = [
        q for point in _engines(p) for q in full_or_by_depth(point, p.device, p.reduced_layers)
    ]
    return points.plan_of(p, [*_layers(p), *whole])


def _layers(p: Params) -> list[Point]:
    plain = product(p.layer_models, [None], p.layer_backends, p.layer_tokens)
    quantized = product(
        p.quantized_models, p.quantized_formats, p.quantized_backends, p.quantized_tokens
    )
    tuned = product(
        [p.tuned_model] if p.tuned_model else [], [None], ["triton_tuned"], p.tuned_tokens
    )
    sweeps = {"layer": plain, "layer_quantized": quantized, "layer_tuned": tuned}
    return [_layer(p, sweep, *cell) for sweep, cells in sweeps.items() for cell in cells]


def _layer(
    p: Params, sweep: str, model: str, quantization: str | None, backend: str, tokens: int
) -> Point:
    """Quantized experts take activations of 16 bits alone."""
    dtype = "bfloat16" if quantization and p.dtype == "float32" else p.dtype
    series = BACKEND_SERIES.get(backend, backend)
    return points.of_work(
        p,
        catalog.load(model),
        EngineSettings(dtype=dtype, quantization=quantization, moe_backend=backend, graphs="eager"),
        Workload(tokens, 1, 1, p.seed),
        "layer",
        sweep,
        series=f"{series}, {quantization}" if quantization else series,
    )


def _engines(p: Params) -> list[Point]:
    most = longest(p.engine_lengths())
    if p.ladder_model is None or most is None:
        return []
    arch, batches = catalog.load(p.ladder_model), {*p.ladder_batches, p.ladder_length_batch}
    cells = [(b, p.ladder_batch_tokens, "ladder_batch") for b in p.ladder_batches]
    cells += [(p.ladder_length_batch, n, "ladder_length") for n in p.ladder_lengths]
    found = []
    for series in p.ladder:
        backend, eager = VARIANTS[series]
        graphs = "eager" if eager else p.graphs
        asked = {"moe_backend": backend, "graphs": graphs, "quantization": None}  # as `loop` needs
        engine = points.settings(p, batches, most.total, **asked)
        found += [
            points.point(p, arch, engine, b, n, sweep, series=series) for b, n, sweep in cells
        ]
    return found
