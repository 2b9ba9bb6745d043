"""`import moebook` in fresh interpreters: median seconds, and which heavy packages it loads. One
JSON line.

Expected: under 0.3 s, none loaded.
"""

import json
import statistics
import subprocess
import sys

HEAVY = ("torch", "vllm", "matplotlib", "ipywidgets")
PROGRAM = f"""
import json, sys, time
started = time.perf_counter()
import moebook
print(json.dumps([time.perf_counter() - started, [m for m in {HEAVY!r} if m in sys.modules]]))
"""


def main() -> None:
    runs = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
            ).stdout
        )
        for _ in range(5)
    ]
    print(
        json.dumps(
            {
                "benchmark": "import_time",
                "median_s": round(statistics.median(s for s, _ in runs), 4),
                "heavy_loaded": sorted({m for _, loaded in runs for m in loaded}),
            }
        )
    )


if __name__ == "__main__":
    main()
