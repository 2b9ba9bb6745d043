"""Measures chosen points of several parameter files, stage by stage, on machines that are ours for
minutes: it says what is planned, ends itself, and goes on where it ended.

    python benchmarks/stages.py STAGES.yaml RESULTS [--minutes 8] [--plan]

A stage is `file` (parameters), `where` (a pandas query on the columns of `moebook plan --json`), and
may have `set` (parameters to replace), `fewer_than` (of records in outputs/reference), `reverse`
(builds from the last) and `minutes` (begin no point of it after that long). --plan only prints."""

import argparse
import time
from dataclasses import replace
from pathlib import Path

import yaml

from moebook import devices, sections
from moebook.measure import run
from moebook.measure.executors import Local
from moebook.measure.run import _reversed_builds as reversed_builds
from moebook.study.estimates import plan_s, to_frame
from moebook.study.params import load
from moebook.study.plan import Plan

REFERENCE = Path(__file__).parents[1] / "outputs/reference"


def chosen(stage: dict) -> Plan:
    """The plan's points that a stage measures."""
    file = Path(stage["file"])
    section = sections.of_file(file)
    params = load(section.params, file).model_copy(update=stage.get("set", {}))
    plan = section.plan(params)
    frame = to_frame(replace(plan, points=tuple(plan.measured)), devices.published(plan.device))
    keys = set(frame.query(stage["where"])["key"] if "where" in stage else frame["key"])
    if most := stage.get("fewer_than"):
        held = records(REFERENCE / plan.profile / section.stem)
        keys = {key for key in keys if held.get(key, 0) < most}
    points = [point for point in plan.measured if point.key in keys]
    return replace(
        plan, points=tuple(reversed_builds(points) if stage.get("reverse") else points)
    )


def records(folder: Path) -> dict[str, int]:
    """Records that ship of each point, by its key."""
    import json

    names = {json.loads(f.read_text())["key"]: f.stem for f in folder.glob("points/*.json")}
    return {k: 1 + len([*folder.glob(f"records/{name}/*.json")]) for k, name in names.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--plan", action="store_true")
    given = parser.parse_args()
    started = time.monotonic()
    stages = yaml.safe_load(given.stages.read_text())
    with Local(given.results / "worker.log") as executor:
        for stage in stages:
            plan = chosen(stage)
            seconds = plan_s(plan, devices.published(plan.device))
            title = f"{plan.profile} {plan.notebook} {stage.get('where', '')}"
            print(f"== {title}: {len(plan.points)} points, about {seconds:.0f} s", flush=True)
            if given.plan:
                for p in plan.points:
                    print("  ", p.key, p.architecture.name, p.engine.routing, p.workload.batch, p.workload.output_tokens, p.method)
                continue
            left = 60 * given.minutes - (time.monotonic() - started)
            left = min(left, 60 * stage.get("minutes", given.minutes))
            if left > 0 and plan.points:
                counts = run.measure(
                    plan, given.results, executor=executor, limit_s=180, stop_after_s=left
                )
                print(dict(counts), f"{time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
