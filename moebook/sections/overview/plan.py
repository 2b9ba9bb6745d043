"""Section 0: from parameters to points."""

from moebook.sections.overview.params import NOTEBOOK, Params
from moebook.study.plan import Plan


def plan(p: Params) -> Plan:
    """No points: this section reads what the others measured."""
    return Plan(NOTEBOOK, p.profile, p.device, ())
