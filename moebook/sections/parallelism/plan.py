"""Section 5: what several devices gain (Fig 13), with tensor, expert and pipeline parallelism.

Three sweeps:
  modes   the engine itself over G devices, as the profile has them; what it cannot do is a row with
          the reason
  shards  what one rank of each mode and G computes, on one device (models/shards.py); with the time
          that ranks take to communicate (analysis/parallelism.py) it says what G devices would do,
          also where there are none. Stages of a pipeline are run with the whole batch and with B/G
          of it, which fills all stages
  check   a model whose shards are written in another model class, whole in both

Letters: B batch, S tokens, L layers, K experts per token, G devices.
"""

from typing import Any, Literal

from moebook.models import catalog
from moebook.models.catalog import Architecture
from moebook.models.one_rank import MODES, ONE, indivisible, rank_series, shard, stand_in
from moebook.study import params, points
from moebook.study.estimates import check
from moebook.study.lengths import Length
from moebook.study.plan import EngineSettings, Plan, Point, merge
from moebook.study.points import EngineParams, full_or_by_depth, unless

NOTEBOOK = "05_parallelism"
STAND_IN = "stand-in"


class Params(EngineParams):
    notebook: Literal[NOTEBOOK] = NOTEBOOK
    num_devices: params.Count = 2
    models: params.Models = ("tiny-mixtral",)
    modes: params.Names = ("TP", "TP+EP", "PP")
    device_counts: params.Counts = (1, 2)
    shard_device_counts: params.Counts = (2,)
    batches: params.Counts = (8,)
    tp_batches: params.Counts = (1,)  # further batches, of one device and of TP alone
    tokens: Length = Length(16, 16)
    reduced_layers: params.Depths | None = None

    def problems(self) -> list[tuple[str, Any, str]]:
        found = super().problems()
        found += points.unknown("modes", self.modes, MODES)
        found += points.model_problems("models", points.named(self.models), self.tokens)
        if self.device_counts and 1 not in self.device_counts:
            found.append(
                (
                    "device_counts",
                    self.device_counts,
                    "1 among them: it is what gains are over; or [], which "
                    "leaves the engine over several devices out",
                )
            )
        if self.tensor_parallel != 1:
            found.append(
                (
                    "tensor_parallel",
                    self.tensor_parallel,
                    "1: `modes` and `device_counts` set it here",
                )
            )
        return found


def plan(p: Params) -> Plan:
    p = points.with_models(p, models=points.fits(p, [*p.batches, *p.tp_batches], [p.tokens]))
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


def views() -> tuple:
    from moebook.explore.views import View
    from moebook.sections.parallelism.composed import over_devices, with_devices

    return (
        View("over devices", None, "devices", "series", "model", table=over_devices),
        View("run, at all batches", "modes", "devices", "series", "model", table=with_devices),
        View(
            "composed, at all batches", "composed", "devices", "series", "model", table=with_devices
        ),
        View("one rank alone", "shards", "batch", "series", "model"),
    )


def figures() -> dict:
    from moebook.sections.parallelism import figures as f

    return {
        "fig13_parallelism": f.over_devices,
        "step_parts": f.step_parts,
        "efficiency": f.efficiency,
        "composed_vs_measured": f.composed_vs_measured,
    }


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
