"""Garbage between engines that live in this process.

vLLM collects, freezes and unfreezes several times as an engine starts and stops; each collection
walks through all of its modules, 0.5 s. Here one after the engine is gone does, and modules, which
stay, are kept out of the next."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Within the block nothing is collected but by the interpreter itself. A process forked within
    it would stay so."""
    plain = {name: getattr(gc, name) for name in ("collect", "freeze", "unfreeze")}
    for name in plain:
        setattr(gc, name, lambda *generation: 0)
    try:
        yield
    finally:
        for name, function in plain.items():
            setattr(gc, name, function)


def collect() -> None:
    """Free what an engine leaves; what is left then, modules above all, is not looked through
    again."""
    gc.collect()
    gc.freeze()
