"""Section 3: what its notebook and parameter files may say."""

from dataclasses import replace
from typing import Literal

from moebook.models import catalog
from moebook.models.edit import ImpossibleEdit
from moebook.models.pruning.saliency import CRITERIA
from moebook.models.tiny import family
from moebook.problems import Wrong
from moebook.sections.pruning.pruned import KINDS
from moebook.study import model_names, params, points, values
from moebook.study.lengths import Length
from moebook.study.points import EnergyParams

NOTEBOOK = "03_pruning"
SHAPE = {"inter": "num_experts", "intra": "expert_ffn_dim"}  # what a kind of pruning shrinks


class Params(EnergyParams):
    """Speed: each model whole and pruned by `ratios_pct` (percent of its experts, or of their FFN
    dim), at `active_experts` (None: powers of two up to the model's own, and that), a `batch` of
    sequences and `tokens` in and out.

    Quality: perplexity of `quality_target`, whole and pruned by `quality_ratios_pct` (percent) and
    each of the `criteria`, over `quality_sequences` windows of `quality_tokens` tokens."""

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
    quality_tokens: params.WindowTokens = 256
    quality_dtype: str = "float32"

    def problems(self) -> list[Wrong]:
        found = super().problems()
        found += self.unknown("criteria", CRITERIA)
        found += self.unknown("quality_dtype", points.DTYPES)
        found += [
            ("quality_ratios_pct", r, wrong)
            for r in self.quality_ratios_pct
            if (wrong := values.percent_problem(r))
        ]
        if self.quality_target is not None:
            found += self._quality_problems(self.quality_target)
        found += [
            ("ratios_pct", r, "percent that is pruned: over 0 and under 100")
            for r in self.ratios_pct
            if r >= 100
        ]
        if any(key == "models" for key, *_ in found):
            return found
        bases = [catalog.load(name) for name in model_names.named(self.models)]
        found += [
            ("active_experts", k, f"at most the {base.top_k} that {base.name} was trained with")
            for base in bases
            for k in self.active_experts or ()
            if k > base.top_k
        ]
        return found or [problem for base in bases for problem in self._same_shapes(base)]

    def lengths_of(self) -> dict[str, Length | None]:
        return {"models": self.tokens}

    def _quality_problems(self, target: str) -> list[Wrong]:
        found = []
        if self.quality_sequences < self.repeats:
            wanted = f"at least repeats = {self.repeats}, a part each"
            found.append(self.wrong("quality_sequences", wanted))
        unusable = model_names.trained_problems("quality_target", target)
        if not unusable:
            try:
                family.parse(f"{target}/inter-50-norm")
            except ValueError as error:
                unusable = [self.wrong("quality_target", str(error))]
        if unusable:
            return found + unusable
        found += model_names.positions_problems("quality_tokens", self.quality_tokens, [target])
        base = catalog.load(target)
        return found + [
            ("quality_ratios_pct", ratio, reason)
            for ratio in self.quality_ratios_pct
            for kind in KINDS
            if ratio < 100 and (reason := pruned_shape(base, kind, ratio)[1])
        ]

    def _same_shapes(self, base: catalog.Architecture) -> list[Wrong]:
        """Ratios that round to a shape another series has."""
        found = []
        for kind in KINDS:
            seen = {base.shape: "the whole model"}
            for ratio in self.ratios_pct:
                shape = pruned_shape(base, kind, ratio)[0].shape
                if shape in seen:
                    said = f"gives {base.name} ({kind}) the shape of {seen[shape]}: leave it out"
                    found.append(("ratios_pct", ratio, said))
                seen[shape] = f"{ratio:g} %"
        return found


def pruned_shape(
    base: catalog.Architecture, kind: str, ratio_pct: float
) -> tuple[catalog.Architecture, str | None]:
    """The pruned shape; where it cannot be, a stand-in with about that shape and the reason."""
    from moebook.models.pruning import prune_architecture

    try:
        return prune_architecture(base, kind=kind, ratio=ratio_pct / 100)[0], None
    except ImpossibleEdit as error:
        left = max(1, round(getattr(base, SHAPE[kind]) * (1 - ratio_pct / 100)))
        return replace(base, **{SHAPE[kind]: left}), str(error)
