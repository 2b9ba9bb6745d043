"""Section 8 in the explorer: its figures as views."""

from dataclasses import replace

from moebook.explore.views import View

COMMON = View("same points on every device", "common", "input_tokens", "device_label", "batch")
SCOUT = replace(COMMON, sweep="scout")
VIEWS = (
    COMMON,
    replace(SCOUT, name="Fig 16: measured", where={"source_kind": "measured"}),
    replace(SCOUT, name="Fig 16: rooflines", where={"source_kind": "roofline"}),
    replace(COMMON, name="another model in 16 bits", sweep="reference"),
)
