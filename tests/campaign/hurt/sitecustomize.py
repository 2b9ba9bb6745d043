"""With this folder on PYTHONPATH, workers start the engine that is hurt as the site's plan.json
says, and peaks are those that it says."""

from moebook import engine

engine.ENGINES[engine.DEFAULT] = "hurt_engine:HurtEngine"
