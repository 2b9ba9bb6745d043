"""Progress of a sweep: a bar in a live notebook or terminal, one plain line per finished point when
headless.

A notebook bar freezes at 0 % in a headless run, so the caller says which it is.
"""

import io
import sys
import time
from pathlib import Path

# metric, factor, how it reads
TOLD = (
    ("e2e_s", 1e3, "E2E {:.1f} ms"),
    ("layer_s", 1e6, "{:.0f} µs"),
    ("perplexity", 1, "perplexity {:.2f}"),
)


class Progress:
    def __init__(self, live: bool = False, out=None):
        self.live, self.out = live, out
        self.bar = None

    def begin(self, total: int, skipped: int, seconds: dict[str, float]) -> None:
        """total points to measure, `skipped` already present, estimated seconds by point key."""
        self.total, self.done, self.seconds = total, 0, dict(seconds)
        self.started = time.monotonic()
        self.estimated_done = 0.0
        self.say(f"{skipped} points present, {total} to measure")
        if self.live and total:
            from tqdm.auto import tqdm

            self.bar = tqdm(total=total, unit="point")

    def advance(self, point, record: dict) -> None:
        self.done += 1
        self.estimated_done += self.seconds.pop(point.key, 0.0)
        if self.bar is not None:
            self.bar.update(1)
        if self.bar is None or record["status"] != "ok":
            told = "; ".join(
                [f"{title(point)}: {outcome(record)}", *record.get("marks", {}).values()]
            )
            self.say(f"[{self.done}/{self.total}] {told}; {self._left()}")

    def _left(self) -> str:
        elapsed = time.monotonic() - self.started
        ahead = sum(self.seconds.values())
        by_estimate = elapsed / self.estimated_done * ahead if self.estimated_done else 0.0
        by_count = elapsed / self.done * (self.total - self.done)
        return f"{duration(elapsed)} gone, about {duration((by_estimate + by_count) / 2)} left"

    def interrupted(self, folder: Path) -> None:
        kept = f"{self.done} of {self.total} points are kept in {folder}"
        self.say(f"interrupted: {kept}; the same command resumes")

    def say(self, text: str) -> None:
        """Told where anybody listens: a closed pipe or a full disk ends no sweep, whose records
        and exit status say how it went."""
        try:
            print(text, file=self.out or sys.stdout, flush=True)
        except OSError:
            self.out = io.StringIO()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()


def title(point) -> str:
    work = point.workload
    if point.is_layer:
        return f"{point.architecture.name} {point.series} {work.batch} tokens"
    series = f" {point.series}" * bool(point.series)
    if point.method == "training":
        return f"{point.architecture.name} training"
    if point.text:
        series += f" on {Path(point.text).name}"
    if work.temperature is not None:
        series += f" T={work.temperature:g}"
    return (
        f"{point.architecture.name}{series} B={work.batch} "
        f"{work.input_tokens}+{work.output_tokens} {point.method}"
    )


def outcome(record: dict) -> str:
    if record["status"] != "ok":
        return f"{record['status']} ({record['reason']})"
    if not record["repeats"]:
        return "counted"  # expert choices, in a file of their own
    for name, factor, text in TOLD:
        if name in record["repeats"][0]:
            values = sorted(r[name] for r in record["repeats"])
            return text.format(factor * values[len(values) // 2])
    return "ok"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
