"""The measured points that calibrate: rows of a summary, turned back into cases."""

import pandas as pd

from moebook.models import catalog
from moebook.models.architecture import Architecture
from moebook.models.edit import edit
from moebook.models.one_rank import RANK, shard, stand_in
from moebook.predict.step import Case
from moebook.predict.under_bound import of_those_under
from moebook.study import routing
from moebook.study.settings import OWN_BACKENDS, EngineSettings, Speculation, Workload

METHODS = ("full", "sampled")


def usable(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a summary that are predicted, each with its `case`, `format`, `skeleton` and
    whether it `calibrates`: steps with a draft do not, for more than one model is in them. Left
    out: the workbook's own MoE kernels, steps without graphs, identical sequences, and models
    measured under their floor, whose routing is not known."""
    rows = rows[(rows["status"] == "ok") & rows["method"].isin(METHODS)]
    keep = ~of_those_under(rows) & rows["tpot_s"].notna() & rows["ttft_s"].notna()
    keep &= ~rows["asked_moe_backend"].isin(OWN_BACKENDS)
    keep &= (rows["graphs"] != "eager") & ~rows["identical"].fillna(False).astype(bool)
    rows = rows[keep]
    cases = [case(row) for _, row in rows.iterrows()]
    alone = rows["draft_tokens"].fillna(0) == 0
    known = {
        "calibrates": alone,
        "format": [c.format for c in cases],
    }
    return rows.assign(case=cases, **known, skeleton=rows["model"].map(skeleton))


def skeleton(model: str) -> str:
    """The shape of a model that its edits start from, as text (DeepSeek-VL2-small has
    DeepSeek-V2-Lite's)."""
    a = catalog.load(model)
    return f"L{a.num_layers}-H{a.hidden_size}-E{a.num_experts}-K{a.top_k}-I{a.expert_ffn_dim}"


def case(row: pd.Series, arch: Architecture | None = None) -> Case:
    """What a row of a summary was measured with; arch: where it is known already. ValueError for a
    model that is not known."""
    settings = EngineSettings(
        dtype=row["dtype"],
        quantization=_given(row, "quantization"),
        kv_cache_dtype=_given(row, "kv_cache_dtype") or "auto",
        tensor_parallel=int(row["tensor_parallel"]),
        pipeline_parallel=int(row["pipeline_parallel"]),
        expert_parallel=bool(_given(row, "expert_parallel")),
        graphs=row["graphs"],
        routing=routing.imposed(_given(row, "routing") or routing.MODEL),
        speculation=_speculation(row),
    )
    lengths = (int(row[c]) for c in ("batch", "input_tokens", "output_tokens"))
    gained = _given(row, "tokens_per_step") if settings.speculation else None
    work, imposed = Workload(*lengths), settings.routing is not None
    return Case(arch or architecture(row), settings, work, imposed, gained)


def _speculation(row: pd.Series) -> Speculation | None:
    count = int(_given(row, "draft_tokens") or 0)
    if not count:
        return None
    method = _given(row, "speculative") or "draft_model"
    return Speculation(method, count, _given(row, "draft"), _given(row, "set_acceptance"))


def architecture(row: pd.Series) -> Architecture:
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


def _given(row: pd.Series, name: str):
    value = row.get(name)
    return None if value is None or pd.isna(value) else value
