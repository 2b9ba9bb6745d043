"""Section 4: what its notebook and parameter files may say."""

from typing import Annotated, Literal

from pydantic import Field

from moebook.models.tiny import family
from moebook.problems import Wrong
from moebook.study import model_names, params, points
from moebook.study.lengths import Length, Lengths, both, longest
from moebook.study.points import EnergyParams

NOTEBOOK = "04_speculative_decoding"
MOST_DRAFT_TOKENS = 8  # columns accepted_pos1 ... of the table

Acceptance = Annotated[float, Field(strict=True, gt=0, lt=1)]


class Params(EnergyParams):
    """What it costs: `target` with each of `drafts`, smallest first, and alone, over
    `draft_tokens`, and at `draft_tokens_fixed` over `lengths` and `batches`; `batch` (sequences)
    and `tokens` (in and out) hold where they do not vary. `acceptance` (share) is set in the
    sampler, None: what the models' own tokens give. `checked_*`: a second value, as a check.

    What is accepted: `trained_target` of the tiny family with each of `trained_drafts` and n-gram
    lookup, continuing held-out `texts` at sampling `temperatures`."""

    notebook: Literal[NOTEBOOK] = NOTEBOOK
    target: str | None = "tiny:cpu/aux-0.01"
    drafts: params.Names = ("tiny:cpu/draft-small", "tiny:cpu/draft-large")
    acceptance: Acceptance | None = None
    checked_acceptance: Acceptance | None = None
    checked_graphs: points.Graphs | None = None
    draft_tokens: params.Counts = (1, 3)
    draft_tokens_fixed: params.Count = 3
    lengths: Lengths = both(16, 32)
    batches: params.Counts = (1, 4)
    batch: params.Count = 4
    tokens: Length = Length(16, 16)
    trained_target: str | None = "tiny:cpu/aux-0.01"
    trained_drafts: params.Names = (
        "tiny:cpu/draft-small",
        "tiny:cpu/draft-medium",
        "tiny:cpu/draft-large",
    )
    temperatures: params.NonNegatives = (0.0,)
    texts: params.Names = ("code", "prose", "numbers")
    trained_batch: params.Count = 4
    trained_prompt_tokens: params.Count = 96
    trained_output_tokens: params.Count = 32
    trained_dtype: str = "float32"

    def problems(self) -> list[Wrong]:
        found = super().problems()
        found += self.unknown("texts", family.DOMAINS)
        found += self.unknown("trained_dtype", points.DTYPES)
        found += [
            (key, k, f"at most {MOST_DRAFT_TOKENS}")
            for key in ("draft_tokens", "draft_tokens_fixed")
            for k in model_names.several(getattr(self, key))
            if k > MOST_DRAFT_TOKENS
        ]
        if self.trained_target is not None:
            found += model_names.trained_problems("trained_target", self.trained_target)
        if self.device == "cpu":
            found += self._cpu_problems()
        trained = Length(self.trained_prompt_tokens, self.trained_output_tokens)
        keys = ("trained_prompt_tokens", "trained_output_tokens")
        for target, drafts, length, asked in (
            ("target", "drafts", longest([self.tokens, *self.lengths]), self),
            ("trained_target", "trained_drafts", trained, [(key, trained) for key in keys]),
        ):
            name = getattr(self, target)
            if name is not None:
                found += model_names.model_problems(target, [name], length, asked)
                found += model_names.draft_problems(drafts, name, getattr(self, drafts))
        return found

    def _cpu_problems(self) -> list[Wrong]:
        """What a CPU's engine cannot do."""
        own = "null on a CPU, whose engine cannot set it: trained drafts give their own"
        cold = "0 alone on a CPU, whose engine accepts hardly any draft token at others"
        found: list[Wrong] = []
        for key in ("acceptance", "checked_acceptance"):
            if getattr(self, key) is not None:
                found.append(self.wrong(key, own))
        if any(self.temperatures):
            found.append(("temperatures", self.temperatures, cold))
        return found
