"""Section 6: what does fusing the MoE layer gain (Fig 14)? The source does not define its non-fused
layer; here it is a ladder: an eager loop over experts, grouped GEMMs with separate permute,
activation and unpermute, the engine's fused kernel, and every other backend the engine has.

Two levels: one MoE layer alone over token counts (no engine), and whole engines over batch and
length."""

from typing import Any, Literal

from moebook.models import catalog
from moebook.models.formats import FORMATS, MOE_BACKENDS
from moebook.study import params, points
from moebook.study.estimates import check
from moebook.study.lengths import Length, both, longest
from moebook.study.plan import EngineSettings, Plan, Point, Workload, merge
from moebook.study.points import EngineParams, full_or_by_depth

NOTEBOOK = "06_fused_moe"
BACKEND_SERIES = {
    "loop": "expert loop",
    "grouped": "grouped GEMM",
    "auto": "fused (engine's choice)",
    "triton": "fused Triton",
    "triton_tuned": "fused Triton, tuned here",
    "cutlass": "CUTLASS",
    "marlin": "Marlin",
    "deep_gemm": "DeepGEMM",
    "flashinfer_cutlass": "FlashInfer CUTLASS",
    "flashinfer_trtllm": "FlashInfer TRT-LLM",
}
# series of the ladder -> (backend, whether it runs without decode graphs)
LADDER = {
    "fused": (None, False),
    "fused, no graphs": (None, True),
    "grouped GEMM": ("grouped", False),
    "grouped GEMM, no graphs": ("grouped", True),
    "expert loop": ("loop", True),
}


class Params(EngineParams):
    notebook: Literal[NOTEBOOK] = NOTEBOOK
    layer_models: params.Models = ("tiny-mixtral", "tiny-qwen2-moe")
    layer_tokens: params.Counts = (1, 4, 16, 64, 256, 1024)
    layer_backends: params.Names = ("loop", "grouped", "auto", "triton")
    quantized_formats: params.Names = ("int8_experts",)
    quantized_models: params.Models = ("tiny-mixtral",)
    quantized_backends: params.Names = ("auto",)
    quantized_tokens: params.Counts = (1, 16, 256)
    tuned_model: str | None = "tiny-mixtral"
    tuned_tokens: params.Counts = (16,)
    ladder_model: str | None = "tiny-mixtral"
    ladder: params.Names = ("fused", "grouped GEMM", "expert loop")
    ladder_batches: params.Counts = (1, 4, 16)
    ladder_batch_tokens: Length = Length(16, 16)
    ladder_lengths: params.Lengths = both(16, 32)
    ladder_length_batch: params.Count = 4
    reduced_layers: params.Depths | None = None

    def problems(self) -> list[tuple[str, Any, str]]:
        found = super().problems()
        legal = [*BACKEND_SERIES, *(b for b in MOE_BACKENDS if b not in BACKEND_SERIES)]
        found += points.unknown("layer_backends", self.layer_backends, legal)
        found += points.unknown("quantized_backends", self.quantized_backends, legal)
        found += points.unknown("ladder", self.ladder, LADDER)
        quantizations = [
            q for q, known in FORMATS.items() if q and set(known.engine) == {"quantization"}
        ]
        found += points.unknown("quantized_formats", self.quantized_formats, quantizations)
        for key in ("layer_models", "quantized_models"):
            found += points.model_problems(key, points.named(getattr(self, key)))
        found += points.model_problems("tuned_model", points.named([self.tuned_model]))
        return found + points.model_problems(
            "ladder_model", points.named([self.ladder_model]), longest(self._in_ladder())
        )

    def _in_ladder(self) -> list[Length]:
        """Lengths of whole engines."""
        return [*([self.ladder_batch_tokens] if self.ladder_batches else []), *self.ladder_lengths]


def plan(p: Params) -> Plan:
    alone = points.fits(p, [1], [])
    engines = points.fits(p, [*p.ladder_batches, p.ladder_length_batch], p._in_ladder())
    p = points.with_models(
        p, layer_models=alone, quantized_models=alone, tuned_model=alone, ladder_model=engines
    )
    planned = [
        q for point in _ladder(p) for q in full_or_by_depth(point, p.device, p.reduced_layers)
    ]
    planned = [check(q, p.device) for q in [*_layers(p), *planned]]
    return Plan(NOTEBOOK, p.profile, p.device, merge(planned))


def views() -> tuple:
    from moebook.explore.views import View
    from moebook.plot.rows import layer_rows

    layer = {"metric": "layer_time_us", "table": layer_rows}
    return (
        View("one layer", "layer", "tokens", "series", "model", **layer),
        View("one quantized layer", "layer_quantized", "tokens", "series", "model", **layer),
        View("engine over batch", "ladder_batch", "batch", "series", "model"),
        View("engine over length", "ladder_length", "input_tokens", "series", "model"),
    )


def figures() -> dict:
    from moebook.sections.fused_moe import figures as f

    return {
        "layer_time": f.layer_time,
        "layer_speedup": f.layer_speedup,
        "roofline": f.roofline,
        "layer_quantized": f.layer_quantized,
        "tuning": f.tuning,
        "fig14_batch": f.over_batch,
        "fig14_length": f.over_length,
    }


def _layers(p: Params) -> list[Point]:
    found = []
    for name in p.layer_models:
        found += [_layer(p, name, b, n, "layer") for b in p.layer_backends for n in p.layer_tokens]
    found += [
        _layer(p, name, b, n, "layer_quantized", q)
        for name in p.quantized_models
        for q in p.quantized_formats
        for b in p.quantized_backends
        for n in p.quantized_tokens
    ]
    if p.tuned_model:
        found += [
            _layer(p, p.tuned_model, "triton_tuned", n, "layer_tuned") for n in p.tuned_tokens
        ]
    return found


def _layer(
    p: Params, model: str, backend: str, tokens: int, sweep: str, quantization: str | None = None
) -> Point:
    """Quantized experts take activations of 16 bits alone."""
    dtype = "bfloat16" if quantization and p.dtype == "float32" else p.dtype
    engine = EngineSettings(
        dtype=dtype, quantization=quantization, moe_backend=backend, graphs="eager"
    )
    label = BACKEND_SERIES.get(backend, backend) + f", {quantization}" * bool(quantization)
    return Point(
        NOTEBOOK,
        catalog.load(model),
        engine,
        Workload(tokens, 1, 1, p.seed),
        method="layer",
        repeats=p.repeats,
        sweeps=(sweep,),
        series=label,
    )


def _ladder(p: Params) -> list[Point]:
    most, found = longest(p._in_ladder()), []
    if p.ladder_model is None or most is None:
        return found
    arch, batches = catalog.load(p.ladder_model), {*p.ladder_batches, p.ladder_length_batch}
    for series in p.ladder:
        backend, eager = LADDER[series]
        engine = points.settings(
            p, batches, most.total, moe_backend=backend, graphs="eager" if eager else p.graphs
        )
        cells = [(b, p.ladder_batch_tokens, "ladder_batch") for b in p.ladder_batches]
        cells += [(p.ladder_length_batch, n, "ladder_length") for n in p.ladder_lengths]
        found += [
            points.point(p, NOTEBOOK, arch, engine, b, n, sweep, series=series)
            for b, n, sweep in cells
        ]
    return found
