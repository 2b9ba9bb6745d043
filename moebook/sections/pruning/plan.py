"""Section 3: from parameters to points."""

from moebook.models import catalog
from moebook.models.architecture import Architecture
from moebook.models.tiny import family
from moebook.sections.pruning.params import KINDS, NOTEBOOK, Params, _pruned
from moebook.study import model_names, points
from moebook.study.estimates import check
from moebook.study.plan import Plan, Point, Workload, merge
from moebook.study.points import settings, try_edit, unless

BASELINE = "baseline"


def plan(p: Params) -> Plan:
    p = model_names.with_models(p, models=points.fits(p, [p.batch], [p.tokens]))
    planned = [point for name in p.models for point in _of_model(p, catalog.load(name))] + _quality(
        p
    )
    return Plan(NOTEBOOK, p.profile, p.device, merge(check(point, p.device) for point in planned))


def series_name(kind: str, ratio_pct: float) -> str:
    return f"{kind} {ratio_pct:g} %"


def active_counts(p: Params, arch: Architecture) -> list[int]:
    """Powers of two up to the pretrained top-k, and that one."""
    if p.active_experts is not None:
        return sorted(p.active_experts)
    return sorted(
        {2**i for i in range(arch.top_k.bit_length()) if 2**i <= arch.top_k} | {arch.top_k}
    )


def _of_model(p: Params, base: Architecture) -> list[Point]:
    """The whole model and its pruned shapes; without a ratio there is nothing to compare, and
    nothing is planned."""
    engine = settings(p, (p.batch,), p.tokens.total)
    shapes: list[tuple[str, Architecture, str | None]] = (
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
