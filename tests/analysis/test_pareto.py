"""The front: what is beaten is off it, what is equal or better in one measure stays."""

import numpy as np
import pytest

from moebook.sections.model_comparison.enrich import front


def test_a_point_beaten_in_both_is_off_the_front():
    assert list(front([70.0, 60.0, 50.0], [1.0, 3.0, 2.0])) == [True, True, False]


def test_lower_is_better_where_that_is_asked():
    assert list(front([70.0, 60.0, 50.0], [1.0, 3.0, 2.0], second_higher=False)) == [
        True,
        False,
        False,
    ]


def test_equals_stay_and_a_tie_in_one_measure_is_decided_by_the_other():
    assert list(front([1.0, 1.0, 1.0], [2.0, 2.0, 1.0])) == [True, True, False]
    assert list(front([5.0], [5.0])) == [True] and front([], []).size == 0


def test_every_point_off_the_front_is_beaten_by_one_on_it():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 60))
    on = front(a, b)
    assert 0 < on.sum() < 60
    for i in np.flatnonzero(~on):
        assert ((a[on] >= a[i]) & (b[on] >= b[i])).any()
    for i in np.flatnonzero(on):
        assert not ((a > a[i]) & (b > b[i])).any()


def test_a_point_without_a_number_or_of_another_length_is_refused():
    with pytest.raises(ValueError, match="without both measures"):
        front([1.0, float("nan")], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"shapes \(2,\) and \(1,\)"):
        front([1.0, 2.0], [1.0])
