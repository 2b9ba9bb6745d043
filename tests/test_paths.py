"""The root is found from wherever a process stands, and every path from it."""

import subprocess
import sys
from pathlib import Path

import pytest

from moebook import paths

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("folder", [".", "notebooks", "params/cpu", "outputs/reference/h200"])
def test_the_root_is_at_or_above_the_current_folder(folder, monkeypatch):
    monkeypatch.chdir(ROOT / folder)
    assert paths.root() == ROOT and paths.output_root("outputs") == ROOT / "outputs"


def test_elsewhere_it_is_the_packages_own_checkout(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert paths.root() == ROOT
    assert paths.output_root(tmp_path / "mine") == tmp_path / "mine"


def test_another_checkout_around_the_current_folder_comes_first(tmp_path, monkeypatch):
    for mark in ("notebooks", "params", "moebook"):
        (tmp_path / mark).mkdir()
    (tmp_path / "moebook/paths.py").touch()
    monkeypatch.chdir(tmp_path / "notebooks")
    assert paths.root() == tmp_path


def test_a_given_path_is_whole_where_it_exists(tmp_path, monkeypatch):
    (tmp_path / "text.txt").touch()
    monkeypatch.chdir(tmp_path)
    assert paths.given("text.txt") == str(tmp_path / "text.txt")
    assert paths.given("params/cpu") == str(ROOT / "params/cpu")
    assert paths.given("Qwen/Qwen3-30B-A3B") == "Qwen/Qwen3-30B-A3B"


def test_the_command_works_from_any_folder(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "moebook", "claims", "tp-scales", "--profile", "2xh100"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0 and "NVIDIA H100" in done.stdout and not list(tmp_path.iterdir())
