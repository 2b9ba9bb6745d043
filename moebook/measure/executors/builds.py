"""What one task of a cluster measures: the points that share an engine, or all single layers.

Why not a point: an engine takes seconds to start (estimates.ENGINE_START_S), as long as most
points, so points that share one stay together, in the plan's order."""

from collections.abc import Iterable
from dataclasses import dataclass

from moebook import devices
from moebook.study.plan import Point


@dataclass
class Build:
    """The points of one task that are not home, by key; losses: how often it was lost since the
    last that came home."""

    points: dict[str, Point]
    need: int
    losses: int = 0
    stuck_since: float | None = None


def builds(points: Iterable[Point]) -> list[Build]:
    """The points by engine, in the plan's order; those that need none, by method."""
    groups: dict[object, dict[str, Point]] = {}
    for point in points:
        groups.setdefault(point.build_key if point.needs_engine else point.method, {})[
            point.key
        ] = point
    return [Build(group, max(map(_gpus, group.values()))) for group in groups.values()]


def _gpus(point: Point) -> int:
    """GPUs that a point is measured on: what training recorded is only read, and a single layer
    runs on one."""
    return 0 if point.method == "training" else 1 if point.is_layer else point.engine.num_devices


def cards_for(points: Iterable[Point], device: devices.Device) -> int:
    """Cards of the device that these points are measured on. ValueError where it has fewer."""
    need = max(1, *map(_gpus, points))
    if device.on_gpu and need > device.count:
        raise ValueError(
            f"these points need {need} of {device.name}, and {device.count} can be seen "
            "here: plan for as many, or show more of them in CUDA_VISIBLE_DEVICES"
        )
    return need
