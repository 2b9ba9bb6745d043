"""What sections share on the way from parameters to points: engine settings, edited models, full
depth or the way round."""

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from moebook import devices
from moebook.models import catalog, fitting
from moebook.models.edit import ImpossibleEdit, edit
from moebook.models.tiny import family
from moebook.study import params
from moebook.study.estimates import check
from moebook.study.lengths import Length, longest
from moebook.study.plan import EngineSettings, Point, Workload

Graphs = Literal["light", "pieces", "compiled", "default", "eager"]
DTYPES = ("bfloat16", "float16", "float32")
SAMPLED_OUTPUTS = 128  # tokens out that sampled steps take at most, one a step
UNIFORM = "zipf 0"  # routing imposed as uniform, on models whose dummy weights do not route so


class EngineParams(params.NotebookParams):
    """What every notebook takes that starts engines."""

    dtype: str = "float32"
    graphs: Graphs = "eager"
    tensor_parallel: params.Count = 1
    kv_cache_gib: params.Count | None = 1
    sample_from_tokens: Annotated[int, Field(strict=True, ge=128)] | None = None

    def problems(self) -> list[tuple[str, Any, str]]:
        found = super().problems()
        if self.dtype not in DTYPES:
            found.append(("dtype", self.dtype, f"allowed: {', '.join(DTYPES)}"))
        if self.tensor_parallel > self.num_devices:
            found.append(
                (
                    "tensor_parallel",
                    self.tensor_parallel,
                    f"at most num_devices = {self.num_devices}",
                )
            )
        return found or self._word_problems()

    def _word_problems(self) -> list[tuple[str, Any, str]]:
        """`fitting` where the device's memory is not known, and `fitting N` for one model."""
        words = [
            (key, value)
            for key, value in self
            for name in _as_names(value)
            if fitting.is_word(name)
        ]
        if words and devices.memory_bytes(self.device) is None:
            return [
                (
                    key,
                    value,
                    f"names of models: the memory of device {self.device!r} is not known, so "
                    f"`fitting` "
                    "chooses none",
                )
                for key, value in words
            ]
        return [
            (key, value, "`fitting` alone, or a name: this is one model")
            for key, value in words
            if isinstance(value, str) and value != fitting.WORD
        ]


def _as_names(value: Any) -> list[str]:
    """The texts of a parameter that is a text or a list of them."""
    return [v for v in (value if isinstance(value, tuple) else [value]) if isinstance(v, str)]


def named(names: Iterable[str | None]) -> list[str]:
    """Models that are named, `fitting` and null left out."""
    return [name for name in names if name is not None and not fitting.is_word(name)]


def nameable(names: Iterable[str]) -> list[str]:
    """What a parameter may say of models besides these: any of the catalog, as one file serves
    several choices of models."""
    return list(dict.fromkeys([*named(names), *catalog.names()]))


def fits(
    p: "EngineParams", batches: Collection[int], lengths: Iterable[Length | None], **engine
) -> fitting.Fits:
    """Whether a model runs whole at the largest batch and the longest length: its positions, and
    the device's memory."""
    most, batch = longest(lengths) or Length(1, 1), max(batches, default=1)

    def ask(arch: catalog.Architecture) -> bool:
        cell = point(p, "", arch, settings(p, [batch], most.total, **engine), batch, most, "")
        return most.total <= arch.max_positions and check(cell, p.device).status == "ready"

    return ask


def with_models(p, kinds: dict[str, fitting.Kind] | None = None, **asked: fitting.Fits):
    """The parameters, `fitting` in those named replaced by the models that it stands for. `kinds`:
    which models those are, where not any."""
    found: dict[str, Any] = {}
    for key, ask in asked.items():
        given, kind = getattr(p, key), (kinds or {}).get(key, "any")
        if given == fitting.WORD:
            found[key] = fitting.largest(ask, fitting.candidates(kind))
        elif isinstance(given, tuple):
            found[key] = fitting.resolve(given, ask, kind)
    return p.model_copy(update=found)


def unknown(key: str, given: Iterable[str], allowed: Iterable[str]) -> list[tuple[str, Any, str]]:
    """A problem per name that is not allowed, with the nearest one that is."""
    allowed = list(allowed)
    return [(key, name, params.choices(name, allowed)) for name in given if name not in allowed]


def model_problems(
    key: str, names: Iterable[str], length: Length | None = None
) -> list[tuple[str, Any, str]]:
    """What is wrong with the models of a parameter: unknown, dense, or too short for the length."""
    return [(key, name, text) for name in names for text in _model_problems(name, length)]


def _model_problems(name: str, length: Length | None) -> list[str]:
    try:
        arch = catalog.load(name)
    except ValueError as error:
        return [str(error)]
    if not arch.num_experts:
        return ["is a dense model; this section needs a Mixture-of-Experts model"]
    if length is not None and length.total > arch.max_positions:
        return [
            f"{length.tokens_in} input + {length.tokens_out} output tokens exceed its "
            f"{arch.max_positions} positions"
        ]
    return []


def draft_problems(key: str, target: str, drafts: Iterable[str]) -> list[tuple[str, Any, str]]:
    """Drafts that are unknown, or whose vocabulary is not the target's."""
    found: list[tuple[str, Any, str]] = []
    try:
        vocabulary = catalog.load(target).vocab_size
    except ValueError:
        return found  # told of the target already
    for name in drafts:
        try:
            own = catalog.load(name).vocab_size
        except ValueError as error:
            found.append((key, name, str(error)))
            continue
        if own != vocabulary:
            found.append(
                (
                    key,
                    name,
                    f"has a vocabulary of {own} tokens, the target {target} one of {vocabulary}: a "
                    f"draft "
                    "must share the target's tokens",
                )
            )
    return found


def trained_problems(key: str, name: str) -> list[tuple[str, Any, str]]:
    """What is wrong with the name of a trained MoE of the tiny family."""
    try:
        ref = family.parse(name)
    except ValueError as error:
        return [(key, name, str(error))]
    if ref.member not in family.TARGETS:
        return [
            (
                key,
                name,
                params.choices(ref.member, [f"tiny:{ref.preset}/{m}" for m in family.TARGETS]),
            )
        ]
    return []


def weights_of(model: str) -> str:
    """Trained weights of the tiny family, dummy ones of a published shape."""
    return model if family.is_tiny(model) else "dummy"


def checkpoint_problems(
    weights: str,
    text: str | None,
    keys: tuple[str, str] = ("weights", "quality_text"),
) -> list[tuple[str, Any, str]]:
    """What is wrong with a checkpoint folder and the text it is to read; those of the tiny family
    are made when needed."""
    found: list[tuple[str, Any, str]] = []
    folder = Path(weights)
    if family.is_tiny(weights):
        found += trained_problems(keys[0], weights)
    elif not (folder / "config.json").is_file():
        found.append(
            (
                keys[0],
                weights,
                "a folder with a Hugging Face checkpoint (config.json is missing), or 'dummy'",
            )
        )
    elif not any(folder.glob("tokenizer*")):
        found.append((keys[0], weights, "a checkpoint with its tokenizer: none lies in the folder"))
    if text is not None and family.is_tiny(text):
        found += [(keys[1], text, str(error)) for error in family.text_problems(text)]
    elif text is None or not Path(text).is_file():
        found.append((keys[1], text, "a file of held-out text, which a trained checkpoint needs"))
    else:
        found += [(keys[1], text, problem) for problem in _text_problems(Path(text))]
    return found


def _text_problems(path: Path) -> list[str]:
    data = path.read_bytes()
    if not data.strip():
        return ["the file is empty"]
    if b"\0" in data:
        return ["is a binary file (it holds NUL bytes); give plain text"]
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return [f"is no UTF-8 text (byte {error.start}); give plain text"]
    return []


def settings(
    p: EngineParams, batches: Iterable[int], max_model_len: int, **given
) -> EngineSettings:
    return EngineSettings(
        **{
            "dtype": p.dtype,
            "graphs": p.graphs,
            "graph_batch_sizes": tuple(sorted(set(batches))),
            "max_model_len": max_model_len,
            "kv_cache_gib": p.kv_cache_gib,
            "tensor_parallel": p.tensor_parallel,
            **given,
        }
    )


def point(
    p: EngineParams,
    notebook: str,
    arch: catalog.Architecture,
    engine: EngineSettings,
    batch: int,
    length: Length,
    sweep: str,
    **given,
) -> Point:
    """A point of one length; sampled from `sample_from_tokens` tokens out on, where the engine has
    room for it."""
    sampled = (
        p.sample_from_tokens is not None
        and length.tokens_out >= p.sample_from_tokens
        and _has_room(engine, length)
    )
    work = Workload(batch, length.tokens_in, length.tokens_out, p.seed)
    return Point(
        notebook,
        arch,
        engine,
        work,
        repeats=p.repeats,
        sweeps=(sweep,),
        **{"method": "sampled" if sampled else "full", **given},
    )


def _has_room(engine: EngineSettings, length: Length) -> bool:
    """Whether sampled steps after the input stay within the engine's positions: with draft tokens a
    step yields several."""
    per_step = 1 + engine.speculation.num_tokens if engine.speculation else 1
    return length.tokens_in + SAMPLED_OUTPUTS * per_step <= engine.max_model_len


def try_edit(base: catalog.Architecture, **changes) -> tuple[catalog.Architecture, str | None]:
    """The edited architecture, or, where the edit is impossible, a stand-in with its shape and the
    reason."""
    try:
        return edit(base, **changes), None
    except ImpossibleEdit as error:
        shape = {"ffn_dim": "expert_ffn_dim"}
        return replace(base, **{shape.get(k, k): v for k, v in changes.items()}), str(error)


def unless(point: Point, reason: str | None) -> Point:
    """The point, or, with a reason, the point as infeasible."""
    return point if reason is None else replace(point, status="infeasible", reason=reason)


def reduced(cell: Point, layers: int) -> Point:
    return replace(
        cell, architecture=edit(cell.architecture, num_layers=layers), sweeps=("support",)
    )


def derived(cell: Point, own: Iterable[Point], anchor: Iterable[Point] = (), **changes) -> Point:
    """The cell, extrapolated over depth from points with fewer layers."""
    method = "depth+sampled" if cell.method == "sampled" else "depth"
    return replace(
        cell,
        method=method,
        own=tuple(o.key for o in own),
        anchor=tuple(a.key for a in anchor),
        **changes,
    )


def full_or_by_depth(cell: Point, device_kind: str, layers: tuple[int, ...] | None) -> list[Point]:
    """The cell where it fits the device; else its points at `layers` and the cell extrapolated from
    them."""
    whole = check(cell, device_kind)
    if whole.status != "oom" or layers is None:
        return [whole]
    own = [reduced(cell, n) for n in layers]
    if any(check(o, device_kind).status != "ready" for o in own):
        return [whole]
    return [*own, derived(cell, own)]
