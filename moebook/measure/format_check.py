"""What a point asks of an engine against what the engine says it runs: number formats of weights
and of the KV cache.

A name that was recorded because it was asked for says nothing of what ran. So every record holds
the engine's own words (`runs` of its facts: engine/vllm/patches.py, `number_formats`), and one of
which they differ is failed."""

from moebook.models import formats, own_format
from moebook.study.plan import Point

PLAIN = ("bfloat16", "float16", "float32")
PARTS = ("experts", "attention")


def other_format(point: Point, runs: dict | None) -> str | None:
    """Why a point's engine runs another format than the point asks for, or None. runs: the engine's
    words; None of one that does not say, which is not judged."""
    if runs is None:
        return None
    return _quantization(point, runs) or _weights(point, runs) or _kv_cache(point, runs)


def _quantization(point: Point, runs: dict) -> str | None:
    found = runs["quantization"]
    if found in _names(point):
        return None
    ran = "plain weights (no quantization)" if found is None else f"quantization {found!r}"
    return f"{_asked(point)} is asked for, the engine runs {ran}"


def _names(point: Point) -> tuple[str | None, ...]:
    """What the engine may call the format that is asked for."""
    asked = point.engine.quantization
    if asked is None:
        return (None,)
    if asked == formats.OWN:
        return point.architecture.number_format.engine_names
    return formats.FORMATS[asked].runs_as


def _weights(point: Point, runs: dict) -> str | None:
    """Of parts that the format covers in every layer or in none; one whose dtype the engine does
    not say is not judged."""
    wholly, nowhere = _covered(point)
    for part in PARTS:
        held = runs.get(f"{part}_dtype")
        if held is None:
            continue
        told = f"the engine holds the weights of {part} in {held}"
        if part in wholly and held in PLAIN:
            return f"{_asked(point)} is asked for, {told}"
        if part in nowhere and held != point.engine.dtype:
            return f"{point.engine.dtype} is asked for the weights of {part}, {told}"
    return None


def _covered(point: Point) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Parts of which all layers are quantized, and parts of which none is."""
    asked = point.engine.quantization
    if asked == formats.OWN:
        wholly = own_format.covered(point.architecture, wholly=True)
        some = own_format.covered(point.architecture)
    else:
        some = wholly = formats.covered(asked)
    return wholly, tuple(part for part in PARTS if part not in some)


def _kv_cache(point: Point, runs: dict) -> str | None:
    """Left to the engine (`auto`) it may be any: a checkpoint can name its own."""
    asked, found = point.engine.kv_cache_dtype, runs.get("kv_cache_dtype")
    if asked == "auto" or found is None or found.startswith(asked):
        return None
    return f"a KV cache in {asked} is asked for, the engine has one in {found}"


def _asked(point: Point) -> str:
    asked = point.engine.quantization
    return f"{point.number_format} (quantization {asked!r})" if asked else point.number_format
