"""A plan: parameters become an ordered list of frozen points, each with an id, an estimate, or a
reason not to run.

A *point* is one thing to measure: Architecture x EngineSettings x Workload x method (methods.py) x
repeats. Its `key` hashes all of these; its `id` adds the device name and engine version, so that no
result is taken for another machine's. Points with a depth method are derived from the points named
in `own` and `anchor`, which are measured.

Letters: B batch, S tokens, L layers, H hidden, I expert FFN dim, E experts, K experts per token, G
GPUs."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path

from moebook.models import catalog, formats
from moebook.models.architecture import Architecture
from moebook.models.tiny import family, own_text
from moebook.study import routing
from moebook.study.labels import Origin, labelled
from moebook.study.methods import METHODS
from moebook.study.settings import EngineSettings, Workload, identity

# The columns that a point is known by beside its model's name: of the architecture, of the engine.
SHAPE_COLUMNS = ("num_layers", "hidden_size", "expert_ffn_dim", "num_experts", "top_k")
FORMAT_COLUMNS = ("dtype", "quantization", "kv_cache_dtype")
SPLIT_COLUMNS = ("tensor_parallel", "pipeline_parallel", "expert_parallel")
ENGINE_COLUMNS = (
    *FORMAT_COLUMNS,
    *SPLIT_COLUMNS,
    "graphs",
    "max_model_len",
    "kv_cache_gib",
    "gpu_memory_utilization",
    "routed_experts",
    "weights",
)


@dataclass(frozen=True)
class Point:
    notebook: str
    architecture: Architecture
    engine: EngineSettings
    workload: Workload
    method: str = "full"
    repeats: int = 3
    sweeps: tuple[str, ...] = ()
    series: str = ""  # what a figure's legend and a claim call it: "fp8", "inter 25 %"
    text: str | None = None  # a file of held-out text, or a text of the tiny family
    status: str = "ready"  # or oom, infeasible: planned, never run
    reason: str | None = None
    # Depth methods: keys of this cell's points with fewer layers, and of another cell's full-depth
    # point and reduced one, which share the intercept.
    own: tuple[str, ...] = ()
    anchor: tuple[str, ...] = ()

    def __post_init__(self):
        """A model without a number format of its own has plain weights, and so has a layer alone,
        whose weights are drawn for it: asking for its own is asking for these."""
        plain = self.is_layer or self.architecture.number_format is None
        if plain and self.engine.quantization == formats.OWN:
            object.__setattr__(self, "engine", replace(self.engine, quantization=None))

    @cached_property
    def key(self) -> str:
        arch = self.architecture
        what = {
            "architecture": arch.hf_config(),
            "shape": (arch.num_layers, arch.expert_ffn_dim, arch.num_experts, arch.top_k),
            "engine": identity(self.engine),
            "workload": identity(self.workload),
            "method": self.method,
            "repeats": self.repeats,
            "own": self.own,
            "anchor": self.anchor,
        }
        if self.text:
            what["text"] = _text_identity(self.text)
        if family.is_tiny(self.engine.weights):
            what["recipe"] = family.recipe_id(self.engine.weights)
        if self.method == "endpoint":
            what["endpoint"] = self.series  # another label, another server
        if self.rests_on_tiny:
            what |= own_text.identity()  # text of the user's own
        if config := _config_of_folder(self.draft):
            what["draft"] = config
        return _digest(what)

    @property
    def engine_key(self) -> tuple[str, str, EngineSettings]:
        """Points equal in this share one engine build."""
        return self.architecture.name, self.architecture.source, self.engine

    @property
    def build_key(self) -> tuple:
        """Points equal in this differ in top-k and routing at most, which a running engine can
        switch."""
        arch = self.architecture
        ffn_dim, experts, _, layers = arch.shape
        engine = replace(self.engine, routing=None)
        return arch.unedited_name, arch.source, layers, ffn_dim, experts, engine

    @property
    def draft(self) -> str | None:
        """The draft model, as it was named."""
        return self.engine.speculation and self.engine.speculation.draft

    @property
    def rests_on_tiny(self) -> bool:
        """Whether weights, a draft or the text are of the tiny family."""
        names = (self.engine.weights, self.draft, self.text)
        return any(name and family.is_tiny(name) for name in names)

    @property
    def number_format(self) -> str | None:
        """The name of the weights' format; None of those of a server elsewhere."""
        if self.method == "endpoint":
            return None
        engine = self.engine
        return formats.format_name(self.architecture, engine.dtype, engine.quantization)

    @property
    def is_derived(self) -> bool:
        return METHODS[self.method].op is None

    @property
    def is_layer(self) -> bool:
        return self.method == "layer"

    @property
    def needs_engine(self) -> bool:
        return METHODS[self.method].needs_engine

    def point_id(self, device_name: str, engine_version: str) -> str:
        return point_id(self.key, device_name, engine_version)


@lru_cache(1 << 16)  # a point has several records
def point_id(key: str, device_name: str, engine_version: str) -> str:
    """The name of a point's files: what was planned, where and with what it ran."""
    return _digest([key, device_name, engine_version])


def _config_of_folder(draft: str | None) -> dict | None:
    """What a draft's folder holds: the same path can hold another model tomorrow. None of a
    published model, known by its name."""
    if draft is None or not Path(draft).expanduser().exists():
        return None
    arch = catalog.load(draft)
    return arch.hf_config() if Origin.of(arch).folders else None


def _text_identity(text: str) -> str:
    """The name of a text of the tiny family, which its recipe fixes; the digest of any other file's
    content."""
    return text if family.is_tiny(text) else _digest(Path(text).read_text(encoding="utf-8"))


def _digest(what: object) -> str:
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Plan:
    notebook: str
    profile: str
    device: str
    points: tuple[Point, ...]

    @property
    def measured(self) -> list[Point]:
        """Points an engine runs, ordered so that those sharing an engine stand together, largest
        top-k first."""
        builds: dict[tuple, list[Point]] = {}
        for point in self.points:
            if point.status == "ready" and not point.is_derived:
                builds.setdefault(point.build_key, []).append(point)
        for build in builds.values():
            build.sort(key=lambda point: -point.architecture.top_k)
        return [point for build in builds.values() for point in build]

    @property
    def sweeps(self) -> list[str]:
        return list(dict.fromkeys(s for p in self.points for s in p.sweeps))

    def only(self, sweeps: list[str]) -> "Plan":
        """The part of the plan that these sweeps need, in their order. ValueError for a sweep it
        does not have."""
        if unknown := [s for s in sweeps if s not in self.sweeps]:
            raise ValueError(
                f"no sweep {', '.join(unknown)} in this plan; it has: {', '.join(self.sweeps)}"
            )
        chosen: dict[str, Point] = {}
        by_key = {p.key: p for p in self.points}
        for sweep in sweeps:
            for point in (p for p in self.points if sweep in p.sweeps):
                for key in (*point.own, *point.anchor, point.key):
                    chosen.setdefault(key, replace(by_key[key], sweeps=(sweep,)))
        return replace(self, points=tuple(chosen.values()))

    @property
    def num_engines(self) -> int:
        """Engine configurations; those that differ in top-k and routing alone share a build."""
        return len({p.engine_key for p in self.measured if p.needs_engine})

    @property
    def num_builds(self) -> int:
        return len({p.build_key for p in self.measured if p.needs_engine})


def merge(points: Iterable[Point]) -> tuple[Point, ...]:
    """Points in first-seen order, those with one key merged into one that belongs to all their
    sweeps, under labels that tell their models apart."""
    merged: dict[str, Point] = {}
    for point in points:
        seen = merged.get(point.key)
        sweeps = tuple(dict.fromkeys((*(seen.sweeps if seen else ()), *point.sweeps)))
        merged[point.key] = found = replace(seen or point, sweeps=sweeps)
        found.__dict__["key"] = point.key  # known: sweeps are no part of it, and hashing takes long
    return tuple(labelled(merged.values()))


def describe(point: Point) -> dict:
    """The flat identity of a point: the first columns of the results table and of `moebook
    plan`."""
    arch, engine, work = point.architecture, point.engine, point.workload
    spec = engine.speculation
    return {
        "key": point.key,
        "notebook": point.notebook,
        "sweeps": ",".join(point.sweeps),
        "model": arch.unedited_name,
        "series": point.series,
        "method": point.method,
        **{name: getattr(arch, name) for name in SHAPE_COLUMNS},
        **{name: getattr(engine, name) for name in ENGINE_COLUMNS},
        "number_format": point.number_format,
        "graph_batch_sizes": ",".join(map(str, engine.graph_batch_sizes)),
        "asked_moe_backend": engine.moe_backend,
        "speculative": spec and spec.method,
        "draft": spec and spec.draft,
        "draft_tokens": spec.num_tokens if spec else 0,
        "set_acceptance": spec and spec.acceptance,
        "temperature": work.temperature,
        "text": point.text and Path(point.text).name,
        "skew": engine.skew,
        "routing": engine.routing or (routing.MODEL if point.needs_engine else None),
        "identical": work.identical,
        "batch": work.batch,
        "input_tokens": work.input_tokens,
        "output_tokens": work.output_tokens,
        "repeats_planned": point.repeats,
    }
