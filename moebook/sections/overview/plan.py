"""Section 0: models, parameter shares, the source's conflicts and the claims table. Measures
nothing itself."""

from typing import Literal

from moebook.study import params
from moebook.study.plan import Plan

NOTEBOOK = "00_overview"


class Params(params.NotebookParams):
    notebook: Literal[NOTEBOOK] = NOTEBOOK


def plan(p: Params) -> Plan:
    return Plan(NOTEBOOK, p.profile, p.device, ())


def views() -> tuple:
    from moebook.explore.views import View
    from moebook.sections.overview.tables import parts_to_explore, sizes_to_explore

    return (
        View(
            "parameters by part",
            None,
            "model",
            "component",
            metric="total_share_pct",
            table=lambda _: parts_to_explore(),
        ),
        View(
            "models",
            None,
            "top_k",
            "model",
            metric="active_parameters",
            log_x=False,
            table=lambda _: sizes_to_explore(),
        ),
    )


def figures() -> dict:
    from moebook.sections.hyperparameter_scaling import figures as f
    from moebook.sections.overview.tables import parameter_shares

    return {
        "fig01_parameter_breakdown": lambda _, *, width="page": f.parameter_breakdown(
            parameter_shares(), width=width
        )
    }
