"""What users are told: what is wrong with what they gave, all of it at once, each with its place,
the value, and what is allowed; and tables as text."""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

LONGEST = 400  # of a value that is told
Wrong = tuple[str, Any, str]  # key, value, what is allowed: a Problem whose place is not known yet


@dataclass(frozen=True)
class Problem:
    source: str
    key: str
    value: Any
    allowed: str

    def __str__(self) -> str:
        given = _shown(self.value)
        return without_secrets(f"{self.source}: {self.key}: given {given}; {self.allowed}")


def _shown(value: Any) -> str:
    """A value as it is written, where it can be, and is no page long."""
    try:
        text = repr(value)
    except Exception:  # of a user's own object, or too deep, or of too many digits
        return f"a {type(value).__name__}"
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"


def without_secrets(text: str) -> str:
    """A text without the names and passwords that stand in addresses (`https://…@host`), those too
    that were taken for a path (`https:/…@host`)."""
    return re.sub(r":/+\S*@", "://…@", text)


class Told(Exception):
    """An error that a user can mend: its words are all there is to show."""

    def _render_traceback_(self) -> list[str]:
        """IPython shows this in place of a traceback."""
        return without_secrets(str(self)).splitlines()


class Refused(Told, ValueError):
    """What was asked cannot be done on this machine, or as it was asked."""


class ParameterError(Told, ValueError):
    """All that is wrong with a set of parameters; `problems` is the list."""

    def __init__(self, problems: list[Problem]):
        self.problems = tuple(problems)
        many = "s" * (len(problems) != 1)
        head = f"{len(problems)} problem{many} in the parameters; nothing was started:"
        super().__init__("\n  ".join([head, *map(str, problems)]))


def choices(given: Any, allowed: Iterable[str]) -> str:
    """`allowed: a, b; nearest: 'a'`"""
    allowed = list(allowed)
    near = difflib.get_close_matches(str(given), allowed, n=1, cutoff=0.5)
    return f"allowed: {', '.join(allowed)}" + (f"; nearest: {near[0]!r}" if near else "")


def aligned(rows: list[tuple]) -> str:
    """Rows of a table, its head first, as text in columns."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = ([cell.ljust(w) for cell, w in zip(row, widths, strict=True)] for row in texts)
    return "\n".join("  ".join(line).rstrip() for line in lines)
