"""Section 7: what its notebook and parameter files may say."""

from typing import Literal

from moebook.models.tiny import family
from moebook.problems import Wrong
from moebook.study import model_names, params, points
from moebook.study.lengths import Length
from moebook.study.points import EngineParams
from moebook.study.settings import MOE_BACKENDS

NOTEBOOK = "07_load_balancing"
ALLOWED = {
    "preset": family.PRESETS,
    "variants": family.TARGETS,
    "ablated": family.TARGETS,
    "step_variants": family.TARGETS,
    "texts": family.DOMAINS,
    "capture_ways": ("hooks", "engine"),  # at the routers, or the engine's own output (GPU only)
    "capture_dtype": points.DTYPES,
    "skew_layer_backend": MOE_BACKENDS,
}


class Params(EngineParams):
    """preset and variants: the small models that are trained and compared.

    texts, capture_*: the held-out text whose expert choices are counted, sequences of so many
    tokens each, and in which ways; the first way counts all. checkpoints, checkpoint_texts: folders
    of trained models of one's own, and text files that they read. ablated, ablation_sequences:
    variants whose experts are taken out in turn, and sequences read for that, a multiple of
    repeats.

    step_*: how many experts a decode step of a real batch hits: variants, sequences of a batch,
    tokens in and out; their prompts are each text's, random ids, and one prompt for all.

    skews: Zipf exponents of imposed routing, 0 is uniform. skew_layer_*: single layers over so many
    tokens, and their kernels. skew_model, skew_batches, skew_tokens: whole engines, sequences of so
    many tokens in and out; null leaves them out."""

    notebook: Literal[NOTEBOOK] = NOTEBOOK
    preset: str = "cpu"
    variants: params.Names = family.TARGETS
    texts: params.Names = ("code", "prose", "numbers")
    capture_sequences: params.Count = 24
    capture_tokens: params.WindowTokens = 256
    capture_dtype: str = "float32"
    capture_ways: params.Names = ("hooks",)
    checkpoints: params.Names = ()
    checkpoint_texts: params.Names = ()
    ablated: params.Names = ("no-balance", "aux-0.01")
    ablation_sequences: params.Count = 6
    step_variants: params.Names = ("no-balance", "aux-0.01")
    step_batches: params.Counts = (4, 16)
    step_tokens: Length = Length(64, 64)
    skews: params.NonNegatives = (0.0, 1.0, 2.0)
    skew_layer_models: params.Models = ("tiny-mixtral",)
    skew_layer_tokens: params.Counts = (16, 256)
    skew_layer_backend: str = "auto"
    skew_model: str | None = "tiny-mixtral"
    skew_batches: params.Counts = (4, 16)
    skew_tokens: Length = Length(8, 8)

    def problems(self) -> list[Wrong]:
        found = super().problems()
        for key, allowed in ALLOWED.items():
            found += self.unknown(key, allowed)
        read = Length(self.capture_tokens - 1, 1)
        found += model_names.model_problems("checkpoints", self.checkpoints, read, self)
        if self.device == "cpu" and "engine" in self.capture_ways:
            allowed = "hooks alone on a CPU, whose engine does not tell the experts it chose"
            found.append(self.wrong("capture_ways", allowed))
        if not found:
            read = [f"tiny:{self.preset}/{name}" for name in self.variants]
            found += model_names.positions_problems("capture_tokens", self.capture_tokens, read)
            read = [f"tiny:{self.preset}/{name}" for name in self.step_variants]
            found += model_names.positions_problems("step_tokens", self.step_tokens.total, read)
        if len({f"{skew:.3g}" for skew in self.skews}) < len(self.skews):
            found.append(self.wrong("skews", "exponents that differ in three digits"))
        if self.ablation_sequences % self.repeats:
            allowed = f"a multiple of repeats = {self.repeats}"
            found.append(("ablation_sequences", self.ablation_sequences, allowed))
        if self.checkpoints and not self.checkpoint_texts:
            allowed = "text files that the checkpoints are to read"
            found.append(("checkpoint_texts", self.checkpoint_texts, allowed))
        if self.checkpoint_texts and not self.checkpoints:
            found.append(self.wrong("checkpoint_texts", "[] where no checkpoints read them"))
        keys = ("checkpoints", "checkpoint_texts")
        tokens = self.capture_sequences * self.capture_tokens
        for checkpoint in self.checkpoints:
            for text in self.checkpoint_texts or (None,):
                found += model_names.checkpoint_problems(checkpoint, text, keys, tokens)
        return found

    def lengths_of(self) -> dict[str, Length | None]:
        return {"skew_model": self.skew_tokens, "skew_layer_models": None}
