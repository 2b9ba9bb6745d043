"""Checks of the `moebook` command's options, made before a command does anything."""

from collections.abc import Callable
from typing import Any

import typer

from moebook import paths
from moebook.study import limits


def _checked(problem: Callable[[Any], str | None]) -> Callable:
    """A callback for an option: ValueError with its name and what `problem` says of its value."""

    def check(param: typer.CallbackParam, value):
        if value is not None and (wrong := problem(value)):
            raise ValueError(f"{param.opts[0]}: given {str(value)!r}; {wrong}")
        return value

    return check


minutes = _checked(limits.minutes_problem)
percent = _checked(limits.percent_problem)
folder = _checked(lambda path: paths.output_root_problem(paths.from_here(str(path))))
