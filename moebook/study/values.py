"""What a user gave, as plain values: the mapping of a YAML file, or the names of a notebook.

Names decide, not types: a name of a parameter is that parameter, whatever it holds. Arrays, ranges
and numpy's numbers become lists and numbers; what has no order or no value to read is refused.

What single values may be is the same for a command's options and a parameter file: the `…_problem`
functions give what is wrong with minutes or a percentage, or None; `wrong` tells one of pydantic's
errors in the words of a parameter file."""

import argparse
import ast
import difflib
import math
import os
import re
from collections.abc import Iterable, Sized
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

import yaml

from moebook.problems import ParameterError, Problem, Wrong, choices

_OF_IPYTHON = frozenset({"In", "Out", "exit", "quit", "open", "get_ipython"})
_INJECTED = "# Parameters"  # papermill's injected cell begins so, our own does not
_PAPERMILL = re.compile(r"(.*/)?papermill|.*from papermill.*")  # as a program, module, -c
MOST_VALUES = 100_000
MOST_LISTED = 1000
MOST_DIGITS = 40  # of a number: one of them was a slip
_NOT_DECIMAL = re.compile(r"[:_xob]|^[-+]?0\d")  # of numbers in YAML 1.1
_PLAIN = (bool, int, float, str)


class _UniqueKeys(yaml.SafeLoader):
    def construct_mapping(self, node, deep=False):
        seen: set = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                merged = "keys are not merged (<<): write them out"
                raise yaml.MarkedYAMLError(problem=merged, problem_mark=key_node.start_mark)
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, (list, dict)):
                odd = f"key {key!r} is no name"
                raise yaml.MarkedYAMLError(problem=odd, problem_mark=key_node.start_mark)
            if key in seen:
                twice = f"key {key!r} stands twice"
                raise yaml.MarkedYAMLError(problem=twice, problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def _number(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int | float:
    """As it is written: YAML 1.1 takes 010 for 8 and 1:30 for 90."""
    if _NOT_DECIMAL.search(node.value):
        odd = f"{node.value!r} is no number in decimal digits"
        raise yaml.MarkedYAMLError(problem=odd, problem_mark=node.start_mark)
    if len(node.value) > MOST_DIGITS:
        long = f"{node.value[:9]}… is a number of {len(node.value)} digits"
        raise yaml.MarkedYAMLError(problem=long, problem_mark=node.start_mark)
    is_int = node.tag.endswith("int")
    return loader.construct_yaml_int(node) if is_int else loader.construct_yaml_float(node)


_UniqueKeys.add_constructor("tag:yaml.org,2002:int", _number)
_UniqueKeys.add_constructor("tag:yaml.org,2002:float", _number)
_UniqueKeys.add_constructor("tag:yaml.org,2002:set", _UniqueKeys.construct_undefined)  # no order


def read_yaml(path: str | Path) -> dict:
    """The mapping in a parameter file; ParameterError for a missing, unreadable or ambiguous
    one."""
    path = Path(path)

    def fail(value: Any, allowed: str) -> ParameterError:
        return ParameterError([Problem(str(path), "(file)", value, allowed)])

    if path.is_dir():
        inside = ", ".join(sorted(p.name for p in path.glob("*.yaml"))) or "none ending in .yaml"
        raise fail(path.name, f"a file: this is a folder; files in it: {inside}")
    if path.exists() and not (path.is_file() or path.is_relative_to("/dev/fd")):
        raise fail(path.name, "a file: this is a pipe or a device, whose end may never come")
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), _UniqueKeys)
    except FileNotFoundError:
        near = ", ".join(sorted(p.name for p in path.parent.glob("*.yaml")))
        there = f"here are {near}" if near else "no such folder"
        raise fail(path.name, f"no such file; {there}") from None
    except OSError as error:
        raise fail(path.name, f"cannot be read: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise fail(path.name, f"not a valid YAML mapping: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise fail(path.name, "nested too deeply; a value is a number, text or a list") from None
    if (values := _written_out(data, {})) > MOST_VALUES:
        endless = "a value holds itself" if values == math.inf else f"it holds {values} values"
        raise fail(path.name, f"{endless} by anchors; write the values out, {MOST_VALUES} at most")
    if not isinstance(data, dict):
        raise fail(data, "a parameter file is a mapping `name: value`")
    return data


def read_as_given(papermill: list[str], folder: Path) -> None:
    """ParameterError for what a papermill command, started in a folder, takes its parameters from
    (`-f`, `-y`) and no parameter file may hold, such as a key twice: papermill takes the last."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("-f", "--parameters_file", action="append", default=[])
    parser.add_argument("-y", "--parameters_yaml", action="append", default=[])
    given, _ = parser.parse_known_args(papermill)
    for file in (file for file in given.parameters_file if "://" not in file):
        read_yaml(folder / file)
    for text in given.parameters_yaml:
        try:
            yaml.load(text, _UniqueKeys)
        except yaml.YAMLError as error:
            wrong = f"not a valid YAML mapping: {' '.join(str(error).split())}"
            raise ParameterError([Problem("papermill", "-y", text, wrong)]) from None


def papermills() -> tuple[list[str], Path]:
    """The papermill command that runs this kernel and the folder it was started in; no command
    where another program runs it, or the system does not show it."""
    parent = Path("/proc", str(os.getppid()))
    try:
        command = (parent / "cmdline").read_text().rstrip("\0").split("\0")
        folder = (parent / "cwd").readlink()
    except OSError:
        return [], Path()
    runs = any(_PAPERMILL.fullmatch(part) for part in command[:3])
    return (command, folder) if runs else ([], folder)


def _written_out(value: Any, counts: dict[int, float]) -> float:
    """How many values a value is with its anchors written out; infinite where it holds itself.
    counts: of lists and mappings that are known, by id."""
    if not isinstance(value, (list, dict)):
        return 1
    if id(value) not in counts:
        counts[id(value)] = math.inf  # until it is counted: where it stands in itself
        inside = value.values() if isinstance(value, dict) else value
        counts[id(value)] = 1 + sum(_written_out(one, counts) for one in inside)
    return counts[id(value)]


def of_notebook(names: dict, fields: Iterable[str], source: str, headless: bool) -> dict[str, Any]:
    """What a notebook's globals set. None is "the profile's", unless papermill injected it.

    Headless, every other value is an unknown parameter and is given back as such; in a live kernel,
    where users make names of their own, only what looks like a misspelt parameter is.
    ParameterError for values that cannot be read."""
    fields, injected = list(fields), _injected_nones(names.get("In", ()))
    given, problems = {}, []
    for name, value in names.items():
        if name not in fields and not _is_unknown(name, value, fields, headless):
            continue
        if value is None and name in fields and name not in injected:
            continue
        try:
            given[name] = plain(value)
        except (TypeError, RecursionError) as error:
            deep = "nested too deeply: give a number, text or a list"
            why = deep if isinstance(error, RecursionError) else str(error)
            problems.append(Problem(source, name, value, why))
    if problems:
        raise ParameterError(problems)
    return given


def plain(value: Any) -> Any:
    """Numbers, text, and lists of them, from whatever holds such. TypeError says what to give
    instead."""
    if type(value) is int and abs(value) > 10**MOST_DIGITS:
        raise TypeError(f"a number has at most {MOST_DIGITS} digits")
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Sized) and _is_long(value):
        raise TypeError(f"at most {MOST_LISTED} in a list")
    if hasattr(value, "tolist") and not isinstance(value, memoryview):  # numpy's and pandas'
        return plain(value.tolist())
    if isinstance(value, (list, tuple, range)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (set, frozenset)):
        raise TypeError("a set has no order: give a list")
    kind = type(value).__name__
    raise TypeError(f"a {kind} is no value of a parameter: give a number, text or a list")


def _is_long(value: Sized) -> bool:
    try:
        return len(value) > MOST_LISTED
    except OverflowError:  # range(10**30)
        return True
    except TypeError:  # a number of numpy's
        return False


def _is_unknown(name: str, value: Any, fields: list[str], headless: bool) -> bool:
    """Whether a name that is no parameter was meant to be one."""
    if name.startswith("_") or name in _OF_IPYTHON:
        return False
    if callable(value) or isinstance(value, ModuleType):
        return False
    return headless or bool(difflib.get_close_matches(name.lower(), fields, n=1, cutoff=0.8))


def _injected_nones(cells: Iterable[str]) -> set[str]:
    """Names that papermill's injected cell sets to None."""
    found = set()
    for text in (cell for cell in cells if cell.lstrip().startswith(_INJECTED)):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Assign) and ast.unparse(node.value) == "None":
                found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


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
    name = isinstance(given, str) and given.strip() and not set("[]{},") & set(given)
    such = f"[{given}]" if name or type(given) in (int, float) else "[1, 2]"
    allowed = message.replace("a valid tuple", f"a list, such as {such}")
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
    if quoted or isinstance(given, int) or not math.isfinite(number):
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
