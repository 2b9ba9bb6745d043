"""What every record says of where and with what it was measured."""

import functools
import os
import subprocess
from pathlib import Path

from moebook.devices import host
from moebook.devices.device import Device


def provenance(device: Device, used: int = 1) -> dict:
    """used: cards of the device that the engine runs on, its first ones."""
    return {
        "device": device.name,
        "device_kind": device.kind,
        "device_count": device.count,
        "device_memory_bytes": device.memory_bytes,
        "device_uuid": ",".join(device.uuids[:used]) or None,
        "device_cores": host.cores(),
        "host_id": host.boot_id(),
        "driver": device.driver,
        "git_commit": os.environ.get("MOEBOOK_COMMIT") or git_commit(),
    }


@functools.cache
def git_commit() -> str | None:
    """Commit of the checkout this package runs from, with `+` when tracked files differ; None
    outside git."""
    commit = _git("rev-parse", "--short=12", "HEAD")
    return commit and commit + ("+" if _git("status", "--porcelain", "-uno", "--", ".") else "")


def _git(*args: str) -> str | None:
    package = Path(__file__).parents[1]
    try:
        done = subprocess.run(
            ["git", *args], cwd=package, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
