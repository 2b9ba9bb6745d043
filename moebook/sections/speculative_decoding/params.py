"""Section 4: what its notebook and parameter files may say."""

from typing import Annotated, Literal

from pydantic import Field

from moebook.models.tiny import family
from moebook.problems import Wrong
from moebook.study import model_names, params, points
from moebook.study.lengths import Length, Lengths, both, longest
from moebook.study.points import EngineParams

NOTEBOOK = "04_speculative_decoding"


MOST_DRAFT_TOKENS = 8  # columns accepted_pos1 ... of the table


Acceptance = Annotated[float, Field(strict=True, gt=0, lt=1)]


class Params(EngineParams):
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
            ("draft_tokens", k, f"at most {MOST_DRAFT_TOKENS}")
            for k in (*self.draft_tokens, self.draft_tokens_fixed)
            if k > MOST_DRAFT_TOKENS
        ]
        if self.trained_target is not None:
            found += model_names.trained_problems("trained_target", self.trained_target)
        if self.device == "cpu" and self.acceptance is not None:
            found.append(
                self.wrong(
                    "acceptance",
                    "null on a CPU, whose engine cannot set it: trained drafts give their own",
                )
            )
        if self.device == "cpu" and max(self.temperatures, default=0) > 0:
            found.append(
                self.wrong(
                    "temperatures",
                    "0 alone on a CPU, whose engine accepts hardly any draft token at others",
                )
            )
        trained = Length(self.trained_prompt_tokens, self.trained_output_tokens)
        for names, length in (
            (("target", "drafts"), longest([self.tokens, *self.lengths])),
            (("trained_target", "trained_drafts"), trained),
        ):
            target = getattr(self, names[0])
            if target is not None:
                found += model_names.model_problems(names[0], [target], length)
                found += model_names.draft_problems(names[1], target, getattr(self, names[1]))
        return found
