"""One configuration, what is predicted of it, and what was measured near it."""

import math
from collections.abc import Iterable
from functools import cached_property
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from moebook.models import catalog
from moebook.models.architecture import Architecture
from moebook.models.edit import edit
from moebook.models.formats import SERIES, settings_of
from moebook.predict import shipped
from moebook.predict.case import Case
from moebook.predict.points import Near, nearest
from moebook.predict.what_if import Prediction, predict
from moebook.study.params import Count, Flag
from moebook.study.routing import UNIFORM, Routing, imposed
from moebook.study.settings import EngineSettings, Workload
from moebook.study.values import wrong

NEAR = 0.9  # doublings from a case to a measured point that is shown beside; a format apart is 1
GRAPHS = ("light", "pieces", "compiled", "default")
BATCHES = tuple(2**n for n in range(10))


class Fields(BaseModel):
    """What is run, and on what. None: the model's own size. Lengths in tokens. `light` graphs are
    those of the measured points."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = "Mixtral-8x7B-v0.1"
    expert_ffn_dim: Count | None = None
    num_experts: Count | None = None
    top_k: Count | None = None
    num_layers: Count | None = None
    batch: Count = 16
    input_tokens: Count = 2048
    output_tokens: Count = 2048
    number_format: Literal[tuple(SERIES)] = "bf16"
    card: Literal[tuple(shipped.names())] = "h200"
    tensor_parallel: Count = 1
    pipeline_parallel: Count = 1
    expert_parallel: Flag = False
    graphs: Literal[GRAPHS] = "light"
    routing: Routing = "uniform"


FIELDS = tuple(Fields.model_fields)
SIZES = (
    "expert_ffn_dim",
    "num_experts",
    "top_k",
    "num_layers",
)  # of the model, which may be edited


class Setup(Fields):
    """A configuration that predicts itself."""

    @cached_property
    def architecture(self) -> Architecture:
        """ValueError for an unknown model or an impossible edit."""
        return edit(
            catalog.load(self.model),
            ffn_dim=self.expert_ffn_dim,
            num_experts=self.num_experts,
            top_k=self.top_k,
            num_layers=self.num_layers,
        )

    def case(self, batch: int | None = None) -> Case:
        """Of another batch where one is given."""
        settings = EngineSettings(
            **settings_of(self.number_format),
            tensor_parallel=self.tensor_parallel,
            pipeline_parallel=self.pipeline_parallel,
            expert_parallel=self.expert_parallel,
            graphs=self.graphs,
            routing=imposed(self.routing),
        )
        work = Workload(batch or self.batch, self.input_tokens, self.output_tokens)
        return Case(self.architecture, settings, work)

    def predict(self, batch: int | None = None) -> Prediction:
        """ValueError, with the reason, for what nothing can be said of."""
        case = self.case(batch)
        return predict(case.arch, case.settings, case.workload, self.card)

    def near(self) -> list[Near]:
        """Measured points within NEAR of this configuration at any batch."""
        found = nearest(self.case(), self.card, 10**6)
        return [n for n in found if self._beside(n) <= NEAR]

    def _beside(self, point: Near) -> float:
        """The point's distance but for its batch."""
        batches = math.log2(self.batch / point.batch)
        return math.sqrt(max(0.0, point.distance**2 - batches**2))

    def rate(self, seconds: float, batch: int) -> float:
        """Tokens/s, in and out, of a batch that takes so long."""
        return batch * (self.input_tokens + self.output_tokens) / seconds

    def changed(self, changes: dict) -> "Setup":
        """ValueError for a name that is no field, and for a value that it cannot have."""
        try:
            return Setup(**{**self.model_dump(), **changes})
        except ValidationError as error:
            name, given, allowed = wrong(error.errors()[0], changes, FIELDS)
            raise ValueError(f"{name}: given {given!r}; {allowed}") from None

    def told(self) -> str:
        """What it is, in a line."""
        sizes = zip("IEKL", (getattr(self, name) for name in SIZES), strict=True)
        edits = ", ".join(f"{letter} {size}" for letter, size in sizes if size)
        cards = f"{self.tensor_parallel * self.pipeline_parallel} × {self.card}"
        stages = self.pipeline_parallel
        kinds = ["EP"] * self.expert_parallel + [f"PP {stages}"] * (stages > 1)
        split = f" ({', '.join(kinds)})" if kinds else ""
        model = f"{self.model}[{edits}]" if edits else self.model
        lengths = f"{self.input_tokens} + {self.output_tokens} tokens"
        routing = f", routing {self.routing}" if self.routing != UNIFORM else ""
        routing += f", graphs {self.graphs}" if self.graphs != "light" else ""
        words = f"{model}, {self.number_format}, {cards}{split}, batch {self.batch}, {lengths}"
        return words + routing

    def code(self) -> str:
        """This configuration as Python."""
        given = self.model_dump(exclude_defaults=True)
        return f"Setup({', '.join(f'{name}={value!r}' for name, value in given.items())})"


def parsed(lines: Iterable[str]) -> dict:
    """`number_format: fp8` and more, as a dict; ValueError for a line of another form."""
    found: dict = {}
    for line in lines:
        try:
            read = yaml.safe_load(line)
        except yaml.YAMLError:
            read = None
        if not isinstance(read, dict) or len(read) != 1:
            raise ValueError(f"{line!r} is no `name: value`, such as `number_format: fp8`")
        found |= read
    return found
