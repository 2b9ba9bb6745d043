"""Section 1: what its notebook and parameter files may say."""

from typing import Annotated, Literal

from pydantic import AfterValidator

from moebook.problems import Wrong
from moebook.study import model_names, params
from moebook.study.lengths import Length, Lengths, both, longest
from moebook.study.points import EngineParams

NOTEBOOK = "01_hyperparameter_scaling"


LEAST_VALIDATED = 128  # tokens out that sampling needs


def _long_enough(length: Length) -> Length:
    if length.tokens_out < LEAST_VALIDATED:
        raise ValueError(f"at least {LEAST_VALIDATED} tokens out, which sampling needs")
    return length


class Params(EngineParams):
    notebook: Literal[NOTEBOOK] = NOTEBOOK
    grid_model: str | None = "tiny-mixtral"
    ffn_dims: params.Counts = (128, 512, 2048)
    expert_counts: params.Counts = (4, 8)
    active_experts: params.Counts = (1, 2, 4)
    grid_batch: params.Count = 4
    grid_tokens: Length = Length(8, 8)
    capacity_limit_gb: params.Fraction | None = None
    reduced_layers: params.Count | None = None
    comparison_models: params.Models = ("tiny-deepseek-v2", "tiny-qwen2-moe")
    comparison_active_experts: params.Counts = (1, 4)
    comparison_tokens: Length = Length(8, 8)
    batches: params.Counts = (1, 4, 16)
    lengths: Lengths = both(8, 16)
    validation_model: str | None = "tiny-mixtral"
    validation_tokens: Annotated[Length, AfterValidator(_long_enough)] = Length(128, 128)

    def problems(self) -> list[Wrong]:
        found = super().problems()
        for key, names, length in (
            ("grid_model", [self.grid_model], self.grid_tokens),
            self.wrong("comparison_models", longest(self._compared())),
            ("validation_model", [self.validation_model], self.validation_tokens),
        ):
            found += model_names.model_problems(key, model_names.named(names), length)
        gridded = self.grid_model and self.ffn_dims and self.expert_counts and self.active_experts
        if (
            not found
            and gridded
            and all(k > e for k in self.active_experts for e in self.expert_counts)
        ):
            found.append(
                self.wrong(
                    "active_experts",
                    f"every value exceeds every expert count {self.expert_counts}: the grid is "
                    f"empty",
                )
            )
        return found

    def _compared(self) -> list[Length]:
        """Lengths of the sweeps over batch."""
        return [
            *([self.comparison_tokens] if self.comparison_active_experts else []),
            *self.lengths,
        ]
