"""The sharding rule and the table of refusals against the installed engine, where it can be
asked."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from models.test_random_configs import FAMILIES, legal

from moebook.models.architecture import from_config
from moebook.models.catalog import load
from moebook.models.checks import ENGINE_TYPES
from moebook.models.engine_rules import refusal
from moebook.models.sharding import Split, padded_vocabulary, stages, weight_bytes

HERE = Path(__file__).parent
MIXTRAL, PHI = load("Mixtral-8x7B-v0.1"), load("Phi-3.5-MoE-instruct")
RANKS = (2, 3, 8)
FFN = {"hidden_act": "silu", "rms_norm_eps": 1e-6, "tie_word_embeddings": False}
OF_THE_ENGINE = {  # its classes, and keys that they read
    "mixtral": {"architectures": ["MixtralForCausalLM"]},
    "qwen3_moe": {"architectures": ["Qwen3MoeForCausalLM"], "decoder_sparse_step": 1},
    "deepseek_v3": {"architectures": ["DeepseekV3ForCausalLM"]},
    "ernie4_5_moe": {"architectures": ["Ernie4_5_MoeForCausalLM"]},
    "qwen3_next": {"architectures": ["Qwen3NextForCausalLM"]},
    "glm4_moe": {"architectures": ["Glm4MoeForCausalLM"]},
    "dots1": {"architectures": ["Dots1ForCausalLM"]},
    "minimax_m2": {
        "architectures": ["MiniMaxM2ForCausalLM"],
        **{"rotary_dim": 4, "scoring_func": "sigmoid"},
    },
    "gpt_oss": {"architectures": ["GptOssForCausalLM"], "intermediate_size": 512},
}


def drawn(family, seed: int) -> dict:
    """A random legal config of a family, its width one that a CPU's experts take."""
    config = legal(family, seed)
    return {**config, **FFN, "hidden_size": 4 * config["hidden_size"]} | OF_THE_ENGINE[
        family.__name__
    ]


DRAWN = [drawn(family, 4) for family in FAMILIES if family.__name__ in OF_THE_ENGINE]
CASES = {
    "splits": [(config, ranks) for config in DRAWN for ranks in RANKS],
    "stages": [(layers, count) for layers in (1, 27, 32, 61, 94) for count in (1, 2, 3, 4, 8)],
    "experts": [(e, g) for e in (7, 8, 60, 256) for g in (1, 2, 3, 8)],
    "rows": [1, 64, 1000, 32000, 151936, 201088],
    "phimoe": [1, 2, 4],
}


def told(script: str, *arguments: str):
    command = [sys.executable, str(HERE / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def engine() -> dict:
    return told("asked_rules.py", json.dumps(CASES))


def test_random_models_split_as_the_engine_s_classes_do_or_both_refuse(engine):
    """And bytes of the first rank are the engine's."""
    refused = 0
    for (config, ranks), own in zip(CASES["splits"], engine["splits"], strict=True):
        arch, case = from_config(config, "x", "a test"), (config["model_type"], ranks)
        why = refusal(arch, Split(ranks))
        assert (why is None) == isinstance(own, int), (case, why, own)
        if why is None:
            assert weight_bytes(arch, Split(ranks)) == pytest.approx(2 * own, rel=4e-3), case
        refused += why is not None
    assert 5 < refused < len(CASES["splits"]) - 5


def test_stages_are_the_engines(engine):
    for (layers, count), own in zip(CASES["stages"], engine["stages"], strict=True):
        assert [s.layers for s in stages(replace(MIXTRAL, num_layers=layers), count)] == own


def test_the_first_rank_has_as_many_experts_as_the_engine_gives_it(engine):
    for (experts, ranks), own in zip(CASES["experts"], engine["experts"], strict=True):
        arch = replace(MIXTRAL, num_experts=experts)
        dealt, shared = (weight_bytes(arch, Split(ranks, 1, w)) for w in (True, False))
        one = 32 * 3 * 4096 * 14336 * 2  # bytes of an expert of every layer
        assert dealt - shared == pytest.approx(one * (own - experts / ranks), abs=2)


def test_vocabularies_are_filled_up_as_the_engine_does(engine):
    found = [padded_vocabulary(replace(MIXTRAL, vocab_size=rows)) for rows in CASES["rows"]]
    assert found == engine["rows"]


def test_types_that_the_engine_reads_by_itself_are_in_its_registry(engine):
    assert set(ENGINE_TYPES) <= set(engine["types"])


def test_routers_take_what_the_engines_take(engine):
    for top_k, wrong in zip(CASES["phimoe"], engine["phimoe"], strict=True):
        assert (refusal(replace(PHI, top_k=top_k), Split()) is None) == (wrong is None)
