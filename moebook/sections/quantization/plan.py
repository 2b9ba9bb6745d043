"""Section 2: what a number format gains (Fig 10), what it saves of memory, and what it costs in
quality.

Three parts: two formats of each model over batch and, at the largest batch, over length; a ladder
of formats on one model; the perplexity of a trained checkpoint in each format. A format that the
machine lacks becomes a row with the engine's own reason."""

from dataclasses import replace
from typing import Any, Literal

from moebook.models import catalog, fitting, formats
from moebook.models.formats import SERIES
from moebook.models.tiny import family
from moebook.study import params, points
from moebook.study.estimates import check
from moebook.study.lengths import Length, both, longest
from moebook.study.plan import EngineSettings, Plan, Point, Workload, merge
from moebook.study.points import EngineParams, full_or_by_depth

NOTEBOOK = "02_quantization"
NO_WEIGHTS = (
    "dummy weights have no quality: set `weights` to a folder with a trained checkpoint of one of "
    "the models, "
    "and `quality_text` to a file of held-out text"
)
PACKED = (
    "the engine cannot make this format of 16-bit weights as it loads: quantize the checkpoint "
    "first, and give the "
    "packed folder as `weights` with the format bf16"
)


class Params(EngineParams):
    notebook: Literal[NOTEBOOK] = NOTEBOOK
    models: params.Models = ("tiny-mixtral",)
    pair: params.Names = ("fp32", "bf16")
    batches: params.Counts = (1, 4, 16)
    batch_tokens: Length | None = Length(16, 16)
    lengths: params.Lengths = both(8, 16)
    formats_model: str | None = "tiny-mixtral"
    formats: params.Names = ("fp32", "bf16", "fp16", "fp8", "int8 experts", "int4 weights")
    formats_batches: params.Counts = (1, 16)
    formats_tokens: Length = Length(8, 8)
    reduced_layers: params.Depths | None = None
    uniform_routing: params.Names = ()
    weights: str | None = "tiny:cpu/aux-0.01"
    quality_text: str | None = None
    quality_sequences: params.Count = 12
    quality_tokens: params.Count = 256

    def problems(self) -> list[tuple[str, Any, str]]:
        found = super().problems()
        found += points.unknown("pair", self.pair, SERIES) + points.unknown(
            "formats", self.formats, SERIES
        )
        if self.pair and (len(set(self.pair)) != 2 or len(self.pair) != 2):
            found.append(
                (
                    "pair",
                    self.pair,
                    "two formats: the one gains are over first, the other second; or [], which "
                    "leaves them out",
                )
            )
        models = [*self.models, *([self.formats_model] if self.formats_model else [])]
        found += points.unknown("uniform_routing", self.uniform_routing, points.nameable(models))
        found += points.model_problems(
            "models", points.named(self.models), longest(self._compared())
        )
        found += points.model_problems(
            "formats_model", points.named([self.formats_model]), self.formats_tokens
        )
        if self.weights == "dummy" and self.formats_model is None:
            found.append(
                (
                    "weights",
                    "dummy",
                    "null where formats_model is: there is nothing to read a text with",
                )
            )
        if self.weights not in (None, "dummy"):
            found += points.checkpoint_problems(self.weights, self.text())
        if self.quality_sequences < self.repeats:
            found.append(
                (
                    "quality_sequences",
                    self.quality_sequences,
                    f"at least repeats = {self.repeats}, a part each",
                )
            )
        for name in points.named([self._quality_model()]) if not found else ():
            if self.quality_tokens > (most := catalog.load(name).max_positions):
                found.append(
                    ("quality_tokens", self.quality_tokens, f"at most the model's {most} positions")
                )
        return found

    def text(self) -> str | None:
        """The held-out text; of a member of the tiny family its family's own, where none is
        given."""
        if self.quality_text is None and self.weights and family.is_tiny(self.weights):
            return f"tiny:{family.parse(self.weights).preset}/heldout/all"
        return self.quality_text

    def _quality_model(self) -> str | None:
        return self.formats_model if self.weights == "dummy" else self.weights

    def _compared(self) -> list[Length]:
        """Lengths of the pair's sweeps."""
        return [*([self.batch_tokens] if self.batch_tokens and self.batches else []), *self.lengths]


def plan(p: Params) -> Plan:
    p = points.with_models(
        p,
        models=_fits(p, p.pair, p.batches, p._compared()),
        formats_model=_fits(p, p.formats, p.formats_batches, [p.formats_tokens]),
    )
    planned = [
        q
        for point in [*_ladder(p), *_pairs(p)]
        for q in full_or_by_depth(point, p.device, p.reduced_layers)
    ]
    return Plan(
        NOTEBOOK, p.profile, p.device, merge(check(q, p.device) for q in [*planned, *_quality(p)])
    )


def views() -> tuple:
    from moebook.explore.views import View

    return (
        View("over batch", "quant_batch", "batch", "series", "model"),
        View("over length", "quant_length", "input_tokens", "series", "model"),
        View("formats", "formats", "batch", "series", "model"),
        View("quality", "quality", "series", metric="perplexity"),
    )


def figures() -> dict:
    from moebook.plot.checks import predicted_vs_measured
    from moebook.sections.quantization import figures as f

    return {
        "fig10_batch": f.over_batch,
        "fig10_length": f.over_length,
        "gain": f.gain,
        "formats": f.formats,
        "memory": f.memory,
        "quality": f.quality,
        "quality_and_speed": f.quality_and_speed,
        "predicted_vs_measured": predicted_vs_measured,
    }


def _fits(
    p: Params, formats: tuple[str, ...], batches: tuple[int, ...], lengths: list[Length]
) -> fitting.Fits:
    """In the first of the formats, the one that gains are over."""
    dtype, quantization, kv = SERIES[formats[0]] if formats else (p.dtype, None, "auto")
    return points.fits(
        p, batches, lengths, dtype=dtype, quantization=quantization, kv_cache_dtype=kv
    )


def _settings(p: Params, series: str, max_model_len: int, imposed: bool = False) -> EngineSettings:
    dtype, quantization, kv = SERIES[series]
    batches = {*p.batches, *p.formats_batches} or {1}
    return points.settings(
        p,
        batches,
        max_model_len,
        dtype=dtype,
        quantization=quantization,
        kv_cache_dtype=kv,
        routing=points.UNIFORM if imposed else None,
    )


def _pairs(p: Params) -> list[Point]:
    most = longest(p._compared())
    cells = [(b, p.batch_tokens, "quant_batch") for b in p.batches if p.batch_tokens]
    cells += [(max(p.batches, default=1), length, "quant_length") for length in p.lengths]
    found = []
    for name in p.models if most else ():
        arch = catalog.load(name)
        for series in p.pair:
            engine = _settings(p, series, most.total, name in p.uniform_routing)
            found += [
                points.point(p, NOTEBOOK, arch, engine, b, length, sweep, series=series)
                for b, length, sweep in cells
            ]
    return found


def _ladder(p: Params) -> list[Point]:
    if p.formats_model is None:
        return []
    arch, most = catalog.load(p.formats_model), longest([*p._compared(), p.formats_tokens])
    imposed = p.formats_model in p.uniform_routing
    return [
        points.point(
            p,
            NOTEBOOK,
            arch,
            _settings(p, series, most.total, imposed),
            b,
            p.formats_tokens,
            "formats",
            series=series,
        )
        for series in p.formats
        for b in p.formats_batches
    ]


def _quality(p: Params) -> list[Point]:
    """Perplexity per format, of the checkpoint; of dummy weights a row that says what is
    missing."""
    if p.weights is None:
        return []
    trained = p.weights != "dummy"
    arch = catalog.load(p._quality_model())
    work = Workload(p.quality_sequences, p.quality_tokens, 1, p.seed)
    found = []
    for series in p.formats:
        engine = replace(_settings(p, series, 2 * p.quality_tokens), weights=p.weights)
        point = Point(
            NOTEBOOK,
            arch,
            engine,
            work,
            method="perplexity",
            repeats=p.repeats,
            sweeps=("quality",),
            series=series,
            text=p.text() if trained else None,
        )
        packed = PACKED if formats.needs_packed(engine.quantization) else None
        found.append(points.unless(point, packed if trained else NO_WEIGHTS))
    return found
