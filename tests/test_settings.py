"""Keys of points: fields added later enter them only where they are set, so that published results
keep their keys."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from moebook import sections
from moebook.models.tiny import family
from moebook.study import routing
from moebook.study.params import load
from moebook.study.plan import EngineSettings, Point, Workload
from moebook.study.settings import Speculation, identity

TARGET = "tiny:test/aux-0.01"
LATER = {"speculation", "routing", "routed_experts"}


def test_unset_later_fields_are_no_part_of_the_identity():
    assert set(asdict(EngineSettings())) - set(identity(EngineSettings())) == LATER
    assert not {"temperature", "identical"} & set(identity(Workload(1, 2, 3)))
    assert identity(Workload(1, 2, 3, temperature=0.0))["temperature"] == 0.0
    spec = identity(EngineSettings(speculation=Speculation("ngram", 3)))["speculation"]
    assert spec == {"method": "ngram", "num_tokens": 3, "draft": None, "acceptance": None}


@pytest.mark.parametrize("stem", ["01_hyperparameter_scaling", "02_quantization", "03_pruning"])
def test_committed_points_keep_their_keys(stem):
    section = sections.find(stem)
    planned = {p.key for p in section.plan(load(section.params, f"params/h200/{stem}.yaml")).points}
    measured = {
        json.loads(f.read_text())["key"]
        for f in Path(f"outputs/reference/h200/{stem}/points").glob("*.json")
    }
    assert measured and measured <= planned


def test_every_setting_changes_the_key():
    base = Point(
        "04", family.architecture(TARGET), EngineSettings(weights=TARGET), Workload(1, 2, 3)
    )
    draft = Speculation("draft_model", 2, "tiny:test/draft-small")
    engines = [
        replace(base.engine, speculation=s)
        for s in (
            draft,
            replace(draft, num_tokens=3),
            replace(draft, draft="tiny:test/draft-large"),
            replace(draft, acceptance=0.7),
            replace(draft, acceptance=0.5),
            Speculation("ngram", 2),
        )
    ]
    engines += [
        replace(base.engine, routing="zipf:1"),
        replace(base.engine, routing="same"),
        replace(base.engine, routed_experts=True),
        replace(base.engine, weights="tiny:test/no-balance"),
    ]
    points = [
        base,
        *(replace(base, engine=e) for e in engines),
        replace(base, workload=Workload(1, 2, 3, temperature=0.0)),
        replace(base, text="tiny:test/heldout/code"),
        replace(base, text="tiny:test/heldout/prose"),
    ]
    assert len({p.key for p in points}) == len(points)


def test_rates_fall_by_the_acceptance_at_each_position():
    assert Speculation("draft_model", 3, "x", 0.5).rates == [0.5, 0.25, 0.125]
    assert Speculation("draft_model", 3, "x").rates is None


@pytest.mark.parametrize(
    ("imposed", "skew", "spelled"),
    [
        (None, None, None),
        ("uniform", 0.0, "zipf 0"),
        ("zipf:1.5", 1.5, "zipf 1.5"),
        ("same", None, "same"),
    ],
)
def test_the_skew_of_imposed_routing_and_how_keys_spell_it(imposed, skew, spelled):
    settings = EngineSettings(routing=imposed)
    assert settings.skew == skew
    assert identity(settings).get("routing") == spelled


@pytest.mark.parametrize("word", ["zipf", "zipf:", "zipf:-1", "zipf:nan", "zipf 1", "Same", ""])
def test_another_word_of_routing_says_what_is_allowed(word):
    with pytest.raises(ValueError, match="allowed: model, uniform, same, zipf:S"):
        routing.checked(word)


def test_zipf_0_is_uniform():
    assert [routing.checked(f"zipf:{s}") for s in ("0", "0.0", "1.50")] == [
        "uniform",
        "uniform",
        "zipf:1.5",
    ]
