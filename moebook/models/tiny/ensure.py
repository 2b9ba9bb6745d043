"""Members of the tiny family that are missing, trained in a process of their own: this one imports
no torch, and a GPU's engines are forked from it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping

from moebook import paths
from moebook.models.tiny import own_text, whole
from moebook.models.tiny.family import family_folder
from moebook.models.tiny.references import is_tiny, parse
from moebook.problems import Told


class TrainingFailed(Told, RuntimeError):
    """The training process ended without all members; the message ends in its last lines."""


def missing(names: Iterable[str]) -> list[str]:
    """References to members (of pruned ones, their parents) that are not in the cache or damaged
    there, each once; others are ignored.

    A held-out text stands for the family's main target, whose training makes the corpus.
    """
    parents = dict.fromkeys(_needed(str(name)) for name in names if is_tiny(name))
    return [parent for parent in parents if not _is_trained(parent)]


def _needed(name: str) -> str:
    """The member that a model or a text needs."""
    found = re.fullmatch(r"tiny:([^/]+)/heldout/[^/]+", name)
    return parse(f"tiny:{found[1]}/aux-0.01" if found else name).parent


def _is_trained(parent: str) -> bool:
    ref = parse(parent)
    return whole.damage(family_folder(ref.preset) / ref.member) is None


def trained(
    names: Iterable[str],
    say: Callable[[str], object] = print,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Trains the members that are missing, each preset in one process. Raises TrainingFailed.

    environment: of that process besides this one's, such as the device that it may use.
    """
    by_preset: dict[str, list[str]] = {}
    for parent in missing(names):
        ref = parse(parent)
        by_preset.setdefault(ref.preset, []).append(ref.member)
    texts = [argument for file in own_text.files() for argument in ("--text", file)]
    command = [sys.executable, "-m", "moebook", "train", "tiny"]
    for preset_name, members in by_preset.items():
        chosen = ["--preset", preset_name, "--members", ",".join(members)]
        run([*command, *chosen, *texts], say, environment=environment)


def run(
    command: list[str],
    say: Callable[[str], object],
    own_session: bool = True,
    environment: Mapping[str, str] | None = None,
) -> None:
    """A moebook process, its lines passed on as they come; killed when this one is interrupted.

    own_session: it has children, which are killed with it.
    """
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=own_session,
        env={
            **os.environ,
            **(environment or {}),
            "PYTHONPATH": paths.library(),
            "PYTHONUNBUFFERED": "1",
        },
    )
    last: list[str] = []
    try:
        for line in process.stdout:
            last = [*last[-11:], line.rstrip()]
            say(last[-1])
        code = process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL) if own_session else process.kill()
        process.wait()
        raise
    if code:
        raise TrainingFailed(f"training ended with exit code {code}:\n  " + "\n  ".join(last))
