"""What judging gives: a verdict with its parts, their cells, its checks, and the condition that it
holds under: devices and how the model is split, routing, the engine's settings, number format,
lengths, batch; and where these are not the source's."""

import re
from dataclasses import dataclass, field

import pandas as pd

from moebook.results.cells import of_sweep
from moebook.results.claims import RuleChange
from moebook.study.routing import MODEL, SAME, UNIFORM

NEAR_UNIFORM = "near-uniform"
SPLITS = {"tensor_parallel": "TP", "pipeline_parallel": "PP"}


@dataclass(frozen=True)
class Condition:
    """Of the cells that decide. devices: of one engine."""

    devices: str = ""
    split: str = ""
    routing: str = ""
    engine: str = ""
    graphs: str = ""
    format: str = ""
    models: str = ""
    batch: str = ""
    lengths: str = ""

    def __str__(self) -> str:
        told = {
            "": self.devices,
            " ": self.engine,
            "  ": self.split,
            "routing": self.routing,
            "graphs": self.graphs,
            "   ": self.format,
            "    ": self.models,
            "batch": self.batch,
            "in + out": self.lengths,
        }
        return "; ".join(f"{name.strip()} {text}".strip() for name, text in told.items() if text)


def condition_of(used: pd.DataFrame) -> Condition:
    """Of the rows of an effect; empty where it rests on none."""
    if used.empty:
        return Condition()
    counts = sorted(devices_of(used).unique())
    names = values_of(used, "device")
    split = [
        f"{name} {listed(values_of(used, column))}"
        for column, name in SPLITS.items()
        if any(value > 1 for value in values_of(used, column))
    ]
    if used.get("expert_parallel", pd.Series(dtype=object)).fillna(False).any():
        split.append("EP")
    formats = used["quantization"] if "quantization" in used else pd.Series(None, used.index)
    if "dtype" in used:
        formats = formats.fillna(used["dtype"])
    lengths = used[["input_tokens", "output_tokens"]].drop_duplicates().sort_values("input_tokens")
    pairs = [f"{int(i)} + {int(o)}" for i, o in lengths.dropna().itertuples(index=False)]
    return Condition(
        devices=f"{listed(counts)} x {listed(names)}" if names else "",
        split=", ".join(split),
        routing=listed(sorted(set(routing_of(used)))),
        engine=listed(values_of(used, "engine_version")),
        graphs=listed(values_of(used, "graphs")),
        format=listed(sorted(formats.dropna().unique())),
        models=listed(values_of(used, "model")),
        batch=listed(values_of(used, "batch")),
        lengths=", ".join(pairs) if len(pairs) < 4 else f"{pairs[0]} to {pairs[-1]}",
    )


def devices_of(rows: pd.DataFrame) -> pd.Series:
    """How many devices each row's engine took."""
    found = pd.Series(1, rows.index)
    for column in SPLITS:
        if column in rows:
            found = found * rows[column].fillna(1).astype(int)
    return found


def routing_of(rows: pd.DataFrame) -> pd.Series:
    """`uniform`, `same`, `zipf:S`, or `near-uniform`: what dummy weights choose for random prompts,
    where nothing is imposed."""
    if "routing" not in rows:
        return pd.Series(NEAR_UNIFORM, rows.index)
    return rows["routing"].fillna(MODEL).replace(MODEL, NEAR_UNIFORM).astype(object)


def regime_of(rows: pd.DataFrame) -> pd.Series:
    """The routing that a verdict is of: imposed uniform choices and those of dummy weights are one
    regime."""
    return routing_of(rows).replace(UNIFORM, NEAR_UNIFORM)


def regimes(summary: pd.DataFrame, sweep: str) -> list[str]:
    """The regimes of a sweep's rows: near-uniform first, then what all tokens share, then Zipf."""
    found = set(regime_of(of_sweep(summary, sweep)))
    order = [NEAR_UNIFORM, SAME, *sorted(found - {NEAR_UNIFORM, SAME})]
    return [name for name in order if name in found]


def differences(source: dict, used: pd.DataFrame, told: list[str]) -> list[str]:
    """In what the measured cells are not the source's, beyond what effects have told of their own
    axes."""
    found = []
    for column, wanted in source.items():
        if any(t.startswith(f"{column} ") for t in told):
            continue
        if column == "device":
            values, wanted = values_of(used, "device"), _gpus(wanted)
            other = [v for v in values if wanted and not any(w in str(v) for w in wanted)]
        elif column == "devices":
            values = sorted(devices_of(used).unique()) if len(used) else []
            other = [v for v in values if v not in wanted]
        elif column == "model":
            values = values_of(used, column)
            other = [v for v in values if not any(str(v).startswith(w) for w in wanted)]
        else:
            other = [v for v in values_of(used, column) if v not in wanted]
        if other:
            found.append(f"{column} {listed(other)} (source {listed(wanted)})")
    return found


def _gpus(text: str) -> list[str]:
    """The GPUs that a source's words name."""
    return re.findall(r"[HAB]\d+", text)


def values_of(rows: pd.DataFrame, column: str) -> list:
    return sorted(rows[column].dropna().unique()) if column in rows else []


def listed(values) -> str:
    return ", ".join(f"{v:g}" if isinstance(v, (int, float)) else str(v) for v in values)


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
