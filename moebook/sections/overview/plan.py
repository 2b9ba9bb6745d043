"""Section 0: from parameters to points."""

from moebook.sections.overview.params import NOTEBOOK, Params
from moebook.study.plan import Plan


def plan(p: Params) -> Plan:
    return Plan(NOTEBOOK, p.profile, p.device, ())
