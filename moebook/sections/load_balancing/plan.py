"""Section 7: from parameters to points."""

from dataclasses import replace

from moebook.models import catalog
from moebook.sections.load_balancing.params import NOTEBOOK, Params
from moebook.study import model_names, points
from moebook.study.estimates import check
from moebook.study.plan import EngineSettings, Plan, Point, Workload, merge
from moebook.study.points import settings

FORMAT = "tiny:{}/{}"


def plan(p: Params) -> Plan:
    p = model_names.with_models(
        p,
        skew_layer_models=points.fits(p, [1], []),
        skew_model=points.fits(p, p.skew_batches, [p.skew_tokens]),
    )
    found = [*_training(p), *_captures(p), *_ablations(p), *_skewed_layers(p), *_skewed_engines(p)]
    return Plan(NOTEBOOK, p.profile, p.device, merge(check(point, p.device) for point in found))


def _reader(p: Params, weights: str, tokens: int) -> EngineSettings:
    return settings(
        p,
        {1},
        tokens + 1,
        weights=weights,
        dtype=p.capture_dtype,
        graphs="eager",
        tensor_parallel=1,
    )


def _training(p: Params) -> list[Point]:
    """What the members' training recorded; no engine runs."""
    found = []
    for variant in p.variants:
        name = FORMAT.format(p.preset, variant)
        engine = settings(p, {1}, p.capture_tokens, weights=name)
        found.append(
            Point(
                NOTEBOOK,
                catalog.load(name),
                engine,
                Workload(1, 1, 1),
                "training",
                p.repeats,
                ("training",),
                variant,
            )
        )
    return found


def _captures(p: Params) -> list[Point]:
    """Every model on every text by the first way; one of them by all ways, to compare."""
    if not p.capture_ways:
        return []
    texts = [f"tiny:{p.preset}/heldout/{text}" for text in p.texts]
    members = [(FORMAT.format(p.preset, variant), variant) for variant in p.variants]
    found = [
        _capture(p, name, text, variant, p.capture_ways[0])
        for name, variant in members
        for text in texts
    ]
    found += [
        _capture(p, name, text, "trained", p.capture_ways[0])
        for name in p.checkpoints
        for text in p.checkpoint_texts
    ]
    if len(p.capture_ways) > 1 and members and texts:
        found += [
            _capture(p, members[0][0], texts[0], way, way, "capture_check")
            for way in p.capture_ways
        ]
    return found


def _capture(
    p: Params, weights: str, text: str, series: str, way: str, sweep: str = "balance"
) -> Point:
    work = Workload(p.capture_sequences, p.capture_tokens, 1, p.seed)
    engine = replace(_reader(p, weights, p.capture_tokens), routed_experts=way == "engine")
    return Point(
        NOTEBOOK, catalog.load(weights), engine, work, "routing", p.repeats, (sweep,), series, text
    )


def _ablations(p: Params) -> list[Point]:
    found = []
    for variant in p.ablated:
        name = FORMAT.format(p.preset, variant)
        work = Workload(p.ablation_sequences, p.capture_tokens, 1, p.seed)
        found.append(
            Point(
                NOTEBOOK,
                catalog.load(name),
                _reader(p, name, p.capture_tokens),
                work,
                "ablation",
                p.repeats,
                ("importance",),
                variant,
                f"tiny:{p.preset}/heldout/all",
            )
        )
    return found


def _skewed_layers(p: Params) -> list[Point]:
    return [
        Point(
            NOTEBOOK,
            catalog.load(name),
            settings(
                p,
                {1},
                p.skew_tokens.tokens_in,
                moe_backend=p.skew_layer_backend,
                routing=routing(skew),
            ),
            Workload(tokens, 1, 1, p.seed),
            "layer",
            p.repeats,
            ("skew_layer",),
            routing(skew),
        )
        for name in p.skew_layer_models
        for tokens in p.skew_layer_tokens
        for skew in p.skews
    ]


def _skewed_engines(p: Params) -> list[Point]:
    if p.skew_model is None:
        return []
    arch, longest = catalog.load(p.skew_model), p.skew_tokens.total
    return [
        points.point(
            p,
            NOTEBOOK,
            arch,
            settings(p, p.skew_batches, longest, routing=routing(skew)),
            batch,
            p.skew_tokens,
            "skew_engine",
            series=routing(skew),
        )
        for skew in p.skews
        for batch in p.skew_batches
    ]


def routing(skew: float) -> str:
    """How a skew is called in settings and legends: `zipf 1`; 0 is uniform."""
    return f"zipf {skew:g}"
