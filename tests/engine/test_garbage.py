"""Collection between engines: none while one starts or stops, all of it once one is gone."""

import gc
import weakref

import pytest

from moebook.engine.vllm import garbage


class Engine:
    def __init__(self):
        self.itself = self


def test_a_cycle_outlives_the_block_and_goes_with_the_collection_after_it():
    engine = Engine()
    seen = weakref.ref(engine)
    with garbage.uncollected():
        del engine
        gc.collect()
        assert seen() is not None
    garbage.collect()
    assert seen() is None and gc.get_freeze_count() > 1000
    gc.unfreeze()


def test_the_interpreters_own_functions_are_back_after_an_error():
    plain = gc.collect, gc.freeze, gc.unfreeze
    with pytest.raises(RuntimeError), garbage.uncollected():
        assert gc.collect is not plain[0]
        raise RuntimeError
    assert (gc.collect, gc.freeze, gc.unfreeze) == plain
