"""How long a run is: tokens in and tokens out, said as a number where they are equal, as a pair
[in, out] where not.

    >>> str(Length.parse(128)), str(Length.parse([1024, 256]))
    ('128', '1024 + 256')

In a list of lengths numbers are lengths of their own: `[128, 256]` is two of them, `[[1024, 256]]`
is one. An empty list leaves the sweep out."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError, core_schema

ALLOWED = "a number of tokens (as many in as out) or a pair [in, out], whole numbers from 1 on"


@dataclass(frozen=True, order=True)
class Length:
    """Tokens in and out of one request. Ordered by input, then output."""

    tokens_in: int
    tokens_out: int

    @classmethod
    def parse(cls, given: Any) -> "Length":
        """From a number or a pair; ValueError says what is allowed."""
        if isinstance(given, cls):
            return given
        pair = given if isinstance(given, (list, tuple)) else [given, given]
        if len(pair) != 2 or any(type(n) is not int or n < 1 for n in pair):
            raise ValueError(ALLOWED)
        return cls(*pair)

    @property
    def total(self) -> int:
        """Positions that a sequence takes once all tokens are out."""
        return self.tokens_in + self.tokens_out

    @property
    def longer(self) -> int:
        return max(self.tokens_in, self.tokens_out)

    @property
    def plain(self) -> int | list[int]:
        """As YAML and JSON say it."""
        both = [self.tokens_in, self.tokens_out]
        return self.tokens_in if self.tokens_in == self.tokens_out else both

    @property
    def words(self) -> str:
        """As a legend says it."""
        if self.tokens_in == self.tokens_out:
            return f"{self.tokens_in} in + out"
        return f"{self.tokens_in} in + {self.tokens_out} out"

    def __str__(self) -> str:
        return " + ".join(map(str, dict.fromkeys((self.tokens_in, self.tokens_out))))

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:
        plain = core_schema.plain_serializer_function_ser_schema(lambda length: length.plain)
        return core_schema.no_info_plain_validator_function(_validated, serialization=plain)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> dict:
        tokens = {"type": "integer", "minimum": 1}
        return {"anyOf": [tokens, {"type": "array", "items": tokens, "minItems": 2, "maxItems": 2}]}


def _validated(given: Any) -> Length:
    try:
        return Length.parse(given)
    except ValueError as error:
        raise PydanticCustomError("length", "{allowed}", {"allowed": str(error)}) from None


def _as_tuple(given: Any) -> Any:
    if isinstance(given, (list, tuple)):
        return tuple(given)
    raise PydanticCustomError(
        "length_list", "{allowed}", {"allowed": f"a list; of each: {ALLOWED}; [] leaves them out"}
    )


def _distinct(lengths: tuple[Length, ...]) -> tuple[Length, ...]:
    double = [length for i, length in enumerate(lengths) if length in lengths[:i]]
    if double:
        said = f"each length once; {double[0]} stands twice"
        raise PydanticCustomError("length_twice", "{said}", {"said": said})
    return lengths


Lengths = Annotated[tuple[Length, ...], BeforeValidator(_as_tuple), AfterValidator(_distinct)]


def both(*counts: int) -> tuple[Length, ...]:
    """Lengths of as many tokens in as out."""
    return tuple(Length(n, n) for n in counts)


def longest(lengths: Iterable[Length | None]) -> Length | None:
    """The one that takes most positions, of those given; None of none."""
    given = (length for length in lengths if length is not None)
    return max(given, key=lambda length: length.total, default=None)
