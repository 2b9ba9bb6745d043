import re
from pathlib import Path

import pytest
import yaml

from moebook.results import claim_book

STUDY_IDS = [
    "ffn-halves",
    "ffn-converges",
    "experts-small-ffn",
    "experts-large-ffn",
    "active-monotone",
    "active-gap",
    "active-gap-small",
    "active-gap-large",
    "topk-dsv2",
    "topk-qwen",
    "batch-scaling",
    "length-penalty",
    "qwen-over-dsv2",
    "fp8-wins",
    "fp8-gain",
    "fp8-gap-widens",
    "prune-small-hurts",
    "prune-half-helps",
    "prune-intra-topk",
    "prune-no-gain",
    "spec-medium-draft",
    "spec-length",
    "spec-more-tokens",
    "tp-scales",
    "tp-beats-ep",
    "pp-flat",
    "fused-batch",
    "fused-length",
    "balance-vl2",
    "balance-molmoe",
    "balance-aux-loss",
    "frequency-not-importance",
    "cs3-latency",
    "h100-knee",
    "olmoe-fastest",
    "olmoe-ttft",
    "phi-slowest",
    "accurate-is-slow",
    "vl2-order",
    "ffn-dominates",
]

GOOD = {
    "conflicts": [{"id": "c", "about": "x", "says": "a", "also_says": "b", "claims": ["one"]}],
    "claims": [
        {
            "id": "one",
            "section": 1,
            "notebook": "01_x",
            "statement": "s",
            "source_range": {},
            "decided_by": "d",
            "sweep": "grid",
            "source": {},
            "parts": [
                {
                    "name": "p",
                    "effect": "end_gap",
                    "args": {"axis": "top_k", "low": 1, "high": 8},
                    "rule": {"within": [1, 3]},
                }
            ],
        }
    ],
}


def write(tmp_path: Path, data) -> Path:
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


def test_all_claims_of_the_study_are_there_with_their_notebook():
    loaded = claim_book.load()
    assert [c.id for c in loaded.claims] == STUDY_IDS
    assert all(c.notebook.startswith(f"{c.section:02d}_") for c in loaded.claims)
    assert all(bool(c.untested) != bool(c.parts) for c in loaded.claims)
    assert len(loaded.conflicts) == 8


def test_a_good_file_loads(tmp_path):
    part = claim_book.load(write(tmp_path, GOOD)).claims[0].parts[0]
    assert part.rule == claim_book.Rule((1, 3), (0, 4), (0, 4)) and part.decides


def test_all_problems_at_once(tmp_path):
    claim, part = GOOD["claims"][0], GOOD["claims"][0]["parts"][0]
    bad = {
        "extra": 1,
        "conflicts": [{**GOOD["conflicts"][0], "claims": ["nowhere"]}],
        "claims": [
            claim,
            {**claim, "colour": "red"},
            {**claim, "id": "two", "section": 12},
            {
                **claim,
                "id": "three",
                "sweep": "grille",
                "source": {"moon": 1},
                "parts": [{**part, "effect": "magic"}],
            },
            {
                **claim,
                "id": "four",
                "parts": [
                    {**part, "args": {"axis": "taste", "low": 1, "high": 2}},
                    {**part, "args": {"axis": "top_k"}},
                    {**part, "rule": {"about": 1}},
                ],
            },
            {**claim, "id": "five", "untested": "why"},
            "text",
        ],
    }
    with pytest.raises(claim_book.ClaimError) as caught:
        claim_book.load(write(tmp_path, bad))
    text = str(caught.value)
    for wanted in (
        "unknown key 'extra'",
        "no claim 'nowhere'",
        "id 'one' stands 2 times",
        "unknown key 'colour'",
        "section 12",
        "unknown sweep 'grille'",
        "unknown key 'moon'",
        "unknown effect 'magic'",
        "axis 'taste'",
        "missing a required argument: 'low'",
        "one of within, at_least, at_most",
        "unknown key 'about'",
        "unknown key 'sweep'",
        "claim 7: is no mapping",
    ):
        assert wanted in text
    assert re.match(r".*claims.yaml: \d\d problems:", text)


@pytest.mark.parametrize(
    "rule, value, lo, hi, wanted",
    [
        ({"within": [20, 30]}, 25, 22, 28, "supported"),
        ({"within": [20, 30]}, 29, 26, 34, "supported"),
        ({"within": [20, 30]}, 29, 26, 36, "mixed"),
        ({"within": [20, 30]}, 33, 31, 34, "mixed"),
        ({"within": [20, 30]}, 40, 36, 44, "contradicted"),
        ({"within": [20, 30], "slack": 0}, 33, 31, 34, "contradicted"),
        ({"within": [95, 100], "slack": 5, "contradicted_below": 50}, 60, 55, 65, "mixed"),
        ({"within": [95, 100], "slack": 5, "contradicted_below": 50}, 30, 25, 35, "contradicted"),
        ({"at_least": 0}, 1, 0.5, 2, "supported"),
        ({"at_least": 0}, 1, -0.5, 2, "mixed"),
        ({"at_least": 0}, -1, -2, -0.5, "contradicted"),
        ({"at_most": 0, "contradicted_above": 2}, 1, 0.5, 1.5, "mixed"),
        ({"at_most": 0, "contradicted_above": 2}, 3, 2.5, 4, "contradicted"),
    ],
)
def test_rules(rule, value, lo, hi, wanted):
    assert claim_book.Rule.of(rule).decide(value, lo, hi) == wanted


@pytest.mark.parametrize(
    "rule", [{}, {"within": [3, 1]}, {"within": 3}, {"at_least": 1, "at_most": 2}]
)
def test_bad_rules(rule):
    with pytest.raises(ValueError):
        claim_book.Rule.of(rule)
