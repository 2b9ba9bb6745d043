"""Section 7: from parameters to points, a sweep at a time.

training     what the variants' training recorded; no engine runs
balance      expert choices of every model on every text
capture_check  the same of one model and text, counted in every way
real_batches   experts that a decode step hits, for prompts of several kinds
importance   perplexity with each expert taken out in turn
skew_layer   one layer under imposed routing
skew_engine  whole engines under imposed routing"""

from collections.abc import Iterator
from itertools import product

from moebook.models import catalog
from moebook.sections.load_balancing.params import Params
from moebook.study import model_names, points, routing
from moebook.study.plan import EngineSettings, Plan, Point, Workload
from moebook.study.points import of_work, settings

RANDOM, ALIKE = "random ids", "one prompt for all"  # series of real batches, beside the texts


def plan(p: Params) -> Plan:
    """Every point of the parameters, infeasible ones with their reason."""
    p = model_names.with_models(
        p,
        skew_layer_models=points.fits(p, [1], []),
        skew_model=points.fits(p, p.skew_batches, [p.skew_tokens]),
    )
    trained = [*_training(p), *_captures(p), *_real_batches(p), *_ablations(p)]
    found = [*trained, *_skewed_layers(p), *_skewed_engines(p)]
    return points.plan_of(p, found)


def _weights(p: Params, variant: str) -> str:
    return f"tiny:{p.preset}/{variant}"


def _reader(p: Params, weights: str, total: int = 0, **given) -> EngineSettings:
    """An engine that reads `capture_tokens` of text, or sequences of `total` tokens, on one
    device."""
    alone = {"dtype": p.capture_dtype, "graphs": "eager", "tensor_parallel": 1}
    return settings(p, {1}, max(p.capture_tokens + 1, total), weights=weights, **alone, **given)


def _training(p: Params) -> Iterator[Point]:
    for variant in p.variants:
        name = _weights(p, variant)
        engine = settings(p, {1}, p.capture_tokens, weights=name)
        arch, work = catalog.load(name), Workload(1, 1, 1)
        yield of_work(p, arch, engine, work, "training", "training", series=variant)


def _captures(p: Params) -> Iterator[Point]:
    """Every model on every text by the first way; one of them by all ways, to compare."""
    texts = [f"tiny:{p.preset}/heldout/{text}" for text in p.texts]
    read = [(_weights(p, variant), text, variant) for variant in p.variants for text in texts]
    own = [(name, text, "trained") for name in p.checkpoints for text in p.checkpoint_texts]
    for way in p.capture_ways[:1]:
        for name, text, series in read + own:
            yield _capture(p, name, text, series, way, "balance")
    for way in p.capture_ways if len(p.capture_ways) > 1 else ():
        for name, text, _ in read[:1]:
            yield _capture(p, name, text, way, way, "capture_check")


def _capture(p: Params, weights: str, text: str, series: str, way: str, sweep: str) -> Point:
    engine = _reader(p, weights, routed_experts=way == "engine")
    work = Workload(p.capture_sequences, p.capture_tokens, 1, p.seed)
    arch = catalog.load(weights)
    return of_work(p, arch, engine, work, "routing", sweep, series=series, text=text)


def _real_batches(p: Params) -> Iterator[Point]:
    """The first text's prompts also one for all, so that all sequences stay alike."""
    length = p.step_tokens
    texts = {name: f"tiny:{p.preset}/heldout/{name}" for name in p.texts}
    prompts = [*((name, text, False) for name, text in texts.items()), (RANDOM, None, False)]
    prompts += [(ALIKE, text, True) for text in list(texts.values())[:1]]
    for variant, batch, (series, text, alike) in product(p.step_variants, p.step_batches, prompts):
        name = _weights(p, variant)
        work = Workload(batch, length.tokens_in, length.tokens_out, p.seed, 0.0, identical=alike)
        what = {"method": "step_experts", "sweep": "real_batches", "series": series, "text": text}
        yield of_work(p, catalog.load(name), _reader(p, name, length.total), work, **what)


def _ablations(p: Params) -> Iterator[Point]:
    text = f"tiny:{p.preset}/heldout/all"
    work = Workload(p.ablation_sequences, p.capture_tokens, 1, p.seed)
    for variant in p.ablated:
        name = _weights(p, variant)
        what = {"method": "ablation", "sweep": "importance", "series": variant, "text": text}
        yield of_work(p, catalog.load(name), _reader(p, name), work, **what)


def _skewed_layers(p: Params) -> Iterator[Point]:
    length = p.skew_tokens.tokens_in
    for name, tokens, skew in product(p.skew_layer_models, p.skew_layer_tokens, p.skews):
        series = _series(skew)
        engine = settings(
            p, {1}, length, moe_backend=p.skew_layer_backend, routing=routing.zipf(skew)
        )
        work = Workload(tokens, 1, 1, p.seed)
        arch = catalog.load(name)
        yield of_work(p, arch, engine, work, "layer", "skew_layer", series=series)


def _skewed_engines(p: Params) -> Iterator[Point]:
    if p.skew_model is None:
        return
    arch, length = catalog.load(p.skew_model), p.skew_tokens
    for skew, batch in product(p.skews, p.skew_batches):
        series = _series(skew)
        engine = settings(p, p.skew_batches, length.total, routing=routing.zipf(skew))
        yield points.point(p, arch, engine, batch, length, "skew_engine", series=series)


def _series(skew: float) -> str:
    """How a skew is called in legends: `zipf 1`; 0 is uniform."""
    return f"zipf {skew:g}"
