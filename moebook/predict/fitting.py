"""Factors from measured points: robust least squares on the logarithm of predicted over measured
time, with every factor held near its start as far as the points do not speak.

All devices of one kind of card are fitted together: they share what is the kernels' own, and each
differs by a few percent (APART) where its points say so. TTFT counts SHARE_TTFT of TPOT, for
nothing else of it is told by so noisy a number. A model with many points does not outvote others:
its points weigh by the fourth root of their number."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import least_squares

from moebook.predict.step import FACTORS, OF_FORMAT, PLAIN, Batch, Rates, of_rows

SCALE = 0.03  # an error that counts in full; larger ones count linearly
SHARE_TTFT = 0.7
APART, HOST_APART = 0.05, 0.2  # logarithms by which two devices' factors may differ at that cost
EVALUATIONS = 60
LEAST_POINTS = 30


@dataclass(frozen=True)
class Fitted:
    """Factors by device, and those of each number format by device."""

    factors: dict[str, dict[str, float]]
    formats: dict[str, dict[str, dict[str, float]]]

    def seconds(self, batch: Batch, devices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N,) TTFT and (N,) TPOT of cases measured on `devices`. A format that was not fitted is
        taken at its start, which is 16-bit's efficiency."""
        ttft, tpot = np.full(len(devices), np.nan), np.full(len(devices), np.nan)
        for device, factors in self.factors.items():
            own = devices == device
            told = batch.seconds(of_rows(factors, self.formats[device], batch.formats))
            ttft[own], tpot[own] = told[0][own], told[1][own]
        return ttft, tpot


class Fit:
    """The points of one fit; `run` may leave some of them out."""

    def __init__(self, points: pd.DataFrame, rates: dict[str, Rates]):
        if len(points) < LEAST_POINTS:
            raise ValueError(f"{len(points)} measured points; a fit takes {LEAST_POINTS} or more")
        self.devices = points["device_kind"].to_numpy(str)
        self.batch = Batch(list(points["case"]), [rates[d] for d in self.devices])
        self.kinds = sorted(rates)
        self.measured = [points[c].to_numpy(float) for c in ("ttft_s", "tpot_s")]
        self.formats = sorted(set(self.batch.formats) - {PLAIN})
        given = [*FACTORS.items()]
        self.names = [name for name, _ in given]
        given += [((kind, n), v) for kind in self.formats for n, v in OF_FORMAT.items()]
        self.keys = [key for key, _ in given]
        self.start = np.log([start for _, (start, _) in given])
        self.free = np.array([width for _, (_, width) in given])
        host = np.array(["host" in str(k) and not isinstance(k, tuple) for k in self.keys])
        self.apart = np.where(host, HOST_APART, APART)
        self.calibrates = points["calibrates"].to_numpy(bool)
        self.groups = points["model"] + self.batch.formats + self.devices

    def run(self, keep: np.ndarray, near: np.ndarray | None = None) -> np.ndarray:
        """Logarithms of all factors and of the devices' differences, from the points of `keep` that
        calibrate."""
        size, others = len(self.keys), len(self.kinds)
        keep = keep & self.calibrates
        weight = self._weights(keep)
        top = np.full(size * (1 + others), 30.0)
        for i, key in enumerate(self.keys):  # no rate is over what is published
            if isinstance(key, str) and key.startswith(("b_", "f_", "prefill_b", "prefill_f")):
                top[i] = 0.0

        def residuals(x: np.ndarray) -> np.ndarray:
            told = self.seconds(x)
            error = [np.log(t / m)[keep] * weight for t, m in zip(told, self.measured, strict=True)]
            e = np.concatenate([SHARE_TTFT * error[0], error[1]]) / SCALE
            e = np.sign(e) * np.sqrt(2 * (np.sqrt(1 + e * e) - 1))
            moved = (x[:size] - self.start) / self.free
            apart = (x[size:].reshape(others, size) / self.apart).ravel()
            return np.concatenate([e, moved, apart])

        x = np.concatenate([self.start, np.zeros(size * others)]) if near is None else near
        x = np.minimum(x, top - 1e-6)
        return least_squares(
            residuals, x, bounds=(np.full(len(x), -30.0), top), max_nfev=EVALUATIONS
        ).x

    def seconds(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N,) TTFT, (N,) TPOT of all points with the factors x."""
        return self.fitted(x).seconds(self.batch, self.devices)

    def fitted(self, x: np.ndarray) -> Fitted:
        size = len(self.keys)
        factors, formats = {}, {}
        for i, device in enumerate(self.kinds):
            own = np.exp(x[:size] + x[size * (i + 1) : size * (i + 2)])
            by = dict(zip(self.keys, map(float, own), strict=True))
            factors[device] = {name: by[name] for name in self.names}
            formats[device] = {f: {n: by[f, n] for n in OF_FORMAT} for f in self.formats}
        return Fitted(factors, formats)

    def _weights(self, keep: np.ndarray) -> np.ndarray:
        count = self.groups[keep].map(self.groups[keep].value_counts()).to_numpy(float)
        weight = count**-0.25
        return weight / np.median(weight)
