"""Section 0: models, parameter shares, the source's conflicts and the claims table. Measures nothing itself."""

from typing import Literal

from moebook import params
from moebook.plan import Plan

NOTEBOOK = "00_overview"


class Params(params.NotebookParams):
    notebook: Literal[NOTEBOOK] = NOTEBOOK


def plan(p: Params) -> Plan:
    return Plan(NOTEBOOK, p.profile, p.device, ())


def figures() -> dict:
    from moebook.overview import parameter_shares
    from moebook.view import figures as f

    return {"fig01_parameter_breakdown": lambda _, *, width="page": f.parameter_breakdown(parameter_shares(), width=width)}
