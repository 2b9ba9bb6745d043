"""Parameter files: each names every parameter of its section, and those of profile `gpu` suit any
card from 16 GB."""

import re

import pytest

from moebook import devices, paths, sections
from moebook.measure.store import Store
from moebook.study import estimates
from moebook.study.params import NotebookParams, load
from moebook.study.values import read_yaml

FILES = sorted(paths.root().glob("params/*/*.yaml"))
GPU = [f for f in FILES if f.parent.name == "gpu" and sections.find(str(f)).params.measures]
CARDS = {"16 GB as vendors count": 16 * 10**9, "24 GB": 25.3e9, "80 GB": 85.5e9, "H200": 150.75e9}
COMMON = set(NotebookParams.model_fields) - {"profile", "device"}


@pytest.mark.parametrize("file", FILES, ids=lambda f: f"{f.parent.name}/{f.stem}")
def test_a_file_names_every_parameter_of_its_section(file):
    section, given = sections.find(str(file)), read_yaml(file)
    assert set(section.params.model_fields) - COMMON - set(given) == set()
    assert given["profile"] == file.parent.name
    loaded = load(section.params, file).model_dump(mode="json")
    lists = {
        k: [v] if isinstance(v, str) and isinstance(loaded[k], list) else v
        for k, v in given.items()
    }
    assert {k: loaded[k] for k in given} == lists


@pytest.fixture
def card(request, monkeypatch):
    monkeypatch.setattr(devices, "memory_bytes", lambda kind: int(CARDS[request.param]))
    return request.param


def planned(file):
    section = sections.find(str(file))
    return section.plan(load(section.params, file))


@pytest.mark.parametrize("file", GPU, ids=lambda f: f.stem)
@pytest.mark.parametrize("card", CARDS, indirect=True)
def test_every_point_of_the_gpu_profile_fits_the_card(file, card):
    plan = planned(file)
    assert plan.device == "gpu" and not any(p.status == "oom" for p in plan.points)
    assert len(plan.measured) >= 1
    assert not any(re.search(r"\bfitting\b", p.architecture.name) for p in plan.points)


@pytest.mark.parametrize("card", ["16 GB as vendors count", "H200"], indirect=True)
def test_the_models_that_fit_are_those_expected(card):
    file = next(f for f in GPU if f.stem.startswith("09"))
    found = {
        sweep: [p.architecture.name for p in planned(file).points if sweep in p.sweeps]
        for sweep in ("llms", "vlms")
    }
    tiny, base = "deepseek-vl2-tiny-textonly", "deepseek-vl2-base-textonly"
    assert found == (
        {"llms": [tiny], "vlms": [tiny]}
        if card != "H200"
        else {
            "llms": [tiny, "Qwen1.5-MoE-A2.7B", "Qwen3-30B-A3B", "Mixtral-8x7B-v0.1"],
            "vlms": [tiny, base],
        }
    )
    again = {
        sweep: [p.architecture.name for p in planned(file).points if sweep in p.sweeps]
        for sweep in ("llms", "vlms")
    }
    assert again == found


@pytest.mark.parametrize("card", ["H200"], indirect=True)
def test_sections_of_the_gpu_profile_take_minutes_on_an_h200(card):
    minutes = {
        file.stem: estimates.plan_s(planned(file), devices.published("h200")) / 60 for file in GPU
    }
    assert max(minutes.values()) < 5, minutes


def test_the_gpu_profile_has_all_sections_but_that_of_several_cards():
    assert {f.stem[:2] for f in GPU} == {"01", "02", "03", "04", "06", "07", "08", "09"}


@pytest.mark.parametrize("card", ["16 GB as vendors count"], indirect=True)
def test_the_imposing_check_is_of_the_largest_model_that_fits(card):
    points = planned(next(f for f in GPU if f.stem.startswith("09"))).points
    check = [p for p in points if "imposing" in p.sweeps]
    last = [p for p in points if "llms" in p.sweeps][-1].architecture.name
    assert {p.architecture.name for p in check} == {last}
    assert {p.engine.routing for p in check} == {None, "uniform"}


# docs/parameters.md

LEFT_OUT = ("newer_llms: []", "vlms: []", "imposing_check: null", "graphs_check: []")
DOCS = (paths.root() / "docs" / "parameters.md").read_text()
EXAMPLE = "\n".join(line.strip() for line in DOCS.split("\n\n")[2].splitlines())


def own_file(tmp_path, *more: str):
    file = tmp_path / "my_question.yaml"
    file.write_text("\n".join([EXAMPLE, *more]))
    section = sections.of_file(file)
    params = load(section.params, file)
    return params, section.plan(params)


def test_the_first_question_is_said_in_five_lines(tmp_path):
    assert len(EXAMPLE.splitlines()) == 5
    params, plan = own_file(tmp_path)
    point = next(p for p in plan.points if "llms" in p.sweeps)
    work = point.workload
    assert (
        point.architecture.name,
        work.batch,
        work.input_tokens,
        work.output_tokens,
        point.status,
    ) == ("OLMoE-1B-7B-0125", 32, 1024, 256, "ready")
    assert (plan.notebook, plan.profile, params.dtype, params.graphs) == (
        "09_model_comparison",
        "h200",
        "bfloat16",
        "light",
    )


def test_its_results_lie_in_a_folder_of_their_own_and_all_else_can_be_left_out(tmp_path):
    params, plan = own_file(tmp_path, "profile: chat", *LEFT_OUT)
    assert [(p.architecture.name, p.sweeps) for p in plan.points] == [
        ("OLMoE-1B-7B-0125", ("llms",))
    ]
    assert (
        Store(params.output_root, plan).folder
        == paths.root() / "outputs" / "chat" / "09_model_comparison"
    )


def test_every_parameter_that_the_documentation_names_exists():
    fields = {name for stem in sections.stems() for name in sections.find(stem).params.model_fields}
    values = {"fitting", "gpu", "h200", "null", "own", "same", "uniform", "zipf"}
    named = {m for m in re.findall(r"`([a-z_]+)(?::[^`]*)?`", DOCS)} - values
    assert named <= fields, named - fields
