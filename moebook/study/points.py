"""What sections share on the way from parameters to points: engine settings, edited models, full
depth or the way round."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from moebook import devices
from moebook.models import fitting
from moebook.models.architecture import Architecture
from moebook.models.edit import ImpossibleEdit, edit
from moebook.models.formats import OWN
from moebook.problems import ParameterError, Problem, Wrong
from moebook.study import model_names, params
from moebook.study.estimates import check
from moebook.study.lengths import Length, longest
from moebook.study.plan import Plan, Point, merge
from moebook.study.settings import EngineSettings, Workload

Graphs = Literal["light", "pieces", "compiled", "default", "eager"]
DTYPES = ("bfloat16", "float16", "float32")
ENERGY = "energy"  # a method, and the sweep of its points
SAMPLED_OUTPUTS = 128  # tokens out that sampled steps take at most, one a step
MOST = 50_000  # points of a plan
_left: ContextVar[list[int] | None] = ContextVar("points that may be made", default=None)


class EngineParams(params.NotebookParams):
    """What every notebook takes that starts engines."""

    dtype: str = "float32"
    graphs: Graphs = "eager"
    tensor_parallel: params.Count = 1
    kv_cache_gib: params.Count | None = 1
    sample_from_tokens: Annotated[int, Field(strict=True, ge=128)] | None = None

    def problems(self) -> list[Wrong]:
        found = super().problems()
        if self.dtype not in DTYPES:
            found.append(self.wrong("dtype", f"allowed: {', '.join(DTYPES)}"))
        if self.tensor_parallel > self.num_devices:
            most = f"at most num_devices = {self.num_devices}"
            found.append(self.wrong("tensor_parallel", most))
        found = found or self._word_problems()
        for key, length in self.lengths_of().items():
            names = model_names.named(model_names.several(getattr(self, key)))
            found += model_names.model_problems(key, names, length, self)
        return found

    def lengths_of(self) -> dict[str, Length | None]:
        """Parameters that name models, or say `fitting` -> the longest length that these take;
        None of none."""
        return {}

    def _word_problems(self) -> list[Wrong]:
        """`fitting` where the device's memory is not known, and `fitting N` for one model."""
        words = [(key, value) for key, value in self if _has_word(value)]
        if words and devices.memory_bytes(self.device) is None:
            unknown = (
                f"the memory of device {self.device!r} is not known, so `fitting` chooses none"
            )
            return [(key, value, f"names of models: {unknown}") for key, value in words]
        counted = [key for key, value in words if isinstance(value, str) and value != fitting.WORD]
        return [self.wrong(k, "`fitting` alone, or a name: this is one model") for k in counted]


def _has_word(value: Any) -> bool:
    """Whether a text, or one of a tuple's texts, is `fitting` or `fitting N`."""
    every = model_names.several(value)
    return any(isinstance(one, str) and fitting.is_word(one) for one in every)


def fits(
    p: EngineParams, batches: Collection[int], lengths: Iterable[Length | None], **engine
) -> fitting.Fits:
    """Whether a model runs whole at the largest batch and the longest length: its positions, and
    the device's memory."""
    most, batch = longest(lengths) or Length(1, 1), max(batches, default=1)

    def ask(arch: Architecture) -> bool:
        cell = point(p, arch, settings(p, [batch], most.total, **engine), batch, most, "")
        return most.total <= arch.max_positions and check(cell, p.device).status == "ready"

    return ask


def settings(
    p: EngineParams, batches: Iterable[int], max_model_len: int, **given
) -> EngineSettings:
    """What the parameters say, and what is given; the model's own number format unless a
    `quantization` is given."""
    common = {
        "dtype": p.dtype,
        "quantization": OWN,
        "graphs": p.graphs,
        "graph_batch_sizes": tuple(sorted(set(batches))),
        "max_model_len": max_model_len,
        "kv_cache_gib": p.kv_cache_gib,
        "tensor_parallel": p.tensor_parallel,
    }
    return EngineSettings(**{**common, **given})


def point(
    p: EngineParams,
    arch: Architecture,
    engine: EngineSettings,
    batch: int,
    length: Length,
    sweep: str,
    **given,
) -> Point:
    """A point of one length; sampled from `sample_from_tokens` tokens out on, where the engine has
    room for it."""
    least = p.sample_from_tokens
    sampled = least is not None and length.tokens_out >= least and _has_room(engine, length)
    work = Workload(batch, length.tokens_in, length.tokens_out, p.seed)
    return of_work(p, arch, engine, work, "sampled" if sampled else "full", sweep, **given)


def of_work(
    p: EngineParams,
    arch: Architecture,
    engine: EngineSettings,
    work: Workload,
    method: str,
    sweep: str,
    **given,
) -> Point:
    """A point of any method."""
    if (left := _left.get()) is not None:
        left[0] -= 1
        if left[0] < 0:
            fewer = f"at most {MOST} are planned: give fewer values in the lists it is made of"
            raise ParameterError([Problem(f"plan of {p.notebook}", sweep, "more points", fewer)])
    return Point(p.notebook, arch, engine, work, method, p.repeats, (sweep,), **given)


@contextmanager
def at_most(count: int = MOST) -> Iterator[None]:
    """ParameterError of what is made beyond so many points: lists are multiplied."""
    token = _left.set([count])
    try:
        yield
    finally:
        _left.reset(token)


def _has_room(engine: EngineSettings, length: Length) -> bool:
    """Whether sampled steps after the input stay within the engine's positions: with draft tokens a
    step yields several."""
    per_step = 1 + engine.speculation.num_tokens if engine.speculation else 1
    return length.tokens_in + SAMPLED_OUTPUTS * per_step <= engine.max_model_len


def try_edit(base: Architecture, **changes) -> tuple[Architecture, str | None]:
    """The edited architecture, or, where the edit is impossible, a stand-in with its shape and the
    reason."""
    try:
        return edit(base, **changes), None
    except ImpossibleEdit as error:
        if "ffn_dim" in changes:
            changes["expert_ffn_dim"] = changes.pop("ffn_dim")
        return replace(base, **changes), str(error)


def unless(point: Point, reason: str | None) -> Point:
    """The point, or, with a reason, the point as infeasible."""
    return point if reason is None else replace(point, status="infeasible", reason=reason)


def reduced(cell: Point, layers: int) -> Point:
    arch = edit(cell.architecture, num_layers=layers)
    return replace(cell, architecture=arch, sweeps=("support",))


def derived(cell: Point, own: Iterable[Point], anchor: Iterable[Point] = (), **changes) -> Point:
    """The cell, extrapolated over depth from points with fewer layers."""
    method = "depth+sampled" if cell.method == "sampled" else "depth"
    keys = {"own": tuple(p.key for p in own), "anchor": tuple(p.key for p in anchor)}
    return replace(cell, method=method, **keys, **changes)


def full_or_by_depth(cell: Point, device_kind: str, layers: tuple[int, ...] | None) -> list[Point]:
    """The cell where it fits the device, or is less deep than `layers`; else its points at `layers`
    and the cell extrapolated from them."""
    whole = check(cell, device_kind)
    if whole.status != "oom" or layers is None or max(layers) > cell.architecture.num_layers:
        return [whole]
    own = [reduced(cell, n) for n in layers]
    if any(check(o, device_kind).status != "ready" for o in own):
        return [whole]
    return [*own, derived(cell, own)]


def plan_of(p: EngineParams, points: Iterable[Point]) -> Plan:
    """The plan of a section's points; what cannot run is marked with the reason."""
    return Plan(p.notebook, p.profile, p.device, merge(check(q, p.device) for q in points))


class EnergyParams(EngineParams):
    """energy_batches: batches (sequences) of which energy is measured. device_hour_price: of one
    device, in any currency; null: no cost is told."""

    energy_batches: params.Counts = ()
    device_hour_price: params.NonNegative | None = None


class ComparedParams(EnergyParams):
    """What notebooks take that set models beside each other. default_graphs: models whose points
    run under the engine's own graphs, as the profile's would slow them."""

    default_graphs: params.Names = ()

    def graphs_of(self, model: str) -> str:
        return "default" if model in self.default_graphs else self.graphs


def energy_twins(p: EnergyParams, points: Iterable[Point]) -> list[Point]:
    """A point of energy for each that runs whole at one of `energy_batches`: a timed run is too
    short for a driver's energy counter, so it repeats prefill and decode steps for seconds, in a
    run of its own (engine/vllm/energy.py)."""
    return [
        replace(point, method=ENERGY, repeats=1, sweeps=(ENERGY,))
        for point in points
        if point.workload.batch in p.energy_batches
        and point.needs_engine
        and not point.is_derived
        and "support" not in point.sweeps
    ]
