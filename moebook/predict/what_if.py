"""A prediction of one model on one device, with its interval: no engine, no table, no fit.

    >>> from moebook.models.catalog import load
    >>> from moebook.study.settings import EngineSettings, Workload
    >>> p = predict(load("OLMoE-1B-7B-0125"), EngineSettings(), Workload(16, 1024, 256), "h200")
    >>> p.tpot_s.lo95 < p.tpot_s.value < p.tpot_s.hi95
    True

Intervals are split conformal: the half width of a class (one device by batch, or several) is the
quantile of what models left out of the fit were wrong by. Outside the range of what was measured it
is widened, by WIDER a doubling and for each kind of thing not measured, and `notes` says so."""

import math
from dataclasses import dataclass, replace

from moebook import devices
from moebook.models import catalog, costs, engine_rules, formats
from moebook.models.architecture import Architecture
from moebook.models.formats import cache_dtype
from moebook.models.sharding import Split
from moebook.predict import shipped
from moebook.predict.memory import Memory, memory
from moebook.predict.shipped import LEVELS, Calibration, class_of
from moebook.predict.speculation import expected_tokens
from moebook.predict.step import Batch, Case, of_rows
from moebook.study.settings import EngineSettings, Workload

WIDER = 0.5  # of the half width, for each doubling beyond the range and each thing not measured


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
    others. bound_tpot_s: the card's published rates alone. coverage: share of left-out points that
    lay in the 95 % interval."""

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
    coverage: float | None


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
    _check(case, device)
    ttft, step, terms, prefill_terms = seconds(case, known)
    tpot = step / tokens_per_step(settings)
    notes, wider = _beyond(case, known)
    widths = {m: _widths(known, case, m, wider) for m in ("ttft", "tpot")}
    after = max(0, work.output_tokens - 1)
    e2e = ttft + after * tpot
    share = ttft / e2e
    both = {n: share * widths["ttft"][n] + (1 - share) * widths["tpot"][n] for n in LEVELS}
    whole = Interval.of(e2e, both)
    return Prediction(
        ttft_s=Interval.of(ttft, widths["ttft"]),
        tpot_s=Interval.of(tpot, widths["tpot"]) if after else None,
        e2e_s=whole,
        throughput_tok_s=whole.inverse(work.batch * (work.input_tokens + work.output_tokens)),
        output_throughput_tok_s=whole.inverse(work.batch * work.output_tokens),
        terms=terms,
        prefill_terms=prefill_terms,
        bound_tpot_s=bound_s(case, known) / tokens_per_step(settings),
        binds=binding(terms, case, known),
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
        coverage=known.intervals[class_of(case)]["tpot"].get("coverage"),
    )


def seconds(case: Case, known: Calibration) -> tuple[float, float, dict, dict]:
    """Of a prefill, of a decode step, and both by term; with a draft model's work in them."""
    batch = Batch([case], [known.rates])
    factors = of_rows(known.factors, known.efficiencies, batch.formats)
    ttft, step = (float(v[0]) for v in batch.seconds(factors))
    terms = {k: float(v[0]) for k, v in batch.step_terms(factors).items()}
    prefill_terms = {k: float(v[0]) for k, v in batch.prefill_terms(factors).items()}
    speculation = case.settings.speculation
    if speculation and speculation.draft:
        own_ttft, own_step = _drafting(case, known)
        terms["draft"] = speculation.num_tokens * own_step
        ttft, step = ttft + own_ttft, step + terms["draft"]
    return ttft, step, terms, prefill_terms


def _drafting(case: Case, known: Calibration) -> tuple[float, float]:
    """Prefill and step of the draft model alone, on the same sequences."""
    s = replace(case.settings, speculation=None, quantization=formats.OWN)
    small = Case(catalog.load(case.settings.speculation.draft), s, case.workload)
    return seconds(small, known)[:2]


def tokens_per_step(settings: EngineSettings) -> float:
    """Tokens that a sequence gains in a step."""
    s = settings.speculation
    if s is None:
        return 1.0
    if s.acceptance is None:
        raise Unpredictable("speculation without a set acceptance: what a step gains is not known")
    return float(expected_tokens(s.acceptance, s.num_tokens))


def bound_s(case: Case, known: Calibration) -> float:
    """The least seconds of a decode step: bytes over published bandwidth or FLOPs over the
    published rate of the format, shared evenly by all ranks."""
    arch, s, w = case.arch, case.settings, case.workload
    kept = cache_dtype(arch, s.dtype, s.quantization, s.kv_cache_dtype)
    context = w.input_tokens + max(1, w.output_tokens // 2)
    cost = costs.decode_cost(
        arch, w.batch, context, s.dtype, s.quantization, kept, alike=s.routing == "same"
    )
    peak = known.rates.flops_per_s * (formats.rate(arch, s.quantization) or 1.0)
    moved = cost.total_bytes / known.rates.bytes_per_s
    return max(moved, cost.total_flops / peak) / s.num_devices


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


def binding(terms: dict[str, float], case: Case, known: Calibration) -> str:
    """The term that takes most of a decode step, in words."""
    gpu = {k: v for k, v in terms.items() if k != "host"}
    if terms["host"] > sum(gpu.values()):
        return BINDS["host"]
    gpu["latencies"] += gpu.pop("step")
    return BINDS[max(gpu, key=gpu.get)]


def _check(case: Case, device: str) -> None:
    """Raises Unpredictable for what no engine runs, or runs in a way that is not calibrated."""
    arch, s, w = case.arch, case.settings, case.workload
    split = Split(s.tensor_parallel, s.pipeline_parallel, s.expert_parallel)
    refused = engine_rules.refusal(arch, split) or formats.refusal(
        arch, s.quantization, False, devices.compute_capability(device)
    )
    if refused:
        raise Unpredictable(f"{arch.name}: {refused.removeprefix(f'{arch.name}: ')}")
    if s.graphs == "eager":
        raise Unpredictable("graphs 'eager': steps without graphs are not calibrated")
    if (total := w.input_tokens + w.output_tokens) > arch.max_positions:
        raise Unpredictable(
            f"{arch.name} has {arch.max_positions} positions; {w.input_tokens} tokens in and "
            f"{w.output_tokens} out are {total}"
        )


def _beyond(case: Case, known: Calibration) -> tuple[list[str], float]:
    """What of a case lies outside the calibrated range, in words, and how much wider its intervals
    are for it."""
    notes, wider = [], 0.0
    for name, value in measures(case).items():
        low, high = known.range[name]
        if low <= value <= high:
            continue
        limit = high if value > high else low
        wider += WIDER * abs(math.log2(value / limit))
        notes.append(f"{name} {value:g} is outside what was measured ({low:g} to {high:g})")
    for what in _unmeasured(case, known):
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
    return found | ({"experts": arch.num_experts} if arch.is_moe else {})


def _unmeasured(case: Case, known: Calibration) -> list[str]:
    """Kinds of things that no measured point has, in words."""
    found = []
    own = known.formats.get(case.format)
    if own is None:
        found += [f"{case.format}: no measured rows; 16-bit efficiencies stand in for its own"] * 2
    elif len(own["models"]) < 2:
        found.append(
            f"{case.format}: measured of {own['models'][0]} alone, so nothing was left out"
        )
    if not case.arch.is_moe:
        found.append("a dense model: the calibration's points are all of models with experts")
    if case.settings.pipeline_parallel > 1 and case.settings.tensor_parallel > 1:
        found.append("tensor and pipeline parallelism together were not measured")
    kinds = {g.kind for g in case.arch.attention_groups} - set(known.inputs["attention"])
    return found + [f"attention of kind {kind!r} was not measured" for kind in sorted(kinds)]


def _widths(known: Calibration, case: Case, metric: str, wider: float) -> dict[int, float]:
    own = known.intervals[class_of(case)][metric]
    return {level: own[level] * wider for level in LEVELS}


def _source(known: Calibration, case: Case) -> str:
    """How sure: the score of this class and format on models left out."""
    score = known.scores["left out"].get(case.format)
    of = f"{case.format} on {known.device_kind}"
    if score is None:
        return f"no model of {of} could be left out: there is no score"
    return (
        f"{of}, models left out of the fit: TPOT off by {score['tpot_median_pct']:.1f} % in the "
        f"median, {score['tpot_p90_pct']:.0f} % at the 90th percentile ({score['n']} points, "
        f"{score['models']} models)"
    )
