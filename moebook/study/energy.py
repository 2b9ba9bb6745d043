"""Energy of points: what parameters say of it, and the points that measure it.

A timed run is too short for a driver's energy counter, so a point of energy repeats its twin's
prefill and its decode steps for seconds, in a run of its own (engine/vllm/energy.py)."""

from collections.abc import Iterable
from dataclasses import replace

from moebook.study import params
from moebook.study.plan import Point
from moebook.study.points import EngineParams

METHOD = SWEEP = "energy"


class EnergyParams(EngineParams):
    """energy_batches: batches (sequences) of which energy is measured. device_hour_price: of one
    device, in any currency; null: no cost is told."""

    energy_batches: params.Counts = ()
    device_hour_price: params.NonNegative | None = None


class ComparedParams(EnergyParams):
    """What notebooks take that set models beside each other. default_graphs: models whose points
    run under the engine's own graphs, as the profile's would slow them."""

    default_graphs: params.Names = ()

    def graphs_of(self, model: str) -> str:
        return "default" if model in self.default_graphs else self.graphs


def twins(p: EnergyParams, points: Iterable[Point]) -> list[Point]:
    """A point of energy for each that runs whole at one of `energy_batches`."""
    return [
        replace(point, method=METHOD, repeats=1, sweeps=(SWEEP,))
        for point in points
        if point.workload.batch in p.energy_batches
        and point.needs_engine
        and not point.is_derived
        and "support" not in point.sweeps
    ]
