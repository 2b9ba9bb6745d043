"""Summaries of section 5's shipped plans with planted times. Tests only: no number here was
measured."""

from functools import cache
from pathlib import Path

import pandas as pd

from moebook import sections
from moebook.models import costs
from moebook.predict.communication import Links
from moebook.results import derived, table
from moebook.results.loading import architecture_of
from moebook.sections.parallelism.enrich import with_composed
from moebook.study.plan import Plan, Point

STEM = "05_parallelism"
BYTES_PER_S, FLOPS_PER_S, HOST_S = 2e12, 5e14, 1e-3
RUN = {
    "TP": 1.10,
    "TP+EP": 1.25,
    "PP": 0.9,
    "PP+EP": 0.9,
}  # planted time of a run, over an even split of the work
SPREAD = (1.0, 0.99, 1.02)


@cache
def plan(profile: str) -> Plan:
    return sections.parameters_of(sections.find(STEM), Path("params") / profile / f"{STEM}.yaml")[1]


def composed(
    profile: str, links: Links, device: tuple[str, str] = ("synthetic", "h100"), without: str = ""
) -> pd.DataFrame:
    """The summary with a row composed for every mode."""
    known = architecture_of(plan(profile))
    return with_composed(summary(profile, device, without), links, known)


def seconds(point: Point) -> tuple[float, float]:
    """(TTFT, step): host, bytes and FLOPs one after the other, split evenly over devices; a
    pipeline's stages in turn."""
    arch, work, engine = point.architecture, point.workload, point.engine
    prefill = costs.prefill_cost(arch, work.batch, work.input_tokens)
    decode = costs.decode_cost(arch, work.batch, work.input_tokens + work.output_tokens // 2)
    slower = RUN.get(point.series, 1.0)
    split = engine.tensor_parallel
    return (
        slower * (HOST_S + prefill.total_flops / FLOPS_PER_S / split),
        slower * (HOST_S + decode.total_bytes / BYTES_PER_S / split),
    )


def record(point: Point, device: tuple[str, str]) -> dict:
    ttft, step = seconds(point)
    repeats = [
        {"ttft_s": f * ttft, "e2e_s": f * (ttft + (point.workload.output_tokens - 1) * step)}
        for f in SPREAD
    ]
    return {
        "status": "ok",
        "reason": None,
        "repeats": repeats,
        "method": point.method,
        "num_layers": point.architecture.num_layers,
        "engine": {},
        "provenance": {"device": device[0], "device_kind": device[1], "engine_version": "none 0"},
    }


def summary(
    profile: str, device: tuple[str, str] = ("synthetic", "h100"), without: str = ""
) -> pd.DataFrame:
    """A summary in which every point that can run has its planted time, but those of series that
    begin with `without`."""
    return _summary(profile, device, without).copy()


@cache
def _summary(profile: str, device: tuple[str, str], without: str) -> pd.DataFrame:
    return summary_of(plan(profile), device, without)


def summary_of(made: Plan, device: tuple[str, str], without: str = "") -> pd.DataFrame:
    """The same of any plan."""
    records = {
        p.key: record(p, device)
        for p in made.measured
        if not (without and p.series.startswith(without))
    }
    return table.summarize(derived.add_metrics(table.assemble(made, records)))
