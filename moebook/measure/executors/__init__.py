"""Where points are measured: on this machine (`local`), or on the nodes of a Ray cluster (`ray`).

An executor is a context manager. `source(kind)` says which device and engine results will come
from, or raises ValueError where there is none of the plan's kind; `claim` takes the device for
points that are measured into a folder, or says why it cannot; `ceilings` measures that device's;
`run` yields each point with its record as soon as there is one. It writes nothing: the caller's
store stays the single truth."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from moebook.study.plan import Point

NAMES = ("local", "ray")


@dataclass(frozen=True)
class Job:
    """limit_s: seconds one point may take. stop_at: begin no further point after this time (seconds
    since 1970)."""

    limit_s: float
    counts_file: Callable[[str], Path]
    say: Callable[[str], None] = print
    stop_at: float | None = None


class Measured(NamedTuple):
    """counts: the file of a point's expert choices, where it was written on another machine."""

    point: Point
    record: dict
    counts: bytes | None = None


def choose(name: str, address: str | None, log: Path):
    """The executor of that name. log: where a worker on this machine writes; address: of the Ray
    cluster."""
    if name not in NAMES:
        raise ValueError(f"no executor {name!r}; executors: {', '.join(NAMES)}")
    if name == "local":
        if address is not None:
            raise ValueError(
                f"an address ({address}) is a Ray cluster's: add --executor ray, or leave "
                f"--address out"
            )
        from moebook.measure.executors.local import Local

        return Local(log)
    from moebook.measure.executors.ray_cluster import RayCluster

    return RayCluster(address)
