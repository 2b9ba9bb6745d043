"""Section 6: what its notebook and parameter files may say."""

from typing import Literal

from moebook.models.formats import FORMATS
from moebook.problems import Wrong
from moebook.study import model_names, params
from moebook.study.lengths import Length, Lengths, both, longest
from moebook.study.points import EngineParams
from moebook.study.settings import MOE_BACKENDS

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
# series of whole engines -> (backend, whether it runs without decode graphs)
VARIANTS = {
    "fused": (None, False),
    "fused, no graphs": (None, True),
    "grouped GEMM": ("grouped", False),
    "grouped GEMM, no graphs": ("grouped", True),
    "expert loop": ("loop", True),
}


class Params(EngineParams):
    """Single layers: `layer_*` shapes, tokens in one call and what computes them; `quantized_*`
    the same in number formats; `tuned_*` the layer whose kernel is tuned here.

    Whole engines: `ladder_model` with each variant of `ladder`, over `ladder_batches` (sequences)
    at `ladder_batch_tokens` (in and out), and over `ladder_lengths` at `ladder_length_batch`; a
    model that does not fit is extrapolated from `reduced_layers`."""

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
    ladder_lengths: Lengths = both(16, 32)
    ladder_length_batch: params.Count = 4
    reduced_layers: params.Depths | None = None

    def problems(self) -> list[Wrong]:
        found = super().problems()
        backends = list(dict.fromkeys((*BACKEND_SERIES, *MOE_BACKENDS)))
        formats = [q for q, known in FORMATS.items() if q and set(known.engine) == {"quantization"}]
        found += self.unknown("layer_backends", backends)
        found += self.unknown("quantized_backends", backends)
        found += self.unknown("ladder", VARIANTS)
        found += self.unknown("quantized_formats", formats)
        depths = self.reduced_layers or ()
        found += model_names.depth_problems("reduced_layers", depths, [self.ladder_model])
        return found

    def lengths_of(self) -> dict[str, Length | None]:
        layers = dict.fromkeys(("layer_models", "quantized_models", "tuned_model"))
        return {**layers, "ladder_model": longest(self.engine_lengths())}

    def engine_lengths(self) -> list[Length]:
        """Lengths of whole engines."""
        return [*([self.ladder_batch_tokens] if self.ladder_batches else []), *self.ladder_lengths]
