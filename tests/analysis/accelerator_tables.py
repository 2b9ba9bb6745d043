"""Synthetic results of section 8, written as point files and read the way a notebook does. No
number here was measured.

Every point of a shipped plan that can run takes its floor over EFFICIENCY plus LAUNCH_S a step;
beyond `knee` tokens E2E grows by the exponent KNEE more. What is not to be there is left out by
profile, sweep or status."""

import json
from dataclasses import asdict
from pathlib import Path

import cases

from moebook import devices, sections
from moebook.measure.store import Store
from moebook.predict.roofline import Ceilings
from moebook.results.loading import Results, load
from moebook.sections import parameters_of
from moebook.study.plan import describe

STEM = "08_accelerator_comparison"
SECTION = sections.find(STEM)
EFFICIENCY, LAUNCH_S, KNEE = 0.6, 1e-3, 0.3
RATES = {"cpu": (2e10, 4e11), "h100": (3e12, 8e14), "h200": (4.3e12, 7.9e14)}
DEVICES = {
    "cpu": (devices.detect().name, 16 * 10**9),
    "h100": ("synthetic H100", 85 * 10**9),
    "h200": ("synthetic H200", 150 * 10**9),
}
SPREAD = (0.99, 1.0, 1.02)


def params_of(profile: str, root: Path, **changes):
    params, _ = parameters_of(SECTION, Path("params") / profile / f"{STEM}.yaml")
    data = {**params.model_dump(), "output_root": str(root), **changes}
    return SECTION.params(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})


def write(
    profile: str, root: Path, knee: int | None = None, sweeps: tuple[str, ...] = (), **changes
):
    """Point files and ceilings of a profile under `root`; sweeps: only these. Returns its
    parameters."""
    params = params_of(profile, root, **changes)
    plan = SECTION.plan(params)
    name, memory = DEVICES[plan.device]
    copy, flops = RATES[plan.device]
    limits = Ceilings(name, copy, flops, "bfloat16")
    store = Store(root, plan)
    store.write_ceilings(asdict(limits))
    for point in plan.measured:
        if sweeps and not set(sweeps) & set(point.sweeps):
            continue
        source = {
            "device": name,
            "device_kind": plan.device,
            "device_memory_bytes": memory,
            "engine_version": "none 0",
            "started_at": "2026-01-01T00:00:00+00:00",
            "device_count": 1,
        }
        record = {
            **describe(point),
            "status": "ok",
            "reason": None,
            "repeats": repeats(point, limits, knee),
            "engine": {},
            "provenance": source,
        }
        store.write(store.path(point, name, "none 0"), json.loads(json.dumps(record)))
    return params


def repeats(point, limits: Ceilings, knee: int | None) -> list[dict]:
    work, n = point.workload, point.workload.output_tokens
    if point.method == "endpoint":
        return [{"ttft_s": f * 0.01, "e2e_s": f * (0.01 + 4e-4 * n)} for f in SPREAD]
    same = Ceilings(
        limits.device, limits.copy_bytes_per_s, limits.matmul_flops_per_s, point.engine.dtype
    )
    floor = cases.floor(
        point.architecture,
        work.batch,
        work.input_tokens,
        n,
        same,
        point.engine.dtype,
        quantization=point.engine.quantization,
    )
    ttft = floor.floor_ttft_s / EFFICIENCY + LAUNCH_S
    e2e = ttft + (n - 1) * ((floor.floor_tpot_s or 0) / EFFICIENCY + LAUNCH_S)
    steeper = max(1.0, work.input_tokens / knee) ** KNEE if knee else 1.0
    return [{"ttft_s": f * ttft, "e2e_s": f * e2e * steeper} for f in SPREAD]


def results(
    profile: str, root: Path, beside: tuple[str, ...] = (), knee: int | None = None, **changes
) -> Results:
    """Results of a profile with those of others beside it."""
    for other in beside:
        write(other, root, knee)
    params = write(profile, root, knee, **{"beside": beside, **changes})
    return load(params, SECTION.plan(params), SECTION.enrich)
