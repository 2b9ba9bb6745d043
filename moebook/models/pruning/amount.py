"""How much goes: the ratio that is asked for, in whole experts or in channels that the engine's
kernels can take. Letters: E experts, K experts per token, I expert FFN dim."""

from math import floor

from moebook.models.edit import FFN_MULTIPLE, ImpossibleEdit

KINDS = ("inter", "intra")


def check(name: str, kind: str, ratio: float) -> None:
    """Raises ImpossibleEdit for another kind, or a ratio that is no fraction from 0 up to 1."""
    if kind not in KINDS:
        raise ImpossibleEdit(
            f"{name}: kind is {kind!r}; allowed: inter (fewer experts), intra (narrower experts)"
        )
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 <= ratio < 1:
        raise ImpossibleEdit(
            f"{name}: ratio is {ratio!r}; give the fraction to remove, from 0 up to but not "
            "including 1, such as 0.125 for 12.5 %"
        )


def experts_left(name: str, experts: int, top_k: int, ratio: float) -> tuple[int, list[str]]:
    """E' = E - round(ratio * E), and a note where that is rounded. Raises ImpossibleEdit."""
    exact = ratio * experts
    removed = floor(exact + 0.5)
    if experts - removed < top_k:
        raise ImpossibleEdit(
            f"{name}: ratio {ratio:g} removes {removed} of {experts} experts, fewer than the "
            f"{top_k} each token uses; use a ratio up to {(experts - top_k) / experts:g}"
        )
    note = f"{ratio:g} of {experts} experts is {exact:g}; removed {removed}"
    return experts - removed, [note] * (removed != exact)


def width_left(name: str, width: int, ratio: float) -> tuple[int, list[str]]:
    """I' = (1 - ratio) * I, rounded to a multiple of 16, and a note where it is. Raises
    ImpossibleEdit."""
    asked, multiple = (1 - ratio) * width, FFN_MULTIPLE
    if width < multiple:
        raise ImpossibleEdit(
            f"{name}: its expert FFN dim {width} is below one multiple of {multiple}, so nothing "
            "can go; use kind inter"
        )
    new = min(max(1, floor(asked / multiple + 0.5)), width // multiple) * multiple
    if abs(new - asked) <= 1e-6:
        return new, []
    return new, [
        f"{ratio:g} less than FFN dim {width} is {asked:g}; rounded to {new}, a multiple of "
        f"{multiple} (really {1 - new / width:.4g} less)"
    ]


def check_some(name: str, what: str, old: int, new: int, ratio: float) -> None:
    """Raises ImpossibleEdit where a pruned checkpoint would be a copy."""
    if new != old:
        return
    hint = f"; {ratio:g} is {100 * ratio:g} %" if ratio else ""
    raise ImpossibleEdit(
        f"{name}: ratio {ratio:g} of {old} {what} removes none{hint}, so the result would be an "
        "unchanged copy; give a larger ratio (--ratio is in percent: 25 is a quarter)"
    )
