"""A model is the content of its config; what it is called tells it from the others of a plan."""

import json
from pathlib import Path

import pytest

from moebook.models.catalog import load
from moebook.sections.parallelism import plan as parallelism
from moebook.sections.speculative_decoding import plan as speculative_decoding
from moebook.study.params import build
from moebook.study.plan import EngineSettings, Point, Workload, describe, merge
from moebook.study.settings import Speculation


def folder(path: Path, name: str = "tiny-mixtral", **given) -> Path:
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({**load(name).hf_config(), **given}))
    return path


def points(*models) -> list[Point]:
    return [Point("x", load(str(m)), EngineSettings(), Workload(1, 8, 8)) for m in models]


def labels(*models) -> list[str]:
    return [describe(p)["model"] for p in merge(points(*models))]


def test_a_model_alone_is_called_by_its_folder(tmp_path):
    for name in ("my-moe", "my moe, v2"):
        assert labels(folder(tmp_path / name)) == [name]


def test_two_folders_of_one_name_are_told_apart_by_what_is_around_them(tmp_path):
    a = folder(tmp_path / "a" / "snapshot")
    b = folder(tmp_path / "b" / "snapshot", num_hidden_layers=2)
    assert labels(a, b) == ["a/snapshot", "b/snapshot"]
    c = folder(tmp_path / "c" / "a" / "snapshot", num_hidden_layers=3)
    assert labels(a, c) == [f"{tmp_path.name}/a/snapshot", "c/a/snapshot"]


def test_a_folder_named_as_a_published_model_keeps_its_own_shapes_and_another_label(tmp_path):
    name = "Qwen3-30B-A3B"
    own = folder(tmp_path / "data" / name, name, num_experts_per_tok=3)
    (point,) = merge(points(own))
    assert point.architecture.top_k == 3 and describe(point)["model"] == f"data/{name}"
    same = folder(tmp_path / "copy" / name, name, transformers_version="9")
    assert labels(same) == [name]
    assert labels(name, same) == [name, f"copy/{name}"]
    assert labels(own, same) == [f"data/{name}", f"copy/{name}"]


def test_models_of_one_source_that_are_called_apart_stay_so():
    assert labels("tiny-mixtral", "tiny-qwen2-moe") == ["tiny-mixtral", "tiny-qwen2-moe"]


def test_the_same_config_in_two_places_is_one_point_and_a_label_changes_no_id(tmp_path):
    a, b = folder(tmp_path / "a" / "one"), folder(tmp_path / "b" / "two")
    assert len(merge(points(a, b))) == 1
    other = folder(tmp_path / "c" / "one", num_hidden_layers=2)
    before = [p.key for p in points(a, other)]
    assert [p.key for p in merge(points(a, other))] == before
    assert merge(points("tiny-mixtral", a))[0].key == points("tiny-mixtral")[0].key


def test_shards_and_edits_carry_the_label_of_their_model(tmp_path):
    a = folder(tmp_path / "a" / "snapshot")
    b = folder(tmp_path / "b" / "snapshot", num_experts_per_tok=1)
    p = build(parallelism.Params, {"models": [str(a), str(b)], "modes": ["TP", "PP"]}, "a test")
    made = parallelism.plan(p).points
    assert {describe(q)["model"] for q in made} == {"a/snapshot", "b/snapshot"}
    names = {q.architecture.name for q in made}
    assert {"a/snapshot[TP 2]", "b/snapshot[L=2]"} <= names
    assert all(q.architecture.top_k == (2 if "a/" in q.architecture.name else 1) for q in made)


def test_a_draft_of_ones_own_is_what_its_folder_holds(tmp_path):
    draft = folder(tmp_path / "draft", "Qwen3-0.6B")
    speculation = Speculation("draft_model", 2, str(draft))
    settings = EngineSettings(speculation=speculation)

    def key() -> str:
        return Point("x", load("Qwen3-30B-A3B"), settings, Workload(1, 8, 8)).key

    before = key()
    (draft / "config.json").write_text(json.dumps(load("Qwen3-1.7B").hf_config()))
    assert key() != before


def test_a_published_draft_is_its_name_whatever_lies_in_the_folder_of_work(tmp_path, monkeypatch):
    settings = EngineSettings(speculation=Speculation("draft_model", 2, "Qwen3-0.6B"))

    def key() -> str:
        return Point("x", load("Qwen3-30B-A3B"), settings, Workload(1, 8, 8)).key

    before = key()
    folder(tmp_path / "Qwen3-0.6B", "Qwen3-1.7B")
    monkeypatch.chdir(tmp_path)
    assert key() == before


def test_two_drafts_of_one_name_are_two_series(tmp_path):
    drafts = [
        str(folder(tmp_path / place / "snapshot", name))
        for place, name in (("a", "Qwen3-0.6B"), ("b", "Qwen3-1.7B"))
    ]
    given = {"target": "Qwen3-30B-A3B", "drafts": drafts, "trained_target": None}
    p = build(speculative_decoding.Params, given, "a test")
    assert {q.series for q in speculative_decoding.plan(p).points} == {
        "no speculation",
        "draft a/snapshot",
        "draft b/snapshot",
    }


@pytest.mark.parametrize("how", ["plain", "slash", "link", "relative"])
def test_a_folder_is_one_model_however_it_is_written(tmp_path, monkeypatch, how):
    own = folder(tmp_path / "my moe")
    if how == "link":
        (tmp_path / "linked").symlink_to(own)
    monkeypatch.chdir(tmp_path)
    written = {
        "plain": str(own),
        "slash": f"{own}/",
        "link": str(tmp_path / "linked"),
        "relative": "./my moe",
    }[how]
    p = build(parallelism.Params, {"models": [written]}, "a test")
    made = parallelism.plan(p).points
    assert {describe(q)["model"] for q in made} == {"linked" if how == "link" else "my moe"}
    assert {q.key for q in made} == {
        q.key
        for q in parallelism.plan(
            build(parallelism.Params, {"models": ["tiny-mixtral"]}, "a test")
        ).points
    }
