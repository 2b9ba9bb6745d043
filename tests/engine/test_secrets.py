"""A planted key of an endpoint: used, and in nothing that is written, printed or listed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import yaml
from endpoint_servers import serving

from moebook.engine.endpoint.access import KEY, MODEL, URL, _forms

ROOT = Path(__file__).parents[2]
SECRET = 'sk-Sesame/open+7"Q%41'
ONLY_ENDPOINT = {
    "profile": "mine",
    "device": "cpu",
    "common_model": None,
    "model": "tiny-mixtral",
    "precisions": [],
    "lengths": [],
    "large_batch_lengths": [],
    "beside": [],
    "rooflines": [],
    "endpoint": "a server",
    "endpoint_lengths": [16],
}


def listed() -> str:
    """The command lines of all processes, as `ps` shows them."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(file.read_bytes().decode(errors="replace"))
        except OSError:  # it has ended
            continue
    return "\n".join(lines)


def text_of(file: Path) -> str:
    if file.suffix == ".parquet":
        return pd.read_parquet(file).to_csv()
    return file.read_bytes().decode(errors="replace")


def test_a_key_is_used_and_shown_nowhere(tmp_path):
    file = tmp_path / "08_accelerator_comparison.yaml"
    file.write_text(yaml.safe_dump(ONLY_ENDPOINT))
    command = [sys.executable, "-m", "moebook", "run", file, "--output-root", tmp_path / "out"]
    (tmp_path / "tmp").mkdir()
    with serving("unauthorized") as server:
        own = {URL: server.url, MODEL: "m", KEY: SECRET, "TMPDIR": str(tmp_path / "tmp")}
        environment = {**os.environ, **own, "PYTHONPATH": str(ROOT)}
        done = subprocess.Popen(
            command, cwd=ROOT, env=environment, text=True, stdout=-1, stderr=subprocess.STDOUT
        )
        lines = [listed()]
        while done.poll() is None:
            time.sleep(0.2)
            lines.append(listed())
        said = done.communicate()[0]
    assert [key for _, key, _ in server.asked][:1] == [f"Bearer {SECRET}"], said
    seen = {str(p): text_of(p) for p in tmp_path.rglob("*") if p.is_file()}
    endings = {Path(name).suffix for name in seen}
    assert {".parquet", ".ipynb", ".json", ".log"} <= endings, said
    assert any("Incorrect API key provided" in text for text in seen.values())
    seen |= {"output": said, "ps": "\n".join(lines)}
    forms = {*_forms(SECRET), SECRET.lower(), SECRET[:12], f"127.0.0.1:{server.server_port}"}
    shown = [(name, form) for name, text in seen.items() for form in forms if form in text]
    assert not shown
