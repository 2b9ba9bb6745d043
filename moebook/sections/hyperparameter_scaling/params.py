"""Section 1: what its notebook and parameter files may say."""

from typing import Annotated, Literal

from pydantic import AfterValidator

from moebook.problems import Wrong
from moebook.study import model_names, params
from moebook.study.lengths import Length, Lengths, both, longest
from moebook.study.points import ComparedParams

NOTEBOOK = "01_hyperparameter_scaling"
LEAST_VALIDATED = 128  # tokens out that sampling needs


def _long_enough(length: Length) -> Length:
    if length.tokens_out < LEAST_VALIDATED:
        raise ValueError(f"at least {LEAST_VALIDATED} tokens out, which sampling needs")
    return length


class Params(ComparedParams):
    """Four groups, each left out where its models are null or empty.

    grid: one model's skeleton with every FFN dim I (channels) x expert count E x active experts K,
    at one batch B (sequences) and length (tokens in, and out). Cells with more weights than
    `capacity_limit_gb` (GB) are out of memory; those too large for the device run with
    `reduced_layers` layers and are extrapolated. The whole grid once for each of `grid_routings`
    (moebook/study/routing.py).
    routing: models in their published shape at `grid_batch`, over active experts and `routings`;
    beside them the routers' own choices, for distinct and for identical prompts.
    comparison: published models over batches, by active experts and by length, all routed alike.
    validation: one model in full, sampled and by depth."""

    notebook: Literal[NOTEBOOK] = NOTEBOOK
    grid_model: str | None = "tiny-mixtral"
    ffn_dims: params.Counts = (128, 512, 2048)
    expert_counts: params.Counts = (4, 8)
    active_experts: params.Counts = (1, 2, 4)
    grid_batch: params.Count = 4
    grid_tokens: Length = Length(8, 8)
    capacity_limit_gb: params.Fraction | None = None
    reduced_layers: params.Count | None = None
    grid_routings: params.Routings = ("model", "same")
    routing_models: params.Models = ("tiny-mixtral",)
    routing_active_experts: params.Counts = (1, 2, 4)
    routings: params.Routings = ("uniform", "zipf:1", "same")
    routing_tokens: Length = Length(8, 8)
    comparison_models: params.Models = ("tiny-deepseek-v2", "tiny-qwen2-moe")
    comparison_active_experts: params.Counts = (1, 4)
    comparison_tokens: Length = Length(8, 8)
    comparison_routing: params.Routing = "model"
    batches: params.Counts = (1, 4, 16)
    lengths: Lengths = both(8, 16)
    validation_model: str | None = "tiny-mixtral"
    validation_tokens: Annotated[Length, AfterValidator(_long_enough)] = Length(128, 128)

    def problems(self) -> list[Wrong]:
        found = super().problems()
        compared = model_names.nameable(self.comparison_models)
        found += self.unknown("default_graphs", compared)
        if found or not self.grid_model:
            return found
        if self.reduced_layers is not None:
            deeper = [self.reduced_layers + 1]  # as the whole model must be
            found += model_names.depth_problems("reduced_layers", deeper, [self.grid_model])
        experts, active = self.expert_counts, self.active_experts
        if self.ffn_dims and experts and active and min(active) > max(experts):
            why = f"every value exceeds every expert count {experts}: the grid is empty"
            found.append(("active_experts", active, why))
        return found

    def lengths_of(self) -> dict[str, Length | None]:
        return {
            "grid_model": self.grid_tokens,
            "routing_models": self.routing_tokens,
            "comparison_models": longest(self.compared_lengths()),
            "validation_model": self.validation_tokens,
        }

    def compared_lengths(self) -> list[Length]:
        """Lengths of the sweeps over batch."""
        of_active = [self.comparison_tokens] if self.comparison_active_experts else []
        return [*of_active, *self.lengths]
