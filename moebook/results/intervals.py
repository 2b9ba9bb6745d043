"""Where intervals come from: repeats and pairs drawn again, seeded, and the ends that are taken.

Row 0 of every array of draws is what was observed; each further row is one draw."""

import numpy as np

RESAMPLES = 2000  # draws behind a verdict
PERCENT = (2.5, 97.5)  # of the draws: the ends of a 95 % interval
WIDTH_OF_95 = 3.92  # standard deviations from its lower to its upper end


def medians_of_repeats(values: list[np.ndarray], resamples: int, seed: int) -> np.ndarray:
    """(1 + resamples, N) medians of each cell's repeats, drawn again with replacement."""
    rng = np.random.default_rng(seed)
    out = np.empty((resamples + 1, len(values)))
    for i, repeats in enumerate(values):
        out[0, i] = np.median(repeats)
        out[1:, i] = np.median(rng.choice(repeats, size=(resamples, len(repeats))), axis=1)
    return out


def values_in_intervals(values: list[np.ndarray], resamples: int, seed: int) -> np.ndarray:
    """(1 + resamples, N) draws from the normal distribution that has each cell's 95 % interval
    (low, middle, high), never beyond its ends."""
    rng = np.random.default_rng(seed)
    out = np.empty((resamples + 1, len(values)))
    for i, found in enumerate(values):
        low, middle, high = found if len(found) == 3 else (found[0],) * 3
        spread = (high - low) / WIDTH_OF_95 * rng.standard_normal(resamples)
        out[0, i] = middle
        out[1:, i] = np.clip((low + high) / 2 + spread, low, high)
    return out


def pairs_again(values: np.ndarray, seed: int) -> np.ndarray:
    """(R + 1, P) with the P columns drawn again with replacement in every row but the first."""
    rng = np.random.default_rng([seed, values.shape[1]])
    drawn = rng.integers(values.shape[1], size=values.shape)
    drawn[0] = np.arange(values.shape[1])
    return np.take_along_axis(values, drawn, axis=1)


def ends(draws: np.ndarray) -> tuple[float, float]:
    """The 95 % interval (low, high) of (1 + R,) draws; of the observed value alone that value."""
    low, high = np.percentile(draws[1:] if len(draws) > 1 else draws, PERCENT)
    return float(low), float(high)
