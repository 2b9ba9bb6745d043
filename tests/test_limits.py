"""Minutes, percentages, folders and numbers, by every way in: option, parameter file, notebook."""

import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from moebook import sections
from moebook.cli import app
from moebook.problems import ParameterError
from moebook.study import values
from moebook.study.params import load

FILE = "params/cpu/01_hyperparameter_scaling.yaml"


def refused(*args: str) -> str:
    done = CliRunner().invoke(app, list(args))
    assert done.exit_code == 1 and isinstance(done.exception, ValueError), done.output
    return str(done.exception)


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "0", "1e300"])
def test_minutes_that_are_none_are_refused_before_anything_is_touched(tmp_path, value):
    record = tmp_path / "cpu/01_hyperparameter_scaling/DONE.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    out = ("--output-root", str(tmp_path))
    for args in (
        ("run", "01", f"--limit-minutes={value}", *out),
        ("measure", FILE, f"--stop-after-minutes={value}", *out),
    ):
        assert (
            f"{args[2].split('=')[0]}: given '{float(value)}'; allowed: minutes over 0"
            in refused(*args)
        )
    assert record.read_text() == "{}" and len(list(tmp_path.rglob("*"))) == 3


@pytest.mark.parametrize("minutes", [0.5, 1, values.MOST_MINUTES])
def test_minutes_that_are_some(minutes):
    assert values.minutes_problem(minutes) is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("0.25", "--ratio: given '0.25'; 0.25 % removes nothing; for a quarter write 25"),
        ("0.5", "for a half write 50"),
        ("0.3", "for 0.3 of it write 30"),
        ("0", "over 0 and under 100"),
        ("-5", "over 0 and under 100"),
        ("100", "over 0 and under 100"),
        ("125", "over 0 and under 100"),
        ("nan", "over 0 and under 100"),
        ("inf", "over 0 and under 100"),
    ],
)
def test_a_ratio_that_is_no_percentage_is_asked_back(tmp_path, value, said):
    assert said in refused("prune", str(tmp_path), str(tmp_path / "out"), f"--ratio={value}")
    assert not (tmp_path / "out").exists()


def problems(tmp_path: Path, section: str, text: str) -> str:
    file = tmp_path / f"{sections.find(section).stem}.yaml"
    file.write_text(text)
    with pytest.raises(ParameterError) as told:
        load(sections.find(section).params, file)
    return str(told.value)


def test_ratios_of_a_parameter_file_are_asked_back_too(tmp_path):
    told = problems(tmp_path, "03", "ratios_pct: [150.0]\nquality_ratios_pct: [0.25, 100.0]\n")
    assert "quality_ratios_pct: given 0.25; 0.25 % removes nothing; for a quarter write 25" in told
    assert "quality_ratios_pct: given 100.0; percent that is pruned: over 0 and under 100" in told
    assert " ratios_pct: given 150.0; percent that is pruned: over 0 and under 100" in told
    assert "the shape of the whole model" in problems(tmp_path, "03", "ratios_pct: [0.25]\n")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "seed: 1e3",
            "seed: given '1e3'; input should be a valid integer; 1e3 is no whole number in YAML: "
            "write 1000",
        ),
        ("seed: 1.0e+3", "1000.0 is no whole number: write 1000"),
        ("lengths: [128, 2e2]", "2e2 is no whole number in YAML: write 200"),
        ("point_limit_minutes: 1e1", "YAML reads 1e1 as text: write 10.0"),
        ("point_limit_minutes: 1e-5", "YAML reads 1e-5 as text: write 1.0e-05"),
        (
            "point_limit_minutes: .inf",
            "point_limit_minutes: given inf; input should be a finite number",
        ),
        ("point_limit_minutes: .nan", "finite number"),
        ("point_limit_minutes: 1.0e+300", "less than or equal to 527040"),
        ("seed: 'ten'", "seed: given 'ten'; input should be a valid integer, unable"),
        ("seed: true", "seed: given True; input should be a valid integer"),
    ],
)
def test_a_number_that_yaml_reads_otherwise_gets_the_right_hint(tmp_path, line, said):
    told = problems(tmp_path, "01", line + "\n")
    if "unable" not in said:
        assert said in told
    assert (
        "papermill" not in told and "seed: given True; input should be a valid integer;" not in told
    )


@pytest.mark.parametrize(
    ("given", "whole", "hint"),
    [
        (1.5, True, ""),
        ("1.5", True, ""),
        ("x", True, ""),
        (None, True, ""),
        (math.inf, True, ""),
        ("nan", False, ""),
        (True, True, ""),
        ("7", False, ""),
        ("3", True, ""),
        (" -3 ", True, ""),
        (2.0, True, "2.0 is no whole number: write 2"),
    ],
)
def test_hints_are_given_only_where_there_is_one(given, whole, hint):
    assert values.number_hint(given, whole) == hint


@pytest.mark.parametrize(
    "root", ["s3://b/x", "gs://b", "http://host/x", "file:///tmp/x", "S3:/b/x"]
)
def test_an_address_is_no_outputs_folder(tmp_path, monkeypatch, root):
    said = "is an address; results are written to a folder of this machine"
    assert said in problems(tmp_path, "01", f"output_root: {root}\n")
    for args in (
        ("plan", FILE),
        ("measure", FILE),
        ("run", "01"),
        ("study",),
        ("figures",),
        ("claims",),
        ("results",),
    ):
        assert f"--output-root: given {root!r}; {said}" in refused(*args, f"--output-root={root}")
    assert f"--output: given {str(Path(root))!r}; {said}" in refused("figures", f"--output={root}")
    assert not Path(root.split(":")[0] + ":").exists()
