"""What ships of a fit: one file a kind of card, written by results/calibrating.py and read here.

device_kind, engine, built, inputs    what it rests on: points, profiles, a digest of both
rates                                 the card's published rates that efficiencies are shares of
factors, formats                      of step.py
reserve                               of memory.py
intervals                             half widths on the logarithm by class and metric, how many
                                      points and models they rest on, and what they cover of models
                                      that neither fit nor width had seen
scores                                errors of models left out, and of the fit's own points
range                                 least and largest of what was measured"""

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StrictStr,
    TypeAdapter,
    ValidationError,
)
from typing_extensions import TypedDict

from moebook.measure import files
from moebook.measure.records import told
from moebook.predict.case import PLAIN, Case
from moebook.predict.step import FACTORS, OF_FORMAT, Rates
from moebook.problems import choices

FOLDER = "calibrations"
POINTS = "points.csv"
HOST = "paced by the host"
SEVERAL = "several devices"
DRAFTED = "with a draft"
BATCHES = ((1, "batch 1"), (31, "batch 2 to 31"), (10**9, "batch 32 and more"))
LEVELS = (80, 95)
METRICS = ("ttft", "tpot")
FAR = 1000.0  # times what is known of a factor: no card's
WIDEST = 10.0  # half width on the logarithm: a prediction that says nothing


SIZES = ("batch", "tokens in and out", "hidden size", "layers", "devices")
OF_EXPERTS = ("experts", "expert width")


class NotCalibrated(ValueError):
    """There is no calibration for this device; the message says which there are."""


def _all_of(*names: object) -> AfterValidator:
    """A mapping that has all of some keys."""

    def check(found: dict) -> dict:
        if lacking := [str(name) for name in names if name not in found]:
            raise ValueError(f"without {', '.join(lacking)}")
        return found

    return AfterValidator(check)


Count = Annotated[int, Strict(), Field(ge=0)]
Least = Annotated[float, Strict(), Field(ge=0, le=1e6, allow_inf_nan=False)]
Share = Annotated[Least, Field(le=FAR)]
Positive = Annotated[float, Strict(), Field(gt=0, le=1e18, allow_inf_nan=False)]
Coverage = dict[Literal[80, 95], Annotated[Least, Field(le=1)] | None]
Width = Annotated[
    dict[Literal[80, 95, "n", "models", "coverage"], Count | Least | Coverage],
    _all_of(*LEVELS, "n", "models", "coverage"),
]
SCORED = ("n", "models", *(f"{m}_{of}_pct" for m in METRICS for of in ("median", "p90")))
Score = Annotated[dict[StrictStr, Count | Least], _all_of(*SCORED)]
Span = Annotated[list[Positive], Field(min_length=2, max_length=2)]
NUMBERS = TypeAdapter(dict[StrictStr, Positive])
ONLY = ConfigDict(extra="forbid")


class Inputs(TypedDict):
    __pydantic_config__ = ONLY
    points: Count
    profiles: list[StrictStr]
    digest: StrictStr
    attention: list[StrictStr]
    families: list[StrictStr]


class OfFormat(TypedDict):
    __pydantic_config__ = ONLY
    factors: dict[StrictStr, Positive]
    points: Count
    models: list[StrictStr]


@dataclass(frozen=True)
class Calibration:
    """One card's. Intervals: class -> metric -> level -> half width, `n`, `models`, `coverage`."""

    __pydantic_config__ = ONLY
    device_kind: StrictStr
    engine: StrictStr
    built: StrictStr
    inputs: Inputs
    rates: Annotated[Rates, BeforeValidator(NUMBERS.validate_python)]
    factors: Annotated[dict[StrictStr, Positive], _all_of(*FACTORS)]
    formats: dict[StrictStr, OfFormat]
    reserve: Annotated[dict[StrictStr, Share], _all_of("start")]
    intervals: dict[StrictStr, dict[Literal["ttft", "tpot"], Width]]
    scores: Annotated[dict[StrictStr, dict[StrictStr, Score | None]], _all_of("left out")]
    range: Annotated[dict[StrictStr, Span], _all_of(*SIZES, *OF_EXPERTS)]

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping) -> "Calibration":
        """ValueError where it is none; the text says where."""
        try:
            return _SCHEMA.validate_python(data)
        except ValidationError as error:
            raise ValueError(told(error)) from None

    @property
    def efficiencies(self) -> dict[str, dict[str, float]]:
        """Factors of each number format but 16-bit's own."""
        return {kind: own["factors"] for kind, own in self.formats.items() if kind != PLAIN}


def _whole(found: Calibration) -> Calibration:
    _near(found.factors, FACTORS, "factors")
    for name, own in found.formats.items():
        if name != PLAIN and set(own["factors"]) != set(OF_FORMAT):
            raise ValueError(f"formats.{name}: its factors are to be {', '.join(OF_FORMAT)}")
        _near(own["factors"], OF_FORMAT, f"formats.{name}")
    for metric in METRICS:
        if not any(metric in own for own in found.intervals.values()):
            raise ValueError(f"intervals: none of {metric}")
    for name, own in ((n, w) for n, of in found.intervals.items() for w in of.values()):
        if [key for key, value in own.items() if isinstance(value, dict)] != ["coverage"]:
            raise ValueError(f"intervals.{name}: each is a number, but `coverage`")
        if not own[80] <= own[95] <= WIDEST:
            raise ValueError(f"intervals.{name}: half widths {own[80]:g} and {own[95]:g}")
    return found


def _near(factors: Mapping[str, float], starts: Mapping, where: str) -> None:
    """ValueError for one that no kernel of no card has."""
    for name, value in factors.items():
        if name in starts and not 1 / FAR < value / starts[name][0] < FAR:
            raise ValueError(f"{where}.{name}: {value:g}; about {starts[name][0]:g} is known")


_SCHEMA = TypeAdapter(Annotated[Calibration, AfterValidator(_whole)])


def class_of(case: Case, host_paced: bool) -> str:
    """The class of a case whose errors are counted together. host_paced: its prefill or step, as
    predicted; hosts of one kind of card differ, and say nothing of one another."""
    if case.settings.speculation is not None:
        return DRAFTED
    if host_paced:
        return HOST
    if case.settings.num_devices > 1:
        return SEVERAL
    return batch_class(case.workload.batch)


def batch_class(batch: int) -> str:
    return next(name for most, name in BATCHES if batch <= most)


@cache
def names() -> tuple[str, ...]:
    """Kinds of cards that have a calibration."""
    files = [p.name for p in resources.files("moebook.predict").joinpath(FOLDER).iterdir()]
    return tuple(sorted(name.removesuffix(".yaml") for name in files if name.endswith(".yaml")))


@cache
def points() -> tuple[dict[str, str], ...]:
    """The points that calibrated, and what was predicted of each while its model was left out, as
    text."""
    file = resources.files("moebook.predict").joinpath(FOLDER, POINTS)
    with file.open(newline="") as text:
        return tuple(csv.DictReader(text))


@cache
def load(device_kind: str) -> Calibration:
    """Raises NotCalibrated."""
    known = names()
    if device_kind not in known:
        raise NotCalibrated(
            f"no calibration for device {device_kind!r}; {choices(device_kind, known)}. Measured "
            "points of a device make one: moebook calibrate --help"
        )
    file = resources.files("moebook.predict").joinpath(FOLDER, f"{device_kind}.yaml")
    return _parsed(file.read_text())


def read(file: Path) -> Calibration:
    """One's own, of `moebook calibrate`. ValueError for a file that is none."""
    try:
        return _parsed(files.read(file))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        told = str(error).splitlines()[0]
        raise ValueError(
            f"--calibration: {file} is no file of `moebook calibrate` ({told})"
        ) from None


def _parsed(text: str | bytes) -> Calibration:
    return Calibration.from_dict(yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
