"""Judges claims: their parts on the cells of a summary, cell by cell, under one routing and as a
check of robustness changes it."""

from dataclasses import replace

import pandas as pd

from moebook.results.cells import Cells, Untested, of_sweep, status_counts
from moebook.results.claims import Claim, Part, combine
from moebook.results.comparison import Effect, Item
from moebook.results.findings import (
    NEAR_UNIFORM,
    CellResult,
    PartResult,
    Regime,
    Verdict,
    condition_of,
    differences,
    regime_of,
    regimes,
)
from moebook.results.intervals import SAME, Change


def untested(claim: Claim, reason: str, parts: tuple[PartResult, ...] = ()) -> Verdict:
    return Verdict(
        claim.id,
        claim.section,
        claim.notebook,
        claim.statement,
        "untested",
        source_range=claim.source_range,
        reason=reason,
        parts=parts,
        history=claim.history,
    )


class Judge:
    """Judges claims on the rows of a summary that may decide. Cells of a sweep are made once for
    each change of a check."""

    def __init__(self, summary: pd.DataFrame):
        self.summary = summary
        self.known: dict[tuple, Cells | Untested] = {}
        self.found: dict[tuple, list[tuple[Part, Effect | Untested]]] = {}

    def by_regime(self, claim: Claim) -> Verdict:
        """Under the first routing that the sweep was measured with; the others beside."""
        if claim.untested:
            return untested(claim, claim.untested)
        names = regimes(self.summary, claim.sweep) or [NEAR_UNIFORM]
        first, *others = (self.verdict(claim, SAME, name) for name in names)
        told = zip(names[1:], others, strict=True)
        others_ = tuple(beside(name, v) for name, v in told if v.verdict != "untested")
        return replace(first, regimes=others_)

    def cells(self, claim: Claim, change: Change, regime: str) -> Cells:
        """Untested where there are none."""
        change = replace(change, moved=0)
        wanted = (claim.sweep, claim.metric, change, regime)
        if wanted not in self.known:
            try:
                if change == SAME:
                    self.known[wanted] = self._cells(claim, regime)
                else:
                    same = self.cells(claim, SAME, regime)
                    self.known[wanted] = same.changed(claim.metric, change)
            except Untested as reason:
                self.known[wanted] = reason
        if isinstance(found := self.known[wanted], Untested):
            raise found
        return found

    def _cells(self, claim: Claim, regime: str) -> Cells:
        rows = of_sweep(self.summary, claim.sweep)
        return Cells.of(rows[regime_of(rows) == regime], claim.sweep, claim.metric)

    def word(self, claim: Claim, change: Change, regime: str) -> str:
        """The verdict alone."""
        try:
            measured = self.effects(claim, change, regime)
        except Untested:
            return "untested"
        told = [
            part.verdict(part.states((found.mean,) if found.mean else found.items, change.moved))
            for part, found in measured
            if part.decides and isinstance(found, Effect)
        ]
        return combine(told) if told else "untested"

    def effects(
        self, claim: Claim, change: Change, regime: str
    ) -> list[tuple[Part, Effect | Untested]]:
        """Each part with its effect, or why it has none."""
        wanted = (claim.id, replace(change, moved=0), regime)
        if wanted not in self.found:
            self.found[wanted] = self._effects(claim, change, regime)
        return self.found[wanted]

    def _effects(
        self, claim: Claim, change: Change, regime: str
    ) -> list[tuple[Part, Effect | Untested]]:
        cells = self.cells(claim, change, regime)
        found: list[tuple[Part, Effect | Untested]] = []
        for part in claim.parts:
            try:
                found.append((part, part.effect(cells)))
            except Untested as reason:
                found.append((part, reason))
        return found

    def verdict(self, claim: Claim, change: Change, regime: str) -> Verdict:
        try:
            measured = self.effects(claim, change, regime)
        except Untested as reason:
            return untested(claim, str(reason))
        parts = tuple(_result(part, found, change.moved) for part, found in measured)
        told = [
            (result, found)
            for result, (_, found) in zip(parts, measured, strict=True)
            if result.decides and isinstance(found, Effect)
        ]
        if not told:
            reason = "; ".join(f"{p.name}: {p.text}" for p in parts if p.decides)
            return untested(claim, reason, parts)
        return _of_parts(claim, parts, told, self.cells(claim, change, regime))


def _of_parts(
    claim: Claim, parts: tuple[PartResult, ...], told: list[tuple[PartResult, Effect]], cells: Cells
) -> Verdict:
    head, effect = told[0]
    differs = list(dict.fromkeys(d for _, found in told for d in found.differs))
    differs += differences(claim.source or {}, effect.used, differs)
    return Verdict(
        claim.id,
        claim.section,
        claim.notebook,
        claim.statement,
        combine([result.verdict for result, _ in told]),
        head.effect,
        head.effect_lo,
        head.effect_hi,
        head.unit,
        head.n,
        claim.source_range,
        "own" if differs else "source",
        _conditions(claim, cells, effect.used, differs),
        " | ".join(map(str, parts)),
        parts,
        tuple(dict.fromkeys(row for result, _ in told for row in result.rows)),
        head.met,
        head.at,
        condition_of(effect.used),
        tuple(differs),
        records=_records(effect.used),
        history=claim.history,
    )


def _result(part: Part, found: Effect | Untested, moved: int) -> PartResult:
    if isinstance(found, Untested):
        none = (None,) * 4
        return PartResult(part.name, "untested", *none, 0, str(found), part.decides)
    states = part.states(found.items, moved)
    head = found.mean or _headline(part, found.items)
    judged = part.states((found.mean,), moved) if found.mean else states
    lo, hi = head.ends()
    alone = len(found.items) == 1 and not found.selected
    return PartResult(
        part.name,
        part.verdict(judged),
        head.value,
        lo,
        hi,
        found.unit,
        len(states),
        found.text,
        part.decides,
        found.whole,
        rows_of(found),
        states.count("met"),
        "" if alone else head.label,
        found.selected or (len(states) if part.some else None),
        tuple(_cell(item, state) for item, state in zip(found.items, states, strict=True)),
        part.wanted(found.unit, found.mean is not None),
    )


def _headline(part: Part, items: tuple[Item, ...]) -> Item:
    """The cell farthest on the wrong side of the rule, or, where one is enough, on the right
    one."""
    order = sorted(items, key=lambda item: part.rule.margin(item.value))
    return order[-1] if part.some else order[0]


def _cell(item: Item, state: str) -> CellResult:
    return CellResult(item.label, item.value, *item.ends(), state)


def beside(name: str, verdict: Verdict) -> Regime:
    """A verdict as it is told beside another's."""
    ends = verdict.effect, verdict.effect_lo, verdict.effect_hi
    return Regime(name, verdict.label, *ends, verdict.unit)


def _records(used: pd.DataFrame) -> str:
    """`12 cells of 1 engine start, 4 of 2`, of the rows that decide."""
    if "n_records" not in used or used["n_records"].isna().all():
        return ""
    counts = used["n_records"].dropna().astype(int).value_counts().sort_index()
    told = [f"{n} of {starts} engine start{'s' * (starts > 1)}" for starts, n in counts.items()]
    return "cells: " + ", ".join(told)


def _conditions(claim: Claim, cells: Cells, used: pd.DataFrame, differs: list[str]) -> str:
    methods = used["method"].value_counts()
    derived = ", ".join(f"{methods[m]} {m}" for m in sorted(methods.index))
    text = f"{condition_of(used)}; cells by method: {derived}"
    text += f" (the sweep: {status_counts(cells.planned)})"
    if (claim.source or {}).get("device"):
        text += f". Source: {claim.source['device']}"
    if differs:
        text += ". Not the source's conditions, which were not tested: " + "; ".join(differs)
    return text


def rows_of(effect: Effect) -> tuple[str, ...]:
    """point_id of the rows behind an effect."""
    used = effect.used if effect.basis is None else effect.basis
    return tuple(dict.fromkeys(used["point_id"].dropna())) if "point_id" in used else ()
