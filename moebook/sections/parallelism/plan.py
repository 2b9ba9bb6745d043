"""Section 5: from parameters to points."""

from moebook.models import catalog, engine_rules
from moebook.models.architecture import Architecture
from moebook.models.one_rank import ONE, impossible, rank_series, shard, stand_in, unshared
from moebook.models.sharding import Split
from moebook.sections.parallelism.params import Params
from moebook.study import model_names, points
from moebook.study.plan import EngineSettings, Plan, Point

STAND_IN = "stand-in"


def plan(p: Params) -> Plan:
    """Points of the sweeps `modes`, `shards` and `check`; series: a mode, `rank of <mode> <G>`,
    `one device` or `stand-in`. What the profile's devices or the model's sizes rule out is
    `infeasible` with the reason."""
    p = model_names.with_models(p, models=points.fits(p, [*p.batches, *p.tp_batches], [p.tokens]))
    models = [catalog.load(name) for name in p.models]
    planned = [q for arch in models for q in (*_modes(p, arch), *_shards(p, arch))]
    planned += [q for arch in models for q in _one_device(p, arch)]
    return points.plan_of(p, planned)


def _points(
    p: Params, arch: Architecture, sweep: str, series: str, batches: list[int], **parallel
) -> list[Point]:
    engine = _engine(p, **parallel)
    return [
        points.point(p, arch, engine, batch, p.tokens, sweep, series=series) for batch in batches
    ]


def _engine(p: Params, **parallel) -> EngineSettings:
    """Graphs for every power of two up to the batch: a pipeline's micro-batches are of any size."""
    batches = {*p.batches, *p.tp_batches}
    halves = {2**i for i in range(max(batches).bit_length())}
    return points.settings(p, batches | halves, p.tokens.total, **parallel)


def _batches(p: Params, mode: str) -> list[int]:
    return sorted({*p.batches, *p.tp_batches} if mode in ("TP", ONE) else p.batches)


def _modes(p: Params, arch: Architecture) -> list[Point]:
    """The engine over G devices; one device is one point, which all modes share."""
    if not (p.modes and p.device_counts):
        return []
    found = _points(p, arch, "modes", ONE, _batches(p, ONE))
    for mode in p.modes:
        split = "tensor_parallel" if mode.startswith("TP") else "pipeline_parallel"
        for count in (c for c in p.device_counts if c > 1):
            lacks = f"needs {count} devices, this profile has {p.num_devices} (num_devices)"
            reason = lacks if count > p.num_devices else None
            parallel = {split: count, "expert_parallel": mode.endswith("+EP")}
            own = _points(p, arch, "modes", mode, _batches(p, mode), **parallel)
            found += [points.unless(point, reason) for point in own]
    return found


def _shards(p: Params, arch: Architecture) -> list[Point]:
    """One rank of every mode and G, and the whole model in the class that its shards are written
    in. PP+EP has the ranks of PP. What the engine would not run over G devices has no rank:
    `_modes` has the reason."""
    if not (p.modes and p.shard_device_counts):
        return []
    found = []
    for mode in (m for m in p.modes if m != "PP+EP"):
        for count in p.shard_device_counts:
            if count > 1 and not engine_rules.refusal(arch, _split(mode, count)):
                found += _ranks(p, arch, mode, count)
    if other := stand_in(arch):
        found += _points(p, arch, "check", ONE, list(p.batches))
        found += _points(p, other, "check", STAND_IN, list(p.batches))
    return found


def _split(mode: str, count: int) -> Split:
    if mode.startswith("PP"):
        return Split(pipeline=count)
    return Split(tensor=count, whole_experts=mode.endswith("+EP"))


def _ranks(p: Params, arch: Architecture, mode: str, count: int) -> list[Point]:
    """One rank of a mode, at the batches of the mode and of a pipeline's micro-batches; with the
    reason where it cannot be run alone."""
    batches = _batches(p, mode)
    if mode == "PP":
        batches = sorted({*batches, *(b // count for b in batches if b % count == 0)})
    reason = impossible(arch, mode, count)
    rank = shard(arch, mode, count) if reason is None else unshared(arch, mode, count)
    ranks = _points(p, rank, "shards", rank_series(mode, count), batches)
    return [points.unless(point, reason) for point in ranks]


def _one_device(p: Params, arch: Architecture) -> list[Point]:
    """One device, which composed gains are over: extrapolated from fewer layers where the model
    does not fit it."""
    if not (p.modes and p.shard_device_counts):
        return []
    own = _points(p, arch, "shards", ONE, _batches(p, ONE))
    return [q for cell in own for q in points.full_or_by_depth(cell, p.device, p.reduced_layers)]
