"""The measured points nearest to a case: what a prediction of it leans on.

Distance is counted in doublings: the root of the sum of squares of log2 ratios of batch, context
(tokens in and out), layers, hidden size, expert width, experts and active experts, with one more of
each kind of thing that differs (model, number format, ranks, routing)."""

import csv
import math
from dataclasses import dataclass
from functools import cache
from importlib import resources

from moebook.predict.shipped import FOLDER, POINTS
from moebook.predict.step import Case
from moebook.study.routing import MODEL, UNIFORM

SIZES = ("batch", "num_layers", "hidden_size", "expert_ffn_dim", "num_experts", "top_k")


@dataclass(frozen=True)
class Near:
    """A measured point and how far it is; times in s."""

    distance: float
    model: str
    shape: str
    format: str
    batch: int
    input_tokens: int
    output_tokens: int
    ttft_s: float
    tpot_s: float
    point_id: str


@cache
def _points(device: str) -> list[dict]:
    file = resources.files("moebook.predict").joinpath(FOLDER, POINTS)
    with file.open(newline="") as text:
        return [row for row in csv.DictReader(text) if row["device_kind"] == device]


def nearest(case: Case, device: str, count: int = 3) -> list[Near]:
    """The `count` nearest points of a device, each shape and workload once; ranks' shares, which
    no user runs, are left out."""
    a, w, s = case.arch, case.workload, case.settings
    here = {
        "batch": w.batch,
        "num_layers": a.num_layers,
        "hidden_size": a.hidden_size,
        "expert_ffn_dim": a.expert_ffn_dim,
        "num_experts": a.num_experts,
        "top_k": a.top_k,
    }
    context = w.input_tokens + w.output_tokens
    kinds = {
        "model": a.unedited_name,
        "format": case.format,
        "tensor_parallel": str(s.tensor_parallel),
        "pipeline_parallel": str(s.pipeline_parallel),
        "routing": s.routing or MODEL,
    }
    found = {}
    for row in _points(device):
        if row["series"].startswith("rank of") or row["draft_tokens"] not in ("", "0", "0.0"):
            continue
        sizes = sum(_doublings(here[name], row[name]) ** 2 for name in SIZES)
        there = int(row["input_tokens"]) + int(row["output_tokens"])
        sizes += _doublings(context, there) ** 2
        others = sum(_alike(row[name]) != _alike(value) for name, value in kinds.items())
        far = math.sqrt(sizes + others)
        place = (row["model"], *(row[n] for n in SIZES), row["format"], there)
        if place not in found or far < found[place][0]:
            found[place] = far, row
    ordered = sorted(found.values(), key=lambda each: each[0])[:count]
    return [_near(far, row) for far, row in ordered]


def _doublings(here: float, there: str | float) -> float:
    """log2 of the ratio; a size that one of both has not counts as 4 doublings."""
    size = float(there or 0)
    if not here or not size:
        return 0.0 if here == size else 4.0
    return math.log2(here / size)


def _alike(kind: str) -> str:
    return MODEL if kind == UNIFORM else kind


def _near(far: float, row: dict) -> Near:
    shape = f"L {row['num_layers']}, I {row['expert_ffn_dim']}, E {row['num_experts']}"
    shape += f", K {row['top_k']}, TP {row['tensor_parallel']}"
    counts = (int(row[name]) for name in ("batch", "input_tokens", "output_tokens"))
    times = (float(row[name]) for name in ("ttft_s", "tpot_s"))
    return Near(round(far, 2), row["model"], shape, row["format"], *counts, *times, row["point_id"])
