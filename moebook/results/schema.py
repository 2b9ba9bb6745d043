"""The one schema of result tables: names, order and types of columns, and what each means.

columns.yaml holds the words; the parquet schema, the pandas types and the data dictionary are made
of it. Every results.parquet has exactly the columns of `table()`, typed also where they are empty,
so that pyarrow datasets, polars, duckdb, pandas and R read tables of several notebooks and profiles
as one. Also how a number was got: the same words in tables, figures, commentary, the explorer and
reports.

    python -m moebook.results.schema > docs/data_dictionary.md
"""

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib import resources

import pandas as pd
import pyarrow as pa
import yaml

from moebook.study.methods import METHODS

# 3: without energy; 2: without room, records, hosts, number formats; 1: empty columns had no type
VERSION = 4
NEVER = "never"  # what `missing` says of a column that always has a value
ARROW = {"text": pa.string(), "integer": pa.int64(), "number": pa.float64(), "flag": pa.bool_()}
PANDAS = {
    "text": pd.StringDtype(na_value=float("nan")),
    "integer": "Int64",
    "number": "float64",
    "flag": "boolean",
}
ALWAYS_THERE = {"integer": "int64", "flag": "bool"}  # pandas types that have no null
IDENTITIES = ("place", "series", "room")
TIMED = ("s", "tokens/s")  # units of what has an interval between engine starts
SUMMARISED = ("repeat", "metric")  # groups of which a summary tells the median and the range
KIND_WORDS = {  # a method, or what is drawn of it -> the word of its kind
    "full": "measured",
    "sampled": "sampled",
    "depth": "extrapolated",
    "graph": "under a captured graph",
    "calls": "plain calls",
    "measured": "measured",
    "composed": "composed",
    "computed": "computed",
    "published": "published",
    "predicted": "predicted",
}
KIND_MEANINGS = {
    "measured": "every step was run",
    "sampled": "decode steps were timed in windows: at the first and last contexts of a run, of "
    "energy around the middle",
    "extrapolated": "from engines of fewer layers",
    "composed": "of other measured parts",
    "predicted": "by the calibrated model",
    "published": "printed by others",
}


@dataclass(frozen=True)
class Column:
    """One column. missing: what a null means, or NEVER. identity: a kind of IDENTITIES, of columns
    that a cell is known by."""

    name: str
    type: str
    unit: str
    meaning: str
    source: str
    missing: str
    group: str
    identity: str | None = None

    @property
    def pandas(self):
        kinds = {**PANDAS, **ALWAYS_THERE} if self.missing == NEVER else PANDAS
        return kinds[self.type]


@functools.cache
def groups() -> dict[str, dict]:
    """The groups of columns.yaml, in order."""
    text = resources.files("moebook.results").joinpath("columns.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


@functools.cache
def columns() -> dict[str, Column]:
    """Every column that a table or summary of moebook can have, by name."""
    written = [column for name, group in groups().items() for column in _of_group(name, group)]
    return {column.name: column for column in [*written, *_ranges(written)]}


def _of_group(name: str, group: dict) -> list[Column]:
    shared = {"group": name, "source": group["source"], "missing": group["missing"]}
    return [
        column
        for key, own in group["columns"].items()
        for column in _expanded(key, {**shared, **own})
    ]


def _expanded(name: str, told: dict) -> list[Column]:
    """A column, with the ends of its interval, or once for each position."""
    interval, up_to = told.pop("interval", False), told.pop("up_to", 0)
    column = Column(name, **told)
    if up_to:
        return [
            replace(column, name=f"{name}{i}", meaning=column.meaning.format(i))
            for i in range(1, up_to + 1)
        ]
    ends = {"_lo": "lower", "_hi": "upper"} if interval else {}
    return [
        column,
        *(
            replace(column, name=name + end, meaning=f"{which} end of the 95 % interval of {name}")
            for end, which in ends.items()
        ),
    ]


def _ranges(written: list[Column]) -> list[Column]:
    """In a summary: the ends of the interval between engine starts; of what is not timed, and of a
    composed row, the least and the largest."""
    ends = {"_lo": ("lower", "least"), "_hi": ("upper", "largest")}
    return [
        replace(
            column,
            name=column.name + end,
            group="range",
            source="results.summarize",
            meaning=(
                f"{side} end of the 95 % interval of {column.name} between engine starts"
                if column.unit in TIMED
                else f"{most} of the repeats' {column.name}"
            ),
            missing=f"{column.name} is null",
        )
        for column in written
        if column.group in SUMMARISED
        for end, (side, most) in ends.items()
    ]


def names(*wanted: str) -> tuple[str, ...]:
    """The columns of some groups, in the schema's order."""
    if unknown := [group for group in wanted if group not in groups()]:
        raise ValueError(f"no group {', '.join(unknown)}; there are {', '.join(groups())}")
    return tuple(column.name for column in columns().values() if column.group in wanted)


@functools.cache
def table() -> tuple[str, ...]:
    """The columns of results.parquet, in order."""
    return names(*(name for name, group in groups().items() if group["table"]))


def identity(*kinds: str) -> tuple[str, ...]:
    """The columns that a cell is known by, of some IDENTITIES or of all, in the schema's order."""
    wanted = kinds or IDENTITIES
    return tuple(name for name, column in columns().items() if column.identity in wanted)


def arrow(wanted: Iterable[str]) -> pa.Schema:
    """The parquet schema of these columns. ValueError for one that columns.yaml does not know."""
    wanted = list(wanted)
    if unknown := [name for name in wanted if name not in columns()]:
        raise ValueError(
            f"no column {', '.join(unknown)} in moebook/results/columns.yaml: describe it there "
            "first"
        )
    return pa.schema([(name, ARROW[columns()[name].type]) for name in wanted])


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """A copy in which every column that the schema knows has its type."""
    return frame.astype({name: columns()[name].pandas for name in frame if name in columns()})


def as_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Exactly the columns of results.parquet, in order and typed; those that are lacking are null.
    ValueError for columns that it has not."""
    if unknown := [name for name in frame if name not in table()]:
        raise ValueError(
            f"no column {', '.join(unknown)} in result tables; moebook/results/columns.yaml says "
            "which there are"
        )
    kinds = {name: columns()[name].pandas for name in table()}
    lacking = {kind for name, kind in kinds.items() if name not in frame}
    null = {kind: pd.Series(math.nan, frame.index).astype(kind) for kind in lacking}
    every = {n: frame[n].astype(k) if n in frame else null[k] for n, k in kinds.items()}
    return pd.DataFrame(every, frame.index)  # one block a type


def dictionary() -> str:
    """docs/data_dictionary.md."""
    parts = [HEAD.format(version=VERSION, count=len(table()))]
    for name, group in groups().items():
        where = "" if group["table"] else " (summary only)"
        own = [column for column in columns().values() if column.group == name]
        parts.append("\n".join([f"## {group['title']}{where}\n", *_rows(own)]))
    ranges = [column for column in columns().values() if column.group == "range"]
    parts.append("\n".join([RANGES, *_rows(ranges)]))
    return "\n\n".join(parts) + "\n"


def _rows(found: list[Column]) -> list[str]:
    head = ("| column | type | unit | meaning | source | null means |", "|---|---|---|---|---|---|")
    return [
        *head,
        *(
            f"| `{c.name}` | {c.type} | {c.unit} | {c.meaning} | {c.source} | {c.missing} |"
            for c in found
        ),
    ]


def method_kind(method: str) -> str:
    """The kind of a method, a key of KIND_WORDS where it has a word: everything extrapolated over
    depth is `depth`, and energy is of windows of steps."""
    known = METHODS.get(method)
    return known.kind if known and known.kind else str(method)


def kind_word(method: str) -> str:
    """`extrapolated` of `depth+sampled`; a method without a word is its own."""
    return KIND_WORDS.get(method_kind(method), str(method))


HEAD = """\
# Data dictionary

<!-- Written by `python -m moebook.results.schema > docs/data_dictionary.md`.
     Edit moebook/results/columns.yaml instead. -->

Every `results.parquet` has the same {count} columns in the same order, with the same types (schema
{version}, kept as `schema_version` in the file's metadata under the key `moebook`). A row is one
repeat of a point; a point without a number is one row with its status and reason. So several tables
read as one, here in Python:

    import pyarrow.dataset
    from glob import glob
    pyarrow.dataset.dataset(sorted(glob("outputs/reference/*/*/results.parquet"))).to_table()

`results.summarize` makes a table with a row per point: values over its engine starts with their
intervals, and the columns marked "summary only".

Types: text (string), integer (int64), number (float64), flag (bool). Unit `1` is a ratio, `none`
has no unit. Letters: B batch, L layers, H hidden, I expert FFN dimension, E experts, K active
experts, T tokens, k draft tokens."""

RANGES = """\
## Interval of a point (summary only)

The metric's own column holds the mean of the point's engine starts, each the median of its repeats;
of what is not timed, the median of all repeats. Of a composed row both are ends of the time it can
take. A layer's times have the range of its repeats.
"""

if __name__ == "__main__":
    print(dictionary(), end="")
