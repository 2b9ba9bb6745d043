"""Section 7: how evenly trained MoE models load their experts (Fig 15), and what imbalance costs.

Four parts: what training with and without balancing gives; expert choices per layer and text
domain, of the tiny family and of any checkpoint; perplexity with each expert taken out; throughput
against routing skew, of one layer and end to end."""

from dataclasses import replace
from typing import Any, Literal

from moebook.models import catalog
from moebook.models.tiny import family
from moebook.study import params, points
from moebook.study.estimates import check
from moebook.study.lengths import Length
from moebook.study.plan import EngineSettings, Plan, Point, Workload, merge
from moebook.study.points import EngineParams, settings

NOTEBOOK = "07_load_balancing"
WAYS = ("hooks", "engine")  # at the routers, or the engine's own output (GPU only)
FORMAT = "tiny:{}/{}"


class Params(EngineParams):
    notebook: Literal[NOTEBOOK] = NOTEBOOK
    preset: str = "cpu"
    variants: params.Names = family.TARGETS
    texts: params.Names = ("code", "prose", "numbers")
    capture_sequences: params.Count = 24
    capture_tokens: params.Count = 256
    capture_dtype: str = "float32"
    capture_ways: params.Names = ("hooks",)
    checkpoints: params.Names = ()
    checkpoint_texts: params.Names = ()
    ablated: params.Names = ("no-balance", "aux-0.01")
    ablation_sequences: params.Count = 6
    skews: params.NonNegatives = (0.0, 1.0, 2.0)
    skew_layer_models: params.Models = ("tiny-mixtral",)
    skew_layer_tokens: params.Counts = (16, 256)
    skew_layer_backend: str = "auto"
    skew_model: str | None = "tiny-mixtral"
    skew_batches: params.Counts = (4, 16)
    skew_tokens: Length = Length(8, 8)

    def problems(self) -> list[tuple[str, Any, str]]:
        found = super().problems()
        found += points.unknown("preset", [self.preset], family.PRESETS)
        for key in ("variants", "ablated"):
            found += points.unknown(key, getattr(self, key), family.TARGETS)
        found += points.unknown("texts", self.texts, family.DOMAINS)
        found += points.unknown("capture_ways", self.capture_ways, WAYS)
        found += points.unknown("capture_dtype", [self.capture_dtype], points.DTYPES)
        found += points.model_problems(
            "skew_model", points.named([self.skew_model]), self.skew_tokens
        )
        found += points.model_problems("skew_layer_models", points.named(self.skew_layer_models))
        found += points.model_problems(
            "checkpoints", self.checkpoints, Length(self.capture_tokens - 1, 1)
        )
        if self.ablation_sequences % self.repeats:
            found.append(
                (
                    "ablation_sequences",
                    self.ablation_sequences,
                    f"a multiple of repeats = {self.repeats}",
                )
            )
        if self.checkpoints and not self.checkpoint_texts:
            found.append(
                (
                    "checkpoint_texts",
                    self.checkpoint_texts,
                    "text files that the checkpoints are to read",
                )
            )
        for checkpoint in self.checkpoints:
            for text in self.checkpoint_texts or (None,):
                found += points.checkpoint_problems(
                    checkpoint, text, ("checkpoints", "checkpoint_texts")
                )
        return found


def plan(p: Params) -> Plan:
    p = points.with_models(
        p,
        skew_layer_models=points.fits(p, [1], []),
        skew_model=points.fits(p, p.skew_batches, [p.skew_tokens]),
    )
    found = [*_training(p), *_captures(p), *_ablations(p), *_skewed_layers(p), *_skewed_engines(p)]
    return Plan(NOTEBOOK, p.profile, p.device, merge(check(point, p.device) for point in found))


def views() -> tuple:
    from moebook.explore.views import View
    from moebook.plot.rows import layer_rows

    return (
        View("balance", "balance", "series", "text", metric="balance_max_over_mean"),
        View("training", "training", "series", metric="perplexity"),
        View("importance of experts", "importance", "series", metric="balance_max_over_mean"),
        View(
            "skewed routing, one layer",
            "skew_layer",
            "skew",
            "tokens",
            "model",
            "layer_time_us",
            log_x=False,
            table=layer_rows,
        ),
        View("skewed routing, engine", "skew_engine", "skew", "batch", "model", log_x=False),
    )


def figures() -> dict:
    from moebook.sections.load_balancing import figures as f

    return {
        "fig15_heatmaps": f.heatmaps,
        "fig15_domains": f.domains,
        "over_training": f.over_training,
        "balance_and_quality": f.balance_and_quality,
        "ep_balance": f.ep_balance,
        "importance": f.importance,
        "skew_layer": f.skew_layer,
        "skew_engine": f.skew_engine,
        "skew_ep": f.skew_ep,
    }


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
