"""Section 8: what its notebook and parameter files may set."""

import re
from typing import Annotated, Literal

from pydantic import Field

from moebook.models import catalog
from moebook.models.formats import SERIES
from moebook.problems import Wrong
from moebook.sections.accelerator_comparison import accelerators
from moebook.study import model_names, params
from moebook.study.lengths import Length, Lengths, both, longest
from moebook.study.points import EngineParams

NOTEBOOK = "08_accelerator_comparison"
MOST_LETTERS = 80  # of a label
PROFILES = ("cpu", "h100", "h200", "4xh100")


class Params(EngineParams):
    """common_*: the points that every device measures; common_most_tokens: batch x tokens in, and
    x out, for a CPU takes minutes for thousands. model: Fig 16's, in `precisions`, at batch 1 over
    `lengths` and at `large_batch` sequences over `large_batch_lengths`. chunked_lengths: of
    attention in chunks. endpoint_*: of a server elsewhere, of source_model. beside: profiles whose
    results are shown, too. rooflines: names in accelerators.yaml. Lengths: tokens in and out."""

    notebook: Literal[NOTEBOOK] = NOTEBOOK
    sample_from_tokens: Annotated[int, Field(strict=True, ge=128)] | None = 128
    common_model: str | None = "OLMoE-1B-7B-0125"
    common_layers: params.Count = 2
    common_batches: params.Counts = (1, 16)
    common_lengths: Lengths = both(16, 32, 128)
    common_most_tokens: params.Count | None = 128
    model: str | None = "tiny-mixtral"
    precisions: params.Names = ("fp32", "bf16")
    lengths: Lengths = both(32, 64, 128, 256)
    large_batch: params.Count = 4
    large_batch_lengths: Lengths = both(32, 64)
    chunked_lengths: Lengths | None = None
    reference_models: params.Models = ()
    source_model: str = "Llama-4-Scout-17B-16E-Instruct"
    endpoint: str | None = None
    endpoint_batch: params.Count = 1
    endpoint_lengths: Lengths = both(128, 256, 512, 1024, 2048, 4096)
    beside: params.Names = ("h100", "h200")
    rooflines: params.Names = ("H100 SXM", "H200 SXM", "B200", "MI300X", "CS-3")

    @property
    def over_length(self) -> list[Length]:
        """Lengths of the source's figure, at batch 1 and at the large batch."""
        return [*self.lengths, *self.large_batch_lengths]

    def problems(self) -> list[Wrong]:
        found = super().problems()
        found += self.unknown("precisions", SERIES)
        found += self.unknown("beside", PROFILES)
        found += self.unknown("rooflines", accelerators.names())
        if self.profile in self.beside:
            found.append(("beside", self.profile, "other profiles than this one"))
        if self.endpoint is not None:
            found += _label_problems(self.endpoint)
        common = [self.common_model] if self.common_model is not None else []
        for key, names, lengths in (  # where `fitting` is no word
            ("source_model", [self.source_model], self.endpoint_lengths),
            ("common_model", common, self.common_lengths),
        ):
            found += model_names.model_problems(key, names, longest(lengths), self)
        found += model_names.depth_problems("common_layers", [self.common_layers], common)
        models, most = model_names.named([self.model]), longest(self.over_length)
        return found + [p for name in models for p in self._chunks(name, most)]

    def lengths_of(self) -> dict[str, Length | None]:
        return {
            "model": longest([*self.over_length, *(self.chunked_lengths or ())]),
            "reference_models": longest(self.over_length),
        }

    def _chunks(self, name: str, most: Length | None) -> list[Wrong]:
        """Lengths at which attention over all tokens would be another computation than the
        model's."""
        try:
            chunk = catalog.load(name).window
        except ValueError:
            return []  # found above, as a problem of `model`
        if chunk is None:
            allowed = f"none: {name} has no attention in chunks"
            return [("chunked_lengths", str(n), allowed) for n in self.chunked_lengths or ()]
        if most is None or most.total <= chunk:
            return []
        allowed = (
            f"at most {chunk // 2}: in and out together fit one attention chunk of {chunk}; longer "
            "ones belong to `chunked_lengths`"
        )
        return [("lengths", str(most), allowed)]


def _label_problems(label: str) -> list[Wrong]:
    """An address may hold a password, and a label stands in tables: it is not repeated."""
    allowed = "a label that says device and precision, such as 'CS-3, FP8', or null"
    if "://" in label or re.search(r":\S*@", label):
        address = "addresses and keys belong in the environment: docs/endpoint.md"
        return [("endpoint", "(an address)", f"{allowed}; {address}")]
    if label.strip() and label.isprintable() and len(label) <= MOST_LETTERS:
        return []
    return [("endpoint", label[:MOST_LETTERS], f"{allowed}; at most {MOST_LETTERS} letters")]
