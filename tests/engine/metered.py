"""Energy of a workload in the engine, by a counter that goes with the clock: `metered.py OUT`
writes one JSON file of rows. A script, because an engine reads its environment at import."""

import json
import sys
import time
from pathlib import Path

from moebook.engine.vllm.arguments import set_environment
from moebook.models import catalog
from moebook.study.plan import EngineSettings, Workload

POWER_W, CLOCK_MHZ = 100.0, 1500.0


def at_one_moment(meter) -> tuple[float, float]:
    now = time.perf_counter()
    return now, POWER_W * now


def main(out: Path) -> None:
    set_environment(on_gpu=False)
    from moebook.engine.vllm import energy
    from moebook.engine.vllm.engine import VllmEngine

    energy.IDLE_S, energy.SETTLE_S, energy.PREFILL_S, energy.DECODE_S = 0.1, 0.0, 0.2, 1.0
    energy.Meter.reading = at_one_moment
    energy.Meter.clock_mhz = lambda self: CLOCK_MHZ
    settings = EngineSettings(dtype="float32", graphs="eager", max_model_len=96, kv_cache_gib=1)
    config = catalog.load("tiny-mixtral").hf_config()
    engine = VllmEngine(settings, config, out.parent / "model")
    found = {"refused": ""}
    try:
        engine.measure(Workload(2, 32, 64), "energy", 1)
    except energy.EngineFailed as error:
        found["refused"] = f"{error.status}: {error}"
    energy.Meter.of = lambda num_devices, on_gpu: energy.Meter(("card",))
    found["rows"] = engine.measure(Workload(2, 32, 64), "energy", 1)
    try:
        engine.measure(Workload(2, 32, 8), "energy", 1)
    except energy.EngineFailed as error:
        found["short"] = f"{error.status}: {error}"
    engine.stop()
    out.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
