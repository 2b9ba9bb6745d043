"""The factors of the performance model, and the seconds a step takes with them (formula in
predict.py).

Letters: B batch, S tokens, L layers.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from moebook.predict.roofline import Case, Ceilings, peak_flops


@dataclass(frozen=True)
class Factors:
    """Seconds, and efficiencies as fractions of the measured ceilings (over 1 where caches beat the
    copy)."""

    host_step_s: float
    host_prefill_s: float
    layer_s: float
    request_s: float
    expert_bytes: float
    other_bytes: float
    kv_bytes: float
    expert_flops: float
    other_flops: float


# In order of importance: the first ones are kept when points are few. A dropped factor takes its
# sibling's value or 0.
IMPORTANCE = (
    "host_step_s",
    "expert_bytes",
    "expert_flops",
    "other_bytes",
    "host_prefill_s",
    "other_flops",
    "layer_s",
    "kv_bytes",
    "request_s",
)
SIBLING = {
    "other_bytes": "expert_bytes",
    "host_prefill_s": "host_step_s",
    "other_flops": "expert_flops",
    "kv_bytes": "other_bytes",
    "layer_s": None,
    "request_s": None,
}


@dataclass(frozen=True)
class Calibration:
    """Factors of one device and one way of splitting a model over devices; `notes` says what was
    dropped and why."""

    ceilings: Ceilings
    factors: Factors
    num_points: int
    parallel: tuple[int, int, bool] = (1, 1, False)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict:
        return {**asdict(self), "parallel": list(self.parallel), "notes": list(self.notes)}

    @classmethod
    def from_dict(cls, data: Mapping) -> "Calibration":
        return cls(
            Ceilings.from_dict(data["ceilings"]),
            Factors(**data["factors"]),
            data["num_points"],
            tuple(data["parallel"]),
            tuple(data["notes"]),
        )


@dataclass(frozen=True)
class Step:
    """One kind of step of N points.

    byte_s, flop_s: (N, 3) seconds at the ceilings of routed experts, the rest, KV cache; layers,
    batch: (N,)."""

    byte_s: np.ndarray
    flop_s: np.ndarray
    layers: np.ndarray
    batch: np.ndarray

    def seconds(self, factors: Factors, host_s: float) -> np.ndarray:
        byte_s = self.byte_s / [factors.expert_bytes, factors.other_bytes, factors.kv_bytes]
        flop_s = self.flop_s / [factors.expert_flops, factors.other_flops, factors.other_flops]
        return (
            host_s
            + factors.layer_s * self.layers
            + factors.request_s * self.batch
            + np.hypot(byte_s, flop_s).sum(1)
        )


def _component(name: str) -> int:
    return 0 if name == "experts" else 2 if name.startswith("kv") else 1


def _step(cases: list[Case], costs: list, ceilings: Ceilings) -> Step:
    byte_s, flop_s = np.zeros((len(cases), 3)), np.zeros((len(cases), 3))
    for i, (case, cost) in enumerate(zip(cases, costs, strict=True)):
        for name, value in cost.bytes.items():
            byte_s[i, _component(name)] += value / ceilings.copy_bytes_per_s / case.num_devices
        for name, value in cost.flops.items():
            flop_s[i, _component(name)] += value / peak_flops(case, ceilings) / case.num_devices
    return Step(
        byte_s,
        flop_s,
        np.array([c.arch.num_layers for c in cases], float),
        np.array([c.batch for c in cases], float),
    )


def steps(cases: list[Case], ceilings: Ceilings) -> tuple[Step, Step]:
    """Prefill, and a decode step at the middle context of each run."""
    middle = [case.input_tokens + max(1, case.output_tokens // 2) for case in cases]
    return (
        _step(cases, [case.prefill() for case in cases], ceilings),
        _step(cases, [case.decode(m) for case, m in zip(cases, middle, strict=True)], ceilings),
    )
