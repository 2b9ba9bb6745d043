"""What an engine says it runs against what a point asks: a record of another format is failed."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from moebook import sections
from moebook.engine.vllm.arguments import engine_arguments
from moebook.measure import run
from moebook.measure.format_check import other_format
from moebook.measure.store import Store
from moebook.measure.worker import Worker
from moebook.models import catalog
from moebook.models.architecture import from_config
from moebook.study.params import build
from moebook.study.plan import EngineSettings, Point, Workload

SCRIPTED = Path(__file__).parent / "engine" / "scripted"
OSS, PLAIN = catalog.load("gpt-oss-20b"), catalog.load("tiny-mixtral")
OWN_FIRST = {
    "models": [],
    "weights": None,
    "formats_model": "gpt-oss-20b",
    "formats": ["own", "bf16", "fp8", "int8 experts"],
    "formats_batches": [1],
}


def point(arch=OSS, **settings) -> Point:
    return Point("test", arch, EngineSettings(**settings), Workload(1, 8, 8))


def runs(quantization=None, experts="bfloat16", attention="bfloat16", kv="bfloat16") -> dict:
    return {
        "quantization": quantization,
        "dtype": "bfloat16",
        "experts_dtype": experts,
        "attention_dtype": attention,
        "kv_cache_dtype": kv,
    }


class InProcess:
    """A worker's handle whose worker is here, with the scripted engine."""

    count = 1

    def __init__(self, tmp_path):
        from scripted_engine import ScriptedEngine

        self.worker = Worker(ScriptedEngine, tmp_path / "worker.log")

    def ask(self, request: dict, limit_s: float) -> dict:
        if request["op"] == "ceilings":
            return {"ok": False, "status": "failed", "reason": "not asked here"}
        return self.worker.answer(dict(request))


@pytest.fixture
def measured(monkeypatch, tmp_path, every_format_on_a_cpu):
    """Section 2's formats of gpt-oss-20b in the scripted engine: records by series."""
    monkeypatch.syspath_prepend(SCRIPTED)
    section = sections.find("02")

    def measure() -> dict[str, dict]:
        plan = section.plan(build(section.params, OWN_FIRST, "test"))
        run.measure(plan, tmp_path, worker=InProcess(tmp_path))
        return {r["series"]: r for r in Store(tmp_path, plan).records().values()}

    yield measure
    sys.modules.pop("scripted_engine", None)


def test_an_engine_that_runs_what_is_asked_gives_numbers_and_its_word(measured):
    found = measured()
    assert {name: r["status"] for name, r in found.items()} == dict.fromkeys(
        ("MXFP4", "bf16", "fp8", "int8 experts"), "ok"
    )
    ran = {name: r["engine"]["runs"]["quantization"] for name, r in found.items()}
    assert ran == {
        "MXFP4": "mxfp4",
        "bf16": None,
        "fp8": "fp8",
        "int8 experts": "int8_per_channel_weight_only",
    }


def test_an_engine_that_keeps_its_own_format_fails_every_other(measured, monkeypatch):
    monkeypatch.setenv("MOEBOOK_SCRIPTED_STUBBORN", "1")
    found = measured()
    assert {name: r["status"] for name, r in found.items()} == {
        "MXFP4": "ok",
        "bf16": "failed",
        "fp8": "failed",
        "int8 experts": "failed",
    }
    assert found["bf16"]["reason"] == (
        "bfloat16 is asked for, the engine runs quantization 'mxfp4'"
    )
    assert found["fp8"]["reason"] == (
        "FP8 per tensor (quantization 'fp8') is asked for, the engine runs quantization 'mxfp4'"
    )
    assert found["fp8"]["repeats"] == []
    assert found["fp8"]["engine"]["runs"]["quantization"] == "mxfp4"


ATTENTION_INT8 = {
    "quant_method": "compressed-tensors",
    "config_groups": {
        "group_0": {
            "targets": ["re:.*self_attn.*"],
            "weights": {"num_bits": 8, "type": "int", "strategy": "channel"},
        }
    },
}
INT8 = from_config({**PLAIN.hf_config(), "quantization_config": ATTENTION_INT8}, "a", "a test")


@pytest.mark.parametrize(
    ("asked", "words", "told"),
    [
        (point(), None, None),
        (point(), runs(), None),
        (point(quantization="own"), runs("gpt_oss_mxfp4", "uint8"), None),
        (point(quantization="own"), runs("gpt_oss_mxfp4", None), None),
        (
            point(quantization="own"),
            runs(),
            r"MXFP4 .* is asked for, the engine runs plain weights",
        ),
        (
            point(quantization="own"),
            runs("mxfp4"),
            "MXFP4 .* is asked for, the engine holds the weights of experts in bfloat16",
        ),
        (
            point(quantization="own"),
            runs("mxfp4", "uint8", "float8_e4m3fn"),
            "bfloat16 is asked for the weights of attention, .* in float8_e4m3fn",
        ),
        (point(), runs("gpt_oss_mxfp4", "uint8"), "bfloat16 is asked for, .* 'gpt_oss_mxfp4'"),
        (point(PLAIN), runs(experts="float32"), "bfloat16 is asked .*experts.* in float32"),
        (point(PLAIN, quantization="own"), runs(), None),
        (point(quantization="fp8"), runs("fp8", "float8_e4m3fn", "float8_e4m3fn"), None),
        (point(quantization="fp8"), runs("fp8"), "FP8 per tensor .* experts in bfloat16"),
        (
            point(quantization="fp8_weight_only"),
            runs("fp8", "int32", "int32"),
            None,
        ),
        (
            point(quantization="int8_experts"),
            runs("int8_per_channel_weight_only", "int8"),
            None,
        ),
        (point(quantization="int4"), runs("compressed-tensors", "int32", "int32"), None),
        (point(quantization="int4"), runs("gptq", "int32", "int32"), "int4'.* 'gptq'"),
        (point(INT8, quantization="own"), runs("compressed-tensors", attention=None), None),
        (
            point(INT8, quantization="own"),
            runs("compressed-tensors", attention="bfloat16"),
            r"INT8 per channel \(attention only\) .* weights of attention in bfloat16",
        ),
        (point(kv_cache_dtype="fp8"), runs(kv="fp8_e4m3"), None),
        (point(kv_cache_dtype="fp8"), runs(), "a KV cache in fp8 .* has one in bfloat16"),
    ],
)
def test_asked_and_run_are_compared(asked, words, told):
    found = other_format(asked, words)
    assert found is None if told is None else re.search(told, found), found


def test_own_of_plain_weights_is_the_same_point_as_plain():
    own, plain = point(PLAIN, quantization="own"), point(PLAIN)
    assert own.key == plain.key and own.number_format == "bfloat16"
    assert point(quantization="own").key != point().key
    layer = replace(point(quantization="own"), method="layer")
    assert layer.engine.quantization is None


@pytest.mark.parametrize(
    ("quantization", "entry", "argument"),
    [("own", "mxfp4", None), (None, None, None), ("fp8", None, "fp8")],
)
def test_the_engine_gets_a_config_without_what_is_not_asked(
    quantization, entry, argument, tmp_path
):
    settings = EngineSettings(quantization=quantization)
    told = engine_arguments(settings, OSS.hf_config(), tmp_path)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written.get("quantization_config", {}).get("quant_method") == entry
    assert told.get("quantization") == argument
    assert "allow_deprecated_quantization" not in told


def test_a_format_that_the_engine_calls_deprecated_is_allowed(tmp_path):
    config = {**PLAIN.hf_config(), "quantization_config": {"quant_method": "fbgemm_fp8"}}
    own, plain = (
        engine_arguments(EngineSettings(quantization=q), config, tmp_path) for q in ("own", None)
    )
    assert own["allow_deprecated_quantization"] and "allow_deprecated_quantization" not in plain
