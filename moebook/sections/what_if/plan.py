"""Section 10: from parameters to points."""

from moebook.sections.what_if.params import NOTEBOOK, Params
from moebook.study.plan import Plan


def plan(p: Params) -> Plan:
    """No points: this section predicts, from what the others measured."""
    return Plan(NOTEBOOK, p.profile, p.device, ())
