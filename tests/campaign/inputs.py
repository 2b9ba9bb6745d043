"""Bad inputs at random, and how the command answers each: a table of counts.

python tests/campaign/inputs.py [--count 2000] [--seed 0]

Parameters, configs, options and the environment get values that nobody chose with care. What is
wrong with them is not known here; that an answer is right can be told all the same:

    refused    it ended with a code, and the words name the file, key, option or variable
    accepted   what was loaded is what was given, and what was computed of it are numbers
    unclear    refused, but nothing is named
    silent     accepted, and other than it was given, or nonsense computed of it
    traceback  it ended in Python's words
    shown      a secret stands in the words

Exits 1 where anything but the first two and at most MOST_UNCLEAR unclear ones came."""

import argparse
import contextlib
import inspect
import io
import json
import math
import os
import random
import re
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, get_args

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]

import yaml  # noqa: E402
from made_up import write_checkpoint  # noqa: E402
from typer.main import get_command  # noqa: E402

from moebook import cli, sections  # noqa: E402
from moebook.study.params import load  # noqa: E402
from moebook.study.values import read_yaml  # noqa: E402

MOST_UNCLEAR = 5
SECRET = "hush-hush"
URL = f"https://someone:{SECRET}@host.example/v1"
NUMBERS = [0, 1, -1, 3, 64, 10**12, 1.5, 0.0, -0.5, 1e-300, 1e300, math.inf, math.nan, True, False]
TEXTS = ["", " ", "x", "3", "none", "1e3", "x" * 300, "a\0b", "é", "~", "/etc", "tiny-mixtral", URL]
LISTS = [[], [0], [1, 1], [2, 1], [1, "2"], [-1], [[1, 2]], [None], [[]], ["x"], [1e9], [math.nan]]
POOL = [None, *NUMBERS, *TEXTS, *LISTS, {}, {"a": 1}]
NO_NUMBER = ("x", "", "nan", "-1", "1e400", "½", "0x10", "1,5")
NO_NAME = ("", " ", "x", "É", "../x", "x" * 300, "a,b,", "0")
# What makes a command whole but for the option that is tried; none of it measures anything.
ARGUMENTS = {
    "plan": ["{zero}"],
    "measure": ["{zero}"],
    "run": ["{zero}"],
    "prune": ["{model}", "{work}/pruned"],
    "train": ["tiny"],
    "quality": ["{model}"],
    "predict": ["Mixtral-8x7B-v0.1"],
}
FREE = ("output", "output_root", "to", "text", "address", "seed", "tasks")  # any text may be one
VARIABLES = ("MOEBOOK_CACHE", "MOEBOOK_TEXT", "CUDA_VISIBLE_DEVICES", "MOEBOOK_ENDPOINT_URL")


class Answer(NamedTuple):
    code: int
    said: str
    broken: str = ""


class Case(NamedTuple):
    """names: of which one must stand in a refusal; sound: whether what was accepted makes sense."""

    args: list[str]
    names: tuple[str, ...]
    sound: Callable[[Answer], bool] = lambda answer: True
    environment: dict[str, str] = {}


def call(args: list, environment: dict[str, str] | None = None) -> Answer:
    """The command, in this process."""
    said, argv, before = io.StringIO(), sys.argv, dict(os.environ)
    sys.argv, code, broken = ["moebook", *map(str, args)], 0, ""
    os.environ.update(environment or {})
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            cli.main()
    except SystemExit as ended:
        code = 1 if isinstance(ended.code, str) else ended.code or 0
        said.write(ended.code if isinstance(ended.code, str) else "")
    except Exception:
        code, broken = 1, traceback.format_exc()
    finally:
        sys.argv = argv
        os.environ.clear()
        os.environ.update(before)
    return Answer(code, said.getvalue(), broken)


def parameters(draw: random.Random, work: Path) -> Case:
    """A section's parameters of the CPU profile, of which one or two are anything."""
    section = draw.choice(sections.every())
    given = read_yaml(ROOT / f"params/cpu/{section.stem}.yaml")
    changed = draw.sample(sorted(section.params.model_fields), draw.choice([1, 1, 2]))
    given |= {key: draw.choice(POOL) for key in changed}
    file = work / f"{section.stem}.yaml"
    file.write_text(yaml.safe_dump(given))

    def sound(answer: Answer) -> bool:
        loaded = load(section.params, file).model_dump(mode="json")
        return all(_same(given[key], loaded[key]) for key in changed) and _finite(answer.said)

    named = tuple(f"{key}: given {given[key]!r}" for key in changed)
    return Case(["plan", file, "--json"], (file.name, *named), sound)


def _same(given, loaded) -> bool:
    """Whether a value was taken as it was given: `none` is null, a pair of one length a number, a
    section is called by its number too."""
    null = loaded is None and str(given).lower() == "none"
    called = any(str(given) == str(s.number) and loaded == s.stem for s in sections.every())
    return null or called or loaded in (given, [given]) or given == [loaded, loaded]


def _finite(text: str) -> bool:
    """Whether all numbers of a JSON text are finite, and none is below zero."""
    found: list[float] = []
    json.loads(text, parse_float=lambda n: found.append(float(n)), parse_constant=found.append)
    return all(isinstance(n, float) and 0 <= n < math.inf for n in found)


def checkpoints(draw: random.Random, work: Path) -> Case:
    """A checkpoint whose config says anything of one or two sizes."""
    folder = work / f"damaged{draw.random()}"
    shutil.copytree(work / "model", folder)
    config = json.loads((folder / "config.json").read_text())
    for key in draw.sample(sorted(config), draw.choice([1, 1, 2])):
        config[key] = draw.choice(POOL)
    if draw.random() < 0.2:
        del config[draw.choice(sorted(config))]
    (folder / "config.json").write_text(json.dumps(config))
    if draw.random() < 0.5:
        return Case(["models", folder, "--json"], (folder.name,), lambda a: _finite(a.said))
    target = work / f"pruned{draw.random()}"

    def sound(_answer: Answer) -> bool:
        return call(["models", target]).code == 0

    return Case(["prune", folder, target], (folder.name,), sound)


def options(draw: random.Random, work: Path) -> Case:
    """An option of a command with a value that cannot be one."""
    commands = get_command(cli.app).commands
    while True:
        name = draw.choice(sorted(set(commands) - {"doctor"}))
        for option in draw.sample(commands[name].params, 1):
            flag = getattr(option, "is_flag", False) or option.param_type_name == "argument"
            if not flag and option.name not in (*FREE, "help"):
                kind = inspect.signature(commands[name].callback).parameters[option.name].annotation
                number = re.search(r"\b(int|float)\b", str(get_args(kind)[:1] or kind))
                value = draw.choice(NO_NUMBER if number else NO_NAME)
                filled = [
                    a.format(zero=work / "zero/00_overview.yaml", model=work / "model", work=work)
                    for a in ARGUMENTS.get(name, [])
                ]
                given = [name, *filled, f"{option.opts[0]}={value}"]
                empty = value in ("", "0")  # as if it were not given; the first
                return Case(given, (option.opts[0], repr(value)), lambda a, empty=empty: empty)


def environments(draw: random.Random, work: Path) -> Case:
    """A variable that holds anything."""
    variable = draw.choice(VARIABLES)
    value = str(draw.choice([*NO_NAME, *TEXTS, work / "model/config.json", "/proc/x"]))
    command = draw.choice([["plan", ROOT / "params/cpu/07_load_balancing.yaml"], ["doctor"]])
    return Case(command, (variable,), environment={variable: value.replace("\0", "")})


KINDS = (parameters, parameters, checkpoints, options, environments)


def verdict(case: Case, answer: Answer) -> str:
    if answer.broken or "Traceback (most recent" in answer.said:
        return "traceback"
    if SECRET in answer.said:
        return "shown"
    if answer.code:
        return "refused" if any(name in answer.said for name in case.names) else "unclear"
    return "accepted" if case.sound(answer) else "silent"


def prepared(work: Path) -> Path:
    """The folder with what cases are made of: a model, a parameter file without points."""
    write_checkpoint(work / "model")
    (work / "zero").mkdir()
    given = {"profile": "cpu", "device": "cpu", "output_root": str(work / "outputs")}
    (work / "zero/00_overview.yaml").write_text(yaml.safe_dump(given))
    return work


def answers(count: int, seed: int, work: Path) -> Iterator[tuple[str, str, Case, Answer]]:
    """(kind, verdict, case, answer) of so many inputs."""
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        kind = KINDS[number % len(KINDS)]
        case = kind(draw, work)
        answer = call(case.args, case.environment)
        yield kind.__name__, verdict(case, answer), case, answer


def told(case: Case, answer: Answer) -> str:
    words = " ".join(map(str, [*case.args, *case.names, *case.environment.items()]))
    return f"{words}\n    {(answer.broken or answer.said).strip()[-300:]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    os.chdir(ROOT)
    counts: Counter = Counter()
    with tempfile.TemporaryDirectory(prefix="moebook-inputs-") as folder:
        for kind, found, case, answer in answers(given.count, given.seed, prepared(Path(folder))):
            counts[kind, found] += 1
            if found not in ("refused", "accepted"):
                print(f"{found}: {told(case, answer)}", flush=True)
    for (kind, found), number in sorted(counts.items()):
        print(f"{kind:14} {found:10} {number}")
    by = Counter(
        {found: sum(n for (_, f), n in counts.items() if f == found) for _, found in counts}
    )
    print(f"{given.count} inputs: {dict(by)}")
    sys.exit(
        1 if by["traceback"] + by["silent"] + by["shown"] or by["unclear"] > MOST_UNCLEAR else 0
    )


if __name__ == "__main__":
    main()
