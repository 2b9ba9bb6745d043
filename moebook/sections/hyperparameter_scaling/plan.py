"""Section 1: how throughput moves with FFN dim, expert count, active experts, batch and length
(Figs 5-9).

Two parts: a grid over one model's skeleton (FFN x experts x active experts), and sweeps of batch
against active experts and against length over two published models. Cells that exceed the device
are run with fewer layers and extrapolated; cells that exceed `capacity_limit_gb` stay out of
memory."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import AfterValidator

from moebook.models import catalog, sizes
from moebook.models.edit import edit
from moebook.study import params, points
from moebook.study.estimates import check
from moebook.study.lengths import Length, both, longest
from moebook.study.plan import Plan, Point, merge
from moebook.study.points import EngineParams, derived, reduced, settings, try_edit, unless

NOTEBOOK = "01_hyperparameter_scaling"
LEAST_VALIDATED = 128  # tokens out that sampling needs


def _long_enough(length: Length) -> Length:
    if length.tokens_out < LEAST_VALIDATED:
        raise ValueError(f"at least {LEAST_VALIDATED} tokens out, which sampling needs")
    return length


class Params(EngineParams):
    notebook: Literal[NOTEBOOK] = NOTEBOOK
    grid_model: str | None = "tiny-mixtral"
    ffn_dims: params.Counts = (128, 512, 2048)
    expert_counts: params.Counts = (4, 8)
    active_experts: params.Counts = (1, 2, 4)
    grid_batch: params.Count = 4
    grid_tokens: Length = Length(8, 8)
    capacity_limit_gb: params.Fraction | None = None
    reduced_layers: params.Count | None = None
    comparison_models: params.Models = ("tiny-deepseek-v2", "tiny-qwen2-moe")
    comparison_active_experts: params.Counts = (1, 4)
    comparison_tokens: Length = Length(8, 8)
    batches: params.Counts = (1, 4, 16)
    lengths: params.Lengths = both(8, 16)
    validation_model: str | None = "tiny-mixtral"
    validation_tokens: Annotated[Length, AfterValidator(_long_enough)] = Length(128, 128)

    def problems(self) -> list[tuple[str, Any, str]]:
        found = super().problems()
        for key, names, length in (
            ("grid_model", [self.grid_model], self.grid_tokens),
            ("comparison_models", self.comparison_models, longest(self._compared())),
            ("validation_model", [self.validation_model], self.validation_tokens),
        ):
            found += points.model_problems(key, points.named(names), length)
        gridded = self.grid_model and self.ffn_dims and self.expert_counts and self.active_experts
        if (
            not found
            and gridded
            and all(k > e for k in self.active_experts for e in self.expert_counts)
        ):
            found.append(
                (
                    "active_experts",
                    self.active_experts,
                    f"every value exceeds every expert count {self.expert_counts}: the grid is "
                    f"empty",
                )
            )
        return found

    def _compared(self) -> list[Length]:
        """Lengths of the sweeps over batch."""
        return [
            *([self.comparison_tokens] if self.comparison_active_experts else []),
            *self.lengths,
        ]


def plan(p: Params) -> Plan:
    p = points.with_models(
        p,
        grid_model=points.fits(p, [p.grid_batch], [p.grid_tokens]),
        comparison_models=points.fits(p, p.batches, p._compared()),
        validation_model=points.fits(p, [p.grid_batch], [p.validation_tokens]),
    )
    planned = [*_grid(p), *_batch_sweeps(p), *_validation(p)]
    return Plan(NOTEBOOK, p.profile, p.device, merge(check(point, p.device) for point in planned))


def views() -> tuple:
    from moebook.explore.views import View

    return (
        View("grid", "grid", "expert_ffn_dim", "top_k", "num_experts"),
        View("batch and active experts", "batch_topk", "batch", "top_k", "model"),
        View("batch and length", "batch_length", "batch", "input_tokens", "model"),
    )


def figures() -> dict:
    from moebook.sections.hyperparameter_scaling import figures as f
    from moebook.sections.hyperparameter_scaling.validation import validation_table

    return {
        "fig05_batch_topk": f.batch_topk,
        "fig06_batch_length": f.batch_length,
        "fig07_ffn_scaling": f.ffn_scaling,
        "fig08_expert_scaling": f.expert_scaling,
        "fig09_active_scaling": f.active_scaling,
        "grid_heatmap": f.grid_heatmap,
        "grid_over_floor": f.grid_heatmap_over_floor,
        "over_floor": f.over_floor,
        "predicted_vs_measured": f.predicted_vs_measured,
        "method_validation": lambda summary, *, width="page": f.method_validation(
            validation_table(summary), width=width
        ),
    }


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

    def at(arch: catalog.Architecture, method: str, sweep: str) -> Point:
        return _point(p, arch, engine, p.grid_batch, length, sweep, method=method)

    low, high = (
        edit(arch, num_layers=max(arch.num_dense_layers + 1, arch.num_layers // n)) for n in (4, 2)
    )
    found = [at(arch, "full", "validation"), at(arch, "sampled", "validation")]
    for method in ("full", "sampled") if p.sample_from_tokens is None else ("sampled",):
        supports = [at(low, method, "support"), at(high, method, "support")]
        found += [*supports, derived(at(arch, method, "validation"), supports)]
    return found
