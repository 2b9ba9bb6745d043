"""A notebook from nothing and again with all points present, through `moebook run`. One JSON line.

  python benchmarks/notebook_run.py params/cpu/01_hyperparameter_scaling.yaml
Expected for that file on two free cores: under 180 s from nothing, under 10 s again, at least 12
engine configurations from one worker. Writes into the profile's own outputs folder, which must not
hold points yet."""

import json
import statistics
import sys
import time
from pathlib import Path

from moebook import devices, sections
from moebook.execute import execute
from moebook.measure.store import Store
from moebook.sections import parameters_of


def main() -> None:
    file = Path(sys.argv[1])
    section = sections.find(str(file))
    params, plan = parameters_of(section, file)
    store = Store(params.output_root, plan)
    if store.points_folder.exists():
        sys.exit(f"{store.points_folder} exists: a run from nothing needs it gone")
    seconds = []
    for _ in range(2):
        started = time.monotonic()
        outcome = execute(section, file)
        seconds.append(round(time.monotonic() - started, 1))
        if not outcome.whole:
            sys.exit(outcome.line())
    device = devices.require(plan.device)
    records = store.records(device.name).values()
    built = [
        r["engine"]["engine_start_s"] for r in records if not r["engine"].get("top_k_switched")
    ]
    print(
        json.dumps(
            {
                "benchmark": "notebook_run",
                "params": str(file),
                "device": device.name,
                "from_nothing_s": seconds[0],
                "again_s": seconds[1],
                "configurations": plan.num_engines,
                "builds": plan.num_builds,
                "workers": max(r["worker"] for r in records),
                "engine_start_median_s": round(statistics.median(built), 2),
                "points": outcome.counts,
            }
        )
    )


if __name__ == "__main__":
    main()
