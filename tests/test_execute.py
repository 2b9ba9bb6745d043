"""Several notebooks at once: told in their order, and none goes on when the study is
interrupted."""

import subprocess
import sys
from pathlib import Path
from threading import Event

import pytest

from moebook import execute, sections
from moebook.execute import Outcome
from moebook.measure import run

WORK = [(sections.find(stem), Path(f"{stem}.yaml")) for stem in sections.stems()[:4]]


def outcome(section, status="ok") -> Outcome:
    return Outcome(section.stem, status, {"ok": 1}, 0.1, Path("figures"))


def test_notebooks_run_side_by_side_and_are_told_in_their_order(monkeypatch):
    running, most, told, fourth = [], [], [], Event()

    def slow_first(section, file, stop):
        running.append(section.stem)
        most.append(len(running))
        if section.stem.startswith("03"):
            fourth.set()
        assert not section.stem.startswith("00") or fourth.wait(30), "the others do not run beside"
        running.remove(section.stem)
        return outcome(section)

    monkeypatch.setattr(execute, "execute", slow_first)
    found = execute.execute_all(WORK, at_once=2, say=told.append)
    assert [o.stem for o in found] == list(sections.stems()[:4])
    assert [line[:2] for line in told] == ["00", "01", "02", "03"]
    assert max(most) == 2


def test_an_interrupted_study_ends_the_notebooks_that_run_and_begins_no_other(monkeypatch):
    begun, ended = [], []

    def until_stopped(section, file, stop):
        begun.append(section.stem)
        if section.stem.startswith("00"):
            return outcome(section)
        assert stop.wait(10), "nothing stopped it"
        ended.append(section.stem)
        return outcome(section, "failed")

    def interrupt(line):
        raise KeyboardInterrupt

    monkeypatch.setattr(execute, "execute", until_stopped)
    with pytest.raises(KeyboardInterrupt):
        execute.execute_all(WORK, at_once=2, say=interrupt)
    assert (
        sorted(begun)[0].startswith("00") and len(begun) < 4 and sorted(ended) == sorted(begun)[1:]
    )


def test_a_notebook_is_left_when_it_ends_when_told_to_stop_and_at_its_limit():
    stop, program = (
        Event(),
        [sys.executable, "-c", "import time; print('said', flush=True); time.sleep({})"],
    )

    def start(seconds):
        return subprocess.Popen(
            [*program[:2], program[2].format(seconds)], stdout=subprocess.PIPE, text=True
        )

    assert execute._output(start(0.7), 20, stop) == "said\n"
    with start(20) as late:
        assert execute._output(late, 0.2, stop) is None
        stop.set()
        assert execute._output(late, 20, stop) is None
        late.kill()


def test_what_a_study_trains_is_what_points_without_a_result_need(tmp_path, monkeypatch):
    section = sections.find("04")
    plan = section.plan(section.params(output_root=str(tmp_path)))
    asked = []
    monkeypatch.setattr(
        execute.train_family, "trained", lambda names, say, environment: asked.append(list(names))
    )
    execute._train([(section.params(output_root=str(tmp_path)), plan)])
    assert {"tiny:cpu/aux-0.01", "tiny:cpu/draft-small", "tiny:cpu/draft-large"} <= set(asked[0])
    monkeypatch.setattr(run, "pending", lambda plan, root: [])
    execute._train([(section.params(output_root=str(tmp_path)), plan)])
    assert len(asked) == 1, "nothing is left to train"
