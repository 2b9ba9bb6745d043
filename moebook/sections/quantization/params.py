"""Section 2: what its notebook and parameter files may say."""

from typing import Literal

from moebook.models.formats import SERIES
from moebook.models.tiny import family
from moebook.problems import Wrong
from moebook.study import model_names, params
from moebook.study.lengths import Length, Lengths, both, longest
from moebook.study.points import EnergyParams

NOTEBOOK = "02_quantization"


class Params(EnergyParams):
    """Pair: the second format of `pair` against the first on each of `models`, over `batches`
    (sequences) at `batch_tokens` in and out, and over `lengths` at the largest batch. Models of
    which a device holds too few layers are extrapolated from `reduced_layers`; `uniform_routing`
    names models whose expert choices are imposed.

    Formats: each of `formats` (`own`: the one that a model comes in) on `formats_model`, at
    `formats_batches` and `formats_tokens`.

    Quality: perplexity of `weights` in each format on `quality_text`, over `quality_sequences`
    windows of `quality_tokens` tokens."""

    notebook: Literal[NOTEBOOK] = NOTEBOOK
    models: params.Models = ("tiny-mixtral",)
    pair: params.Names = ("fp32", "bf16")
    batches: params.Counts = (1, 4, 16)
    batch_tokens: Length | None = Length(16, 16)
    lengths: Lengths = both(8, 16)
    formats_model: str | None = "tiny-mixtral"
    formats: params.Names = ("fp32", "bf16", "fp16", "fp8", "int8 experts", "int4 weights", "own")
    formats_batches: params.Counts = (1, 16)
    formats_tokens: Length = Length(8, 8)
    reduced_layers: params.Depths | None = None
    uniform_routing: params.Names = ()
    weights: str | None = "tiny:cpu/aux-0.01"
    quality_text: str | None = None
    quality_sequences: params.Count = 12
    quality_tokens: params.WindowTokens = 256

    def problems(self) -> list[Wrong]:
        found = super().problems()
        found += self.unknown("pair", SERIES)
        found += self.unknown("formats", SERIES)
        if self.pair and not len(self.pair) == len(set(self.pair)) == 2:
            wanted = "two formats: the one gains are over first, the other second; or [], which "
            found.append(("pair", self.pair, f"{wanted}leaves them out"))
        models = [*self.models, *([self.formats_model] if self.formats_model else [])]
        found += self.unknown("uniform_routing", model_names.nameable(models))
        found += self._quality_problems()
        found += model_names.depth_problems(
            "reduced_layers", self.reduced_layers or (), self.models
        )
        read = model_names.named([self.quality_model()]) if not found else []
        return found + model_names.positions_problems("quality_tokens", self.quality_tokens, read)

    def lengths_of(self) -> dict[str, Length | None]:
        return {
            "models": longest(self.compared_lengths()),
            "formats_model": self.formats_tokens,
        }

    def _quality_problems(self) -> list[Wrong]:
        found = []
        if self.weights == "dummy" and self.formats_model is None:
            wanted = "null where formats_model is: there is nothing to read a text with"
            found.append(("weights", "dummy", wanted))
        if self.weights not in (None, "dummy"):
            tokens = self.quality_sequences * self.quality_tokens
            found += model_names.checkpoint_problems(self.weights, self.text(), tokens=tokens)
        if self.quality_sequences < self.repeats:
            wanted = f"at least repeats = {self.repeats}, a part each"
            found.append(("quality_sequences", self.quality_sequences, wanted))
        return found

    def text(self) -> str | None:
        """The held-out text; of a member of the tiny family its family's own, where none is
        given."""
        if self.quality_text is None and self.weights and family.is_tiny(self.weights):
            preset = self.weights.removeprefix(family.PREFIX).partition("/")[0]
            return f"{family.PREFIX}{preset}/heldout/all"
        return self.quality_text

    def quality_model(self) -> str | None:
        """The model that is read for its perplexity."""
        return self.formats_model if self.weights == "dummy" else self.weights

    def compared_lengths(self) -> list[Length]:
        """Lengths of the pair's sweeps."""
        return [*([self.batch_tokens] if self.batch_tokens and self.batches else []), *self.lengths]
