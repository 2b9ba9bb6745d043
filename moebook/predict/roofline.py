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
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd

from moebook.models import catalog, costs, sharding
from moebook.models.architecture import Architecture
from moebook.models.formats import FORMATS, OWN, cache_dtype, rate
from moebook.predict.work import expected_tokens
from moebook.study.plan import FORMAT_COLUMNS, SHAPE_COLUMNS, SPLIT_COLUMNS
from moebook.study.routing import SAME

FLOOR_COLUMNS = ("floor_ttft_s", "floor_tpot_s", "floor_e2e_s", "floor_throughput_tok_s")
SAME_RATE = (
    {"bfloat16", "float16"},
)  # dtypes with one matrix rate (NVIDIA H100 datasheet: 989 dense TFLOP/s each)
MAX_CONTEXTS = 33
TRAINED = (
    "trained weights read a text: their routing is not near uniform, which floor and prediction "
    "assume"
)
NO_MODEL = {
    **dict.fromkeys(("layer", "perplexity"), "no run of an engine was timed"),
    "training": "no engine was run",
    "endpoint": "another device answered; accelerators.py has its roofline",
    **dict.fromkeys(("acceptance", "step_experts", "routing", "ablation"), TRAINED),
}  # method -> why it has no floor
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

    to_dict = asdict

    @classmethod
    def from_dict(cls, data: Mapping) -> "Ceilings":
        return cls(**data)


@dataclass(frozen=True)
class Floor:
    """Least seconds of prefill, of a decode step (None without one), end to end; most tokens/s,
    input + output."""

    floor_ttft_s: float
    floor_tpot_s: float | None
    floor_e2e_s: float
    floor_throughput_tok_s: float


@dataclass(frozen=True)
class Case:
    """What a row says about the work to be done; `num_devices` = tensor x pipeline parallel.

    tensor_parallel: ranks that split each layer, 1 where that is not known. draft_tokens: k that a
    step proposes by the model `draft` (None: by lookup). tokens_per_step: tokens a sequence gains.
    alike: all tokens of a step take the same experts."""

    arch: Architecture
    batch: int
    input_tokens: int
    output_tokens: int
    dtype: str = "bfloat16"
    quantization: str | None = None
    kv_dtype: str = "bfloat16"
    num_devices: int = 1
    tensor_parallel: int = 1
    draft: Architecture | None = None
    draft_tokens: int = 0
    tokens_per_step: float = 1.0
    alike: bool = False

    @property
    def drafting(self) -> "Case | None":
        """What the draft model does: the same prompts, and `draft_tokens` plain decodes a step."""
        if self.draft is None:
            return None
        return replace(
            self,
            arch=self.draft,
            quantization=OWN,
            draft=None,
            draft_tokens=0,
            tokens_per_step=1.0,
        )

    def prefill(self) -> costs.Cost:
        return costs.prefill_cost(self.arch, self.batch, self.input_tokens, **self._formats())

    def decode(self, context: int | np.ndarray) -> costs.Cost:
        return costs.decode_cost(
            self.arch,
            self.batch,
            context,
            **self._formats(),
            tokens_per_sequence=self.draft_tokens + 1,
        )

    def contexts(self) -> np.ndarray:
        """At most 33 evenly spaced contexts of the decode steps; cost is linear in between but for
        sliding windows."""
        steps = self.output_tokens - 1
        if steps < 1:
            return np.array([], dtype=int)
        first = self.input_tokens + 1
        return np.unique(
            np.linspace(first, first + steps - 1, min(steps, MAX_CONTEXTS)).round().astype(int)
        )

    def _formats(self) -> dict:
        return {
            "dtype": self.dtype,
            "quantization": self.quantization,
            "kv_dtype": self.kv_dtype,
            "alike": self.alike,
        }


def floor_row(
    arch: Architecture,
    batch: int,
    input_tokens: int,
    output_tokens: int,
    ceilings: Ceilings,
    dtype: str = "bfloat16",
    *,
    quantization: str | None = None,
    kv_dtype: str | None = None,
    num_devices: int = 1,
) -> Floor:
    """Floor of one workload. ValueError where `ceilings` hold no matrix rate for this dtype or
    quantization."""
    case = Case(
        arch,
        batch,
        input_tokens,
        output_tokens,
        dtype,
        quantization,
        kv_dtype or dtype,
        num_devices,
    )
    if problem := no_ceiling(case, ceilings):
        raise ValueError(problem)
    return _floor(case, ceilings)


def no_ceiling(case: Case, ceilings: Ceilings) -> str | None:
    """Why these ceilings say nothing of this case, or None."""
    alike = ceilings.device.startswith("NVIDIA") and any(
        {case.dtype, ceilings.dtype} <= same for same in SAME_RATE
    )
    if case.dtype != ceilings.dtype and not alike:
        return (
            f"dtype {case.dtype}: the matrix rate of {ceilings.device} was measured in "
            f"{ceilings.dtype}; measure it in that dtype, too"
        )
    if rate(case.arch, case.quantization) is None:
        return (
            f"quantization {case.quantization!r}: no matrix rate known for it; known: "
            f"{', '.join(str(k) for k in FORMATS)}"
        )
    return None


def peak_flops(case: Case, ceilings: Ceilings) -> float:
    return ceilings.matmul_flops_per_s * rate(case.arch, case.quantization)


def _floor(case: Case, ceilings: Ceilings) -> Floor:
    peak = peak_flops(case, ceilings)

    def seconds(cost: costs.Cost, arch: Architecture = case.arch):
        ranks = case.tensor_parallel
        repeated = sharding.least_kv_share(arch, ranks) * ranks - 1
        moved = cost.total_bytes + repeated * cost.bytes["kv_cache"]
        bound = np.maximum(moved / ceilings.copy_bytes_per_s, cost.total_flops / peak)
        return bound / case.num_devices

    drafting, tpot_s = case.drafting, None
    ttft_s = float(seconds(case.prefill()))
    if drafting:
        ttft_s += float(seconds(drafting.prefill(), case.draft))
    if len(contexts := case.contexts()):
        steps = seconds(case.decode(contexts))
        if drafting:
            steps = steps + case.draft_tokens * seconds(drafting.decode(contexts), case.draft)
        steps = steps / case.tokens_per_step
        tpot_s = _mean_over(contexts, steps)
    e2e_s = ttft_s + (case.output_tokens - 1) * (tpot_s or 0.0)
    return Floor(
        ttft_s, tpot_s, e2e_s, case.batch * (case.input_tokens + case.output_tokens) / e2e_s
    )


def _mean_over(contexts: np.ndarray, seconds: np.ndarray) -> float:
    """Mean over every whole context from the first to the last, linear between the given ones."""
    every = np.arange(contexts[0], contexts[-1] + 1)
    return float(np.interp(every, contexts, seconds).mean())


def case_of(row: pd.Series | Mapping, architecture_of: ArchitectureOf) -> Case:
    """The work of a row of the results table. ValueError where its draft is unknown, or the tokens
    of its steps are."""

    def text(name: str) -> str | None:
        value = row.get(name)
        return (
            None if value is None or pd.isna(value) or value in ("", "none", "None") else str(value)
        )

    def count(name: str) -> int:
        value = row.get(name)
        return 1 if value is None or pd.isna(value) else int(value)

    arch, quantization = architecture_of(row), text("quantization")
    dtype = text("dtype") or "bfloat16"
    kv_dtype = cache_dtype(arch, dtype, quantization, text("kv_cache_dtype") or "auto")
    return Case(
        arch,
        int(row["batch"]),
        int(row["input_tokens"]),
        int(row["output_tokens"]),
        dtype,
        quantization,
        kv_dtype,
        count("tensor_parallel") * count("pipeline_parallel"),
        count("tensor_parallel"),
        alike=row.get("routing") == SAME,
        **_speculation(row, text("draft")),
    )


def no_model(row: pd.Series | Mapping) -> str | None:
    """Why neither floor nor prediction speaks of a row, or None."""
    skew = row.get("skew")
    if skew is not None and not pd.isna(skew) and skew > 0:
        return "its routing is imposed and skewed; the model knows uniform and same"
    if row.get("identical") in (True,):
        return "its sequences are identical, and how many experts they share is not known"
    return NO_MODEL.get(row.get("method"))


def is_speculative(row: pd.Series | Mapping) -> bool:
    count = row.get("draft_tokens")
    return count is not None and not pd.isna(count) and int(count) > 0


def _speculation(row: pd.Series | Mapping, draft: str | None) -> dict:
    """The fields of a Case on speculation: tokens of a step as measured, else as the set acceptance
    has them."""
    if not is_speculative(row):
        return {}
    k, gained, given = (
        int(row["draft_tokens"]),
        row.get("tokens_per_step"),
        row.get("set_acceptance"),
    )
    if gained is None or pd.isna(gained):
        if given is None or pd.isna(given):
            raise ValueError("how many tokens a step gains was neither measured nor set")
        gained = expected_tokens(float(given), k)
    return {
        "draft": draft and catalog.load(draft),
        "draft_tokens": k,
        "tokens_per_step": float(gained),
    }


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
    firsts = table.iloc[np.unique(kind, return_index=True)[1]].to_dict("records")
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
        case = case_of(row, architecture_of)
    except ValueError as error:
        return *nothing, str(error)
    if problem := no_ceiling(case, ceilings):
        return *nothing, problem
    floor = _floor(case, ceilings)
    return *(getattr(floor, c) for c in FLOOR_COLUMNS), None
