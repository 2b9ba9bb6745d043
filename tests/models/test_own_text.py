"""The user's own text: what it does to keys and folders, and what is no text."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from moebook import sections
from moebook.models.tiny import corpus, family, own_text
from moebook.study.params import load
from moebook.study.settings import Speculation

ROOT = Path(__file__).parents[2]


@pytest.fixture
def text(tmp_path, monkeypatch):
    """A file of the user's, named by MOEBOOK_TEXT."""
    file = tmp_path / "mine.txt"
    file.write_text("".join(f"line {i} of my own text\n" for i in range(4000)))
    monkeypatch.setenv("MOEBOOK_TEXT", str(file))
    return file


def plan(stem: str, profile: str = "cpu"):
    section = sections.find(stem)
    return section.plan(load(section.params, ROOT / f"params/{profile}/{section.stem}.yaml"))


def keys(stem: str) -> dict[str, bool]:
    """key -> whether the point rests on the tiny family."""
    return {point.key: point.rests_on_tiny for point in plan(stem).points}


def test_own_text_changes_every_point_that_rests_on_it_and_no_other(text, monkeypatch):
    with_text = {stem: keys(stem) for stem in ("01", "04", "07")}
    monkeypatch.delenv("MOEBOOK_TEXT")
    for stem, found in with_text.items():
        plain = keys(stem)
        assert {k for k, tiny_ in plain.items() if not tiny_} == {
            k for k, tiny_ in found.items() if not tiny_
        }
        assert not {k for k, tiny_ in plain.items() if tiny_} & {
            k for k, tiny_ in found.items() if tiny_
        }
    assert sum(with_text["07"].values()) > 20 and not any(with_text["01"].values())


def test_without_own_text_keys_are_those_of_the_shipped_results(monkeypatch):
    monkeypatch.delenv("MOEBOOK_TEXT", raising=False)
    from moebook.results import parquet

    table, _ = parquet.read(ROOT / "outputs/reference/h100/07_load_balancing/results.parquet")
    measured = set(table.loc[table["status"] == "ok", "key"])
    assert measured and measured <= {p.key for p in plan("07", "h100").points}


@pytest.mark.parametrize("part", ["weights", "draft", "text"])
def test_weights_draft_and_text_each_rest_on_it(text, part):
    point = next(p for p in plan("01").points if not p.rests_on_tiny)
    engine = point.engine
    changed = {
        "weights": replace(point, engine=replace(engine, weights="tiny:cpu/aux-0.01")),
        "draft": replace(
            point,
            engine=replace(
                engine, speculation=Speculation("draft_model", 2, "tiny:cpu/draft-small")
            ),
        ),
        "text": replace(point, text="tiny:cpu/heldout/all"),
    }[part]
    before = changed.key
    text.write_text(text.read_text() + "one more line\n")
    assert (
        replace(changed, series="fresh").key != before
        and replace(point, series="fresh").key == point.key
    )


def test_the_order_and_the_content_of_files_count(tmp_path, monkeypatch):
    a, b = tmp_path / "a.txt", tmp_path / "b.txt"
    a.write_text("a line\n" * 10_000)
    b.write_text("b line\n" * 10_000)
    found = []
    for files in ((a,), (b,), (a, b), (b, a)):
        monkeypatch.setenv("MOEBOOK_TEXT", os.pathsep.join(map(str, files)))
        found += [str(own_text.identity()), str(family.family_folder("cpu"))]
    assert len(set(found)) == len(found)
    shutil.copy(a, tmp_path / "copy.txt")
    monkeypatch.setenv("MOEBOOK_TEXT", str(tmp_path / "copy.txt"))
    assert [str(own_text.identity()), str(family.family_folder("cpu"))] == found[:2]


BAD = [
    (None, "there is no file"),
    (b"", "0 characters are too few"),
    (b"short", "5 characters are too few"),
    (b"ab\0cd" * 20_000, "binary file"),
    (b"caf\xe9 au lait " * 9_000, "no UTF-8 text"),
]


@pytest.mark.parametrize(("data", "said"), BAD)
def test_a_variable_that_names_no_text_is_told_by_its_name(tmp_path, monkeypatch, data, said):
    file = tmp_path / "x.txt"
    if data is not None:
        file.write_bytes(data)
    monkeypatch.setenv("MOEBOOK_TEXT", str(file))
    with pytest.raises(corpus.CorpusError, match=said) as told:
        plan("07")
    assert f"MOEBOOK_TEXT={file}" in str(told.value) and "--text" not in str(told.value)
    assert told.value._render_traceback_() == [str(told.value)]


def test_a_folder_and_a_name_too_long_are_told(tmp_path, monkeypatch):
    for name in (str(tmp_path), str(tmp_path / ("x" * 300))):
        monkeypatch.setenv("MOEBOOK_TEXT", name)
        with pytest.raises(corpus.CorpusError, match="MOEBOOK_TEXT=.*(no file|cannot be read)"):
            own_text.identity()


def test_a_relative_name_is_the_same_text_in_a_notebooks_kernel(tmp_path, monkeypatch):
    for folder in ("notebooks", "params", "moebook"):
        (tmp_path / folder).mkdir()
    (tmp_path / "moebook/paths.py").touch()
    (tmp_path / "mine.txt").write_text("a line\n" * 10_000)
    monkeypatch.setenv("MOEBOOK_TEXT", "mine.txt")
    found = []
    for folder in (tmp_path, tmp_path / "notebooks"):
        monkeypatch.chdir(folder)
        found.append((own_text.files(), str(own_text.identity())))
    assert found[0] == found[1] and found[0][0] == (str(tmp_path / "mine.txt"),)


def test_the_command_says_it_in_one_line_and_starts_nothing(tmp_path):
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "moebook",
            "measure",
            "params/cpu/07_load_balancing.yaml",
            "--output-root",
            str(tmp_path / "out"),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "MOEBOOK_TEXT": "/no/such", "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 1 and not (tmp_path / "out").exists()
    assert (
        done.stderr.strip()
        == "moebook: MOEBOOK_TEXT=/no/such: there is no file /no/such; name a UTF-8 text file"
    )


def test_one_long_line_is_cut_and_can_be_held_out(tmp_path):
    (tmp_path / "line.txt").write_text(" ".join(f"word{i}" for i in range(60_000)))
    found = own_text.documents([tmp_path / "line.txt"])
    assert {d.held_out for d in found} == {True, False}
    assert "".join(d.text for d in found) == (tmp_path / "line.txt").read_text()


def test_text_named_by_the_option_is_told_by_the_option(tmp_path, monkeypatch):
    monkeypatch.delenv("MOEBOOK_TEXT", raising=False)
    with pytest.raises(corpus.CorpusError, match="--text .*none.txt: there is no file"):
        own_text.documents([tmp_path / "none.txt"])
