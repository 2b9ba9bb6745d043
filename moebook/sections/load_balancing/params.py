"""Section 7: what its notebook and parameter files may say."""

from typing import Any, Literal

from moebook.models.tiny import family
from moebook.study import params, points
from moebook.study.lengths import Length
from moebook.study.points import EngineParams

NOTEBOOK = "07_load_balancing"


WAYS = ("hooks", "engine")  # at the routers, or the engine's own output (GPU only)


class Params(EngineParams):
    notebook: Literal[NOTEBOOK] = NOTEBOOK
    preset: str = "cpu"
    variants: params.Names = family.TARGETS
    texts: params.Names = ("code", "prose", "numbers")
    capture_sequences: params.Count = 24
    capture_tokens: params.Count = 256
    capture_dtype: str = "float32"
    capture_ways: params.Names = ("hooks",)
    checkpoints: params.Names = ()
    checkpoint_texts: params.Names = ()
    ablated: params.Names = ("no-balance", "aux-0.01")
    ablation_sequences: params.Count = 6
    skews: params.NonNegatives = (0.0, 1.0, 2.0)
    skew_layer_models: params.Models = ("tiny-mixtral",)
    skew_layer_tokens: params.Counts = (16, 256)
    skew_layer_backend: str = "auto"
    skew_model: str | None = "tiny-mixtral"
    skew_batches: params.Counts = (4, 16)
    skew_tokens: Length = Length(8, 8)

    def problems(self) -> list[tuple[str, Any, str]]:
        found = super().problems()
        found += points.unknown("preset", [self.preset], family.PRESETS)
        for key in ("variants", "ablated"):
            found += points.unknown(key, getattr(self, key), family.TARGETS)
        found += points.unknown("texts", self.texts, family.DOMAINS)
        found += points.unknown("capture_ways", self.capture_ways, WAYS)
        found += points.unknown("capture_dtype", [self.capture_dtype], points.DTYPES)
        found += points.model_problems(
            "skew_model", points.named([self.skew_model]), self.skew_tokens
        )
        found += points.model_problems("skew_layer_models", points.named(self.skew_layer_models))
        found += points.model_problems(
            "checkpoints", self.checkpoints, Length(self.capture_tokens - 1, 1)
        )
        if self.ablation_sequences % self.repeats:
            found.append(
                (
                    "ablation_sequences",
                    self.ablation_sequences,
                    f"a multiple of repeats = {self.repeats}",
                )
            )
        if self.checkpoints and not self.checkpoint_texts:
            found.append(
                (
                    "checkpoint_texts",
                    self.checkpoint_texts,
                    "text files that the checkpoints are to read",
                )
            )
        for checkpoint in self.checkpoints:
            for text in self.checkpoint_texts or (None,):
                found += points.checkpoint_problems(
                    checkpoint, text, ("checkpoints", "checkpoint_texts")
                )
        return found
