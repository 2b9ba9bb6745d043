"""What single values may be, the same for a command's options and a parameter file.

The `…_problem` functions give what is wrong with minutes or a percentage, or None.
"""

import math
from typing import Any

MOST_MINUTES = 366 * 24 * 60


def minutes_problem(minutes: float) -> str | None:
    if math.isfinite(minutes) and 0 < minutes <= MOST_MINUTES:
        return None
    return f"allowed: minutes over 0, at most {MOST_MINUTES} (a year)"


def percent_problem(percent: float) -> str | None:
    """Of what is pruned. Under 1 % is taken for a fraction, since it removes nothing."""
    if 0 < percent < 1:
        whole = 100 * percent
        part = {25: "a quarter", 50: "a half", 75: "three quarters"}.get(
            whole, f"{percent:g} of it"
        )
        return f"{percent:g} % removes nothing; for {part} write {whole:g}"
    return None if 1 <= percent < 100 else "percent that is pruned: over 0 and under 100"


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
