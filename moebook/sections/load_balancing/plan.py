"""Section 7: from parameters to points, a sweep at a time.

training     what the variants' training recorded; no engine runs
balance      expert choices of every model on every text
capture_check  the same of one model and text, counted in every way
importance   perplexity with each expert taken out in turn
skew_layer   one layer under imposed routing
skew_engine  whole engines under imposed routing"""

from moebook.models import catalog
from moebook.sections.load_balancing.params import NOTEBOOK, Params
from moebook.study import points
from moebook.study.estimates import check
from moebook.study.plan import EngineSettings, Plan, Point, Workload, merge
from moebook.study.points import settings


def plan(p: Params) -> Plan:
    """Every point of the parameters, infeasible ones with their reason."""
    p = points.with_models(
        p,
        skew_layer_models=points.fits(p, [1], []),
        skew_model=points.fits(p, p.skew_batches, [p.skew_tokens]),
    )
    found = [*_training(p), *_captures(p), *_ablations(p), *_skewed_layers(p), *_skewed_engines(p)]
    return Plan(NOTEBOOK, p.profile, p.device, merge(check(point, p.device) for point in found))


def _point(
    p: Params, model: str, engine: EngineSettings, work: Workload, method: str, sweep: str, **given
) -> Point:
    arch = catalog.load(model)
    return Point(NOTEBOOK, arch, engine, work, method, p.repeats, (sweep,), **given)


def _weights(p: Params, variant: str) -> str:
    return f"tiny:{p.preset}/{variant}"


def _reader(p: Params, weights: str, **given) -> EngineSettings:
    """An engine that reads `capture_tokens` of text on one device."""
    alone = {"dtype": p.capture_dtype, "graphs": "eager", "tensor_parallel": 1}
    return settings(p, {1}, p.capture_tokens + 1, weights=weights, **alone, **given)


def _training(p: Params) -> list[Point]:
    found = []
    for variant in p.variants:
        name = _weights(p, variant)
        engine = settings(p, {1}, p.capture_tokens, weights=name)
        work = Workload(1, 1, 1)
        found.append(_point(p, name, engine, work, "training", "training", series=variant))
    return found


def _captures(p: Params) -> list[Point]:
    """Every model on every text by the first way; one of them by all ways, to compare."""
    if not p.capture_ways:
        return []
    texts = [f"tiny:{p.preset}/heldout/{text}" for text in p.texts]
    read = [(_weights(p, variant), text, variant) for variant in p.variants for text in texts]
    checked = read[:1] if len(p.capture_ways) > 1 else []
    read += [(name, text, "trained") for name in p.checkpoints for text in p.checkpoint_texts]
    first = p.capture_ways[0]
    found = [_capture(p, name, text, series, first, "balance") for name, text, series in read]
    for name, text, _ in checked:
        found += [_capture(p, name, text, way, way, "capture_check") for way in p.capture_ways]
    return found


def _capture(p: Params, weights: str, text: str, series: str, way: str, sweep: str) -> Point:
    engine = _reader(p, weights, routed_experts=way == "engine")
    work = Workload(p.capture_sequences, p.capture_tokens, 1, p.seed)
    return _point(p, weights, engine, work, "routing", sweep, series=series, text=text)


def _ablations(p: Params) -> list[Point]:
    text = f"tiny:{p.preset}/heldout/all"
    work = Workload(p.ablation_sequences, p.capture_tokens, 1, p.seed)
    found = []
    for variant in p.ablated:
        name = _weights(p, variant)
        given = {"series": variant, "text": text}
        found.append(_point(p, name, _reader(p, name), work, "ablation", "importance", **given))
    return found


def _skewed_layers(p: Params) -> list[Point]:
    found = []
    for name in p.skew_layer_models:
        for tokens in p.skew_layer_tokens:
            for routing in _routings(p):
                kernels = {"moe_backend": p.skew_layer_backend, "routing": routing}
                engine = settings(p, {1}, p.skew_tokens.tokens_in, **kernels)
                work = Workload(tokens, 1, 1, p.seed)
                found.append(_point(p, name, engine, work, "layer", "skew_layer", series=routing))
    return found


def _skewed_engines(p: Params) -> list[Point]:
    if p.skew_model is None:
        return []
    arch, length = catalog.load(p.skew_model), p.skew_tokens
    found = []
    for routing in _routings(p):
        engine = settings(p, p.skew_batches, length.total, routing=routing)
        found += [
            points.point(p, NOTEBOOK, arch, engine, batch, length, "skew_engine", series=routing)
            for batch in p.skew_batches
        ]
    return found


def _routings(p: Params) -> list[str]:
    """What skews are called in settings and legends: `zipf 1`; 0 is uniform."""
    return [f"zipf {skew:g}" for skew in p.skews]
