"""Section 5 in the explorer: its figures as views."""

from dataclasses import replace

from moebook.explore.views import View
from moebook.results.cells import COMPOSED
from moebook.sections.parallelism import scaling

BY_MODE = View("Fig 13: devices", None, "devices", "series", "model", table=scaling.over_devices)
EVERY = replace(BY_MODE, name="run, at all batches", sweep="modes", table=scaling.with_devices)
VIEWS = (
    BY_MODE,
    EVERY,
    replace(EVERY, name="composed, at all batches", sweep=COMPOSED),
    View("one rank alone", "shards", "batch", "series", "model"),
)
