"""A JupyterLab as `make lab` starts it, on a copy of the notebooks, one of them in a browser."""

import json
import os
import re
import secrets
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[2]
START_S = 90
RUN_S = 240
BEFORE = 'profile = "'
# every cell in the page, whether or not it is in sight
SETTINGS = {
    "@jupyterlab/notebook-extension/tracker": {"windowingMode": "none"},
    "@jupyterlab/apputils-extension/notification": {"fetchNews": "false"},
}
ALL_RAN_OR_ONE_FAILED = """() => {
  const prompts = [...document.querySelectorAll('.jp-Notebook .jp-CodeCell .jp-InputPrompt')];
  const error = document.querySelector('[data-mime-type="application/vnd.jupyter.error"]');
  return error !== null || prompts.every(prompt => /\\[\\d+\\]/.test(prompt.textContent));
}"""


@dataclass(frozen=True)
class Lab:
    """Where the server is, how to be let in, and the checkout that it shows."""

    url: str
    token: str
    root: Path

    def ask(self, path: str, method: str = "GET") -> bytes:
        header = {"Authorization": f"token {self.token}"}
        request = urllib.request.Request(self.url + path, method=method, headers=header)
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.read()

    def end_kernels(self) -> None:
        for session in json.loads(self.ask("/api/sessions")):
            self.ask(f"/api/sessions/{session['id']}", "DELETE")


def command() -> list[str]:
    """What the Makefile's `lab` runs, from this environment's programs."""
    recipe = re.search(r"^lab:.*\n\t(.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)[1]
    program, *options = recipe.split()
    return [str(Path(os.sys.executable).parent / Path(program).name), *options]


def checkout(folder: Path) -> Path:
    """A checkout with notebooks and outputs of its own; the package and the reference are these."""
    checkpoints = shutil.ignore_patterns(".ipynb_checkpoints")
    for name in ("notebooks", "params"):
        shutil.copytree(ROOT / name, folder / name, ignore=checkpoints)
    (folder / "outputs").mkdir()
    (folder / "moebook").symlink_to(ROOT / "moebook")
    (folder / "outputs" / "reference").symlink_to(ROOT / "outputs" / "reference")
    return folder


@contextmanager
def running(folder: Path) -> Iterator[Lab]:
    """The server on a port of its own, on loopback, with settings of its own; ended afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    lab = Lab(f"http://127.0.0.1:{port}", secrets.token_hex(8), checkout(folder / "checkout"))
    for name, values in SETTINGS.items():
        file = folder / "JUPYTERLAB_SETTINGS_DIR" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    env = {k: v for k, v in os.environ.items() if k != "MOEBOOK_HEADLESS"}
    for name in (
        "JUPYTERLAB_SETTINGS_DIR",
        "JUPYTERLAB_WORKSPACES_DIR",
        "JUPYTER_RUNTIME_DIR",
        "JUPYTER_CONFIG_DIR",
    ):
        env[name] = str(folder / name)
    options = [
        "--no-browser",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        f"--IdentityProvider.token={lab.token}",
    ]
    if os.geteuid() == 0:
        options.append("--allow-root")
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [*command(), *options], cwd=lab.root, env=env, stdout=log, stderr=log
        )
        try:
            _wait(lab, server, folder / "log")
            yield lab
        finally:
            server.terminate()
            server.wait(timeout=30)


def _wait(lab: Lab, server: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and server.poll() is None:
        try:
            lab.ask("/api/status")
            return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.3)
    raise RuntimeError(f"JupyterLab did not start: {log.read_text()[-2000:]}")


class Notebook:
    """One notebook in JupyterLab, used as a reader does: by clicks and keys."""

    def __init__(self, lab: Lab, page, stem: str):
        self.lab, self.page, self.stem = lab, page, stem
        page.goto(f"{lab.url}/lab/tree/notebooks/{stem}.ipynb?token={lab.token}&reset")
        page.locator(".jp-Notebook .jp-CodeCell").first.wait_for(timeout=60_000)
        page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=60_000)

    def set_profile(self, profile: str) -> None:
        """Selects the value in the parameters cell and types another."""
        lines = self.page.locator(".jp-Notebook .cm-line")
        lines.filter(has_text=f'{BEFORE}cpu"').first.click()
        for key in ["Home", *["ArrowRight"] * len(BEFORE), *["Shift+ArrowRight"] * len("cpu")]:
            self.page.keyboard.press(key)
        self.page.keyboard.type(profile)
        lines.filter(has_text=f'{BEFORE}{profile}"').first.wait_for(timeout=60_000)

    def run_all(self) -> None:
        """By the menu; back when every cell has run, or one has failed."""
        self.page.get_by_role("menuitem", name="Run", exact=True).click()
        self.page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
        self.page.wait_for_function(ALL_RAN_OR_ONE_FAILED, timeout=1000 * RUN_S, polling=300)

    def assert_shown(self, profile: str, figures: int) -> None:
        """The profile, without an error, and so many pictures."""
        cells = [cell for cell in self.saved().cells if cell.cell_type == "code"]
        outputs = [output for cell in cells for output in cell.outputs]
        assert [o for o in outputs if o.output_type == "error"] == []
        said = "".join(o.get("text", "") + o.get("data", {}).get("text/html", "") for o in outputs)
        assert f"params/{profile}/{self.stem}.yaml" in said
        widths = self.figures()
        assert len(widths) >= figures and min(widths) > 400, f"{len(widths)} pictures, {widths}"

    def saved(self) -> nbformat.NotebookNode:
        """As it lies in the checkout after Ctrl+S."""
        file = self.lab.root / "notebooks" / f"{self.stem}.ipynb"
        before = file.stat().st_mtime_ns
        self.page.keyboard.press("Control+s")
        end = time.monotonic() + 20
        while time.monotonic() < end:
            self.page.wait_for_timeout(200)
            text = file.read_text()
            if file.stat().st_mtime_ns != before and text.endswith("}\n"):  # written whole
                break
        return nbformat.reads(text, 4)

    def figures(self) -> list[int]:
        """Widths in pixels of the pictures that the browser has as outputs, also folded ones."""
        images = self.page.locator(".jp-Notebook .jp-OutputArea img")
        return images.evaluate_all("all => all.map(image => image.naturalWidth)")

    @property
    def explorer(self):
        """The picture of the notebook's last widget of charts."""
        return self.page.locator(".jp-Notebook .moebook-chart").last
