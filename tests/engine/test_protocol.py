"""Every engine has the protocol's methods, with its parameters, and is found by name."""

import inspect
import sys
from pathlib import Path

import pytest

from moebook import engine
from moebook.engine.base import Engine
from moebook.engine.vllm import texts
from moebook.measure import records
from moebook.study import methods

sys.path.append(str(Path(__file__).parent / "scripted"))
METHODS = ["__init__", *(name for name in vars(Engine) if not name.startswith("_"))]


@pytest.fixture(params=["vllm", "scripted"])
def engine_class(request, monkeypatch):
    monkeypatch.setitem(engine.ENGINES, "scripted", "scripted_engine:ScriptedEngine")
    return engine.load(request.param)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_takes_and_returns_what_the_protocol_says(engine_class, method):
    asked, given = (inspect.signature(getattr(one, method)) for one in (Engine, engine_class))
    assert given == asked


def test_an_unknown_engine_is_told_with_those_there_are():
    with pytest.raises(ValueError, match="no engine 'vlm'; engines: vllm"):
        engine.load("vlm")


def test_what_the_table_of_methods_reads_is_what_the_engine_reads():
    reads = {name for name, how in methods.METHODS.items() if how.op == "read"}
    assert reads == set(texts.METHODS)


def test_repeats_of_an_unknown_method_are_no_measurement():
    (told,) = records.repeat_problems("guess", [{"ttft_s": 1.0}], 1)
    assert told.startswith("method 'guess' is none of full, sampled, ")
