"""A part of a plan for one job of a job array: `3/8` is the third of eight.

Points that share an engine stay together. Builds are dealt out by their estimated seconds, the
longest first, each to the part that has least so far; so parts differ by one build at most, and
every job of the array finds the same split without asking the others. The parts have no point in
common, and together they are all that the plan measures. Points of a depth method are not measured
but computed from those that are: they belong to no part."""

import re
from dataclasses import dataclass, replace

from moebook import devices
from moebook.study.estimates import engine_start_s, estimate_s
from moebook.study.plan import Plan, Point

MOST = 100_000  # jobs of an array, far beyond any scheduler's


@dataclass(frozen=True)
class Shard:
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
