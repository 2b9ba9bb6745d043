"""The floor: the least time a device can need, from its measured ceilings and what a step must read
and compute.

    decode step   max(bytes / copy bandwidth, FLOPs / matrix rate), averaged over the contexts of
                  the run
    prefill       the same maximum over the whole prompt of the batch
    E2E           prefill + (S_out - 1) decode steps

With k draft tokens a step is the target's decode over B (k + 1) tokens, the cache read once per
sequence, and k decodes of the draft over B tokens, and gives `tokens_per_step` tokens; prefill is
that of both. n-gram lookup costs nothing.

Step j of S_out - 1 attends to S_in + j tokens. Experts are read sparsely
(`costs.distinct_experts`). Several devices share bytes and FLOPs evenly and communicate for
nothing; under tensor parallelism a cache that every rank holds whole (MLA's, or of KV heads that
repeat) is read by each. No such split can beat that. Measured over floor is the figure of merit.
Letters: B batch, S tokens."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd

from moebook.models.architecture import Architecture
from moebook.models.formats import FORMATS, rate
from moebook.predict.case import Case, case_of
from moebook.study.methods import METHODS
from moebook.study.plan import FORMAT_COLUMNS, SHAPE_COLUMNS, SPLIT_COLUMNS
from moebook.study.settings import Workload

FLOOR_COLUMNS = ("floor_ttft_s", "floor_tpot_s", "floor_e2e_s", "floor_throughput_tok_s")
# dtypes with one matrix rate (NVIDIA H100 datasheet: 989 dense TFLOP/s each)
SAME_RATE = {"bfloat16", "float16"}
MAX_CONTEXTS = 33
NO_MODEL = {name: how.no_floor for name, how in METHODS.items() if how.no_floor}
ArchitectureOf = Callable[[pd.Series], Architecture]


@dataclass(frozen=True)
class Ceilings:
    """Measured rates of one device: copy bandwidth (bytes read plus written, per second), matrix
    FLOP/s in `dtype`."""

    device: str
    copy_bytes_per_s: float
    matmul_flops_per_s: float
    dtype: str

    def __post_init__(self):
        for name in ("copy_bytes_per_s", "matmul_flops_per_s"):
            if not getattr(self, name) > 0:
                raise ValueError(
                    f"{name} {getattr(self, name)!r}: a ceiling must be measured and over 0"
                )


@dataclass(frozen=True)
class Floor:
    """Least seconds of prefill, of a decode step (None without one), end to end; most tokens/s,
    input + output."""

    floor_ttft_s: float
    floor_tpot_s: float | None
    floor_e2e_s: float
    floor_throughput_tok_s: float


def contexts_of(work: Workload) -> np.ndarray:
    """At most 33 evenly spaced contexts of the decode steps; cost is linear in between but for
    sliding windows."""
    return _contexts(work.input_tokens + 1, work.output_tokens - 1)


@lru_cache(1 << 10)
def _contexts(first: int, steps: int) -> np.ndarray:
    if steps < 1:
        return np.array([], dtype=int)
    spaced = np.linspace(first, first + steps - 1, min(steps, MAX_CONTEXTS))
    return np.unique(spaced.round().astype(int))


def no_ceiling(case: Case, ceilings: Ceilings) -> str | None:
    """Why these ceilings say nothing of this case, or None."""
    dtype, quantization = case.settings.dtype, case.settings.quantization
    both = {dtype, ceilings.dtype}
    alike = ceilings.device.startswith("NVIDIA") and both <= SAME_RATE
    if dtype != ceilings.dtype and not alike:
        return (
            f"dtype {dtype}: the matrix rate of {ceilings.device} was measured in "
            f"{ceilings.dtype}; measure it in that dtype, too"
        )
    if rate(case.arch, quantization) is None:
        return (
            f"quantization {quantization!r}: no matrix rate known for it; known: "
            f"{', '.join(str(k) for k in FORMATS)}"
        )
    return None


def floor_of(case: Case, ceilings: Ceilings) -> Floor:
    """Of one workload. ValueError where `ceilings` hold no matrix rate for its dtype or
    quantization, or nothing is known of its draft or of what its steps gain."""
    if problem := no_ceiling(case, ceilings):
        raise ValueError(problem)
    rates = ceilings.copy_bytes_per_s, ceilings.matmul_flops_per_s
    work, tpot_s = case.workload, None
    drafted = case.settings.speculation.num_tokens if case.drafting else 0
    models = [(case, 1), *([(case.drafting, drafted)] if drafted else [])]
    ttft_s = float(sum(one.bound_s(one.prefill(), *rates) for one, _ in models))
    if len(contexts := contexts_of(work)):
        steps = sum(n * one.bound_s(one.decode(contexts), *rates) for one, n in models)
        tpot_s = _mean_over(contexts, steps / case.tokens_per_step)
    e2e_s = ttft_s + (work.output_tokens - 1) * (tpot_s or 0.0)
    tokens = work.batch * (work.input_tokens + work.output_tokens)
    return Floor(ttft_s, tpot_s, e2e_s, tokens / e2e_s)


def _mean_over(contexts: np.ndarray, seconds: np.ndarray) -> float:
    """Mean over every whole context from the first to the last, linear between the given ones."""
    every = np.arange(contexts[0], contexts[-1] + 1)
    return float(np.interp(every, contexts, seconds).mean())


def no_model(row: pd.Series | Mapping) -> str | None:
    """Why neither floor nor prediction speaks of a row, or None."""
    skew = row.get("skew")
    if skew is not None and not pd.isna(skew) and skew > 0:
        return "its routing is imposed and skewed; the model knows uniform and same"
    if row.get("identical") in (True,):
        return "its sequences are identical, and how many experts they share is not known"
    return NO_MODEL.get(row.get("method"))


SHAPE = ("model", *SHAPE_COLUMNS, *FORMAT_COLUMNS, *SPLIT_COLUMNS)
WORKLOAD = (
    "batch",
    "input_tokens",
    "output_tokens",
    "draft",
    "draft_tokens",
    "tokens_per_step",
    "set_acceptance",
    "routing",
    "identical",
    "skew",
)


def add_floor(
    table: pd.DataFrame, ceilings: Ceilings, architecture_of: ArchitectureOf
) -> pd.DataFrame:
    """A copy of a results table or summary with FLOOR_COLUMNS, and `floor_reason` where a row has
    no floor.

    `architecture_of(row)` gives the Architecture a row was run with, depth included. Rows that are
    infeasible, of another device, or in a dtype without a measured matrix rate get nulls."""
    alike = [c for c in (*SHAPE, *WORKLOAD, "status", "method", "device") if c in table]
    kind = table.groupby(alike, sort=False, dropna=False).ngroup().to_numpy()
    needed = [c for c in (*alike, "key", "graphs", "speculative", "series") if c in table]
    firsts = table[needed].iloc[np.unique(kind, return_index=True)[1]].to_dict("records")
    found = [_floor_cells(row, ceilings, architecture_of) for row in firsts]
    columns = (*FLOOR_COLUMNS, "floor_reason")
    floors = pd.DataFrame(found, columns=list(columns)).astype(
        {c: "float64" for c in FLOOR_COLUMNS}
    )
    return table.assign(**{c: floors[c].to_numpy()[kind] for c in columns})


def _floor_cells(row: pd.Series, ceilings: Ceilings, architecture_of: ArchitectureOf) -> tuple:
    nothing = (None,) * len(FLOOR_COLUMNS)
    device = row.get("device")
    if row.get("status") == "infeasible":
        return *nothing, "infeasible"
    if reason := no_model(row):
        return *nothing, reason
    if device is not None and not pd.isna(device) and device != ceilings.device:
        return *nothing, f"measured on {device}; the ceilings are those of {ceilings.device}"
    try:
        floor = floor_of(case_of(row, architecture_of(row)), ceilings)
    except ValueError as error:
        return *nothing, str(error)
    return *(getattr(floor, c) for c in FLOOR_COLUMNS), None
