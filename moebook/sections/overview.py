"""Section 0: models, parameter shares, the source's conflicts and the claims table. Measures nothing itself."""

from typing import Literal

from moebook import params
from moebook.plan import Plan

NOTEBOOK = "00_overview"


class Params(params.NotebookParams):
    notebook: Literal[NOTEBOOK] = NOTEBOOK


def plan(p: Params) -> Plan:
    return Plan(NOTEBOOK, p.profile, p.device, ())


def views() -> tuple:
    from moebook.overview import parts_to_explore, sizes_to_explore
    from moebook.view.views import View

    return (View("parameters by part", None, "model", "component", metric="total_share_pct",
                 table=lambda _: parts_to_explore()),
            View("models", None, "top_k", "model", metric="active_parameters", log_x=False,
                 table=lambda _: sizes_to_explore()))


def figures() -> dict:
    from moebook.overview import parameter_shares
    from moebook.view import figures as f

    return {"fig01_parameter_breakdown": lambda _, *, width="page": f.parameter_breakdown(parameter_shares(), width=width)}
