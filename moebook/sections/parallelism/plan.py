"""Section 5: from parameters to points."""

from moebook.models import catalog
from moebook.models.architecture import Architecture
from moebook.models.one_rank import ONE, indivisible, rank_series, shard, stand_in
from moebook.sections.parallelism.params import NOTEBOOK, Params
from moebook.study import model_names, points
from moebook.study.estimates import check
from moebook.study.plan import EngineSettings, Plan, Point, merge
from moebook.study.points import full_or_by_depth, unless

STAND_IN = "stand-in"


def plan(p: Params) -> Plan:
    p = model_names.with_models(p, models=points.fits(p, [*p.batches, *p.tp_batches], [p.tokens]))
    architectures = [catalog.load(name) for name in p.models]
    planned = [
        q for arch in architectures for q in (*_modes(p, arch), *_shards(p, arch), *_check(p, arch))
    ]
    planned += [
        q
        for arch in architectures
        for cell in _alone(p, arch)
        for q in full_or_by_depth(cell, p.device, p.reduced_layers)
    ]
    return Plan(NOTEBOOK, p.profile, p.device, merge(check(q, p.device) for q in planned))


def _engine(p: Params, **parallel) -> EngineSettings:
    """Graphs for every power of two up to the batch: a pipeline's micro-batches are of any size."""
    batches = {*p.batches, *p.tp_batches}
    halves = {2**i for i in range(max(batches).bit_length())}
    return points.settings(p, batches | halves, p.tokens.total, **parallel)


def _parallel(mode: str, count: int) -> dict:
    over = "tensor_parallel" if mode.startswith("TP") else "pipeline_parallel"
    return {over: count, "expert_parallel": mode.endswith("+EP")}


def _batches(p: Params, mode: str) -> list[int]:
    return sorted({*p.batches, *p.tp_batches} if mode in ("TP", ONE) else p.batches)


def _point(
    p: Params, arch: Architecture, engine: EngineSettings, batch: int, sweep: str, series: str
) -> Point:
    return points.point(p, NOTEBOOK, arch, engine, batch, p.tokens, sweep, series=series)


def _modes(p: Params, arch: Architecture) -> list[Point]:
    """The engine over G devices; one device is one point, which all modes share."""
    if not (p.modes and p.device_counts):
        return []
    found = [_point(p, arch, _engine(p), b, "modes", ONE) for b in _batches(p, ONE)]
    for mode in p.modes:
        for count in (c for c in p.device_counts if c > 1):
            reason = indivisible(arch, mode, count)
            if count > p.num_devices:
                reason = f"needs {count} devices, this profile has {p.num_devices}"
            found += [
                unless(
                    _point(p, arch, _engine(p, **_parallel(mode, count)), b, "modes", mode), reason
                )
                for b in _batches(p, mode)
            ]
    return found


def _shards(p: Params, arch: Architecture) -> list[Point]:
    """One rank of every mode and G; PP+EP has that of PP. What has no shard has no point: `_modes`
    tells why."""
    found = []
    for mode in (m for m in p.modes if m != "PP+EP"):
        for count in p.shard_device_counts:
            if count == 1 or indivisible(arch, mode, count):
                continue
            batches, rank = _batches(p, mode), shard(arch, mode, count)
            if mode == "PP":
                batches = sorted({*batches, *(b // count for b in batches if b % count == 0)})
            found += [
                _point(p, rank, _engine(p), b, "shards", rank_series(mode, count)) for b in batches
            ]
    return found


def _check(p: Params, arch: Architecture) -> list[Point]:
    """The whole model in the class that its shards are written in, and in its own."""
    other = stand_in(arch) if p.modes and p.shard_device_counts else None
    if other is None:
        return []
    return [
        _point(p, a, _engine(p), b, "check", series)
        for a, series in ((arch, ONE), (other, STAND_IN))
        for b in p.batches
    ]


def _alone(p: Params, arch: Architecture) -> list[Point]:
    """One device, which composed gains are over: extrapolated from fewer layers where the model
    does not fit it."""
    if not (p.modes and p.shard_device_counts):
        return []
    return [_point(p, arch, _engine(p), b, "shards", ONE) for b in _batches(p, ONE)]
