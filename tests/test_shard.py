"""Parts of a plan for a job array: over all profiles' plans no point falls to two parts or to
none."""

import fcntl
import json
import os
import shutil
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import pytest
from typer.testing import CliRunner

from moebook import sections
from moebook.cli import app
from moebook.measure import executors, folder_lock
from moebook.measure.files import Unwritable
from moebook.measure.folder_lock import FolderInUse, locked
from moebook.measure.store import Store
from moebook.study import params as parameters
from moebook.study.estimates import Shard, build_s
from moebook.study.plan import Plan

FILES = [f for stem in sections.stems() for f in sorted(Path("params").glob(f"*/{stem}.yaml"))]


def plan_of(file: Path) -> Plan:
    section = sections.find(str(file))
    return section.plan(parameters.load(section.params, file))


def parts(plans: list[Plan], count: int) -> list[list[Plan]]:
    return [Shard(i, count).of(plans) for i in range(1, count + 1)]


def builds(plan: Plan) -> dict[tuple, list]:
    found = {}
    for point in plan.measured:
        found.setdefault(point.build_key, []).append(point)
    return found


@pytest.fixture(scope="module")
def plans():
    return {file: plan_of(file) for file in FILES}


@pytest.mark.parametrize("file", FILES, ids=str)
@pytest.mark.parametrize("count", [1, 3, 8])
def test_parts_share_no_point_and_are_together_the_plan(plans, file, count):
    plan = plans[file]
    split = [own for (own,) in parts([plan], count)]
    keys = [p.key for own in split for p in own.points]
    assert len(keys) == len(set(keys)) and set(keys) == {p.key for p in plan.measured}
    supports = {key for p in plan.points if p.status == "ready" for key in (*p.own, *p.anchor)}
    ready = {p.key for p in plan.points if p.status == "ready"}
    assert supports & ready <= set(keys), "what derived points rest on is measured by some part"
    for own in split:
        assert own.measured == [p for p in plan.measured if p.key in {q.key for q in own.points}], (
            "in the plan's order"
        )


@pytest.mark.parametrize("file", FILES, ids=str)
def test_points_of_one_engine_stay_together_and_parts_are_even(plans, file):
    plan = plans[file]
    split = [own for (own,) in parts([plan], 4)]
    assert sum(len(builds(own)) for own in split) == len(builds(plan))
    seconds = [sum(build_s(build, plan.device) for build in builds(own).values()) for own in split]
    largest = max((build_s(build, plan.device) for build in builds(plan).values()), default=0.0)
    assert max(seconds) - min(seconds) <= largest + 1e-6


def test_every_job_finds_the_same_split(plans):
    file = Path("params/cpu/01_hyperparameter_scaling.yaml")
    again = [[p.key for p in own.points] for (own,) in parts([plan_of(file)], 4)]
    assert again == [[p.key for p in own.points] for (own,) in parts([plans[file]], 4)]
    assert all(again)


def test_sweeps_that_share_points_are_split_as_one(plans):
    plan = plans[Path("params/cpu/01_hyperparameter_scaling.yaml")]
    sweeps = list(dict.fromkeys(s for p in plan.points for s in p.sweeps))
    both = [plan.only([sweeps[0]]), plan.only(sweeps)]
    owner = {}
    for number, own in enumerate(parts(both, 3)):
        for point in (p for part in own for p in part.points):
            assert owner.setdefault(point.key, number) == number
    assert len(owner) == len(plan.measured)


@pytest.mark.parametrize(
    "text", ["0/8", "9/8", "x", "3", "3/", "/8", "-1/8", "1/0", "3/8/2", "1.5/8"]
)
def test_no_shard(text):
    with pytest.raises(ValueError, match="--shard.*3/8"):
        Shard.parse(text)


def test_a_shard_is_told_on_the_command_line():
    assert Shard.parse("3/8") == Shard(3, 8) and Shard(3, 8).name == "3of8"
    said = CliRunner().invoke(
        app, ["measure", "params/cpu/01_hyperparameter_scaling.yaml", "--shard", "9/8"]
    )
    assert said.exit_code == 1 and "--shard: given '9/8'" in str(said.exception)


def test_a_part_without_points_is_done_at_once(tmp_path):
    file = tmp_path / "01_hyperparameter_scaling.yaml"
    small = {
        "ffn_dims": [128],
        "expert_counts": [4],
        "active_experts": [1],
        "comparison_models": ["tiny-qwen2-moe"],
        "comparison_active_experts": [1],
        "batches": [1],
        "lengths": [32],
        "validation_model": None,
    }
    file.write_text(json.dumps({**small, "output_root": str(tmp_path)}))
    alone = plan_of(file)
    empty = next(i for i in range(1, 10) if not Shard(i, 9).of([alone])[0].points)
    said = CliRunner().invoke(app, ["measure", str(file), "--shard", f"{empty}/9"])
    assert said.exit_code == 0 and "0 to measure" in said.output


def test_shards_share_a_folder_with_each_other_and_with_no_whole_run(plans, tmp_path):
    store = Store(tmp_path, plans[FILES[-1]])
    with locked(store.folder, Shard(1, 2)), locked(store.folder, Shard(2, 2)):
        with pytest.raises(FolderInUse, match=".lock.1of2"), locked(store.folder, Shard(1, 2)):
            pass
        with pytest.raises(FolderInUse), locked(store.folder):
            pass
        with (
            pytest.raises(FolderInUse, match="of 2 jobs|one of 2"),
            locked(store.folder, Shard(1, 3)),
        ):
            pass
        (store.folder / ".lock").unlink()
        with pytest.raises(FolderInUse), locked(store.folder):
            pass  # the folder itself is locked
    with locked(store.folder), pytest.raises(FolderInUse), locked(store.folder, Shard(1, 2)):
        pass


def test_a_lock_file_can_be_locked_as_nfs_does_it(tmp_path):
    with ExitStack() as stack:
        handle = folder_lock._open(tmp_path / "new" / ".lock", stack, fcntl.LOCK_SH)
        fcntl.lockf(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_a_folder_removed_under_a_run_is_told(tmp_path):
    with locked(tmp_path / "own") as held:
        held.check()
        shutil.rmtree(tmp_path / "own")
        (tmp_path / "own").mkdir()
        with pytest.raises(Unwritable, match="removed or replaced"):
            held.check()


class Listening:
    """An executor that measures nothing and keeps the dtype that it is asked for ceilings in."""

    def __init__(self):
        self.dtypes = []

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass

    def source(self, kind):
        return "a device", "an engine"

    def claim(self, points, folder):
        pass

    def ceilings(self, dtype, job):
        self.dtypes.append(dtype)

    def run(self, points, job):
        return iter(())


def test_every_part_measures_ceilings_in_the_dtype_of_the_whole_plan(plans, tmp_path, monkeypatch):
    def most_common(plan):
        return Counter(p.engine.dtype for p in plan.measured).most_common(1)[0][0]

    file = Path("params/cpu/02_quantization.yaml")
    plan, listening = plans[file], Listening()
    own = [part for (part,) in parts([plan], 8)]
    assert {most_common(part) for part in own if part.points} > {most_common(plan)}, (
        "this plan's parts differ"
    )
    monkeypatch.setattr(executors, "choose", lambda *_: listening)
    for i in range(1, 9):
        CliRunner().invoke(
            app, ["measure", str(file), "--output-root", str(tmp_path), "--shard", f"{i}/8"]
        )
    assert listening.dtypes == [most_common(plan)] * sum(bool(part.points) for part in own)


def test_of_two_that_write_ceilings_at_once_the_first_decides(plans, tmp_path, monkeypatch):
    first, second = (Store(tmp_path, plans[FILES[-1]]) for _ in range(2))
    ceilings = {
        "device": "a",
        "copy_bytes_per_s": 1.0,
        "matmul_flops_per_s": 2.0,
        "dtype": "bfloat16",
    }

    def link_after_the_other(temporary, path, link=os.link):
        monkeypatch.setattr(os, "link", link)
        first.write_ceilings(ceilings)
        link(temporary, path)

    monkeypatch.setattr(os, "link", link_after_the_other)
    second.write_ceilings({**ceilings, "copy_bytes_per_s": 3.0})
    assert second.ceilings("a") == ceilings
    assert [p.name for p in first.folder.iterdir()] == ["ceilings.json"], (
        "no temporary file is left"
    )


def test_the_first_ceilings_of_an_array_stand(plans, tmp_path):
    store = Store(tmp_path, plans[FILES[-1]])
    ceilings = {
        "device": "a",
        "copy_bytes_per_s": 1.0,
        "matmul_flops_per_s": 2.0,
        "dtype": "bfloat16",
    }
    store.write_ceilings(ceilings)
    store.write_ceilings({**ceilings, "copy_bytes_per_s": 3.0})
    assert store.ceilings("a") == ceilings
    store.write_ceilings({**ceilings, "device": "b"})
    assert store.ceilings("a") is None and store.ceilings("b")["copy_bytes_per_s"] == 1.0
