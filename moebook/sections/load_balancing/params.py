"""Section 7: what its notebook and parameter files may say."""

from typing import Literal

from moebook.models.tiny import family
from moebook.problems import Wrong
from moebook.study import model_names, params, points
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

    def problems(self) -> list[Wrong]:
        found = super().problems()
        found += self.unknown("preset", family.PRESETS)
        for key in ("variants", "ablated"):
            found += self.unknown(key, family.TARGETS)
        found += self.unknown("texts", family.DOMAINS)
        found += self.unknown("capture_ways", WAYS)
        found += self.unknown("capture_dtype", points.DTYPES)
        found += model_names.model_problems(
            "skew_model", model_names.named([self.skew_model]), self.skew_tokens
        )
        found += model_names.model_problems(
            "skew_layer_models", model_names.named(self.skew_layer_models)
        )
        found += model_names.model_problems(
            "checkpoints", self.checkpoints, Length(self.capture_tokens - 1, 1)
        )
        if self.ablation_sequences % self.repeats:
            found.append(
                self.wrong("ablation_sequences", f"a multiple of repeats = {self.repeats}")
            )
        if self.checkpoints and not self.checkpoint_texts:
            found.append(
                self.wrong("checkpoint_texts", "text files that the checkpoints are to read")
            )
        for checkpoint in self.checkpoints:
            for text in self.checkpoint_texts or (None,):
                found += model_names.checkpoint_problems(
                    checkpoint, text, ("checkpoints", "checkpoint_texts")
                )
        return found
