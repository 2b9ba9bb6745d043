"""The command line: what it prints, and that wrong input ends it with one message and a non-zero
code."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import warm
from typer.testing import CliRunner

from moebook.cli import app


def moebook(*args: str) -> subprocess.CompletedProcess:
    return warm.run(["-m", "moebook.__main__", *args], "warm_cli", timeout=120)


@pytest.mark.parametrize("file", sorted(Path("params").glob("*/01_*.yaml")), ids=str)
def test_plan_prints_totals(file):
    done = moebook("plan", str(file))
    assert done.returncode == 0, done.stderr
    assert "points" in done.stdout and "configurations" in done.stdout


@pytest.mark.parametrize("file", sorted(Path("params").glob("*/00_*.yaml")), ids=str)
def test_plan_of_a_notebook_that_measures_nothing(file):
    done = moebook("plan", str(file))
    assert done.returncode == 0, done.stderr
    assert "0 points" in done.stdout
    assert json.loads(moebook("plan", str(file), "--json").stdout) == []


def test_plan_as_json():
    rows = json.loads(moebook("plan", "params/cpu/01_hyperparameter_scaling.yaml", "--json").stdout)
    assert {"model", "status", "weights_bytes", "estimate_s"} <= set(rows[0])


def test_all_problems_of_a_bad_file_and_no_traceback(tmp_path):
    bad = tmp_path / "01_hyperparameter_scaling.yaml"
    bad.write_text(
        Path("tests/bad/many_problems.yaml").read_text() + f"output_root: {tmp_path}/out\n"
    )
    done = moebook("measure", str(bad))
    assert done.returncode != 0
    assert all(
        key in done.stderr for key in ("ffn_dim", "repeats", "dry_run", "grid_batch", "lengths")
    )
    assert "Traceback" not in done.stderr and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("run", "99"), "01_hyperparameter_scaling"),
        (
            ("run", "01", "--profile", "h10"),
            "given 'h10', which has no 01_hyperparameter_scaling; allowed: 2xh200, 4xh100",
        ),
        (("study", "--profile", "nowhere"), "given 'nowhere'; allowed: 2xh100, 2xh200, 4xh100"),
        (("figures", "--profile", "h200", "--formats", "gif"), "allowed: pdf, svg, png"),
        (("figures", "--profile", "h200", "--width", "wide"), "allowed: column, page"),
        (("claims", "--profile", "nowhere"), "given 'nowhere'; allowed: 2xh100"),
        (
            ("measure", "params/cpu/01_hyperparameter_scaling.yaml", "--sweep", "gird"),
            "no 'gird'; allowed: grid",
        ),
        (
            ("measure", "params/cpu/01_hyperparameter_scaling.yaml", "--retry", "faild"),
            "allowed: ok, oom",
        ),
        (("figures", "--profile", "4xh100", "--section", "02"), "no reference results ship"),
        (
            ("figures", "--profile", "h100", "--section", "01"),
            "nothing of this plan was measured here",
        ),
        (("figures", "--profile", "h200", "--output-root", "s3://b/x"), "is an address"),
        (("run", "02", "--output-root", "outputs/reference"), "which nothing writes"),
        (("run", "02", "--output-root", "notebooks"), "a folder of moebook's own"),
        (("study", "--output-root", ""), "give the path of a folder"),
        (
            ("plan", "params/cpu/01_hyperparameter_scaling.yaml", "--notebook", "tables"),
            "say which notebook",
        ),
        (("results", "--discard", "vllm 0.1"), "say which profile's"),
        (
            ("results", "--profile", "cpu", "--discard", "vllm 0.1", "--output-root", "no/such"),
            "given 'cpu'; nothing is measured yet",
        ),
    ],
)
def test_wrong_words_name_the_right_ones(args, text):
    done = moebook(*args)
    assert done.returncode != 0
    assert text in done.stderr and "Traceback" not in done.stderr


def test_claims_of_a_device_that_is_not_here_come_from_its_committed_results():
    done = moebook("claims", "--profile", "2xh100", "--json")
    verdicts = {v["id"]: v for v in json.loads(done.stdout)}
    scales, other = verdicts["tp-scales"], verdicts["active-monotone"]
    assert scales["effect_lo"] < scales["effect"] < scales["effect_hi"]
    assert other["verdict"] == "untested" and other["reason"]
    assert "NVIDIA H100" in moebook("claims", "tp-scales", "--profile", "2xh100").stdout


def test_doctor_tells_the_engine_and_the_device():
    done = moebook("doctor")
    assert "engine" in done.stdout and "device" in done.stdout
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("stem", ["02_quantization", "03_pruning", "06_fused_moe"])
def test_plan_of_a_small_profile_prints_totals(stem):
    done = moebook("plan", f"params/cpu/{stem}.yaml")
    assert done.returncode == 0, done.stderr
    assert re.search(r"\d+ points", done.stdout) and "configurations" in done.stdout


@pytest.mark.parametrize(
    ("stem", "bad", "keys"),
    [
        (
            "02_quantization",
            {"models": ["tiny-mixtrl"], "formats": ["fp9"], "pair": ["bf16"]},
            ("models", "formats", "pair"),
        ),
        (
            "03_pruning",
            {"models": ["nothing-like-it"], "ratios_pct": [50.0, 100.0]},
            ("models", "ratios_pct"),
        ),
        (
            "06_fused_moe",
            {"layer_backends": ["trition"], "ladder": ["fuse"]},
            ("layer_backends", "ladder"),
        ),
    ],
)
def test_all_problems_of_a_section_at_once_and_nothing_starts(tmp_path, stem, bad, keys):
    file = tmp_path / f"{stem}.yaml"
    file.write_text(json.dumps({**bad, "output_root": str(tmp_path / "out")}))
    done = moebook("measure", str(file))
    assert (
        done.returncode != 0
        and "nothing was started" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert all(f"{file}: {key}: given" in done.stderr for key in keys)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (("prune", "{0}/empty", "{0}/pruned"), "config.json"),
        (("prune", "{0}/absent", "{0}/pruned"), "config.json"),
        (("quality", "{0}/empty"), "config.json"),
    ],
)
def test_a_folder_that_is_no_checkpoint_is_one_line_without_a_traceback(tmp_path, args, text):
    (tmp_path / "empty").mkdir()
    done = moebook(*(a.format(tmp_path) for a in args))
    assert done.returncode != 0 and not (tmp_path / "pruned").exists()
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("moebook: ")
    assert text in lines[0] or "pip install 'moebook[quality]'" in lines[0]


@pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is not None, reason="lm-eval is installed here"
)
def test_quality_without_lm_eval_says_how_to_install_it(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    done = moebook("quality", str(tmp_path), "--quantization", "fp8")
    assert done.returncode != 0 and done.stdout == ""
    assert (
        "pip install 'moebook[quality]'" in done.stderr
        and len(done.stderr.strip().splitlines()) == 1
    )


def test_pruning_by_text_asks_for_the_text_and_looks_at_the_target_first(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        folder.mkdir()
    (target / "config.json").write_text("{}")
    base = ["prune", str(source), str(target), "--criterion", "frequency"]
    assert "exists" in str(CliRunner().invoke(app, base).exception)
    gone = CliRunner().invoke(
        app, ["prune", str(source), str(tmp_path / "new"), "--criterion", "frequency"]
    )
    assert "config.json" in str(gone.exception) and not isinstance(gone.exception, OSError)


def test_a_format_that_cannot_be_made_at_load_is_refused_by_quality(tmp_path):
    done = CliRunner().invoke(app, ["quality", str(tmp_path), "--quantization", "int4"])
    assert "packed in that format" in str(done.exception)


def test_reading_changes_no_file_below_outputs(tmp_path):
    def below() -> dict:
        return {p: p.stat().st_mtime_ns for p in Path("outputs").rglob("*") if p.is_file()}

    before = below()
    for args in (
        ("claims", "tp-scales", "--profile", "2xh100"),
        ("compare", "--profile", "h200", "--section", "08"),
        (
            "figures",
            "--profile",
            "h200",
            "--section",
            "08",
            "--formats",
            "pdf",
            "--width",
            "column",
            "--output",
            str(tmp_path),
        ),
    ):
        moebook(*args)
    assert below() == before
    assert len(list(tmp_path.rglob("*-column.pdf"))) > 3, (
        "figures of column width have names of their own"
    )


def test_python_m_moebook_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "moebook", "results", "--list", "--output-root", "no/such"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0 and done.stdout == "nothing is measured yet\n"


def test_a_backend_for_windows_is_no_matter_of_a_command(monkeypatch, capsys):
    from moebook.__main__ import main

    monkeypatch.setenv("MPLBACKEND", "nonsense")
    monkeypatch.setattr("sys.argv", ["moebook", "models", "tiny-mixtral"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code and "MPLBACKEND" not in os.environ
