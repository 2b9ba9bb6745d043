"""The energy of a workload in a running engine, from the counter that the driver keeps.

Three powers (W) are measured, each over a window long enough for a counter that moves every tenth
of a second or so: idle, the engine loaded and nothing asked of it; prefill, the batch run to one
token over and over; decode, steps in which all sequences advance, around the middle of the run's
contexts. TTFT and the decode step are timed in the same windows. A request's energy (J) is

    (prefill power x TTFT + decode power x decode time) / B

and net of idle each power less the idle one."""

import functools
import time
from dataclasses import dataclass, field

from moebook.devices import nvml
from moebook.engine.base import EngineFailed
from moebook.engine.vllm.timing import STEPS_DISCARDED, STEPS_PER_WINDOW, Trace, WorkloadTimer

IDLE_S, PREFILL_S, DECODE_S = 10.0, 5.0, 10.0  # least windows
SETTLE_S = 3.0  # after a start, before idle power is read
EVERY = 8  # steps between two readings


@dataclass(frozen=True)
class Meter:
    """The cards that an engine runs on, by UUID."""

    cards: tuple[str, ...]

    @classmethod
    def of(cls, num_devices: int, on_gpu: bool) -> "Meter":
        """EngineFailed `infeasible` where no counter counts these cards alone."""
        cards = nvml.seen().cards[:num_devices] if on_gpu else ()
        if not cards:
            raise EngineFailed("infeasible", "energy needs a GPU whose driver counts it")
        meter = cls(tuple(card.uuid for card in cards))
        if meter.joules() is None:
            raise EngineFailed(
                "infeasible", f"the driver does not count the energy of {cards[0].name}"
            )
        return meter

    def joules(self) -> float | None:
        """What the cards have taken in all."""
        counts = [nvml.energy_j(card) for card in self.cards]
        return None if None in counts else sum(counts)

    def reading(self) -> tuple[float, float]:
        """(seconds of the host's clock, J) of one moment."""
        return time.perf_counter(), self.joules()

    def clock_mhz(self) -> float | None:
        return nvml.state(self.cards[0])["sm_clock_mhz"]


@functools.cache
def idle_power_w(meter: Meter) -> float:
    """With an engine loaded; once in a process, as it is the card's."""
    time.sleep(SETTLE_S)
    return _power(meter, lambda: time.sleep(IDLE_S))[0]


def measure(timer: WorkloadTimer, meter: Meter) -> dict:
    """The row of a point of energy: times, powers, energy of a request and of an output token."""
    idle, clock = idle_power_w(meter), meter.clock_mhz()
    timer._run(timer.input_tokens, 1)
    runs = _Runs(timer)
    prefill_w, prefill_window = _power(meter, runs)
    ttft, decode = prefill_window / runs.count, _decode(timer, meter)
    decode_s = decode.step_s * (timer.output_tokens - 1) / decode.tokens_per_step
    spent = _energies(timer, (prefill_w, ttft), (decode.power_w, decode_s), idle)
    return {
        "ttft_s": ttft,
        "e2e_s": ttft + decode_s,
        "tokens_per_step": decode.tokens_per_step,
        "idle_power_w": idle,
        "prefill_power_w": prefill_w,
        "decode_power_w": decode.power_w,
        "prefill_window_s": prefill_window,
        "decode_window_s": decode.window_s,
        **({} if clock is None else {"sm_clock_before_mhz": clock}),
        **spent,
    }


def _energies(timer: WorkloadTimer, prefill: tuple, decode: tuple, idle: float) -> dict:
    found = {}
    for name, base in (("energy", 0.0), ("energy_net", idle)):
        request = sum((power - base) * seconds for power, seconds in (prefill, decode))
        found[f"{name}_per_request_j"] = request / timer.batch
        found[f"{name}_per_output_token_j"] = request / (timer.batch * timer.output_tokens)
    return found


def _power(meter: Meter, run) -> tuple[float, float]:
    """(mean W, seconds) of what `run()` does."""
    started, before = meter.reading()
    run()
    ended, after = meter.reading()
    return (after - before) / (ended - started), ended - started


@dataclass
class _Runs:
    """Prefill over and over, at least PREFILL_S."""

    timer: WorkloadTimer
    count: int = 0

    def __call__(self) -> None:
        end = time.perf_counter() + PREFILL_S
        while time.perf_counter() < end:
            self.timer._run(self.timer.input_tokens, 1)
            self.count += 1


@dataclass(frozen=True)
class _Decode:
    power_w: float
    step_s: float
    tokens_per_step: float
    window_s: float


@dataclass
class _Metered(Trace):
    """A trace that reads the meter at every eighth step of the whole batch."""

    meter: Meter | None = None
    batch: int = 0
    steps: int = 0
    readings: list[tuple[int, float, float]] = field(default_factory=list)  # step, s, J

    def add(self, gained: list) -> None:
        super().add(gained)
        if len(gained) == self.batch:
            self.steps += 1
            if self.steps > STEPS_DISCARDED and self.steps % EVERY == 0:
                self.readings.append((self.steps, *self.meter.reading()))


def _decode(timer: WorkloadTimer, meter: Meter) -> _Decode:
    """Windows around the middle of the contexts, until DECODE_S of steps are there; of few output
    tokens, several runs."""
    middle = timer.input_tokens + timer.output_tokens // 2
    room = timer.output_tokens - 2
    probe = timer._outputs_for(STEPS_DISCARDED + STEPS_PER_WINDOW + timer._lead(middle) + 2)
    start = max(1, min(middle, timer.total_tokens - probe))
    step = timer._windows(start, probe, 1)[0][1] if probe <= room else 0.0
    steps = seconds = joules = per_step = runs = 0
    while seconds < DECODE_S:
        want = int((DECODE_S - seconds) / step) + 2 * EVERY if step else room
        lead = STEPS_DISCARDED + timer._lead(middle) + 2
        outputs = min(room, timer._outputs_for(want + lead))
        trace = _Metered(meter=meter, batch=timer.batch)
        before = timer.counters()
        timer._run(max(1, middle - outputs // 2), outputs, trace)
        if len(trace.readings) < 2:
            raise EngineFailed(
                "infeasible",
                f"{outputs} output tokens are too few steps of the whole batch to read a meter by",
            )
        (first, t0, e0), (last, t1, e1) = trace.readings[0], trace.readings[-1]
        steps, seconds, joules = steps + last - first, seconds + t1 - t0, joules + e1 - e0
        per_step, runs = per_step + timer.counters().since(before)["tokens_per_step"], runs + 1
    return _Decode(joules / seconds, seconds / steps, per_step / runs, seconds)
