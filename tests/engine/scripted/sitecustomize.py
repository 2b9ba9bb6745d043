"""With this folder on PYTHONPATH, workers start the scripted engine in place of vLLM."""

from moebook import engine

engine.ENGINES[engine.DEFAULT] = "scripted_engine:ScriptedEngine"
