"""Section 3: from parameters to points."""

from moebook.models import catalog
from moebook.models.tiny import family
from moebook.sections.pruning.params import Params, pruned_shape
from moebook.sections.pruning.pruned import BASELINE, KINDS, SWEEP, series_name
from moebook.study import model_names, points
from moebook.study.plan import Plan, Point, Workload


def plan(p: Params) -> Plan:
    """Sweep `pruning`: each model whole and pruned, over active experts. Sweep `quality`: the
    perplexity of the trained target, whole and pruned."""
    p = model_names.with_models(p, models=points.fits(p, [p.batch], [p.tokens]))
    found = [point for name in p.models for point in _of_model(p, catalog.load(name))]
    own = {name: catalog.load(name).top_k for name in p.models}
    found += points.energy_twins(
        p, [q for q in found if q.architecture.top_k == own[q.architecture.unedited_name]]
    )
    return points.plan_of(p, [*found, *_quality(p)])


def active_counts(p: Params, arch: catalog.Architecture) -> list[int]:
    """Powers of two up to the pretrained top-k, and that one."""
    if p.active_experts is not None:
        return sorted(p.active_experts)
    powers = (2**i for i in range(arch.top_k.bit_length()))
    return sorted({*(k for k in powers if k <= arch.top_k), arch.top_k})


def _of_model(p: Params, base: catalog.Architecture) -> list[Point]:
    """The whole model and its pruned shapes; without a ratio there is nothing to compare, and
    nothing is planned."""
    if not p.ratios_pct:
        return []
    engine = points.settings(p, (p.batch,), p.tokens.total)
    shapes = [(BASELINE, base, None)]
    for kind in KINDS:
        shapes += [(series_name(kind, r), *pruned_shape(base, kind, r)) for r in p.ratios_pct]
    found = []
    for series, arch, reason in shapes:
        for k in active_counts(p, base):
            edited, why = points.try_edit(arch, top_k=k)
            cell = (engine, p.batch, p.tokens, SWEEP)
            point = points.point(p, edited, *cell, series=series)
            found.append(points.unless(point, reason or why))
    return found


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
    as_read = {"dtype": p.quality_dtype, "graphs": "eager", "tensor_parallel": 1}
    return [
        points.of_work(
            p,
            catalog.load(name),
            points.settings(p, (1,), p.quality_tokens + 1, weights=name, **as_read),
            work,
            "perplexity",
            "quality",
            series=series,
            text=text,
        )
        for series, name in names
    ]
