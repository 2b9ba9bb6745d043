"""Which experts the tokens of a step take: what a measurement imposes on the routers.

    model     the routers choose, by the weights
    uniform   every token's K experts are drawn anew, each expert as likely as another
    same      all tokens of a step take the same K experts of a layer, drawn anew at each step: a
              batch of identical sequences
    zipf:S    drawn with probability ~ rank^-S, in an order of each layer's own

Dummy weights do not always route near uniform, and how many experts a step reads decides its time:
a comparison of models wants one routing for all."""

import re
from typing import Annotated

from pydantic import AfterValidator

MODEL, UNIFORM, SAME = "model", "uniform", "same"
ZIPF = "zipf:"


def checked(word: str) -> str:
    """The word as it is kept: `zipf:0` is `uniform`. ValueError for another word."""
    if word in (MODEL, UNIFORM, SAME):
        return word
    if not re.fullmatch(rf"{ZIPF}\d+(\.\d+)?", word):
        raise ValueError(f"allowed: {MODEL}, {UNIFORM}, {SAME}, {ZIPF}S with S a number from 0 on")
    return zipf(float(word.removeprefix(ZIPF)))


Routing = Annotated[str, AfterValidator(checked)]


def zipf(skew: float) -> str:
    """The word of a Zipf exponent S."""
    return f"{ZIPF}{skew:g}" if skew else UNIFORM


def skew_of(imposed: str | None) -> float | None:
    """S of an imposed Zipf routing, 0 of uniform; None where choices are not drawn so."""
    if imposed == UNIFORM:
        return 0.0
    if imposed is None or not imposed.startswith(ZIPF):
        return None
    return float(imposed.removeprefix(ZIPF))


def imposed(word: str) -> str | None:
    """What engine settings hold: None where the routers choose."""
    return None if word == MODEL else word


def first_spelling(word: str) -> str:
    """As the keys of published points spell it: `zipf 0`, `zipf 1`."""
    skew = skew_of(word)
    return word if skew is None else f"zipf {skew:g}"
