"""The engine: what runs the models, behind the protocol of base.py.

base.py       the protocol, and what its failures mean
vllm/         vLLM; the only folder that imports it, and patches*.py the only files that reach
              into its objects
installed.py  which build of it is installed
layer/        one MoE layer alone, in plain torch or by the engine's kernels
endpoint/     a server elsewhere
hf/           expert choices of models that run in transformers
imports.py    what a process that imports it begins with
counts.py     files of counted expert choices
peaks.py      measured peaks of the device
"""

import ctypes
import importlib
import signal

ENGINES = {"vllm": "moebook.engine.vllm.engine:VllmEngine"}  # name -> module:class of base.Engine
DEFAULT = "vllm"


def load(name: str = DEFAULT):
    """The class of an engine, by name (see base.Engine). ValueError for a name that is not known.
    Nothing heavy is imported before the class's `prepare`."""
    if name not in ENGINES:
        raise ValueError(f"no engine {name!r}; engines: {', '.join(ENGINES)}")
    module, _, class_name = ENGINES[name].partition(":")
    return getattr(importlib.import_module(module), class_name)


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent goes, so that no engine outlives a killed
    notebook."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
