"""Section 4 in the explorer: its figures as views."""

from moebook.explore.views import View
from moebook.sections.speculative_decoding.plan import PLAIN

OVER = ("series", PLAIN)
VIEWS = (
    View("Fig 12: draft tokens", "spec_tokens", "draft_tokens", "series", log_x=False),
    View("Fig 12: length", "spec_length", "input_tokens", "series", over=OVER),
    View("over batch", "spec_batch", "batch", "series", over=OVER),
    View(
        "acceptance", "acceptance", "temperature", "series", "text", "acceptance_rate", log_x=False
    ),
    View(
        "experts hit", "acceptance|spec_tokens", "draft_tokens", "series", metric="experts_per_step"
    ),
)
