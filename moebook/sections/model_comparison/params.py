"""Section 9: what its notebook and parameter files may say."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from moebook.models.formats import SERIES
from moebook.problems import Wrong
from moebook.sections.model_comparison import accuracies
from moebook.study import model_names, params
from moebook.study.lengths import Length
from moebook.study.points import ComparedParams

NOTEBOOK = "09_model_comparison"
LLMS, NEWER = "llms", "newer"  # sweeps: the models that the study's claims are of, and models since
ALL_LLMS = f"{LLMS}|{NEWER}"
GRAPHS = "graphs"  # sweep: models under the profile's graphs and under the engine's own


class Params(ComparedParams):
    notebook: Literal[NOTEBOOK] = NOTEBOOK
    llms: params.Models = ("tiny-mixtral", "tiny-qwen2-moe", "tiny-deepseek-v2")
    newer_llms: params.Models = ()
    formats: params.Names = ("fp32", "own")  # `own`: each model in the format it comes in
    depth_formats: params.Names = ()
    reduced_layers: params.Depths | None = None
    gpu_memory_utilization: Annotated[float, Field(strict=True, gt=0, le=1)] = 0.92
    batch: params.Count = 8
    tokens: Length = Length(8, 8)
    vlms: params.Models = ("tiny-deepseek-v2",)
    vlm_format: str = "own"
    vlm_text_tokens: params.Count = 24
    vlm_image_tokens: params.Count = 24
    uniform_routing: Literal["all"] | params.Names = "all"
    imposing_check: str | None = "tiny-mixtral"
    graphs_check: params.Names = ()  # models measured under `graphs` and the engine's own
    accuracy_file: str | None = None

    def problems(self) -> list[Wrong]:
        found = super().problems()
        found += self.unknown("formats", SERIES) + self.unknown("vlm_format", SERIES)
        found += self.unknown("depth_formats", self.formats)
        if self.depth_formats and self.reduced_layers is None:
            found.append(("reduced_layers", None, "two or more depths, which depth_formats needs"))
        found += model_names.model_problems(
            "vlms",
            model_names.named(self.vlms),
            (length := self._vlm_length()),
            [(key, length) for key in ("vlm_text_tokens", "vlm_image_tokens")],
        )
        models = model_names.nameable((*self.llms, *self.newer_llms, *self.vlms))
        for key in ("uniform_routing", "default_graphs", "graphs_check"):
            if getattr(self, key) != "all":
                found += self.unknown(key, models)
        if self.accuracy_file is not None:
            found += [
                self.wrong("accuracy_file", problem)
                for problem in accuracies.file_problems(Path(self.accuracy_file))
            ]
        depths = self.reduced_layers or ()
        found += model_names.depth_problems(
            "reduced_layers", depths, (*self.llms, *self.newer_llms)
        )
        return found

    def lengths_of(self) -> dict[str, Length | None]:
        return dict.fromkeys(("llms", "newer_llms", "imposing_check"), self.tokens)

    def imposes(self, name: str) -> bool:
        """Whether a model's tokens are routed as drawn, each expert as likely as another."""
        return self.uniform_routing == "all" or name in self.uniform_routing

    def _vlm_length(self) -> Length:
        """Text and image in, as many out as of language models."""
        return Length(self.vlm_text_tokens + self.vlm_image_tokens, self.tokens.tokens_out)
