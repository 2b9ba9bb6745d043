"""The Pareto front of points in two measures: those that no other point matches in one and beats in
the other.

>>> front([70.0, 60.0, 50.0], [1.0, 3.0, 2.0])        # both higher is better: the third is beaten
                                                      by the second
array([ True,  True, False])
"""

import numpy as np


def front(first, second, *, first_higher: bool = True, second_higher: bool = True) -> np.ndarray:
    """Which points are on the front. ValueError where the measures differ in length or are not all
    finite."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    if a.shape != b.shape or a.ndim != 1:
        raise ValueError(
            f"two measures of one length each, one value a point; given shapes {a.shape} and "
            f"{b.shape}"
        )
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise ValueError("a point without both measures has no place on a front: leave it out")
    a, b = a if first_higher else -a, b if second_higher else -b
    beaten = (
        (a[:, None] >= a) & (b[:, None] >= b) & ((a[:, None] > a) | (b[:, None] > b))
    )  # [i, j]: i beats j
    return ~beaten.any(axis=0)
