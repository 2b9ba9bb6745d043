"""The study's claims, and a verdict on each from a table of results.

`evaluate(table, claims)` gives a `Verdict` per claim:

    supported     the measured effect and its 95 % interval agree with what the source states
    contradicted  the interval leaves no room for it
    mixed         it holds for part of the stated range, or the interval does not decide
    untested      the data cannot say; `reason` tells why

A profile with other shapes than the source's (the small CPU one) is read over its own range:
`scale` is then "own", `label` says "on this scale", and `conditions` says what of the source's was
not tested."""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import pandas as pd

from moebook.predict.under_bound import of_those_under
from moebook.results.cells import (
    METRIC,
    NEEDED,
    Cells,
    Untested,
    check_columns,
    of_sweep,
    status_counts,
)
from moebook.results.claims import Claim, Part
from moebook.results.comparison import Effect
from moebook.results.deciding import why_not
from moebook.results.intervals import RESAMPLES

FEW = 4


@dataclass(frozen=True)
class PartResult:
    """One measured effect of a claim with its own verdict; `decides` is false where it is only
    reported."""

    name: str
    verdict: str
    effect: float | None
    effect_lo: float | None
    effect_hi: float | None
    unit: str | None
    n: int
    text: str
    decides: bool = True
    whole: bool = True  # False: some of the planned cells it speaks of are not measured
    rows: tuple[str, ...] = ()  # point_id of the rows that it rests on

    def __str__(self) -> str:
        if self.effect is None:
            return f"{self.name}: untested: {self.text}"
        told = "" if self.decides else " (reported, does not decide)"
        text = f"; {self.text}" if self.text else ""
        return (
            f"{self.name}: {self.verdict}{told}: {self.effect:.4g} {self.unit} "
            f"[{self.effect_lo:.4g}, {self.effect_hi:.4g}], n = {self.n}"
            + " (so few that the interval says little of other cells)" * (self.n < FEW)
            + text
        )


@dataclass(frozen=True)
class Verdict:
    """Verdict on one claim. The effect is the headline's (first tested part), with its 95 %
    interval over n pairs."""

    id: str
    section: int
    notebook: str
    statement: str
    verdict: str
    effect: float | None = None
    effect_lo: float | None = None
    effect_hi: float | None = None
    unit: str | None = None
    n: int = 0
    source_range: dict = field(default_factory=dict)
    scale: str | None = None
    conditions: str = ""
    reason: str = ""
    parts: tuple[PartResult, ...] = ()
    rows: tuple[str, ...] = ()  # point_id of the rows that its deciding parts rest on

    @property
    def label(self) -> str:
        """`supported`, `supported in part` (part of it could not be tested), `mixed on this scale`
        ..."""
        lacking = any(p.decides and (p.verdict == "untested" or not p.whole) for p in self.parts)
        part = lacking and self.verdict != "untested"
        return self.verdict + " in part" * part + " on this scale" * (self.scale == "own")


def evaluate(
    table: pd.DataFrame | None,
    claims: Iterable[Claim],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> list[Verdict]:
    """A verdict per claim from a summary (or results table) of one device; None or no rows: all
    untested.

    Intervals come from `resamples` seeded draws over paired cells and over repeats. ValueError for
    several devices or missing columns."""
    if table is None or table.empty:
        return [_untested(claim, claim.untested or "there are no results") for claim in claims]
    if "device" in table and len(devices := table["device"].dropna().unique()) > 1:
        raise ValueError(
            f"the table holds several devices ({', '.join(devices)}); give the rows of one"
        )
    check_columns(table, NEEDED, METRIC)
    known: dict[tuple[str, str], Cells | Untested] = {}
    under = table.loc[of_those_under(table), ["sweeps", "model"]]
    kept, verdicts = table[why_not(table).isna()], []
    for claim in claims:
        verdict = _judge(claim, kept, known, resamples, seed)
        left_out = [] if claim.untested else sorted(of_sweep(under, claim.sweep)["model"].unique())
        verdicts.append(
            replace(
                verdict,
                reason=f"{verdict.reason}; without {', '.join(left_out)}: measured under its "
                f"floor, so its routing was not near uniform",
            )
            if left_out
            else verdict
        )
    return verdicts


def _untested(claim: Claim, reason: str, parts: tuple[PartResult, ...] = ()) -> Verdict:
    return Verdict(
        claim.id,
        claim.section,
        claim.notebook,
        claim.statement,
        "untested",
        source_range=claim.source_range,
        reason=reason,
        parts=parts,
    )


def _judge(claim: Claim, table: pd.DataFrame, known: dict, resamples: int, seed: int) -> Verdict:
    if claim.untested:
        return _untested(claim, claim.untested)
    wanted = (claim.sweep, claim.metric)
    if wanted not in known:
        try:
            known[wanted] = Cells.of(table, claim.sweep, resamples, seed, claim.metric)
        except Untested as reason:
            known[wanted] = reason
    cells = known[wanted]
    if isinstance(cells, Untested):
        return _untested(claim, str(cells))
    measured = [_measure(part, cells) for part in claim.parts]
    parts = tuple(result for result, _ in measured)
    told = [
        (result, effect) for result, effect in measured if effect is not None and result.decides
    ]
    if not told:
        return _untested(claim, "; ".join(f"{p.name}: {p.text}" for p in parts if p.decides), parts)
    head = told[0][0]
    differs = list(dict.fromkeys(d for _, effect in told for d in effect.differs))
    differs += _differences(claim, told[0][1].used, differs)
    return Verdict(
        claim.id,
        claim.section,
        claim.notebook,
        claim.statement,
        _combine([r for r, _ in told]),
        head.effect,
        head.effect_lo,
        head.effect_hi,
        head.unit,
        head.n,
        claim.source_range,
        "own" if differs else "source",
        _conditions(claim, cells, told[0][1].used, differs),
        " | ".join(map(str, parts)),
        parts,
        tuple(dict.fromkeys(row for r, _ in told for row in r.rows)),
    )


def _measure(part: Part, cells: Cells) -> tuple[PartResult, Effect | None]:
    try:
        effect = part.effect(cells)
    except Untested as reason:
        return PartResult(
            part.name, "untested", None, None, None, None, 0, str(reason), part.decides
        ), None
    verdict = part.rule.decide(effect.value, effect.lo, effect.hi)
    return PartResult(
        part.name,
        verdict,
        effect.value,
        effect.lo,
        effect.hi,
        effect.unit,
        effect.n,
        effect.text,
        part.decides,
        effect.whole,
        rows_of(effect),
    ), effect


def _combine(parts: list[PartResult]) -> str:
    verdicts = [p.verdict for p in parts]
    if set(verdicts) == {"supported"}:
        return "supported"
    if verdicts[0] == "contradicted" and "supported" not in verdicts:
        return "contradicted"
    return "mixed"


def _differences(claim: Claim, used: pd.DataFrame, told: list[str]) -> list[str]:
    """In what the measured cells are not the source's, beyond what effects have told of their own
    axes."""
    found = []
    for column, wanted in claim.source.items():
        if (
            column == "device"
            or column not in used
            or any(t.startswith(f"{column} ") for t in told)
        ):
            continue
        values = sorted(used[column].dropna().unique())
        if column == "model":
            other = [v for v in values if not any(str(v).startswith(w) for w in wanted)]
        else:
            other = [v for v in values if v not in wanted]
        if other:
            found.append(f"{column} {_list(other)} (source {_list(wanted)})")
    return found


def _conditions(claim: Claim, cells: Cells, used: pd.DataFrame, differs: list[str]) -> str:
    def values(column: str) -> list:
        return sorted(used[column].dropna().unique()) if column in used else []

    methods = used["method"].value_counts()
    derived = ", ".join(f"{methods[m]} {m}" for m in sorted(methods.index))
    facts = [_list(values("device")), _list(values("engine_version")), _list(values("model"))]
    facts += [
        f"{name} {_list(values(column))}"
        for name, column in (
            ("batch", "batch"),
            ("input", "input_tokens"),
            ("output", "output_tokens"),
            ("dtype", "dtype"),
            ("TP", "tensor_parallel"),
            ("graphs", "graphs"),
        )
        if values(column)
    ]
    text = "; ".join(f for f in facts if f) + f"; cells by method: {derived}"
    text += f" (the sweep: {status_counts(cells.planned)})"
    if claim.source.get("device"):
        text += f". Source: {claim.source['device']}"
    if differs:
        text += ". Not the source's range, which was not tested: " + "; ".join(differs)
    return text


def _list(values) -> str:
    return ", ".join(f"{v:g}" if isinstance(v, (int, float)) else str(v) for v in values)


def rows_of(effect: Effect) -> tuple[str, ...]:
    """point_id of the rows behind an effect: of a composed row, those of the rows it was composed
    of."""
    used = effect.used if effect.basis is None else effect.basis
    if "point_id" not in used:
        return ()
    ids = used["point_id"]
    if "rests_on" in used:
        ids = ids.fillna(used["rests_on"])
    return tuple(dict.fromkeys(row for own in ids.dropna() for row in own.split(",")))


def to_frame(verdicts: list[Verdict]) -> pd.DataFrame:
    """One row per claim, with `label`; parts stay in `reason`, source_range and rows as text."""
    rows = []
    for verdict in verdicts:
        row = {k: v for k, v in asdict(verdict).items() if k != "parts"}
        row["source_range"] = ", ".join(f"{k} {v}" for k, v in verdict.source_range.items())
        rows.append({**row, "rows": ",".join(verdict.rows), "label": verdict.label})
    columns = [name for name in Verdict.__dataclass_fields__ if name != "parts"] + ["label"]
    return pd.DataFrame(rows, columns=columns).astype(
        dict.fromkeys(("effect", "effect_lo", "effect_hi"), "float64")
    )


def to_json(verdicts: list[Verdict], path: str | Path | None = None) -> str:
    """A JSON list of the verdicts with their parts, also written to `path` where one is given."""
    text = json.dumps(
        [{**asdict(v), "label": v.label} for v in verdicts], indent=1, allow_nan=False
    )
    if path is not None:
        Path(path).write_text(text + "\n", encoding="utf-8")
    return text
