"""Plans: what is asked, what cannot run and why, which points rest on which."""

from dataclasses import replace
from pathlib import Path

import pytest

from moebook import devices, sections
from moebook.sections import parameters_of
from moebook.study import estimates
from moebook.study import plan as planning
from moebook.study.params import build

SECTION = sections.find("01")


def plan_of(profile: str):
    return parameters_of(SECTION, Path("params") / profile / "01_hyperparameter_scaling.yaml")[1]


@pytest.mark.parametrize("profile", ["h100", "h200", "4xh100"])
def test_the_grid_has_64_cells_of_which_12_exceed_four_80_gb_cards(profile):
    grid = [p for p in plan_of(profile).points if "grid" in p.sweeps]
    assert len(grid) == 64
    beyond = {
        (p.architecture.expert_ffn_dim, p.architecture.num_experts)
        for p in grid
        if p.status == "oom"
    }
    assert {(7168, 64), (14336, 32), (14336, 64)} <= beyond
    assert all("GB" in p.reason for p in grid if p.status == "oom")


@pytest.mark.parametrize("profile", ["h100", "h200"])
def test_one_card_measures_every_cell_that_four_would_hold(profile):
    grid = [p for p in plan_of(profile).points if "grid" in p.sweeps]
    assert sum(p.status == "ready" for p in grid) == 52


@pytest.mark.parametrize("profile", ["cpu", "h100", "h200"])
def test_derived_points_rest_on_planned_points_of_fewer_layers(profile):
    plan = plan_of(profile)
    by_key = {p.key: p for p in plan.points}
    derived = [p for p in plan.points if p.is_derived]
    assert derived
    for point in derived:
        own = [by_key[key] for key in point.own]
        assert own and all(p.status == "ready" and not p.is_derived for p in own)
        assert all(p.architecture.num_layers < point.architecture.num_layers for p in own)
        assert {p.architecture.expert_ffn_dim for p in own} == {point.architecture.expert_ffn_dim}
        assert (
            not point.anchor
            or by_key[point.anchor[0]].architecture.num_layers == point.architecture.num_layers
        )
        assert len(own) >= 2 or len(point.anchor) == 2


def test_k_over_e_is_an_infeasible_row_with_the_reason():
    plan = SECTION.plan(
        build(SECTION.params, {"expert_counts": [4, 8], "active_experts": [2, 8]}, "test")
    )
    bad = [p for p in plan.points if p.status == "infeasible"]
    assert {(p.architecture.num_experts, p.architecture.top_k) for p in bad} == {(4, 8)}
    assert all("8" in p.reason and "4" in p.reason for p in bad)
    assert not set(bad) & set(plan.measured)


def test_estimates_and_memory_are_positive_and_memory_names_its_parts():
    plan = plan_of("h200")
    frame = estimates.to_frame(plan, devices.published("h200"))
    ready = frame[(frame.status == "ready") & ~frame.method.str.startswith("depth")]
    assert (
        (ready.estimate_s > 0).all()
        and (frame.weights_bytes > 0).all()
        and (frame.kv_bytes > 0).all()
    )
    assert frame.loc[frame.status == "oom", "estimate_s"].isna().all()
    whole = frame[
        (frame.expert_ffn_dim == 14336) & (frame.num_experts == 8) & (frame.num_layers == 32)
    ]
    assert whole.weights_bytes.iloc[0] == pytest.approx(93.4e9, rel=0.01)  # models.md: Mixtral-8x7B


def test_a_build_runs_its_largest_top_k_first_and_stands_together():
    measured = plan_of("h200").measured
    builds = [p.build_key for p in measured]
    seen = list(dict.fromkeys(builds))
    assert builds == sorted(builds, key=seen.index)
    for build_key in seen:
        top_k = [p.architecture.top_k for p in measured if p.build_key == build_key]
        assert top_k == sorted(top_k, reverse=True)


def test_a_point_in_two_sweeps_is_measured_once():
    plan = plan_of("cpu")
    assert len({p.key for p in plan.points}) == len(plan.points)
    assert any({"batch_topk", "batch_length"} <= set(p.sweeps) for p in plan.points)


def test_only_keeps_what_the_sweeps_need_and_names_those_there_are():
    plan = plan_of("h200")
    part = plan.only(["validation"])
    assert {k for p in part.points for k in (*p.own, *p.anchor)} <= {p.key for p in part.points}
    assert len(part.points) < len(plan.points)
    with pytest.raises(ValueError, match="it has: .*batch_topk"):
        plan.only(["validatoin"])


def test_equal_parameters_give_equal_keys_and_a_changed_one_other_keys():
    keys = [
        [p.key for p in SECTION.plan(build(SECTION.params, given, "t")).points]
        for given in ({}, {}, {"seed": 1})
    ]
    assert keys[0] == keys[1] and not set(keys[0]) & set(keys[2])


def test_keys_do_not_depend_on_the_order_of_cells_nor_on_what_else_is_planned():
    def keys(**given) -> set[str]:
        return {p.key for p in SECTION.plan(build(SECTION.params, given, "t")).points}

    plain = keys(ffn_dims=[128, 256], active_experts=[1, 2])
    assert keys(ffn_dims=[256, 128], active_experts=[2, 1]) == plain
    assert plain < keys(ffn_dims=[128, 256, 512], active_experts=[1, 2])


def test_merge_keeps_the_order_and_joins_sweeps_of_equal_points():
    a, b = plan_of("cpu").measured[:2]
    merged = planning.merge(
        [replace(a, sweeps=("x",)), replace(b, sweeps=("x",)), replace(a, sweeps=("y",))]
    )
    assert [(p.key, p.sweeps) for p in merged] == [(a.key, ("x", "y")), (b.key, ("x",))]


def test_a_cell_too_large_for_the_device_names_what_it_needs_and_has():
    plan = SECTION.plan(
        build(
            SECTION.params,
            {
                "device": "h100",
                "grid_model": "Mixtral-8x22B-v0.1",
                "ffn_dims": [16384],
                "expert_counts": [8],
                "active_experts": [2],
                "grid_tokens": 128,
            },
            "test",
        )
    )
    cell = next(p for p in plan.points if "grid" in p.sweeps)
    assert cell.status == "oom" and "needs" in cell.reason and "usable" in cell.reason
