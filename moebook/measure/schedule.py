"""Points through one worker: an engine for each build, a request for each point, a record of each
answer.

This is what runs beside the device, the same on this machine and on a node of a cluster: it knows
the worker and nothing of the outputs folder. A worker or an engine that dies is replaced and the
sweep goes on; what it died of becomes the record of the point it died in."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from moebook import devices, engine
from moebook.measure.format_check import other_format
from moebook.measure.worker_handle import START_LIMIT_S, WorkerDied, WorkerHandle, WorkerTimeout
from moebook.models import catalog
from moebook.models.tiny import family
from moebook.study.methods import METHODS
from moebook.study.plan import Point, describe

NO_PEAKS = "the device's peaks could not be measured, roofline bounds stay empty: {}"
LAYER_SHAPE = ("hidden_size", "expert_ffn_dim", "num_experts", "top_k")
MOST_WORDS = 1000
STOP_LIMIT_S = 60.0  # an engine that has not ended by then is killed with its worker
BUSY_WAIT_S = 10.0  # a killed process' memory of a card is free within seconds


class Sweep:
    """device: the worker's. limit_s: seconds one point may take, engine start apart. counts_file:
    where the expert choices of a point, by its key, are counted. say: what to tell besides records.
    """

    def __init__(
        self,
        worker: WorkerHandle,
        device: devices.Device,
        limit_s: float,
        counts_file: Callable[[str], Path],
        say: Callable[[str], None],
    ):
        self.worker, self.device = worker, device
        self.limit_s, self.counts_file, self.say = limit_s, counts_file, say
        self.running: Point | None = None
        self.facts: dict = {}
        self.refused: dict[tuple, dict] = {}
        self.engines = 0

    def records(
        self, points: Iterable[Point], stop_at: float | None = None
    ) -> Iterator[tuple[Point, dict]]:
        """Each point with its record, as soon as it has one; none is begun after `stop_at` (seconds
        since 1970). Points of one build should stand together. DeviceBusy, without a record, where
        others hold the device's memory."""
        for point in points:
            if stop_at is not None and time.time() > stop_at:
                return
            if self.running is not None and self.running.build_key != point.build_key:
                self._stop()
            started = datetime.now(UTC)
            failure = self._ready(point) or self._other_format(point)
            record = failure or self._point(point)
            if record["status"] == "busy":
                raise devices.DeviceBusy(f"busy: {self.device.name}: {record['reason']}")
            yield (
                point,
                {
                    **describe(point),
                    "repeats": [],
                    **record,
                    "engine": self.facts,
                    "provenance": self._provenance(point, started),
                    "worker": self.worker.count,
                },
            )

    def _provenance(self, point: Point, started: datetime) -> dict:
        origin = engine.provenance(self.device, point.engine.num_devices)
        return {**origin, **devices.gpu_state(self.device), "started_at": started.isoformat()}

    def ceilings(self, dtype: str) -> dict | None:
        """The device's copy bandwidth and matrix rate, or None, said why."""
        reply = self._guarded({"op": "ceilings", "dtype": dtype}, START_LIMIT_S)
        if reply["ok"]:
            return {"device": self.device.name, **reply["ceilings"]}
        self.say(NO_PEAKS.format(reply["reason"]))
        return None

    def _ready(self, point: Point) -> dict | None:
        """An engine for the point: the running one, that one routing otherwise, or a new one; else
        why not. A layer point needs none."""
        if not point.needs_engine:
            self.running, self.facts = None, {}
            return self.refused.get(point.build_key)
        if self.running is not None and self.running.engine_key == point.engine_key:
            return None
        if self.running is not None:
            routing = point.engine.routing
            switch = {"op": "switch", "top_k": point.architecture.top_k, "routing": routing}
            reply = self._guarded(switch, START_LIMIT_S)
            if reply["ok"]:
                self.running, self.facts = point, reply["facts"]
                return None
            reason = reply["reason"]
            self.say(f"a running engine could not switch, starting another: {reason}")
        if point.engine_key in self.refused:
            return self.refused[point.engine_key]
        request = {
            "op": "start",
            "settings": asdict(point.engine),
            "config": point.architecture.hf_config(),
            "draft_config": _draft_config(point),
        }
        self._stop()
        reply = self._started(request)
        self.running, self.facts = (point, reply["facts"]) if reply["ok"] else (None, {})
        return None if reply["ok"] else self._refusal(reply, point.engine_key)

    def _other_format(self, point: Point) -> dict | None:
        """A failure where the engine says that it runs another number format than is asked."""
        wrong = other_format(point, self.facts.get("runs")) if point.needs_engine else None
        return wrong and {"status": "failed", "reason": wrong}

    def _stop(self) -> None:
        """End the engine before; one that cannot end costs its worker, and no point of the next."""
        if self.running is not None:
            reply = self._guarded({"op": "stop"}, STOP_LIMIT_S)
            self.running = None
            if not reply["ok"]:
                self.say(f"an engine did not end, its worker was killed: {reply['reason']}")
                self.worker.kill()

    def _started(self, request: dict) -> dict:
        """The worker's reply to a request for an engine. Memory of one before it can be free a
        moment later than its end: a busy device is asked once more."""
        reply = self._guarded(request, START_LIMIT_S)
        if self.engines and reply.get("status") == "busy":
            time.sleep(BUSY_WAIT_S)
            reply = self._guarded(request, START_LIMIT_S)
        self.engines += 1
        return reply

    def _refusal(self, reply: dict, key: tuple) -> dict:
        """Why a point has no number; what this machine cannot do is not tried again for points with
        the same `key`."""
        failure = {k: reply[k] for k in ("status", "reason")}
        if failure["status"] == "infeasible":
            self.refused[key] = failure
        return failure

    def _point(self, point: Point) -> dict:
        """The point's record. After a failure the engine is not trusted with the next point."""
        reply = self._guarded(request(point, self.counts_file(point.key)), self.limit_s)
        if reply["ok"]:
            return {"status": "ok", "reason": None, **{k: v for k, v in reply.items() if k != "ok"}}
        if "would preempt" not in reply["reason"]:
            self.running = None
        if point.is_layer:
            return self._refusal(reply, point.build_key)
        return {k: reply[k] for k in ("status", "reason")}

    def _guarded(self, asked: dict, limit_s: float) -> dict:
        try:
            reply = self.worker.ask(asked, limit_s)
            return reply if reply["ok"] else {**reply, "reason": bounded(reply["reason"])}
        except WorkerTimeout as error:
            return {"ok": False, "status": "timeout", "reason": str(error)}
        except WorkerDied as error:
            return {"ok": False, "status": "failed", "reason": str(error)}


def bounded(reason: str) -> str:
    """A reason as it is printed and kept: one line of at most MOST_WORDS characters, no control
    signs in it."""
    line = "".join(c if c.isprintable() else " " for c in reason[: 2 * MOST_WORDS])
    return " ".join(line.split())[:MOST_WORDS] or "no reason was given"


def references(points: Iterable[Point]) -> list[str]:
    """The members of the tiny family that points are measured on."""
    models = dict.fromkeys(m for p in points for m in (p.engine.weights, _draft(p)))
    return [m for m in models if m and family.is_tiny(m)]


def _draft(point: Point) -> str | None:
    return point.engine.speculation.draft if point.engine.speculation else None


def _draft_config(point: Point) -> dict | None:
    draft = _draft(point)
    return catalog.load(draft).hf_config() if draft else None


def request(point: Point, counts_file: Path) -> dict:
    """What the worker is asked for one point; counts_file: where expert choices are counted, by
    methods that do."""
    op = METHODS[point.method].op
    if op == "layer":
        return _layer_request(point)
    if op == "training":
        return {"op": op, "reference": point.engine.weights}
    asked = {"op": op, "workload": asdict(point.workload), "repeats": point.repeats}
    if op == "endpoint":
        return asked
    asked["method"] = point.method
    if op == "read":
        asked |= {"text": point.text, "counts_file": str(counts_file)}
    return asked


def _layer_request(point: Point) -> dict:
    engine = point.engine
    return {
        "op": "layer",
        "shape": {name: getattr(point.architecture, name) for name in LAYER_SHAPE},
        "dtype": engine.dtype,
        "quantization": engine.quantization,
        "backend": engine.moe_backend or "auto",
        "seed": point.workload.seed,
        "tokens": point.workload.batch,
        "skew": engine.skew,
        "repeats": point.repeats,
    }
