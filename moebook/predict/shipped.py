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

import yaml

from moebook.predict.case import PLAIN, Case
from moebook.predict.step import Rates
from moebook.problems import choices

FOLDER = "calibrations"
POINTS = "points.csv"
HOST = "paced by the host"
SEVERAL = "several devices"
DRAFTED = "with a draft"
BATCHES = ((1, "batch 1"), (31, "batch 2 to 31"), (10**9, "batch 32 and more"))
LEVELS = (80, 95)
METRICS = ("ttft", "tpot")


class NotCalibrated(ValueError):
    """There is no calibration for this device; the message says which there are."""


@dataclass(frozen=True)
class Calibration:
    """One card's. Intervals: class -> metric -> level -> half width, `n`, `models`, `coverage`."""

    device_kind: str
    engine: str
    built: str
    inputs: dict
    rates: Rates
    factors: dict[str, float]
    formats: dict[str, dict]
    reserve: dict[str, float]
    intervals: dict[str, dict]
    scores: dict[str, dict]
    range: dict[str, tuple]

    def to_dict(self) -> dict:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping) -> "Calibration":
        return cls(**{**data, "rates": Rates(**data["rates"])})

    @property
    def efficiencies(self) -> dict[str, dict[str, float]]:
        """Factors of each number format but 16-bit's own."""
        return {kind: own["factors"] for kind, own in self.formats.items() if kind != PLAIN}


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
        return _parsed(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, TypeError, KeyError, yaml.YAMLError) as error:
        told = str(error).splitlines()[0]
        raise ValueError(
            f"--calibration: {file} is no file of `moebook calibrate` ({told})"
        ) from None


def _parsed(text: str) -> Calibration:
    return Calibration.from_dict(yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
