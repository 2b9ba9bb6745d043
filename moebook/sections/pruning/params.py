"""Section 3: what its notebook and parameter files may say."""

from dataclasses import replace
from typing import Literal

from moebook.models import catalog
from moebook.models.architecture import Architecture
from moebook.models.edit import ImpossibleEdit
from moebook.models.pruning.saliency import CRITERIA
from moebook.problems import Wrong
from moebook.study import limits, model_names, params, points
from moebook.study.lengths import Length
from moebook.study.points import EngineParams

NOTEBOOK = "03_pruning"


KINDS = ("inter", "intra")


class Params(EngineParams):
    notebook: Literal[NOTEBOOK] = NOTEBOOK
    models: params.Models = ("tiny-qwen2-moe",)
    ratios_pct: params.Fractions = (12.5, 25.0, 50.0)
    active_experts: params.Counts | None = None
    batch: params.Count = 8
    tokens: Length = Length(8, 8)
    quality_target: str | None = "tiny:cpu/aux-0.01"
    quality_ratios_pct: params.Fractions = (50.0,)
    criteria: params.Names = CRITERIA
    quality_sequences: params.Count = 12
    quality_tokens: params.Count = 256
    quality_dtype: str = "float32"

    def problems(self) -> list[Wrong]:
        found = super().problems()
        found += self.unknown("criteria", CRITERIA)
        found += self.unknown("quality_dtype", points.DTYPES)
        found += [
            ("quality_ratios_pct", r, wrong)
            for r in self.quality_ratios_pct
            if (wrong := limits.percent_problem(r))
        ]
        if self.quality_target is not None:
            found += model_names.trained_problems("quality_target", self.quality_target)
        found += [
            ("ratios_pct", r, "percent that is pruned: over 0 and under 100")
            for r in self.ratios_pct
            if r >= 100
        ]
        found += model_names.model_problems("models", model_names.named(self.models), self.tokens)
        if any(key == "models" for key, *_ in found):
            return found
        for name in model_names.named(self.models):
            published = catalog.load(name).top_k
            found += [
                ("active_experts", k, f"at most the {published} that {name} was trained with")
                for k in self.active_experts or ()
                if k > published
            ]
        return found or [
            p
            for name in model_names.named(self.models)
            for p in self._same_shapes(catalog.load(name))
        ]

    def _same_shapes(self, base: Architecture) -> list[Wrong]:
        """Ratios that round to a shape another series has."""
        found = []
        for kind in KINDS:
            seen = {base.shape: "the whole model"}
            for ratio in self.ratios_pct:
                shape = _pruned(base, kind, ratio)[0].shape
                if shape in seen:
                    said = f"gives {base.name} ({kind}) the shape of {seen[shape]}: leave it out"
                    found.append(("ratios_pct", ratio, said))
                seen[shape] = f"{ratio:g} %"
        return found


def _pruned(base: Architecture, kind: str, ratio_pct: float) -> tuple[Architecture, str | None]:
    """The pruned shape; where it cannot be, a stand-in with about that shape and the reason."""
    from moebook.models.pruning.prune import prune_architecture

    try:
        return prune_architecture(base, kind=kind, ratio=ratio_pct / 100)[0], None
    except ImpossibleEdit as error:
        field = {"inter": "num_experts", "intra": "expert_ffn_dim"}[kind]
        return replace(
            base, **{field: max(1, round(getattr(base, field) * (1 - ratio_pct / 100)))}
        ), str(error)
