"""Section 1: from parameters to points."""

from dataclasses import replace
from itertools import product

from moebook.models import catalog, sizes
from moebook.sections.hyperparameter_scaling.params import Params
from moebook.study import model_names, points
from moebook.study.estimates import check
from moebook.study.lengths import longest
from moebook.study.plan import Plan, Point
from moebook.study.points import derived, reduced, settings, try_edit, unless
from moebook.study.routing import MODEL, imposed

GRID = "grid"


def plan(p: Params) -> Plan:
    """Sweeps `grid` (with imposed routing `grid_same` and the like), `routing`, `batch_topk`,
    `batch_length` and `validation`, and `support`: the points that others are extrapolated from."""
    p = model_names.with_models(
        p,
        grid_model=points.fits(p, [p.grid_batch], [p.grid_tokens]),
        routing_models=points.fits(p, [p.grid_batch], [p.routing_tokens]),
        comparison_models=points.fits(p, p.batches, p.compared_lengths()),
        validation_model=points.fits(p, [p.grid_batch], [p.validation_tokens]),
    )
    grids = [point for word in p.grid_routings for point in _grid(p, word)]
    compared = _batch_sweeps(p)
    metered = points.energy_twins(p, _at_longest(p, compared))
    planned = [*grids, *_routing(p), *compared, *metered, *_validation(p)]
    return points.plan_of(p, planned)


def _grid(p: Params, routing: str) -> list[Point]:
    if p.grid_model is None:
        return []
    base, sweep = catalog.load(p.grid_model), GRID if routing == MODEL else f"{GRID}_{routing}"
    engine = settings(p, (p.grid_batch,), p.grid_tokens.total, routing=imposed(routing))
    cells = []
    for ffn, experts, active in product(p.ffn_dims, p.expert_counts, p.active_experts):
        arch, reason = try_edit(base, ffn_dim=ffn, num_experts=experts, top_k=active)
        cell = points.point(p, arch, engine, p.grid_batch, p.grid_tokens, sweep)
        cells.append(_within_capacity(p, unless(cell, reason)))
    fitting = [cell for cell in cells if check(cell, p.device).status == "ready"]
    if p.reduced_layers is None or len(fitting) == len(cells) or not fitting:
        return cells
    return _by_depth(p, cells, fitting)


def _within_capacity(p: Params, cell: Point) -> Point:
    weights = sizes.weight_bytes(cell.architecture, p.dtype) / 1e9
    if cell.status != "ready" or p.capacity_limit_gb is None or weights <= p.capacity_limit_gb:
        return cell
    reason = (
        f"weights of {weights:.0f} GB exceed the study's {p.capacity_limit_gb:.0f} GB of four "
        f"80 GB cards"
    )
    return replace(cell, status="oom", reason=reason)


def _by_depth(p: Params, cells: list[Point], fitting: list[Point]) -> list[Point]:
    """Cells too large for the device, each extrapolated from a reduced engine of its own and from
    the anchor's pair.

    The anchor is the largest cell that fits, at its fewest active experts: run at both depths, it
    gives the intercept (embedding, head, sampling, host), which does not depend on FFN, experts or
    active experts."""

    def size(cell: Point) -> tuple[float, int]:
        return sizes.weight_bytes(cell.architecture, p.dtype), -cell.architecture.top_k

    anchor = max(fitting, key=size)
    anchor_low = reduced(anchor, p.reduced_layers)
    out = [anchor_low]
    for cell in cells:
        checked = check(cell, p.device)
        low = None
        if cell.status == "ready" and checked.status != "ready":
            low = check(reduced(cell, p.reduced_layers), p.device)
        if low is None or low.status != "ready":
            out.append(checked)
        else:
            out += [low, derived(cell, [low], [anchor, anchor_low])]
    return out + _anchor_check(p, anchor, anchor_low, fitting)


def _anchor_check(p: Params, anchor: Point, anchor_low: Point, fitting: list[Point]) -> list[Point]:
    """The anchor's cell with the most active experts, measured in full, and extrapolated like the
    others."""

    def shape(cell: Point) -> tuple[int, int]:
        return cell.architecture.expert_ffn_dim, cell.architecture.num_experts

    same = [c for c in fitting if shape(c) == shape(anchor) and c.key != anchor.key]
    if not same:
        return []
    cell = max(same, key=lambda c: c.architecture.top_k)
    low = reduced(cell, p.reduced_layers)
    whole = replace(cell, sweeps=("validation",))
    return [low, whole, derived(whole, [low], [anchor, anchor_low])]


def _routing(p: Params) -> list[Point]:
    """Each routing in turn, and the routers' own: for distinct prompts, and for identical ones at
    temperature 0, which every sequence continues alike."""
    found = []
    for name, active in product(p.routing_models, p.routing_active_experts):
        arch, reason = try_edit(catalog.load(name), top_k=active)
        for word in dict.fromkeys((*p.routings, MODEL)):
            engine = settings(p, (p.grid_batch,), p.routing_tokens.total, routing=imposed(word))
            cell = points.point(p, arch, engine, p.grid_batch, p.routing_tokens, "routing")
            found.append(unless(cell, reason))
        alike = replace(cell.workload, identical=True, temperature=0.0)
        found.append(unless(replace(cell, workload=alike), reason))
    return found


def _batch_sweeps(p: Params) -> list[Point]:
    found, most = [], longest(p.compared_lengths())
    for name in p.comparison_models if most else ():
        base = catalog.load(name)
        own = {"routing": imposed(p.comparison_routing), "graphs": p.graphs_of(name)}
        engine = settings(p, p.batches, most.total, **own)
        for batch, length in product(p.batches, p.lengths):
            found.append(points.point(p, base, engine, batch, length, "batch_length"))
        for active, batch in product(p.comparison_active_experts, p.batches):
            arch, reason = try_edit(base, top_k=active)
            length = p.comparison_tokens
            point = points.point(p, arch, engine, batch, length, "batch_topk")
            found.append(unless(point, reason))
    return found


def _at_longest(p: Params, compared: list[Point]) -> list[Point]:
    """The published models over batch at the longest length."""
    most = longest(p.lengths)
    return [
        point
        for point in compared
        if "batch_length" in point.sweeps
        and (point.workload.input_tokens, point.workload.output_tokens)
        == (most.tokens_in, most.tokens_out)
    ]


def _validation(p: Params) -> list[Point]:
    """One model in full, sampled, and extrapolated from a quarter and a half of its layers."""
    if p.validation_model is None:
        return []
    arch, length = catalog.load(p.validation_model), p.validation_tokens
    engine = settings(p, (p.grid_batch,), length.total)
    whole = points.point(p, arch, engine, p.grid_batch, length, "validation")
    found = [replace(whole, method=method) for method in ("full", "sampled")]
    depths = [max(arch.num_dense_layers + 1, arch.num_layers // part) for part in (4, 2)]
    for method in ("full", "sampled") if p.sample_from_tokens is None else ("sampled",):
        own = [replace(reduced(whole, layers), method=method) for layers in depths]
        found += [*own, derived(replace(whole, method=method), own)]
    return found
