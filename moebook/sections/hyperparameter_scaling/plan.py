"""Section 1: from parameters to points."""

from dataclasses import replace

from moebook.models import catalog, sizes
from moebook.models.architecture import Architecture
from moebook.models.edit import edit
from moebook.sections.hyperparameter_scaling.params import NOTEBOOK, Params
from moebook.study import model_names, points
from moebook.study.estimates import check
from moebook.study.lengths import longest
from moebook.study.plan import Plan, Point, merge
from moebook.study.points import derived, reduced, settings, try_edit, unless


def plan(p: Params) -> Plan:
    p = model_names.with_models(
        p,
        grid_model=points.fits(p, [p.grid_batch], [p.grid_tokens]),
        comparison_models=points.fits(p, p.batches, p._compared()),
        validation_model=points.fits(p, [p.grid_batch], [p.validation_tokens]),
    )
    planned = [*_grid(p), *_batch_sweeps(p), *_validation(p)]
    return Plan(NOTEBOOK, p.profile, p.device, merge(check(point, p.device) for point in planned))


def _point(p: Params, *args, **given) -> Point:
    return points.point(p, NOTEBOOK, *args, **given)


def _grid(p: Params) -> list[Point]:
    if p.grid_model is None:
        return []
    base = catalog.load(p.grid_model)
    engine = settings(p, (p.grid_batch,), p.grid_tokens.total)
    cells = []
    for ffn in p.ffn_dims:
        for experts in p.expert_counts:
            for active in p.active_experts:
                arch, reason = try_edit(base, ffn_dim=ffn, num_experts=experts, top_k=active)
                cell = _point(p, arch, engine, p.grid_batch, p.grid_tokens, "grid")
                cells.append(unless(cell, reason))
    cells = [_within_capacity(p, cell) for cell in cells]
    fitting = [c for c in cells if check(c, p.device).status == "ready"]
    if p.reduced_layers is None or len(fitting) == len(cells) or not fitting:
        return cells
    return _by_depth(p, cells, fitting)


def _within_capacity(p: Params, cell: Point) -> Point:
    weights = sizes.weight_bytes(cell.architecture, p.dtype) / 1e9
    if cell.status != "ready" or p.capacity_limit_gb is None or weights <= p.capacity_limit_gb:
        return cell
    reason = (
        f"weights of {weights:.0f} GB exceed the study's {p.capacity_limit_gb:.0f} GB of four 80 "
        f"GB cards"
    )
    return replace(cell, status="oom", reason=reason)


def _by_depth(p: Params, cells: list[Point], fitting: list[Point]) -> list[Point]:
    """Cells too large for the device, as depth points on a reduced engine of their own and the
    anchor's pair.

    The anchor is the largest cell that fits, at its fewest active experts: run at both depths, it
    gives the intercept (embedding, head, sampling, host), which does not depend on FFN, experts or
    active experts."""
    anchor = max(
        fitting, key=lambda c: (sizes.weight_bytes(c.architecture, p.dtype), -c.architecture.top_k)
    )
    anchor_low = reduced(anchor, p.reduced_layers)
    out = [replace(anchor_low, sweeps=("support",))]
    for cell in cells:
        if cell.status != "ready" or check(cell, p.device).status == "ready":
            out.append(cell)
            continue
        low = check(reduced(cell, p.reduced_layers), p.device)
        if low.status != "ready":
            out.append(check(cell, p.device))
            continue
        out += [low, derived(cell, [low], [anchor, anchor_low])]
    return out + _anchor_check(p, anchor, anchor_low, fitting)


def _anchor_check(p: Params, anchor: Point, anchor_low: Point, fitting: list[Point]) -> list[Point]:
    """The anchor's cell with the most active experts, extrapolated like the others: it was measured
    in full, too."""
    same = [
        c
        for c in fitting
        if (c.architecture.expert_ffn_dim, c.architecture.num_experts)
        == (anchor.architecture.expert_ffn_dim, anchor.architecture.num_experts)
        and c.key != anchor.key
    ]
    if not same:
        return []
    cell = max(same, key=lambda c: c.architecture.top_k)
    low = reduced(cell, p.reduced_layers)
    check = derived(cell, [low], [anchor, anchor_low], sweeps=("validation",))
    return [low, replace(cell, sweeps=("validation",)), check]


def _batch_sweeps(p: Params) -> list[Point]:
    found, most = [], longest(p._compared())
    for name in p.comparison_models if most else ():
        base = catalog.load(name)
        engine = settings(p, p.batches, most.total)
        found += [
            _point(p, base, engine, b, length, "batch_length")
            for b in p.batches
            for length in p.lengths
        ]
        for active in p.comparison_active_experts:
            arch, reason = try_edit(base, top_k=active)
            for b in p.batches:
                point = _point(p, arch, engine, b, p.comparison_tokens, "batch_topk")
                found.append(unless(point, reason))
    return found


def _validation(p: Params) -> list[Point]:
    """One model in full, sampled, and extrapolated from a quarter and a half of its layers."""
    if p.validation_model is None:
        return []
    arch, length = catalog.load(p.validation_model), p.validation_tokens
    engine = settings(p, (p.grid_batch,), length.total)

    def at(arch: Architecture, method: str, sweep: str) -> Point:
        return _point(p, arch, engine, p.grid_batch, length, sweep, method=method)

    low, high = (
        edit(arch, num_layers=max(arch.num_dense_layers + 1, arch.num_layers // n)) for n in (4, 2)
    )
    found = [at(arch, "full", "validation"), at(arch, "sampled", "validation")]
    for method in ("full", "sampled") if p.sample_from_tokens is None else ("sampled",):
        supports = [at(low, method, "support"), at(high, method, "support")]
        found += [*supports, derived(at(arch, method, "validation"), supports)]
    return found
