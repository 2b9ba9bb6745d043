"""What is wrong with what a user gave: all of it at once, each with its place, the value, and what
is allowed."""

import difflib
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    source: str
    key: str
    value: Any
    allowed: str

    def __str__(self) -> str:
        return f"{self.source}: {self.key}: given {self.value!r}; {self.allowed}"


class Told(Exception):
    """An error that a user can mend: its words are all there is to show."""

    def _render_traceback_(self) -> list[str]:
        """IPython shows this in place of a traceback."""
        return str(self).splitlines()


class ParameterError(Told, ValueError):
    """All that is wrong with a set of parameters; `problems` is the list."""

    def __init__(self, problems: list[Problem]):
        self.problems = tuple(problems)
        head = (
            f"{len(problems)} problem{'s' * (len(problems) != 1)} in the parameters; nothing was "
            f"started:"
        )
        super().__init__("\n  ".join([head, *map(str, problems)]))


def choices(given: Any, allowed: list[str]) -> str:
    """`allowed: a, b; nearest: 'a'`"""
    near = difflib.get_close_matches(str(given), allowed, n=1, cutoff=0.5)
    return f"allowed: {', '.join(allowed)}" + (f"; nearest: {near[0]!r}" if near else "")
