"""Section 3: does pruning experts, or every expert's FFN, make an engine faster (Fig 11)?

Each model whole and pruned by each ratio, inter-expert (fewer experts) and intra-expert (narrower
experts), over active experts. Dummy weights: speed depends on shapes, not on which experts went.
What it costs in quality is read on a trained model of the tiny family, pruned by each criterion of
`models/saliency.py`."""

from dataclasses import replace
from typing import Any, Literal

from moebook.models import catalog
from moebook.models.edit import ImpossibleEdit
from moebook.models.pruning.saliency import CRITERIA
from moebook.models.tiny import family
from moebook.study import limits, params, points
from moebook.study.estimates import check
from moebook.study.lengths import Length
from moebook.study.plan import Plan, Point, Workload, merge
from moebook.study.points import EngineParams, settings, try_edit, unless

NOTEBOOK = "03_pruning"
KINDS = ("inter", "intra")
BASELINE = "baseline"


class Params(EngineParams):
    notebook: Literal[NOTEBOOK] = NOTEBOOK
    models: params.Models = ("tiny-qwen2-moe",)
    ratios_pct: params.Fractions = (12.5, 25.0, 50.0)
    active_experts: params.Counts | None = None
    batch: params.Count = 8
    tokens: Length = Length(8, 8)
    quality_target: str | None = "tiny:cpu/aux-0.01"
    quality_ratios_pct: params.Fractions = (50.0,)
    criteria: params.Names = CRITERIA
    quality_sequences: params.Count = 12
    quality_tokens: params.Count = 256
    quality_dtype: str = "float32"

    def problems(self) -> list[tuple[str, Any, str]]:
        found = super().problems()
        found += points.unknown("criteria", self.criteria, CRITERIA)
        found += points.unknown("quality_dtype", [self.quality_dtype], points.DTYPES)
        found += [
            ("quality_ratios_pct", r, wrong)
            for r in self.quality_ratios_pct
            if (wrong := limits.percent_problem(r))
        ]
        if self.quality_target is not None:
            found += points.trained_problems("quality_target", self.quality_target)
        found += [
            ("ratios_pct", r, "percent that is pruned: over 0 and under 100")
            for r in self.ratios_pct
            if r >= 100
        ]
        found += points.model_problems("models", points.named(self.models), self.tokens)
        if any(key == "models" for key, *_ in found):
            return found
        for name in points.named(self.models):
            published = catalog.load(name).top_k
            found += [
                ("active_experts", k, f"at most the {published} that {name} was trained with")
                for k in self.active_experts or ()
                if k > published
            ]
        return found or [
            p for name in points.named(self.models) for p in self._same_shapes(catalog.load(name))
        ]

    def _same_shapes(self, base: catalog.Architecture) -> list[tuple[str, Any, str]]:
        """Ratios that round to a shape another series has."""
        found = []
        for kind in KINDS:
            seen = {base.shape: "the whole model"}
            for ratio in self.ratios_pct:
                shape = _pruned(base, kind, ratio)[0].shape
                if shape in seen:
                    said = f"gives {base.name} ({kind}) the shape of {seen[shape]}: leave it out"
                    found.append(("ratios_pct", ratio, said))
                seen[shape] = f"{ratio:g} %"
        return found


def plan(p: Params) -> Plan:
    p = points.with_models(p, models=points.fits(p, [p.batch], [p.tokens]))
    planned = [point for name in p.models for point in _of_model(p, catalog.load(name))] + _quality(
        p
    )
    return Plan(NOTEBOOK, p.profile, p.device, merge(check(point, p.device) for point in planned))


def views() -> tuple:
    from moebook.explore.views import View
    from moebook.results.perplexity import quality_rows

    return (
        View("over active experts", "pruning", "top_k", "series", "model"),
        View(
            "quality",
            None,
            "ratio_pct",
            "criterion",
            "kind",
            "increase_pct",
            log_x=False,
            table=quality_rows,
        ),
    )


def figures() -> dict:
    from moebook.plot.checks import predicted_vs_measured
    from moebook.sections.pruning import figures as f

    return {
        "fig11_pruning": f.over_active,
        "gain": f.gain,
        "gain_by_ratio": f.gain_by_ratio,
        "over_floor": f.over_floor,
        "quality": f.quality,
        "quality_and_speed": f.quality_and_speed,
        "predicted_vs_measured": predicted_vs_measured,
    }


def series_name(kind: str, ratio_pct: float) -> str:
    return f"{kind} {ratio_pct:g} %"


def active_counts(p: Params, arch: catalog.Architecture) -> list[int]:
    """Powers of two up to the pretrained top-k, and that one."""
    if p.active_experts is not None:
        return sorted(p.active_experts)
    return sorted(
        {2**i for i in range(arch.top_k.bit_length()) if 2**i <= arch.top_k} | {arch.top_k}
    )


def _of_model(p: Params, base: catalog.Architecture) -> list[Point]:
    """The whole model and its pruned shapes; without a ratio there is nothing to compare, and
    nothing is planned."""
    engine = settings(p, (p.batch,), p.tokens.total)
    shapes: list[tuple[str, catalog.Architecture, str | None]] = (
        [(BASELINE, base, None)] if p.ratios_pct else []
    )
    for kind in KINDS:
        shapes += [(series_name(kind, r), *_pruned(base, kind, r)) for r in p.ratios_pct]
    found = []
    for series, arch, reason in shapes:
        for k in active_counts(p, base):
            edited, why = try_edit(arch, top_k=k)
            point = points.point(
                p, NOTEBOOK, edited, engine, p.batch, p.tokens, "pruning", series=series
            )
            found.append(unless(point, reason or why))
    return found


def _pruned(
    base: catalog.Architecture, kind: str, ratio_pct: float
) -> tuple[catalog.Architecture, str | None]:
    """The pruned shape; where it cannot be, a stand-in with about that shape and the reason."""
    from moebook.models.pruning.prune import prune_architecture

    try:
        return prune_architecture(base, kind=kind, ratio=ratio_pct / 100)[0], None
    except ImpossibleEdit as error:
        field = {"inter": "num_experts", "intra": "expert_ffn_dim"}[kind]
        return replace(
            base, **{field: max(1, round(getattr(base, field) * (1 - ratio_pct / 100)))}
        ), str(error)


def _quality(p: Params) -> list[Point]:
    """Perplexity of the trained target, whole and pruned by every kind, ratio and criterion."""
    if p.quality_target is None or not (p.quality_ratios_pct and p.criteria):
        return []
    names = [(BASELINE, p.quality_target)]
    names += [
        (series_name(kind, ratio), f"{p.quality_target}/{kind}-{ratio:g}-{criterion}")
        for kind in KINDS
        for ratio in p.quality_ratios_pct
        for criterion in p.criteria
    ]
    work = Workload(p.quality_sequences, p.quality_tokens, 1, p.seed)
    text = f"tiny:{family.parse(p.quality_target).preset}/heldout/all"
    return [
        Point(
            NOTEBOOK,
            catalog.load(name),
            settings(
                p,
                (1,),
                p.quality_tokens + 1,
                weights=name,
                dtype=p.quality_dtype,
                graphs="eager",
                tensor_parallel=1,
            ),
            work,
            "perplexity",
            p.repeats,
            ("quality",),
            series,
            text,
        )
        for series, name in names
    ]
