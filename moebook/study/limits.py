"""What single values may be, the same for a command's options and a parameter file, and how a wrong
one is told.

The `…_problem` functions give what is wrong with minutes or a percentage, or None."""

import ast
import math
from collections.abc import Iterable
from typing import Any

from moebook.problems import Wrong, choices

MOST_MINUTES = 366 * 24 * 60


def minutes_problem(minutes: float) -> str | None:
    if math.isfinite(minutes) and 0 < minutes <= MOST_MINUTES:
        return None
    return f"allowed: minutes over 0, at most {MOST_MINUTES} (a year)"


def percent_problem(percent: float) -> str | None:
    """Of what is pruned. Under 1 % is taken for a fraction, since it removes nothing."""
    if 0 < percent < 1:
        named = {0.25: "a quarter", 0.5: "a half", 0.75: "three quarters"}
        part = named.get(percent, f"{percent:g} of it")
        return f"{percent:g} % removes nothing; for {part} write {100 * percent:g}"
    return None if 1 <= percent < 100 else "percent that is pruned: over 0 and under 100"


def wrong(error: dict, data: dict, fields: Iterable[str]) -> Wrong:
    """One of pydantic's errors (`ValidationError.errors()`) in the words of a parameter file, with
    how the value should have been written where that can be told."""
    kind, given, place = error["type"], error["input"], [str(part) for part in error["loc"]]
    if kind == "extra_forbidden":
        return place[0], data.get(place[0]), f"unknown parameter; {choices(place[0], fields)}"
    message = error["msg"][0].lower() + error["msg"][1:]
    allowed = message.replace("a valid tuple", "a list, such as [1, 2]")
    whole = "int" in kind or kind == "length"
    if hint := number_hint(given, whole) if whole or "float" in kind else "":
        allowed += f"; {hint}"
    elif isinstance(given, str) and any(word in kind for word in ("tuple", "int", "length")):
        allowed += _text_hint(given)
    return ".".join(place), given, allowed


def number_hint(given: Any, whole: bool) -> str:
    """How a number should have been written that arrived as text or with a fraction; "" where it is
    none. whole: a whole number is wanted."""
    try:
        number = float(given)
    except (TypeError, ValueError):
        return ""
    quoted = isinstance(given, str) and given.strip().lstrip("+-").isdigit()  # another hint's
    if quoted or isinstance(given, bool) or not math.isfinite(number):
        return ""
    if whole and number.is_integer() and abs(number) < 1e15:
        where = " in YAML" if isinstance(given, str) else ""
        return f"{given} is no whole number{where}: write {int(number)}"
    if not whole and isinstance(given, str) and "e" in given.lower():
        return f"YAML reads {given} as text: write {_yaml_float(number)}"
    return ""


def _yaml_float(number: float) -> str:
    """YAML 1.1 knows an exponent only after a point."""
    text = repr(number)
    return text.replace("e", ".0e") if "e" in text and "." not in text else text


def _text_hint(text: str) -> str:
    """What to do when a list or number arrived as text, as papermill's -p and YAML's quotes give
    it."""
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return ""
    return (
        "; it arrived as text: write it without quotes, or with papermill "
        f"`-y 'name: {text}'` in place of `-p`"
    )
