"""The templates for batch systems parse, and every moebook command in them and in the guide exists
with its options."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from typer.main import get_command

from moebook import sections
from moebook.cli import app
from moebook.study.estimates import Shard

TEMPLATES = [Path("docs/slurm.sh"), Path("docs/pbs.sh")]
COMMANDS = get_command(app).commands


def commands(file: Path) -> list[list[str]]:
    return [
        shlex.split(found[1])
        for found in re.finditer(r"^\s*moebook ((?!\[).+)$", file.read_text(), re.M)
    ]


@pytest.mark.parametrize("file", [*TEMPLATES, Path("docs/cluster.md")], ids=str)
def test_commands_exist_with_their_options(file):
    found = commands(file)
    assert {"measure"} <= {words[0] for words in found}
    for name, *words in found:
        options = {option for param in COMMANDS[name].params for option in param.opts}
        assert {w for w in words if w.startswith("--")} <= options, words


@pytest.mark.parametrize("file", TEMPLATES, ids=str)
def test_a_template_parses_and_names_what_is_there(file):
    subprocess.run(["bash", "-n", file], check=True)
    values = dict(re.findall(r"^(\w+)=(\w+)", file.read_text(), re.M))
    assert (
        values["section"] in sections.stems()
        and Path("params", values["profile"], f"{values['section']}.yaml").exists()
    )
    assert f"name: {values['environment']}\n" in Path("environment.yml").read_text()


@pytest.mark.parametrize(
    ("file", "index", "alone"),
    [
        (TEMPLATES[0], "SLURM_ARRAY_TASK_ID", {"SLURM_ARRAY_TASK_COUNT": "1"}),
        (TEMPLATES[1], "PBS_ARRAY_INDEX", {}),
    ],
    ids=["slurm", "pbs"],
)
def test_a_job_of_the_array_measures_its_part_and_the_last_job_runs_the_notebook(
    file, index, alone, tmp_path
):
    """Also a job that is submitted again alone, as an array of one: its part is of as many as
    before. As conda's own scripts may, the activation here uses a variable that is not set."""
    activation = "'conda() { : $NOT_SET_BY_ANYONE; }'"
    for name, body in (("conda", f"echo {activation}"), ("moebook", 'echo "$@"')):
        (tmp_path / name).write_text(f"#!/bin/bash\n{body}\n")
        (tmp_path / name).chmod(0o755)

    def said(**variables: str) -> list[str]:
        done = subprocess.run(
            ["bash", file],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin", **variables},
            text=True,
            capture_output=True,
            check=True,
        )
        return done.stdout.split()

    one, last = said(**{index: "3"}, **alone), said()
    assert one[0] == "measure" and Path(one[1]).exists() and one[2] == "--shard"
    assert Shard.parse(one[3]) == Shard(3, 8)
    assert last[0] == "run" and last[2] == "--profile"


def test_the_lock_holds_ray_as_the_extra_asks():
    extra = tomllib.loads(Path("pyproject.toml").read_text())["project"]["optional-dependencies"][
        "cluster"
    ]
    pins = dict(line.split("==") for line in Path("requirements-cpu.lock").read_text().split())
    (need,) = map(Requirement, extra)
    assert need.name == "ray" and need.specifier.contains(pins["ray"]) and "msgpack" in pins
    assert "'.[cluster]'" in Path("environment.yml").read_text()
