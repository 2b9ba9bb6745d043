"""One injection of each fast kind; `make campaign` runs all."""

import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).with_name("run.py")


def test_no_fault_of_any_kind_costs_a_result_or_is_told_as_a_success():
    done = subprocess.run(
        [sys.executable, RUN, "--fast", "--jobs", "4"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-6000:]
