"""Measures chosen points of several parameter files, stage by stage, on a machine that is ours for
minutes: it ends itself, and the same command goes on where it ended.

    python benchmarks/stages.py STAGES.yaml RESULTS [--minutes 8] [--plan]

A stage is `file` (parameters), and may have `where` (a pandas query on the columns of `moebook plan
--json`), `fewer_than` (records that outputs/reference has of a point) and `minutes` (begin no
point of it after that long). --plan prints the points and measures nothing."""

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import yaml

from moebook import devices, paths, sections
from moebook.measure import run
from moebook.measure.executors import Local
from moebook.study.estimates import plan_s, to_frame
from moebook.study.plan import Plan


def chosen(stage: dict) -> Plan:
    """The plan's points that a stage measures."""
    file = Path(stage["file"])
    _, plan = sections.parameters_of(sections.of_file(file), file)
    measured = replace(plan, points=tuple(plan.measured))
    frame = to_frame(measured, devices.published_here(plan.device))
    keys = frame.query(stage.get("where", "key == key"))["key"]
    held = records(paths.reference() / plan.profile / plan.notebook)
    most = stage.get("fewer_than", float("inf"))
    keys = {key for key in keys if held.get(key, 0) < most}
    return replace(plan, points=tuple(p for p in measured.points if p.key in keys))


def records(folder: Path) -> dict[str, int]:
    """By its key, how many records a folder of results has of each point."""
    names = {json.loads(f.read_text())["key"]: f.stem for f in folder.glob("points/*.json")}
    return {key: 1 + len([*folder.glob(f"records/{own}/*.json")]) for key, own in names.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("stages", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--plan", action="store_true")
    given = parser.parse_args()
    ends = time.monotonic() + 60 * given.minutes
    with Local(given.results / "worker.log") as executor:
        for stage in yaml.safe_load(given.stages.read_text()):
            plan = chosen(stage)
            seconds = plan_s(plan, devices.published_here(plan.device))
            title = f"{plan.profile} {plan.notebook} {stage.get('where', '')}"
            print(f"== {title}: {len(plan.points)} points, about {seconds:.0f} s", flush=True)
            if given.plan:
                print("\n".join(f"  {p.key} {p.architecture.name}" for p in plan.points))
            elif plan.points:
                left = min(ends - time.monotonic(), 60 * stage.get("minutes", given.minutes))
                counts = run.measure(
                    plan, given.results, executor=executor, limit_s=180, stop_after_s=left
                )
                print(dict(counts), flush=True)


if __name__ == "__main__":
    main()
