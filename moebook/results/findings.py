"""What judging gives: a verdict with its parts, their cells, its condition and its checks."""

from dataclasses import dataclass, field

from moebook.results.claims import RuleChange
from moebook.results.conditions import Condition


@dataclass(frozen=True)
class CellResult:
    """One cell of a part: its statistic with its 95 % interval, and whether it meets the rule
    (claims.Rule.state)."""

    label: str
    value: float
    lo: float
    hi: float
    state: str


@dataclass(frozen=True)
class PartResult:
    """One measured effect of a claim with its own verdict; `decides` is false where it is only
    reported. met: cells that meet the rule, of n. The effect is the mean where the source states
    one, else that of the cell `at`, the worst by the rule (where one cell is enough, the best)."""

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
    met: int = 0
    at: str = ""
    selected: int | None = None
    cells: tuple[CellResult, ...] = ()
    rule: str = ""  # what meets it, in words: `within 15 to 20`

    def __str__(self) -> str:
        if self.effect is None:
            return f"{self.name}: untested: {self.text}"
        told = "" if self.decides else " (reported, does not decide)"
        return (
            f"{self.name}: {self.verdict}{told}: {self.count}, {self.effect:.4g} {self.unit} "
            f"[{self.effect_lo:.4g}, {self.effect_hi:.4g}]{f' at {self.at}' if self.at else ''}"
            + (f"; {self.text}" if self.text else "")
        )

    @property
    def count(self) -> str:
        """`5 of 8 cells hold`, and how many cells a selected one was chosen from."""
        of = f" (selected from {self.selected})" if self.selected else ""
        return f"{self.met} of {self.n} cell{'s' * (self.n != 1)} hold{of}"


@dataclass(frozen=True)
class Check:
    """One check of robustness: whether the verdict is the same under it, and which ones came out
    else."""

    name: str
    same: bool
    verdicts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Regime:
    """The verdict under another routing, or on another number of devices."""

    name: str
    verdict: str
    effect: float | None
    effect_lo: float | None
    effect_hi: float | None
    unit: str | None


@dataclass(frozen=True)
class Verdict:
    """Verdict on one claim. The effect is the headline's (first tested part), with its 95 %
    interval; `met` of its n cells hold."""

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
    met: int = 0
    at: str = ""
    condition: Condition = Condition()
    differs: tuple[str, ...] = ()
    regimes: tuple[Regime, ...] = ()  # other routings
    elsewhere: tuple[Regime, ...] = ()  # other numbers of devices, in other profiles
    checks: tuple[Check, ...] = ()
    records: str = ""
    history: tuple[RuleChange, ...] = ()

    @property
    def label(self) -> str:
        """`supported`, `supported in part` (part of it could not be tested), `mixed on other
        conditions` ..."""
        lacking = any(p.decides and (p.verdict == "untested" or not p.whole) for p in self.parts)
        part = lacking and self.verdict != "untested"
        return self.verdict + " in part" * part + " on other conditions" * (self.scale == "own")

    @property
    def robust(self) -> str:
        """`6 of 7`: the checks under which the verdict is the same, of those that could be made;
        empty where none could."""
        same = sum(check.same for check in self.checks)
        return f"{same} of {len(self.checks)}" if self.checks else ""
