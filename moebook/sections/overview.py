"""Section 0: models, parameter shares, the source's conflicts and the claims table. Measures nothing itself."""

from moebook import params
from moebook.plan import Plan

NOTEBOOK = "00_overview"


class Params(params.NotebookParams):
    pass


def plan(p: Params) -> Plan:
    return Plan(NOTEBOOK, p.profile, p.device, ())


def figures() -> dict:
    return {}
