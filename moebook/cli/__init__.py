"""The `moebook` command. Every command exits 0 only when what it was asked for is whole."""

import sys
from itertools import pairwise

import typer
from typer.core import TyperGroup

from moebook.cli import models, predict, results, study
from moebook.problems import Told, without_secrets


class Commands(TyperGroup):
    def invoke(self, ctx: typer.Context):
        """A value that is none of its option's kind is told: typer tells the kind alone."""
        args = list(ctx.args)  # of the command, which takes them
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            if value := _value(error.param.opts, args):
                error.message = f"given {value!r}; {error.message}"
            raise


def _value(options: list[str], args: list[str]) -> str:
    """What a command line gives to an option; "" where it is none of these."""
    for option, following in pairwise([*args, ""]):
        name, equals, value = option.partition("=")
        if name in options:
            return value if equals else following
    return ""


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # errors of options in one line, as all others
    help="Inference performance of Mixture-of-Experts models: plan, measure, draw, judge.",
)
for group in (study, results, models, predict):
    app.add_typer(group.app)


def main() -> None:
    """Entry point: errors a user can mend are one message on standard error, without a
    traceback."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # what a terminal has no sign for is spelled out
            stream.reconfigure(errors="backslashreplace")
    try:
        app()
    except (Told, ValueError) as error:
        sys.exit(without_secrets(f"moebook: {error}"))
    except OSError as error:  # a disk, a limit or a file of this machine
        sys.stdout = None
        words = f"moebook: {error.strerror or error}: {error.filename or 'standard output'}"
        sys.exit(without_secrets(words))
