"""One point as the performance models take it: what is run, and how. A row of a summary as a case.

A model's work (`prefill`, `decode`) is what models/costs.py counts of it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from moebook.models import catalog, costs, sharding
from moebook.models.architecture import Architecture
from moebook.models.edit import edit
from moebook.models.formats import OWN, format_name, rate
from moebook.models.one_rank import RANK, shard, stand_in
from moebook.predict.work import expected_tokens
from moebook.study import routing
from moebook.study.settings import EngineSettings, Speculation, Workload

PLAIN = "16-bit"


@dataclass(frozen=True)
class Case:
    """imposed: its experts are drawn by kernels of the workbook's own, which take time that a
    model's routing does not. gained: tokens of a speculative step as measured; None: as the set
    acceptance has them."""

    arch: Architecture
    settings: EngineSettings
    workload: Workload
    imposed: bool = False
    gained: float | None = None

    @property
    def format(self) -> str:
        return format_class(self.arch, self.settings)

    @property
    def tokens_per_step(self) -> float:
        """Tokens that a sequence gains in a step. ValueError where that was neither measured nor
        set."""
        s = self.settings.speculation
        if s is None or self.gained is not None:
            return self.gained or 1.0
        if s.acceptance is None:
            raise ValueError("how many tokens a step gains was neither measured nor set")
        return float(expected_tokens(s.acceptance, s.num_tokens))

    @property
    def drafting(self) -> "Case | None":
        """What the draft model does: the same sequences, one token a pass, in its own format.
        ValueError for a model that is not known."""
        s = self.settings.speculation
        if s is None or s.draft is None:
            return None
        own = replace(self.settings, speculation=None, quantization=OWN)
        return Case(catalog.load(s.draft), own, self.workload)

    def prefill(self) -> costs.Cost:
        work = self.workload
        return costs.prefill_cost(self.arch, work.batch, work.input_tokens, **self._how())

    def decode(self, context: int | np.ndarray) -> costs.Cost:
        """A step at a context, or at each of an array of them; all tokens that it verifies."""
        s = self.settings.speculation
        tokens = 1 + s.num_tokens if s else 1
        how = {**self._how(), "tokens_per_sequence": tokens}
        return costs.decode_cost(self.arch, self.workload.batch, context, **how)

    def bound_s(self, cost: costs.Cost, bytes_per_s: float, flops_per_s: float):
        """The least seconds of work, a number or an array of them; flops_per_s: of bf16. Devices
        share it evenly, but for the cache that tensor ranks repeat."""
        settings, arch, ranks = self.settings, self.arch, self.settings.tensor_parallel
        repeated = sharding.least_kv_share(arch, ranks) * ranks - 1
        moved = cost.total_bytes + repeated * cost.bytes["kv_cache"]
        peak = flops_per_s * (rate(arch, settings.quantization) or 1.0)
        return np.maximum(moved / bytes_per_s, cost.total_flops / peak) / settings.num_devices

    def _how(self) -> dict:
        alike = self.settings.routing == routing.SAME
        return {**self.settings.formats_of(self.arch), "alike": alike}


def format_class(arch: Architecture, settings: EngineSettings) -> str:
    """The number format that has efficiencies of its own. Llama 4 routes by scaling an expert's
    input, which the engine's fast INT4 kernels do not take: it runs others."""
    name = format_name(arch, settings.dtype, settings.quantization)
    if name in ("bfloat16", "float16"):
        return PLAIN
    if name.startswith("INT4") and arch.family.startswith("llama4"):
        return "INT4, input scaled"
    return name


def case_of(row: Mapping, arch: Architecture | None = None) -> Case:
    """What a row of a summary was measured with; arch: where it is known already. ValueError for a
    model that is not known."""
    settings = EngineSettings(
        dtype=_given(row, "dtype") or "bfloat16",
        quantization=_given(row, "quantization"),
        kv_cache_dtype=_given(row, "kv_cache_dtype") or "auto",
        tensor_parallel=int(_given(row, "tensor_parallel") or 1),
        pipeline_parallel=int(_given(row, "pipeline_parallel") or 1),
        expert_parallel=bool(_given(row, "expert_parallel")),
        graphs=_given(row, "graphs"),
        routing=routing.imposed(_given(row, "routing") or routing.MODEL),
        speculation=_speculation(row),
    )
    lengths = (int(row[c]) for c in ("batch", "input_tokens", "output_tokens"))
    gained = _given(row, "tokens_per_step") if settings.speculation else None
    work, imposed = Workload(*lengths), settings.routing is not None
    return Case(arch or architecture(row), settings, work, imposed, gained)


def _speculation(row: Mapping) -> Speculation | None:
    count = int(_given(row, "draft_tokens") or 0)
    if not count:
        return None
    method = _given(row, "speculative") or "draft_model"
    return Speculation(method, count, _given(row, "draft"), _given(row, "set_acceptance"))


def architecture(row: Mapping) -> Architecture:
    """The model of a row as it was run: edited, or a rank's share of it."""
    whole, series = catalog.load(row["model"]), str(row["series"])
    if series == "stand-in":
        return stand_in(whole) or whole
    if series.startswith(RANK):
        mode, devices = series.removeprefix(RANK).split(" ")
        return shard(whole, mode, int(devices))
    changes = {"num_layers": int(row["num_layers"])}
    if whole.is_moe:
        names = {"ffn_dim": "expert_ffn_dim", "num_experts": "num_experts", "top_k": "top_k"}
        changes |= {name: int(row[column]) for name, column in names.items()}
    return edit(whole, **changes)


def _given(row: Mapping, name: str):
    import pandas as pd  # a prediction of a model has no rows

    value = row.get(name)
    return None if value is None or pd.isna(value) else value
