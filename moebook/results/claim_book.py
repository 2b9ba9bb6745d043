"""claims.yaml as frozen objects, checked on load: one ClaimError lists all that is wrong with
it."""

import inspect
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from moebook.results import effects, series_effects
from moebook.results.cells import METRIC
from moebook.results.pairs import NAMES
from moebook.results.table import METRICS, POINT_NUMBERS
from moebook.sections.accelerator_comparison import effects as accelerator_effects
from moebook.sections.load_balancing import effects as balance_effects
from moebook.sections.model_comparison import effects as model_effects
from moebook.sections.parallelism import effects as parallel_effects
from moebook.sections.speculative_decoding import effects as speculation_effects

FUNCTIONS = {
    **effects.FUNCTIONS,
    **series_effects.FUNCTIONS,
    **balance_effects.FUNCTIONS,
    **speculation_effects.FUNCTIONS,
    **model_effects.FUNCTIONS,
    **parallel_effects.FUNCTIONS,
    **accelerator_effects.FUNCTIONS,
}
INF = float("inf")
SWEEPS = (
    "grid",
    "batch_topk",
    "batch_length",
    "validation",
    "support",
    "quant_batch",
    "quant_length",
    "formats",
    "pruning",
    "ladder_batch",
    "ladder_length",
    "spec_length",
    "spec_tokens",
    "spec_batch",
    "acceptance",
    "training",
    "balance",
    "importance",
    "skew_layer",
    "skew_engine",
    "llms",
    "vlms",
    "modes",
    "composed",
    "scout",
    "endpoint",
)
SOURCE_KEYS = ("model", "batch", "input_tokens", "output_tokens", "device")
CONFLICT_KEYS = ("id", "about", "says", "also_says", "claims")
CLAIM_NEEDED = ("id", "section", "notebook", "statement", "source_range", "decided_by")
CLAIM_MEASURED = ("sweep", "source", "parts")
CLAIM_OPTIONAL = ("metric",)
PART_KEYS = ("name", "effect", "args", "rule", "decides", "why")
RULE_KEYS = ("within", "slack", "at_least", "contradicted_below", "at_most", "contradicted_above")


class ClaimError(ValueError):
    """All that is wrong with a claims file; `problems` is the list."""

    def __init__(self, path: str, problems: list[str]):
        self.problems = tuple(problems)
        super().__init__(
            "\n  ".join(
                [f"{path}: {len(problems)} problem{'s' * (len(problems) != 1)}:", *problems]
            )
        )


@dataclass(frozen=True)
class Rule:
    """supported: value in `point` and interval in `interval`. contradicted: interval outside
    `possible`. Else mixed."""

    point: tuple[float, float]
    interval: tuple[float, float]
    possible: tuple[float, float]

    @classmethod
    def of(cls, data: dict) -> "Rule":
        """From the keys of claims.yaml; ValueError says what is wrong."""
        forms = [k for k in ("within", "at_least", "at_most") if k in data]
        if len(forms) != 1:
            raise ValueError(
                f"a rule has one of within, at_least, at_most; given {sorted(data) or 'none'}"
            )
        below, above = data.get("contradicted_below"), data.get("contradicted_above")
        if forms == ["within"]:
            given = data["within"]
            if not isinstance(given, list) or len(given) != 2 or given[0] > given[1]:
                raise ValueError(f"within {given!r}: two numbers, the smaller first")
            lo, hi = map(float, given)
            slack = float(data.get("slack", (hi - lo) / 2))
            wide = (lo - slack, hi + slack)
            return cls(
                (lo, hi),
                wide,
                (wide[0] if below is None else below, wide[1] if above is None else above),
            )
        bound = float(data[forms[0]])
        if forms == ["at_least"]:
            return cls((bound, INF), (bound, INF), (bound if below is None else below, INF))
        return cls((-INF, bound), (-INF, bound), (-INF, bound if above is None else above))

    def decide(self, value: float, lo: float, hi: float) -> str:
        """supported, contradicted or mixed, for an effect and its 95 % interval."""
        if (
            self.point[0] <= value <= self.point[1]
            and self.interval[0] <= lo
            and hi <= self.interval[1]
        ):
            return "supported"
        return "contradicted" if hi < self.possible[0] or lo > self.possible[1] else "mixed"


@dataclass(frozen=True)
class Part:
    name: str
    effect: str
    args: dict
    rule: Rule
    decides: bool = True
    why: str = ""


@dataclass(frozen=True)
class Claim:
    """One claim of the source; measured by `parts` on the cells of `sweep`, or `untested` with the
    reason."""

    id: str
    section: int
    notebook: str
    statement: str
    source_range: dict
    decided_by: str
    sweep: str | None = None
    source: dict | None = None
    parts: tuple[Part, ...] = ()
    untested: str | None = None
    metric: str = METRIC  # column of the table that its cells hold


@dataclass(frozen=True)
class Book:
    """All claims in the study's order, and where the source contradicts itself (CONFLICT_KEYS)."""

    claims: list[Claim]
    conflicts: list[dict]


def load(path: str | Path | None = None) -> Book:
    """The claims of `path`, by default of the package. ClaimError lists every problem."""
    file = (
        resources.files("moebook.results").joinpath("claims.yaml") if path is None else Path(path)
    )
    data = yaml.safe_load(file.read_text(encoding="utf-8"))
    problems: list[str] = []
    if not isinstance(data, dict):
        raise ClaimError(
            str(path or "claims.yaml"), ["is no mapping with `claims` and `conflicts`"]
        )
    problems += _keys("(top)", data, ("claims", "conflicts"), ())
    claims = [
        c for i, item in enumerate(data.get("claims") or []) if (c := _claim(i, item, problems))
    ]
    conflicts = list(data.get("conflicts") or [])
    ids = [c.get("id") for c in data.get("claims") or [] if isinstance(c, dict)]
    for i, conflict in enumerate(conflicts):
        if found := _keys(f"conflict {i + 1}", conflict, CONFLICT_KEYS, ()):
            problems += found
            continue
        problems += [
            f"conflict {conflict['id']}: no claim {c!r}" for c in conflict["claims"] if c not in ids
        ]
    named = [*ids, *(c.get("id") for c in conflicts if isinstance(c, dict))]
    problems += [
        f"id {i!r} stands {named.count(i)} times"
        for i in dict.fromkeys(named)
        if i and named.count(i) > 1
    ]
    if problems:
        raise ClaimError(str(path or "claims.yaml"), problems)
    return Book(claims, conflicts)


def _keys(where: str, item: Any, needed: tuple[str, ...], optional: tuple[str, ...]) -> list[str]:
    if not isinstance(item, dict):
        return [f"{where}: is no mapping"]
    allowed = (*needed, *optional)
    return [
        *(
            f"{where}: unknown key {k!r}; allowed: {', '.join(allowed)}"
            for k in item
            if k not in allowed
        ),
        *(f"{where}: key {k!r} is missing" for k in needed if k not in item),
    ]


def _claim(index: int, item: Any, problems: list[str]) -> Claim | None:
    where = item.get("id", f"claim {index + 1}") if isinstance(item, dict) else f"claim {index + 1}"
    untested = isinstance(item, dict) and "untested" in item
    needed = (*CLAIM_NEEDED, "untested") if untested else (*CLAIM_NEEDED, *CLAIM_MEASURED)
    found = _keys(where, item, needed, () if untested else CLAIM_OPTIONAL)
    if isinstance(item, dict) and item.get("metric", METRIC) not in (*METRICS, *POINT_NUMBERS):
        found.append(
            f"{where}: unknown metric {item['metric']!r}; allowed: "
            f"{', '.join((*METRICS, *POINT_NUMBERS))}"
        )
    if isinstance(item, dict) and item.get("section") not in range(1, 10):
        found.append(f"{where}: section {item.get('section')!r}: allowed 1 to 9")
    if found or untested:
        problems += found
        return None if found else Claim(**item)
    found += [
        f"{where}: unknown sweep {s!r}; allowed: {', '.join(SWEEPS)}"
        for s in item["sweep"].split("|")
        if s not in SWEEPS
    ]
    found += _keys(f"{where}: source", item["source"], (), SOURCE_KEYS)
    if not item["parts"]:
        found.append(f"{where}: parts is empty")
    parts = [_part(f"{where}: part {i + 1}", p, found) for i, p in enumerate(item["parts"] or [])]
    problems += found
    return None if found else Claim(**{**item, "parts": tuple(parts)})


def _part(where: str, item: Any, problems: list[str]) -> Part | None:
    found = _keys(where, item, PART_KEYS[:4], PART_KEYS[4:])
    if found:
        problems += found
        return None
    rule = None
    if item["effect"] not in FUNCTIONS:
        found.append(f"{where}: unknown effect {item['effect']!r}; allowed: {', '.join(FUNCTIONS)}")
    else:
        found += _arguments(where, item["effect"], item["args"])
    found += _keys(f"{where}: rule", item["rule"], (), RULE_KEYS)
    try:
        rule = Rule.of(item["rule"])
    except (ValueError, TypeError, AttributeError) as error:
        found.append(f"{where}: rule: {error}")
    problems += found
    return None if found else Part(**{**item, "rule": rule})


def _arguments(where: str, effect: str, args: dict) -> list[str]:
    try:
        inspect.signature(FUNCTIONS[effect]).bind(None, **args)
    except TypeError as error:
        return [f"{where}: {effect}: {error}"]
    found = [
        f"{where}: {k} {args[k]!r}: allowed {', '.join(NAMES)}"
        for k in ("axis", "across", "along", "by")
        if args.get(k) is not None and args[k] not in NAMES
    ]
    for axis, spec in (args.get("where") or {}).items():
        if (
            axis not in NAMES
            or set(spec) != {"values", "side"}
            or spec["side"] not in ("smallest", "largest")
        ):
            found.append(
                f"{where}: where {axis}: {spec!r}: a column of {', '.join(NAMES)} with `values` "
                f"and `side` "
                "(smallest or largest)"
            )
    return found
