"""Tests run from the repository's root, as the commands do; GPU tests are skipped with the reason."""

import os
from pathlib import Path

import pytest

from moebook import devices

os.chdir(Path(__file__).parents[1])


def pytest_collection_modifyitems(items):
    found = devices.detect()
    skip = pytest.mark.skip(reason=f"needs a GPU; this machine has {found.name}")
    for item in items:
        if "gpu" in item.keywords and found.kind == "cpu":
            item.add_marker(skip)
