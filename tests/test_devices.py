"""Which GPUs a process may use, read from CUDA_VISIBLE_DEVICES."""

import pytest

from moebook import devices


@pytest.mark.parametrize("listed, visible", [
    (None, [0, 1, 2, 3]), ("2", [2]), ("1,0", [1, 0]), ("0, 3", [0, 3]), ("7", []), ("", []),
    ("GPU-6f1c2a", [0, 1, 2, 3]),
])
def test_visible_gpus_follow_the_environment(monkeypatch, listed, visible):
    if listed is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert devices._visible(4) == visible
