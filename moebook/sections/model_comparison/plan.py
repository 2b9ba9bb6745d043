"""Section 9: nine published models under one workload (Figs 3 and 4), and speed against accuracy
(Figs 17 and 18).

Three parts: language models in each format; the language parts of vision-language models, whose
image tokens are part of the prompt; one model with its routers and with imposed uniform routing,
which is what imposing costs. Dummy weights of DeepSeek's models do not route near uniformly on a
GPU, so `uniform_routing` names models whose routing is imposed.

A model that does not fit a device in a format is a row `oom`; in `depth_formats` it is extrapolated
from fewer layers."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from moebook.models import catalog, fitting
from moebook.models.formats import SERIES
from moebook.sections.model_comparison import accuracies
from moebook.study import params, points
from moebook.study.estimates import check
from moebook.study.lengths import Length
from moebook.study.plan import EngineSettings, Plan, Point, Workload, merge
from moebook.study.points import EngineParams, full_or_by_depth

NOTEBOOK = "09_model_comparison"


class Params(EngineParams):
    notebook: Literal[NOTEBOOK] = NOTEBOOK
    llms: params.Models = ("tiny-mixtral", "tiny-qwen2-moe", "tiny-deepseek-v2")
    formats: params.Names = ("fp32", "bf16")
    depth_formats: params.Names = ()
    reduced_layers: params.Depths | None = None
    gpu_memory_utilization: Annotated[float, Field(strict=True, gt=0, le=1)] = 0.92
    batch: params.Count = 8
    tokens: Length = Length(8, 8)
    vlms: params.Models = ("tiny-deepseek-v2",)
    vlm_format: str = "bf16"
    vlm_text_tokens: params.Count = 24
    vlm_image_tokens: params.Count = 24
    uniform_routing: params.Names = ("tiny-deepseek-v2",)
    imposing_check: str | None = "tiny-mixtral"
    accuracy_file: str | None = None

    def problems(self) -> list[tuple[str, Any, str]]:
        found = super().problems()
        found += points.unknown("formats", self.formats, SERIES) + points.unknown(
            "vlm_format", [self.vlm_format], SERIES
        )
        found += points.unknown("depth_formats", self.depth_formats, self.formats)
        if self.depth_formats and self.reduced_layers is None:
            found.append(("reduced_layers", None, "two or more depths, which depth_formats needs"))
        found += points.model_problems("llms", points.named(self.llms), self.tokens)
        found += points.model_problems("vlms", points.named(self.vlms), self._vlm_length())
        found += points.unknown(
            "uniform_routing", self.uniform_routing, points.nameable((*self.llms, *self.vlms))
        )
        checked = points.named([self.imposing_check])
        found += points.unknown(
            "imposing_check",
            checked,
            [m for m in points.nameable(self.llms) if m not in self.uniform_routing],
        )
        found += points.model_problems(
            "imposing_check", [m for m in checked if m not in self.llms], self.tokens
        )
        if self.accuracy_file is not None:
            found += [
                ("accuracy_file", self.accuracy_file, problem)
                for problem in accuracies.file_problems(Path(self.accuracy_file))
            ]
        return found

    def _vlm_length(self) -> Length:
        """Text and image in, as many out as of language models."""
        return Length(self.vlm_text_tokens + self.vlm_image_tokens, self.tokens.tokens_out)


def plan(p: Params) -> Plan:
    p = _with_models(p)
    found = [
        q
        for point in _language_models(p)
        for q in full_or_by_depth(
            point, p.device, p.reduced_layers if point.series in p.depth_formats else None
        )
    ]
    found += [check(point, p.device) for point in [*_vision_language_models(p), *_imposing(p)]]
    return Plan(NOTEBOOK, p.profile, p.device, merge(found))


def views() -> tuple:
    from moebook.explore.views import View
    from moebook.sections.overview import plan as overview

    return (
        View("language models", "llms", "model", "series"),
        View("vision-language models", "vlms", "model", "series"),
        *overview.views(),
    )


def figures() -> dict:
    from moebook.plot.checks import predicted_vs_measured
    from moebook.sections.model_comparison import figures as f
    from moebook.sections.overview import plan as overview

    return {
        **overview.figures(),
        "fig03_llms": f.llms,
        "fig04_vlms": f.vlms,
        "fig17_throughput": f.throughput,
        "fig18_latency": f.latency,
        "predicted_vs_measured": predicted_vs_measured,
    }


def _with_models(p: Params) -> Params:
    """`fitting` replaced: models whose weights fit in the first format; the imposing check's is the
    largest of those that keep their own routing, and where there is none the check is left out."""
    llms, vlms = (
        points.fits(
            p,
            [p.batch],
            [length],
            dtype=dtype,
            quantization=quantization,
            kv_cache_dtype=kv,
            gpu_memory_utilization=p.gpu_memory_utilization,
        )
        for length, (dtype, quantization, kv) in (
            (p.tokens, SERIES[p.formats[0]] if p.formats else (p.dtype, None, "auto")),
            (p._vlm_length(), SERIES[p.vlm_format]),
        )
    )
    p = points.with_models(p, {"vlms": "vlm"}, llms=llms, vlms=vlms)
    if p.imposing_check != fitting.WORD:
        return p
    own = [name for name in p.llms if name not in p.uniform_routing and llms(catalog.load(name))]
    return p.model_copy(update={"imposing_check": own[-1] if own else None})


def _settings(p: Params, series: str, longest: int, imposed: bool) -> EngineSettings:
    dtype, quantization, kv = SERIES[series]
    return points.settings(
        p,
        {p.batch},
        longest,
        dtype=dtype,
        quantization=quantization,
        kv_cache_dtype=kv,
        routing=points.UNIFORM if imposed else None,
        gpu_memory_utilization=p.gpu_memory_utilization,
    )


def _language_model(p: Params, name: str, series: str, imposed: bool, sweep: str = "llms") -> Point:
    engine = _settings(p, series, p.tokens.total, imposed)
    return points.point(
        p, NOTEBOOK, catalog.load(name), engine, p.batch, p.tokens, sweep, series=series
    )


def _language_models(p: Params) -> list[Point]:
    return [
        _language_model(p, name, series, name in p.uniform_routing)
        for series in p.formats
        for name in p.llms
    ]


def _vision_language_models(p: Params) -> list[Point]:
    """Language parts: image tokens are random ids among the prompt's; the vision tower does not
    run."""
    length = p._vlm_length()
    work = Workload(p.batch, length.tokens_in, length.tokens_out, p.seed)
    return [
        replace(
            _language_model(p, name, p.vlm_format, name in p.uniform_routing, "vlms"),
            workload=work,
            engine=_settings(p, p.vlm_format, length.total, name in p.uniform_routing),
        )
        for name in p.vlms
    ]


def _imposing(p: Params) -> list[Point]:
    """One model with its own routers and with imposed ones."""
    if p.imposing_check is None or not p.formats:
        return []
    return [
        _language_model(p, p.imposing_check, p.formats[0], imposed, "imposing")
        for imposed in (False, True)
    ]
