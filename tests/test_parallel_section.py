"""Section 5's plans: what runs, what is composed from, and why the rest cannot."""

from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from moebook import devices, sections
from moebook.engine.vllm import arguments
from moebook.models.one_rank import MODES, ONE
from moebook.sections import parameters_of
from moebook.sections.parallelism import plan as parallelism
from moebook.study import estimates
from moebook.study.params import ParameterError, build
from moebook.study.settings import EngineSettings

STEM = "05_parallelism"
FILES = sorted(Path("params").glob(f"*/{STEM}.yaml"))
MIXTRAL, OLMOE = "Mixtral-8x7B-v0.1", "OLMoE-1B-7B-0125"


@cache
def shipped(profile: str):
    return parameters_of(sections.find(STEM), Path("params") / profile / f"{STEM}.yaml")


def plan(**given):
    return parallelism.plan(build(parallelism.Params, given, "test"))


def of(plan, sweep: str) -> list:
    return [p for p in plan.points if sweep in p.sweeps]


def places(points) -> set:
    return {(p.series, p.engine.num_devices, p.workload.batch) for p in points}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_shipped_file_plans_points_of_its_own_keys(file):
    params, made = shipped(file.parent.name)
    assert params.profile == file.parent.name and len({p.key for p in made.points}) == len(
        made.points
    )
    assert all(p.series for p in made.points)
    frame = estimates.to_frame(made, devices.published(params.device))
    measured = frame[(frame["status"] == "ready") & ~frame["method"].str.startswith("depth")]
    assert (measured["estimate_s"] > 0).all() and frame.loc[
        frame["status"] != "ready", "reason"
    ].notna().all()


def test_there_is_a_profile_of_one_two_and_four_devices_of_both_kinds():
    assert {f.parent.name for f in FILES} == {
        "cpu",
        "h100",
        "h200",
        "2xh100",
        "2xh200",
        "4xh100",
        "4xh200",
    }


def test_the_small_profile_runs_one_and_two_ranks_and_tells_what_its_engine_cannot_do():
    made = shipped("cpu")[1]
    assert places(of(made, "modes")) == {
        (ONE, 1, 1),
        (ONE, 1, 8),
        ("TP", 2, 1),
        *((m, 2, 8) for m in ("TP", "TP+EP", "PP")),
    }
    cannot = {p.series: p.reason for p in made.points if p.status != "ready"}
    assert {p.status for p in made.points} == {"ready", "infeasible"} and set(cannot) == {
        "TP+EP",
        "PP",
    }
    assert "segmentation fault" in cannot["TP+EP"] and "KeyError" in cannot["PP"]
    assert estimates.plan_s(made, devices.published("cpu")) < 100


@pytest.mark.parametrize(("profile", "have"), [("h100", 1), ("2xh100", 2), ("4xh200", 4)])
def test_modes_over_more_devices_than_the_profile_has_are_infeasible(profile, have):
    split = [p for p in of(shipped(profile)[1], "modes") if p.engine.num_devices > 1]
    assert {p.engine.num_devices for p in split} == {2, 4}
    for point in split:
        count = point.engine.num_devices
        reason = (
            f"needs {count} devices, this profile has {have} (num_devices)"
            if count > have
            else None
        )
        assert (point.status, point.reason) == (
            ("infeasible", reason) if reason else ("ready", None)
        )


def test_tensor_parallel_halves_the_estimate_and_a_pipeline_keeps_it():
    made, device = shipped("2xh200")[1], devices.published("h200")
    seconds = {
        p.series: estimates.estimate_s(p, device)
        for p in of(made, "modes")
        if p.status == "ready" and p.workload.batch == 16 and p.architecture.name == MIXTRAL
    }
    assert seconds["TP"] < 0.55 * seconds[ONE] and seconds["PP"] == seconds[ONE]


def test_modes_set_the_engine_and_one_device_belongs_to_all_of_them():
    engines = {
        (p.series, p.engine.num_devices): p.engine for p in of(shipped("4xh200")[1], "modes")
    }
    told = {
        key: (e.tensor_parallel, e.pipeline_parallel, e.expert_parallel)
        for key, e in engines.items()
    }
    assert told == {
        (ONE, 1): (1, 1, False),
        **{
            (m, g): (1 if m[0] == "P" else g, g if m[0] == "P" else 1, m.endswith("EP"))
            for m in MODES
            for g in (2, 4)
        },
    }


def test_mixtral_does_not_fit_80_gb_and_its_base_rests_on_stages_of_a_pipeline():
    made = shipped("h100")[1]
    by_key = {p.key: p for p in made.points}
    alone = [p for p in made.points if p.series == ONE and p.architecture.name == MIXTRAL]
    assert {(p.status, p.method, p.sweeps) for p in alone} == {
        ("oom", "sampled", ("modes",)),
        ("ready", "depth+sampled", ("shards",)),
    }
    (base,) = (p for p in alone if p.is_derived and p.workload.batch == 16)
    assert [by_key[k].series for k in base.own] == ["rank of PP 4", "rank of PP 2"]
    assert not any(p.is_derived or p.status == "oom" for p in shipped("h200")[1].points)


def test_shards_are_one_rank_each_at_the_batch_and_a_pipelines_at_its_micro_batches():
    made = shipped("h200")[1]
    ranks = Counter((p.series, p.workload.batch) for p in of(made, "shards") if p.series != ONE)
    batches = {"TP": (1, 16), "TP+EP": (16,)}
    wanted = {(f"rank of {m} {g}", b) for m in batches for g in (2, 4) for b in batches[m]}
    wanted |= {("rank of PP 2", 16), ("rank of PP 2", 8), ("rank of PP 4", 16), ("rank of PP 4", 4)}
    assert ranks == dict.fromkeys(wanted, 2)
    assert {p.engine.num_devices for p in of(made, "shards")} == {1}


def test_the_stand_in_is_checked_for_the_model_that_has_one():
    check = of(shipped("h200")[1], "check")
    assert {(p.series, p.architecture.name.split("[")[0]) for p in check} == {
        (ONE, OLMOE),
        ("stand-in", OLMOE),
    }
    assert (
        len({p.build_key for p in check}) == 2
    )  # one is never taken for the other by a running engine


def test_graphs_cover_every_micro_batch():
    sizes = {p.engine.graph_batch_sizes for p in shipped("4xh100")[1].points}
    assert sizes == {(1, 2, 4, 8, 16)}


def test_a_model_that_does_not_divide_is_a_row_with_the_reason_and_no_shard():
    made = plan(num_devices=3, device_counts=[1, 3], shard_device_counts=[3], modes=["TP", "TP+EP"])
    split = [p for p in of(made, "modes") if p.engine.num_devices == 3]
    assert {p.status for p in split} == {"infeasible"}
    assert all("8 attention heads do not split evenly over 3 ranks" in p.reason for p in split)
    assert {p.series for p in of(made, "shards")} == {ONE}


@pytest.mark.parametrize("name", ["tiny-deepseek-v2", "tiny-qwen2-moe"])
def test_every_model_that_the_engine_runs_is_planned_over_devices(name):
    made = plan(models=[name], modes=["TP"])
    split = [p for p in of(made, "modes") if p.engine.num_devices == 2]
    assert {p.status for p in split} == {"ready"} and len(split) == 2


def test_a_rank_that_cannot_be_run_alone_is_a_row_with_its_own_reason():
    made = plan(models=["tiny-qwen2-moe", "tiny-deepseek-v2"], modes=["TP", "TP+EP", "PP"])
    ranks = {
        (p.architecture.unedited_name, p.series): p for p in of(made, "shards") if p.series != ONE
    }
    told = {key: p.reason for key, p in ranks.items() if p.status != "ready"}
    assert set(told) == {
        ("tiny-qwen2-moe", "rank of TP 2"),
        ("tiny-qwen2-moe", "rank of TP+EP 2"),
    }
    assert all(
        "is not written as a model of its own for family qwen2_moe" in t for t in told.values()
    )
    assert len({p.key for p in made.points}) == len(made.points)


def test_an_uneven_pipeline_is_planned_and_its_mean_stage_is_not():
    made = plan(
        device="h200", num_devices=3, device_counts=[1, 3], shard_device_counts=[3], modes=["PP"]
    )
    (run,) = (p for p in of(made, "modes") if p.engine.num_devices == 3)
    assert run.status == "ready"
    (rank,) = (p for p in of(made, "shards") if p.series != ONE)
    assert rank.status == "infeasible" and "4 layers do not split evenly" in rank.reason


def test_without_shards_nothing_is_composed_from():
    made = plan(shard_device_counts=[])
    assert {s for p in made.points for s in p.sweeps} == {"modes"}


def test_problems_are_told_all_at_once():
    with pytest.raises(ParameterError) as error:
        plan(modes=["TP", "EP"], device_counts=[2], models=["tiny-mixtrall"], tensor_parallel=2)
    text = str(error.value)
    for part in (
        "modes: given 'EP'",
        "nearest",
        "1 among them",
        "tiny-mixtral",
        "`modes` and `device_counts` set it",
    ):
        assert part in text, text


@pytest.mark.parametrize(
    ("cores", "tp", "pp", "bound"),
    [
        ([0, 1], 2, 1, "0|1"),
        ([0, 1, 2, 3, 4], 1, 2, "0,1|2,3"),
        ([3], 2, 1, "3|3"),
        ([0, 1], 1, 1, None),
    ],
)
def test_ranks_of_a_cpu_share_its_cores(monkeypatch, cores, tp, pp, bound):
    monkeypatch.setattr(arguments, "CORES", cores)
    monkeypatch.setattr(arguments, "USER_BINDS", False)
    settings = EngineSettings(tensor_parallel=tp, pipeline_parallel=pp)
    assert arguments.engine_environment(settings, {}).get(arguments.BIND) == bound
    monkeypatch.setattr(arguments, "USER_BINDS", True)
    assert arguments.BIND not in arguments.engine_environment(settings, {})
