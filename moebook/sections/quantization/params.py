"""Section 2: what its notebook and parameter files may say."""

from typing import Literal

from moebook.models import catalog
from moebook.models.formats import SERIES
from moebook.models.tiny import family
from moebook.problems import Wrong
from moebook.study import model_names, params
from moebook.study.lengths import Length, Lengths, both, longest
from moebook.study.points import EngineParams

NOTEBOOK = "02_quantization"


class Params(EngineParams):
    notebook: Literal[NOTEBOOK] = NOTEBOOK
    models: params.Models = ("tiny-mixtral",)
    pair: params.Names = ("fp32", "bf16")
    batches: params.Counts = (1, 4, 16)
    batch_tokens: Length | None = Length(16, 16)
    lengths: Lengths = both(8, 16)
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

    def problems(self) -> list[Wrong]:
        found = super().problems()
        found += self.unknown("pair", SERIES) + self.unknown("formats", SERIES)
        if self.pair and (len(set(self.pair)) != 2 or len(self.pair) != 2):
            found.append(
                self.wrong(
                    "pair",
                    "two formats: the one gains are over first, the other second; or [], which "
                    "leaves them out",
                )
            )
        models = [*self.models, *([self.formats_model] if self.formats_model else [])]
        found += self.unknown("uniform_routing", model_names.nameable(models))
        found += model_names.model_problems(
            "models", model_names.named(self.models), longest(self._compared())
        )
        found += model_names.model_problems(
            "formats_model", model_names.named([self.formats_model]), self.formats_tokens
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
            found += model_names.checkpoint_problems(self.weights, self.text())
        if self.quality_sequences < self.repeats:
            found.append(
                self.wrong("quality_sequences", f"at least repeats = {self.repeats}, a part each")
            )
        for name in model_names.named([self._quality_model()]) if not found else ():
            if self.quality_tokens > (most := catalog.load(name).max_positions):
                found.append(self.wrong("quality_tokens", f"at most the model's {most} positions"))
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
