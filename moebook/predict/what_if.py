"""A prediction of one model on one device, with its interval: no engine, no table, no fit.

    >>> from moebook.models.catalog import load
    >>> from moebook.study.settings import EngineSettings, Workload
    >>> p = predict(load("OLMoE-1B-7B-0125"), EngineSettings(), Workload(16, 1024, 256), "h200")
    >>> p.tpot_s.lo95 < p.tpot_s.value < p.tpot_s.hi95
    True

Intervals are split conformal: the half width of a class (one device by batch, several, or a host
that takes longer than the GPU) is the quantile of what models left out of the fit were wrong by.
Outside the range of what was measured it is widened, by WIDER a doubling and for each kind of thing
not measured, and `notes` says so."""

import math
from dataclasses import dataclass, replace

from moebook import devices
from moebook.models import engine_rules, formats
from moebook.models.architecture import Architecture
from moebook.predict import shipped
from moebook.predict.case import Case
from moebook.predict.memory import Memory, memory
from moebook.predict.shipped import DRAFTED, LEVELS, METRICS, Calibration, class_of
from moebook.predict.step import Batch, of_rows
from moebook.study.settings import EngineSettings, Workload

WIDER = 0.5  # of the half width, for each doubling beyond the range and each thing not measured
FEW = 3  # models: a format of fewer leans on one or two


class Unpredictable(ValueError):
    """Nothing can be said of this case; the message says why."""


@dataclass(frozen=True)
class Interval:
    """A value and the intervals that hold it with 80 and 95 %."""

    value: float
    lo80: float
    hi80: float
    lo95: float
    hi95: float

    @classmethod
    def of(cls, value: float, widths: dict[int, float]) -> "Interval":
        """widths: level -> half width on the logarithm."""
        sides = [value * math.exp(s * widths[level]) for level in LEVELS for s in (-1, 1)]
        return cls(value, *sides)

    def inverse(self, amount: float) -> "Interval":
        """amount / this: a rate from a time."""
        return Interval(
            *(amount / v for v in (self.value, self.hi80, self.lo80, self.hi95, self.lo95))
        )


@dataclass(frozen=True)
class Prediction:
    """Times in s, rates in tokens/s, by the formulas of results/derived.py. tpot_s is None for one
    output token. terms: seconds of a decode step in the middle of the run; `host` runs beside all
    others. bound_tpot_s: the card's published rates alone. coverage: metric -> level -> share of
    left-out points of its class that lay in such an interval, None where that was not tested.
    wider: times that its own is as wide, for what was not measured."""

    ttft_s: Interval
    tpot_s: Interval | None
    e2e_s: Interval
    throughput_tok_s: Interval
    output_throughput_tok_s: Interval
    terms: dict[str, float]
    prefill_terms: dict[str, float]
    bound_tpot_s: float
    binds: str
    memory: Memory
    format: str
    notes: tuple[str, ...]
    source: str
    coverage: dict[str, dict[int, float | None]]
    wider: float


def predict(
    arch: Architecture,
    settings: EngineSettings,
    work: Workload,
    device: str = "h200",
    calibration: Calibration | None = None,
) -> Prediction:
    """Of a model so built, under this workload, on cards of a kind. Raises NotCalibrated, and
    Unpredictable for what an engine would refuse or the calibration does not know."""
    known = calibration or shipped.load(device)
    case = Case(arch, settings, work)
    check(case, device)
    ttft, tpot, classes, terms, prefill_terms = seconds(case, known)
    notes, wider = beyond(case, known, classes)
    sides = {m: widths(known, kind, m, wider) for m, kind in classes.items()}
    whole = combined(ttft, tpot, work.output_tokens, sides)
    return Prediction(
        ttft_s=Interval.of(ttft, sides["ttft"]),
        tpot_s=Interval.of(tpot, sides["tpot"]) if work.output_tokens > 1 else None,
        e2e_s=whole,
        throughput_tok_s=whole.inverse(work.batch * (work.input_tokens + work.output_tokens)),
        output_throughput_tok_s=whole.inverse(work.batch * work.output_tokens),
        terms=terms,
        prefill_terms=prefill_terms,
        bound_tpot_s=bound_s(case, known),
        binds=binding(terms),
        memory=memory(
            arch,
            settings,
            work.batch,
            work.input_tokens + work.output_tokens,
            devices.memory_bytes(device) or 0,
            known.reserve,
        ),
        format=case.format,
        notes=tuple(notes),
        source=_source(known, case),
        wider=wider,
        coverage={m: _of_class(known, kind, m)["coverage"] for m, kind in classes.items()},
    )


def combined(ttft: float, tpot: float, tokens_out: int, sides: dict[str, dict]) -> Interval:
    """E2E of a run, its half width the mean of both metrics' by their share of the time: as if
    both erred the same way."""
    e2e = ttft + (tokens_out - 1) * tpot
    share = ttft / e2e
    both = {n: share * sides["ttft"][n] + (1 - share) * sides["tpot"][n] for n in LEVELS}
    return Interval.of(e2e, both)


def seconds(case: Case, known: Calibration) -> tuple[float, float, dict, dict, dict]:
    """Of a prefill, of a decode step for each token it gains, the class of each metric, and terms
    of a step and of a pass of the prefill."""
    batch = Batch([case], [known.rates])
    factors = of_rows(known.factors, known.efficiencies, batch.formats)
    ttft, tpot = (float(v[0]) for v in batch.seconds(factors))
    terms = {k: float(v[0]) for k, v in batch.step_terms(factors).items()}
    prefill_terms = {k: float(v[0]) for k, v in batch.prefill_terms(factors).items()}
    paced = zip(METRICS, batch.host_paced(factors), strict=True)
    classes = {metric: class_of(case, bool(hosts[0])) for metric, hosts in paced}
    return ttft, tpot, classes, terms, prefill_terms


def bound_s(case: Case, known: Calibration) -> float:
    """The least seconds of a decode step a token gained, without a draft's: bytes over published
    bandwidth or FLOPs over the published rate of the format, shared evenly by all ranks but for
    the cache that tensor ranks repeat."""
    work = case.workload
    alone = replace(case, settings=replace(case.settings, speculation=None))
    cost = alone.decode(work.input_tokens + max(1, work.output_tokens // 2))
    rates = known.rates.bytes_per_s, known.rates.flops_per_s
    return float(alone.bound_s(cost, *rates)) / case.tokens_per_step


BINDS = {
    "experts": "reading experts",
    "dense": "reading the other weights",
    "attention": "reading the cache",
    "activations": "activations",
    "head": "sampling",
    "latencies": "latencies of kernels",
    "communication": "communication",
    "host": "host",
    "step": "latencies of kernels",
    "draft": "the draft",
}


def binding(terms: dict[str, float]) -> str:
    """The term that takes most of a decode step, in words."""
    gpu = {k: v for k, v in terms.items() if k not in ("host", "draft")}
    if terms["host"] > sum(gpu.values()):
        return BINDS["host"]
    gpu["latencies"] += gpu.pop("step")
    gpu["draft"] = terms.get("draft", 0.0)
    return BINDS[max(gpu, key=gpu.get)]


def check(case: Case, device: str) -> None:
    """Raises Unpredictable for what no engine runs, or runs in a way that is not calibrated."""
    arch, s, w = case.arch, case.settings, case.workload
    refused = engine_rules.refusal(arch, s.split) or formats.refusal(
        arch, s.quantization, False, devices.compute_capability(device)
    )
    if refused:
        raise Unpredictable(f"{arch.name}: {refused.removeprefix(f'{arch.name}: ')}")
    try:
        _ = case.tokens_per_step
    except ValueError as error:
        raise Unpredictable(str(error)) from None
    if s.graphs in (None, "eager"):
        raise Unpredictable(f"graphs {s.graphs!r}: steps without graphs are not calibrated")
    if (total := w.input_tokens + w.output_tokens) > arch.max_positions:
        raise Unpredictable(
            f"{arch.name} has {arch.max_positions} positions; {w.input_tokens} tokens in and "
            f"{w.output_tokens} out are {total}"
        )


def beyond(case: Case, known: Calibration, classes: dict[str, str]) -> tuple[list[str], float]:
    """What of a case lies outside the calibrated range, in words, and how much wider its intervals
    are for it. classes: of each metric."""
    notes, wider = [], 0.0
    for name, value in measures(case).items():
        low, high = known.range[name]
        if low <= value <= high:
            continue
        limit = high if value > high else low
        wider += WIDER * abs(math.log2(value / limit))
        notes.append(f"{name} {value:g} is outside what was measured ({low:g} to {high:g})")
    for what in _unmeasured(case, known, classes["tpot"]):
        wider += WIDER
        notes.append(what)
    if notes:
        notes.append(f"intervals are {1 + wider:.1f} times as wide for it")
    return notes, 1 + wider


def measures(case: Case) -> dict[str, float]:
    """What the calibrated range is told in."""
    arch, w = case.arch, case.workload
    found = {
        "batch": w.batch,
        "tokens in and out": w.input_tokens + w.output_tokens,
        "hidden size": arch.hidden_size,
        "layers": arch.num_layers,
        "devices": case.settings.num_devices,
    }
    experts = {"experts": arch.num_experts, "expert width": arch.expert_ffn_dim}
    return found | (experts if arch.is_moe else {})


def _unmeasured(case: Case, known: Calibration, kind: str) -> list[str]:
    """Kinds of things that no measured point has, in words."""
    found = []
    own = known.formats.get(case.format)
    if own is None:
        found += [f"{case.format}: no measured rows; 16-bit efficiencies stand in for its own"] * 2
    elif len(own["models"]) < FEW:
        found.append(f"{case.format}: measured of {' and '.join(own['models'])} alone")
    if _of_class(known, kind, "tpot")["models"] < 2:
        found.append(f"steps {kind}: measured of one model, so none was left out")
    if case.arch.is_moe and case.arch.family not in known.inputs["families"]:
        found.append(f"family {case.arch.family} was not measured")
    if not case.arch.is_moe:
        found.append("a dense model: the calibration's points are all of models with experts")
    if case.settings.pipeline_parallel > 1 and case.settings.tensor_parallel > 1:
        found.append("tensor and pipeline parallelism together were not measured")
    kinds = {g.kind for g in case.arch.attention_groups} - set(known.inputs["attention"])
    return found + [f"attention of kind {kind!r} was not measured" for kind in sorted(kinds)]


def widths(known: Calibration, kind: str, metric: str, wider: float) -> dict[int, float]:
    """Half widths of a metric of a class."""
    own = _of_class(known, kind, metric)
    return {level: own[level] * wider for level in LEVELS}


def _of_class(known: Calibration, kind: str, metric: str) -> dict:
    """A class that a device has no points of takes the widest one's, whose coverage is not its."""
    every = {name: found[metric] for name, found in known.intervals.items() if metric in found}
    widest = max(every.values(), key=lambda found: found[95])
    return every.get(kind) or widest | {"coverage": dict.fromkeys(LEVELS)}


def _source(known: Calibration, case: Case) -> str:
    """How sure: the score of this class and format on models left out."""
    what = DRAFTED if case.settings.speculation else case.format
    score = known.scores["left out"].get(what)
    of = f"{what} on {known.device_kind}"
    if score is None:
        return f"no model of {of} could be left out: there is no score"
    return (
        f"{of}, models left out of the fit: TPOT off by {score['tpot_median_pct']:.1f} % in the "
        f"median, {score['tpot_p90_pct']:.0f} % at the 90th percentile ({score['n']} points, "
        f"{score['models']} models)"
    )
