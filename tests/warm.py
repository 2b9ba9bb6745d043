"""Programs run in forks of one process that has imported what they import: that takes longer than
what they do.

Each is a process of its own as before, with its own environment but for what libraries read as they
are imported."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from multiprocessing import forkserver
from pathlib import Path

import pytest

HERE = str(Path(__file__).parent)
STARTED = []  # what the process of this session imported


def run(
    command: list[str],
    imports: str,
    *,
    timeout: float = 600,
    input: str = "",
    env: dict | None = None,
    stderr: int = subprocess.PIPE,
) -> subprocess.CompletedProcess:
    """As subprocess.run of `python SCRIPT …` or `python -m MODULE …`, its output captured as text.

    imports: a module beside this one; the first that is asked for in a session serves all.
    """
    if not STARTED:
        _start(imports)
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
        for file in files:
            file.write_text(input if file is files[0] else "")
        if stderr == subprocess.STDOUT:
            files[2] = files[1]
        environment = dict(os.environ if env is None else env)
        process = multiprocessing.get_context("forkserver").Process(
            target=_become, args=(command, environment, files)
        )
        process.start()
        process.join(timeout)
        if process.is_alive():
            process.kill()
            process.join()
            raise subprocess.TimeoutExpired(
                command, timeout, files[1].read_bytes(), files[2].read_bytes()
            )
        out, err = (file.read_text(errors="replace") for file in files[1:])
        return subprocess.CompletedProcess(command, process.exitcode, out, err)


def _start(imports: str) -> None:
    multiprocessing.get_context("forkserver").set_forkserver_preload([imports])
    with pytest.MonkeyPatch.context() as patch:  # Python 3.11 does not pass its own path on
        patch.setenv(
            "PYTHONPATH", os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH")]))
        )
        forkserver.ensure_running()
    STARTED.append(imports)


def _become(command: list[str], environment: dict, files: list[Path]) -> None:
    for number, file in enumerate(files):
        os.dup2(os.open(file, os.O_RDWR | os.O_APPEND), number)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  multiprocessing has put /dev/null there
    os.environ.clear()
    os.environ.update(environment)
    is_module = command[0] == "-m"
    sys.argv = command[is_module:]
    if is_module:
        sys.modules.pop(command[1], None)
        runpy.run_module(command[1], run_name="__main__", alter_sys=True)
    else:
        sys.path.insert(0, str(Path(command[0]).parent))
        runpy.run_path(command[0], run_name="__main__")
