"""What the engine says of model classes."""

import pytest

from moebook import engine


@pytest.mark.engine
def test_the_engine_names_the_classes_that_it_has_and_lacks():
    pytest.importorskip("vllm")
    words = engine.load().registry_words(("MixtralForCausalLM", "NoSuchForCausalLM"))
    assert "has a class MixtralForCausalLM, has no class NoSuchForCausalLM" in words
    assert "was asked of no class" in engine.load().registry_words(())
