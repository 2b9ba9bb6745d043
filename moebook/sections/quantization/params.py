"""Section 2: what its notebook and parameter files may say."""

from typing import Any, Literal

from moebook.models import catalog
from moebook.models.formats import SERIES
from moebook.models.tiny import family
from moebook.study import params, points
from moebook.study.lengths import Length, both, longest
from moebook.study.points import EngineParams

NOTEBOOK = "02_quantization"


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
